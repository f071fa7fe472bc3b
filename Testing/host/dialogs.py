"""Message boxes and file dialogs: recorded and answered by the test, since nobody sits before the screen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from .pythonqt import QMessageBox, facade
from .standin import StandIn, standsFor

_Button = QtWidgets.QMessageBox.StandardButton


@dataclass(frozen=True)
class Message:
    """A message box that the user would have seen.

    Attributes:
        text: What it says.
        details: Informative and detailed text.
        buttons: Labels of its buttons, such as ("Yes", "No").
        icon: "Information", "Warning", "Critical", "Question" or "NoIcon".
    """

    text: str
    details: str = ""
    buttons: tuple[str, ...] = ("Ok",)
    icon: str = "NoIcon"


class Dialogs:
    """All dialogs of one host: what was shown, and what the user will answer.

    Attributes:
        messages: Message boxes shown so far.
        openedUrls: Links that were opened in the browser.
        answers: Answers to come, in order: a button's name for a message box, a path ("" to cancel) or list of
            paths for a file dialog, a text for an input dialog; or a function of the Message that returns it.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.openedUrls: list[str] = []
        self.answers: deque[Any] = deque()

    def ask(self, message: Message) -> int:
        """Record a message box and return the answered button's number."""
        self.messages.append(message)
        if message.buttons in ((), ("Ok",), ("Close",)):
            return int(_Button.Close if message.buttons == ("Close",) else _Button.Ok)
        answer = self.take(message)
        if answer not in message.buttons:
            raise AssertionError(f"{message.text!r} offers {message.buttons}, not {answer!r}")
        return int(getattr(_Button, answer))

    def take(self, message: Message) -> Any:
        """Return the next answer; a dialog that nobody would answer is an error."""
        if not self.answers:
            raise AssertionError(f"a dialog would wait forever: {message.text!r}; put the answer into host.answers")
        answer = self.answers.popleft()
        return answer(message) if isinstance(answer, Callable) else answer


#: The dialogs of the host that runs now.
current = Dialogs()


def _labels(buttons: Any) -> tuple[str, ...]:
    known = [b for b in _Button if b != _Button.NoButton]  # FirstButton is Ok, LastButton RestoreDefaults
    names = dict.fromkeys(b.name for b in known if int(buttons) & int(b) and bin(int(b)).count("1") == 1)
    return tuple(names)


class _MessageBox(QMessageBox):
    """QMessageBox that is recorded instead of shown."""

    _real = QtWidgets.QMessageBox

    def addButton(self, *arguments: Any) -> Any:
        button = QtWidgets.QMessageBox.addButton(self, *arguments)
        if isinstance(arguments[0], str):
            self.__dict__.setdefault("_own", {})[arguments[0].replace("&", "")] = button
        return button

    def exec(self) -> int:
        details = "\n".join(filter(None, (self.informativeText, self.detailedText)))
        own = self.__dict__.get("_own", {})
        labels = (*_labels(self.standardButtons), *own)
        message = Message(self.text, details, labels or ("Ok",), self.icon.name)
        if not own:
            return current.ask(message)
        current.messages.append(message)
        answer = current.take(message)
        if answer not in labels:
            raise AssertionError(f"{message.text!r} offers {labels}, not {answer!r}")
        self._clicked = own.get(answer) or QtWidgets.QMessageBox.button(self, getattr(_Button, answer, _Button.Ok))
        self._clicked.click()
        return int(QtWidgets.QMessageBox.standardButton(self, self._clicked))

    exec_ = exec

    def clickedButton(self) -> Any:
        return self.__dict__.get("_clicked") or QtWidgets.QMessageBox.clickedButton(self)

    @staticmethod
    def question(parent: Any, title: str, text: str, buttons: Any = None, *_: Any) -> Any:
        return _Button(current.ask(Message(text, "", _labels(buttons or _Button.Yes | _Button.No), "Question")))

    @staticmethod
    def information(parent: Any, title: str, text: str, buttons: Any = _Button.Ok, *_: Any) -> Any:
        return _Button(current.ask(Message(text, "", _labels(buttons), "Information")))

    @staticmethod
    def warning(parent: Any, title: str, text: str, buttons: Any = _Button.Ok, *_: Any) -> Any:
        return _Button(current.ask(Message(text, "", _labels(buttons), "Warning")))

    @staticmethod
    def critical(parent: Any, title: str, text: str, buttons: Any = _Button.Ok, *_: Any) -> Any:
        return _Button(current.ask(Message(text, "", _labels(buttons), "Critical")))


_MessageBox.__name__ = "QMessageBox"


@standsFor("ctkMessageBox")
class ctkMessageBox(StandIn, _MessageBox):
    """A message box with "don't show again": here it is always shown."""

    _real = None
    dontShowAgain = False
    dontShowAgainVisible = False
    dontShowAgainSettingsKey = ""


class _FileDialog(facade(QtWidgets.QFileDialog)):
    """File dialog whose answer the test gives."""

    _real = QtWidgets.QFileDialog

    @staticmethod
    def getOpenFileName(parent: Any = None, caption: str = "", *_: Any) -> str:
        return str(current.take(Message(caption or "Open")))

    @staticmethod
    def getOpenFileNames(parent: Any = None, caption: str = "", *_: Any) -> list[str]:
        return [str(path) for path in current.take(Message(caption or "Open"))]

    @staticmethod
    def getSaveFileName(parent: Any = None, caption: str = "", *_: Any) -> str:
        return str(current.take(Message(caption or "Save")))

    @staticmethod
    def getExistingDirectory(parent: Any = None, caption: str = "", *_: Any) -> str:
        return str(current.take(Message(caption or "Choose a folder")))


_FileDialog.__name__ = "QFileDialog"


class _InputDialog(facade(QtWidgets.QInputDialog)):
    """Input dialog whose answer the test gives."""

    _real = QtWidgets.QInputDialog

    @staticmethod
    def getText(parent: Any, title: str, label: str, *_: Any) -> str:
        return str(current.take(Message(label)))


_InputDialog.__name__ = "QInputDialog"


class _DesktopServices(QtGui.QDesktopServices):
    """Opens nothing."""

    @staticmethod
    def openUrl(url: QtCore.QUrl) -> bool:
        current.openedUrls.append(url.toString())
        return True


#: What the module ``qt`` has instead of Qt's own.
OVERRIDES = {
    "QMessageBox": _MessageBox,
    "QFileDialog": _FileDialog,
    "QInputDialog": _InputDialog,
    "QDesktopServices": _DesktopServices,
}
