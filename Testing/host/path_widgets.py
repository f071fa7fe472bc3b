"""Stand-ins for the ctk widgets in which a file or a folder is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtWidgets

from . import dialogs
from .pythonqt import QComboBox, QWidget
from .standin import StandIn, standsFor

Signal = QtCore.Signal


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
