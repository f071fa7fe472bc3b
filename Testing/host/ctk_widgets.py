"""Stand-ins for the ctk widgets that scripted modules use."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from . import dialogs
from .pythonqt import QAbstractButton, QCheckBox, QComboBox, QPushButton, QTextBrowser, QWidget
from .standin import StandIn, standsFor

Signal = QtCore.Signal


@standsFor("ctkCollapsibleButton")
class ctkCollapsibleButton(StandIn, QAbstractButton):
    """A header that shows and hides what is in its layout."""

    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        text = [argument for argument in arguments if isinstance(argument, str)]
        super().__init__(*[argument for argument in arguments if not isinstance(argument, str)])
        self.setText(text[0] if text else "")
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)
        self.setContentsMargins(0, self._headerHeight(), 0, 0)
        self._hidden: list[Any] = []
        self.toggled.connect(self._onToggled)

    def _headerHeight(self) -> int:
        return QtGui.QFontMetrics(self.font).height() + 8

    @property
    def collapsed(self) -> bool:
        return not self.checked

    @collapsed.setter
    def collapsed(self, value: bool) -> None:
        self.checked = not value

    def _onToggled(self, isOpen: bool) -> None:
        if isOpen:
            for child in self._hidden:
                child.show()
            self._hidden = []
        else:
            children = self.findChildren(QtWidgets.QWidget)
            self._hidden = [c for c in children if c.parent() is self and not c.isHidden()]
            for child in self._hidden:
                child.hide()
        self.setMaximumHeight(16777215 if isOpen else self._headerHeight())
        self.contentsCollapsed.emit(not isOpen)

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < self._headerHeight()

    def sizeHint(self) -> QtCore.QSize:
        layout = self.layout()
        inside = layout.sizeHint() if layout is not None and self.checked else QtCore.QSize(0, 0)
        return QtCore.QSize(max(inside.width(), 120), inside.height() if inside.height() else self._headerHeight())

    def paintEvent(self, _event: Any) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width, self._headerHeight() - 2)
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, 5, 12, self._headerHeight() - 12)
        element = QtWidgets.QStyle.PrimitiveElement
        painter.drawPrimitive(element.PE_IndicatorArrowDown if self.checked else element.PE_IndicatorArrowRight, arrow)
        painter.setPen(self.palette.color(QtGui.QPalette.ColorRole.ButtonText))
        place = option.rect.adjusted(24, 0, -4, 0)
        painter.drawText(place, QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.TextFlag.TextShowMnemonic, self.text)


@standsFor("ctkSliderWidget")
class ctkSliderWidget(StandIn, QWidget):
    """A slider and a spin box of one floating point value."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)
    pageStep = 10.0
    tracking = True
    tickInterval = 0.0

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._box = QtWidgets.QDoubleSpinBox()
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self._box.setRange(0.0, 99.0)
        self._box.valueChanged.connect(self._onBox)
        self._slider.setRange(0, 1000)
        self._slider.sliderMoved.connect(self._onSlider)

    def _onBox(self, value: float) -> None:
        span = self._box.maximum() - self._box.minimum()
        self._slider.setValue(round(1000 * (value - self._box.minimum()) / span) if span else 0)
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def _onSlider(self, position: int) -> None:
        low, high, step = self._box.minimum(), self._box.maximum(), self._box.singleStep()
        self._box.setValue(low + round((high - low) * position / 1000 / step) * step)

    value = property(lambda self: self._box.value(), lambda self, v: self._box.setValue(v))
    minimum = property(lambda self: self._box.minimum(), lambda self, v: self._box.setMinimum(v))
    maximum = property(lambda self: self._box.maximum(), lambda self, v: self._box.setMaximum(v))
    singleStep = property(lambda self: self._box.singleStep(), lambda self, v: self._box.setSingleStep(v))
    decimals = property(lambda self: self._box.decimals(), lambda self, v: self._box.setDecimals(v))
    prefix = property(lambda self: self._box.prefix(), lambda self, v: self._box.setPrefix(v))
    suffix = property(lambda self: self._box.suffix(), lambda self, v: self._box.setSuffix(v))
    spinBoxVisible = property(lambda self: not self._box.isHidden(), lambda self, v: self._box.setVisible(v))

    def setValue(self, value: float) -> None:
        self.value = value

    def setDecimals(self, decimals: int) -> None:
        self.decimals = decimals

    def setSpinBoxVisible(self, isVisible: bool) -> None:
        self.spinBoxVisible = isVisible


