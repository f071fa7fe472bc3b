"""Stand-ins for the ctk widgets that scripted modules use."""

from __future__ import annotations

import types
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from . import dialogs
from .path_widgets import ctkDirectoryButton, ctkPathLineEdit
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