@standsFor("ctkRangeWidget")
class ctkRangeWidget(StandIn, QWidget):
    """Two spin boxes of a lower and an upper value; the slider between them is left out."""

    valuesChanged = Signal(float, float)
    rangeChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._low, self._high = QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox()
        layout.addWidget(self._low, 1)
        layout.addWidget(self._high, 1)
        self.setRange(0.0, 99.0)
        self._high.setValue(99.0)
        self._low.valueChanged.connect(self._onLow)
        self._high.valueChanged.connect(self._onHigh)

    def _onLow(self, value: float) -> None:
        self._high.setValue(max(self._high.value(), value))
        self.minimumValueChanged.emit(value)
        self.valuesChanged.emit(self._low.value(), self._high.value())

    def _onHigh(self, value: float) -> None:
        self._low.setValue(min(self._low.value(), value))
        self.maximumValueChanged.emit(value)
        self.valuesChanged.emit(self._low.value(), self._high.value())

    minimum = property(lambda self: self._low.minimum(), lambda self, v: self.setRange(v, self.maximum))
    maximum = property(lambda self: self._high.maximum(), lambda self, v: self.setRange(self.minimum, v))
    minimumValue = property(lambda self: self._low.value(), lambda self, v: self._low.setValue(v))
    maximumValue = property(lambda self: self._high.value(), lambda self, v: self._high.setValue(v))
    decimals = property(lambda self: self._low.decimals(), lambda self, v: self.setDecimals(v))
    singleStep = property(lambda self: self._low.singleStep(), lambda self, v: self._each("setSingleStep", v))
    suffix = property(lambda self: self._low.suffix(), lambda self, v: self._each("setSuffix", v))

    def _each(self, setter: str, value: Any) -> None:
        for box in (self._low, self._high):
            getattr(box, setter)(value)

    def setDecimals(self, decimals: int) -> None:
        self._each("setDecimals", decimals)

    def setRange(self, low: float, high: float) -> None:
        for box in (self._low, self._high):
            box.setRange(low, high)
        self.rangeChanged.emit(low, high)

    def setValues(self, low: float, high: float) -> None:
        self._low.setValue(low)
        self._high.setValue(high)

    def setMinimumValue(self, value: float) -> None:
        self.minimumValue = value

    def setMaximumValue(self, value: float) -> None:
        self.maximumValue = value


@standsFor("ctkPathLineEdit")
class ctkPathLineEdit(StandIn, QWidget):
    """An editable path with its history and a button that opens a file dialog."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    filters = 0
    options = 0
    label = ""
    minimumContentsLength = 0
    # Of the real class's enumeration Filter, QDir::Filter's values.
    Dirs, Files, Readable, Writable, Executable = 0x001, 0x002, 0x010, 0x020, 0x040

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._combo = QComboBox()
        self._combo.setEditable(True)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._combo.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._browse = QtWidgets.QToolButton()
        self._browse.setText("...")
        self._browse.setToolTip("Open a dialog to select a file or directory.")
        self._browse.clicked.connect(self.browse)
        layout.addWidget(self._combo, 1)
        layout.addWidget(self._browse)
        self._settingKey = ""
        self._nameFilters: list[str] = []
        self._isValid = False
        self._combo.editTextChanged.connect(self._onText)

    def _onText(self, text: str) -> None:
        isValid = bool(text) and Path(text).exists()
        if isValid != self._isValid:
            self._isValid = isValid
            self.validInputChanged.emit(isValid)
        self.currentPathChanged.emit(text)

    currentPath = property(lambda self: self._combo.currentText, lambda self, v: self.setCurrentPath(v))
    nameFilters = property(lambda self: self._nameFilters, lambda self, v: setattr(self, "_nameFilters", list(v)))
    showBrowseButton = property(lambda self: not self._browse.isHidden(), lambda self, v: self._browse.setVisible(v))
    showHistoryButton = property(lambda self: True, lambda self, v: None)

    @property
    def settingKey(self) -> str:
        return self._settingKey

    @settingKey.setter
    def settingKey(self, key: str) -> None:
        self._settingKey = key
        self.retrieveHistory()

    def setCurrentPath(self, path: str) -> None:
        if path != self._combo.currentText:
            self._combo.setEditText(str(path))

    def retrieveHistory(self) -> None:
        import qt

        stored = qt.QSettings().value(self._settingKey) if self._settingKey else None
        isBlocked = self._combo.blockSignals(True)
        text = self._combo.currentText
        self._combo.clear()
        self._combo.addItems([stored] if isinstance(stored, str) else list(stored or []))
        self._combo.setEditText(text)
        self._combo.blockSignals(isBlocked)
        if not text and self._combo.count:
            self._combo.setEditText(self._combo.itemText(0))  # the real one too starts with the last path

    def addCurrentPathToHistory(self) -> None:
        import qt

        if self._settingKey and self.currentPath:
            stored = qt.QSettings().value(self._settingKey) or []
            others = [path for path in ([stored] if isinstance(stored, str) else stored) if path != self.currentPath]
            qt.QSettings().setValue(self._settingKey, [self.currentPath, *others][:10])

    def browse(self) -> None:
        path = dialogs.current.take(dialogs.Message("Select a file to save " if self.filters == 0 else "Open a file"))
        if path:
            self.setCurrentPath(str(path))

    def comboBox(self) -> Any:
        return self._combo


@standsFor("ctkDirectoryButton")
class ctkDirectoryButton(StandIn, QWidget):
    """A button that shows a folder and lets the user choose another."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)
    caption = ""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._directory, self._text = ".", ""
        self._button = QtWidgets.QPushButton(".")
        self._button.clicked.connect(self.browse)
        layout.addWidget(self._button)

    @property
    def directory(self) -> str:
        return str(Path(self._directory).absolute())

    @directory.setter
    def directory(self, path: str) -> None:
        if Path(path).absolute() != Path(self._directory).absolute():
            self._directory = str(path)
            self._button.setText(self._text or str(path))
            self.directoryChanged.emit(self.directory)

    @property
    def text(self) -> str:
        return self._text

    @text.setter
    def text(self, text: str) -> None:
        self._text = text
        self._button.setText(text or self._directory)

    def browse(self) -> None:
        path = dialogs.current.take(dialogs.Message(self.caption or "Choose a folder"))
        if path:
            self.directory = str(path)
            self.directorySelected.emit(self.directory)


@standsFor("ctkComboBox")
class ctkComboBox(StandIn, QComboBox):
    """A combo box with a text for "nothing chosen"."""

    defaultText = property(lambda self: self.placeholderText, lambda self, v: self.setPlaceholderText(v))
    forceDefault = False


@standsFor("ctkCheckBox")
class ctkCheckBox(StandIn, QCheckBox):
    """A check box with an icon of its own, which is left out."""


@standsFor("ctkPushButton")
class ctkPushButton(StandIn, QPushButton):
    """A button with alignment, which is left out."""


@standsFor("ctkCheckablePushButton")
class ctkCheckablePushButton(ctkPushButton):
    """A button with a check box in it."""

    checkBoxToggled = Signal(bool)
    checkBoxControlsButton = True
    checkBoxControlsButtonToggleState = True
    checkBoxUserCheckable = True


@standsFor("ctkFittedTextBrowser")
class ctkFittedTextBrowser(StandIn, QTextBrowser):
    """A text browser as high as its text."""

    collapsed = False

    def setCollapsibleText(self, text: str) -> None:
        self.setText(text)


@standsFor("ctkDoubleSlider")
class ctkDoubleSlider(StandIn, QWidget):
    """Here by name only: Slicer's connectors compare with it."""


@standsFor("ctkDoubleSpinBox")
class ctkDoubleSpinBox(StandIn, QWidget):
    """Here by name only."""


@standsFor("ctkDoubleRangeSlider")
class ctkDoubleRangeSlider(StandIn, QWidget):
    """Here by name only."""


@standsFor("ctkColorPickerButton")
class ctkColorPickerButton(StandIn, QPushButton):
    """Here by name only."""


#: All stand-ins of ctk by name.
CLASSES = {
    cls.__name__: cls
    for cls in (
        ctkCollapsibleButton,
        ctkSliderWidget,
        ctkRangeWidget,
        ctkPathLineEdit,
        ctkDirectoryButton,
        ctkComboBox,
        ctkCheckBox,
        ctkPushButton,
        ctkCheckablePushButton,
        ctkFittedTextBrowser,
        ctkDoubleSlider,
        ctkDoubleSpinBox,
        ctkDoubleRangeSlider,
        ctkColorPickerButton,
        dialogs.ctkMessageBox,
    )
}


def ctkModule() -> types.ModuleType:
    """Return the module that ``import ctk`` finds."""
    module = types.ModuleType("ctk")

    def getClass(name: str) -> Any:
        raise AttributeError(f"module 'ctk' has no {name!r} in Testing/host (see ctk_widgets.CLASSES)")

    module.__getattr__ = getClass
    for name, cls in CLASSES.items():
        setattr(module, name, cls)
    return module
