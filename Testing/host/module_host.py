"""Slicer's application around the real module classes, for tests: see ModuleHost."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer
import slicer.util
from PySide6 import QtCore, QtWidgets

from . import dialogs, mrml_widgets, processes, pythonqt, slicer_modules, slicer_sources, stand_ins
from .application import (
    Modules,
    onQtMessage,
    qSlicerApplication,
    qSlicerLayoutManager,
    qSlicerScriptedLoadableModule,
    qSlicerScriptedLoadableModuleWidget,
)
from .dialogs import Dialogs, Message
from .heartbeat import Heartbeat

REPOSITORY = Path(__file__).resolve().parents[2]


class ModuleHost:
    """Runs a scripted module with the real scene, off screen::

        with ModuleHost() as host:
            widget = host.openModule("CTDiffusion")
            host.click(widget.panel._ui.loadButton)
            host.process(until=lambda: host.messages)

    Args:
        testing: Whether slicer.app.testingEnabled() says so. Slicer then shows no messages; the default is what users
            have: messages are shown, recorded in ``messages``, and questions take their answers from ``answers``.
        folder: Where settings and temporary files go; a temporary folder by default. Give one folder to two hosts
            to see what is kept between two starts of Slicer.
        modulePath: The folder with the module files.

    Attributes:
        scene: The vtkMRMLScene, also slicer.mrmlScene.
        logics: Slicer's module logics (trame_slicer.core.SlicerApp).
        exceptions: What was raised inside slots and observers, where Slicer would only print it. What no message
            has shown to the user is raised at the end of the ``with`` block.
    """

    def __init__(
        self, *, testing: bool = False, folder: Path | None = None, modulePath: Path = REPOSITORY / "CTDiffusion"
    ) -> None:
        self._isTesting, self._givenFolder, self._modulePath = testing, folder, modulePath
        self.exceptions: list[BaseException] = []
        self._widgets: list[Any] = []
        self._undo: list[Callable[[], None]] = []
        self._hasQuit = False

    # Life

    def __enter__(self) -> ModuleHost:
        from rendering import new_app

        self._temporary = tempfile.TemporaryDirectory(prefix="ModuleHost-", ignore_cleanup_errors=True)
        self.folder = self._givenFolder or Path(self._temporary.name)
        for name in ("temporary", "cache"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.app = QtWidgets.QApplication.instance() or qSlicerApplication(["Slicer"])
        if not isinstance(self.app, qSlicerApplication):
            raise RuntimeError("another QApplication than the host's runs in this process")
        self._setSlicer("mrmlScene", None)
        self._setSlicer("selfTests", {})
        self.logics = new_app()
        self.scene = self.logics.scene
        layoutLogic = slicer.vtkMRMLLayoutLogic()
        layoutLogic.SetMRMLScene(self.scene)
        self.dialogs = dialogs.current = Dialogs()
        self._undo += stand_ins.putInPlace(self._modulePath, self.folder / "Slicer.ini", setSlicer=self._setSlicer)
        self.app._begin(
            scene=self.scene,
            logics=self.logics,
            folder=self.folder,
            isTesting=self._isTesting,
            layoutManager=qSlicerLayoutManager(layoutLogic, self.logics.app_logic.GetSliceLogics()),
        )
        self._setSlicer("app", self.app)
        self._setSlicer("modules", Modules(self.logics))
        self._setSlicer("qSlicerDICOMExportable", slicer_modules.qSlicerDICOMExportable)
        for name, cls in mrml_widgets.CLASSES.items():
            self._setSlicer(name, cls)
        source = slicer_sources.folder()
        if source is not None:
            self._undo.append(slicer_sources.forget)
            slicer_sources.load(source)
        for name, function in (slicer_sources.functions(source) if source else processes.additions()).items():
            self._setAttribute(slicer.util, name, function)
        processes.writePythonSlicer(self.folder / "bin")
        path = os.environ.get("PATH", "")
        os.environ["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{path}"
        self._undo.append(lambda: os.environ.__setitem__("PATH", path))
        self._setAttribute(sys, "excepthook", lambda _kind, error, _traceback: self.exceptions.append(error))
        self._setAttribute(sys, "unraisablehook", self._onUnraisable)
        QtCore.qInstallMessageHandler(onQtMessage)
        self._undo.append(lambda: QtCore.qInstallMessageHandler(None))
        # slicer.util.mainWindow() looks for it; without a main window Slicer shows no messages.
        self.mainWindow = pythonqt.QMainWindow()
        self.mainWindow.setObjectName("qSlicerMainWindow")
        self.panelArea = QtWidgets.QScrollArea()
        self.panelArea.setWidgetResizable(True)
        self.mainWindow.setCentralWidget(self.panelArea)
        QtWidgets.QMainWindow.resize(self.mainWindow, 420, 900)
        self.mainWindow.show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.quit()
        finally:
            self.mainWindow.close()
            self.mainWindow.deleteLater()
            self._processOnce()
            self.scene.Clear(False)
            self.app._end()
            for undo in reversed(self._undo):
                undo()
            self._undo = []
            self._temporary.cleanup()
        if error is None and (unseen := self.unseenExceptions()):
            raise unseen[0]

    def quit(self) -> None:
        """End the application: aboutToQuit, then every module is unloaded, which calls its cleanup."""
        if not self._hasQuit:
            self._hasQuit = True
            self.app.aboutToQuit.emit()
            made = {m.name for m in vars(slicer.modules).values() if getattr(m, "_widget", None)}  # shown or not
            for name in made | {widget.moduleName for widget in self._widgets}:
                self.app.moduleManager().moduleAboutToBeUnloaded.emit(name)
            self._processOnce()

    def unseenExceptions(self) -> list[BaseException]:
        """Return the exceptions of slots and observers that no message has shown to the user."""
        shown = "\n".join(message.text + message.details for message in self.messages)
        return [error for error in self.exceptions if not str(error) or str(error) not in shown]

    def _onUnraisable(self, unraisable: Any) -> None:
        self.exceptions.append(unraisable.exc_value)

    def _setAttribute(self, owner: Any, name: str, value: Any) -> None:
        had, previous = name in vars(owner), vars(owner).get(name)
        self._undo.append(lambda: setattr(owner, name, previous) if had else delattr(owner, name))
        setattr(owner, name, value)

    def _setSlicer(self, name: str, value: Any) -> None:
        self._setAttribute(slicer, name, value)

    # The application

    def openModule(self, name: str) -> Any:
        """Load a module, let the application start up, and open its panel.

        Returns:
            The Python object <name>Widget.
        """
        module = self.loadModule(name)
        representation = module.widgetRepresentation()
        self._show(representation)
        representation.enter()
        self._processOnce()
        return representation.self()

    def loadModule(self, name: str) -> Any:
        """Load a module as Slicer does at its start, without opening it; once.

        Returns:
            slicer.modules.<name in lower case>.
        """
        existing = vars(slicer.modules).get(name.lower())
        if existing is not None:
            return existing
        code = importlib.import_module(name)
        module = qSlicerScriptedLoadableModule(self._modulePath / f"{name}.py")
        module._python = getattr(code, name)(module)
        setattr(slicer.modules, name.lower(), module)
        self.app.moduleManager().moduleLoaded.emit(name)
        self.app.startupCompleted.emit()
        return module

    def module(self, name: str) -> Any:
        """Return the imported Python module, for example to reach its logic class."""
        return sys.modules[name]

    def _show(self, representation: Any) -> None:
        if self.panelArea.widget() is not representation:
            self.panelArea.takeWidget()
            self.panelArea.setWidget(representation)
        if representation not in self._widgets:
            self._widgets.append(representation)
        representation.show()

    def leaveModule(self, name: str) -> None:
        """The user opens another module."""
        getattr(slicer.modules, name.lower()).widgetRepresentation().exit()

    def reload(self, name: str) -> Any:
        """Developer's Reload button, by slicer-core's own function.

        Returns:
            The new <name>Widget.
        """
        slicer.util.reloadScriptedModule(name)
        self._processOnce()
        return getattr(slicer.modules, f"{name}Widget")

    def newPanel(self, name: str) -> Any:
        """Make a second panel of a module, as slicer.util.getNewModuleGui does.

        Returns:
            Its <name>Widget.
        """
        representation: qSlicerScriptedLoadableModuleWidget = getattr(
            slicer.modules, name.lower()
        ).createNewWidgetRepresentation()
        self._widgets.append(representation)
        return representation.self()

    def closeScene(self) -> None:
        """File, Close Scene."""
        self.scene.Clear(False)
        self._processOnce()

    def saveScene(self, path: Path) -> None:
        """Save the scene: as .mrb bundle with its data, or as .mrml file without."""
        write = self.scene.Commit if path.suffix == ".mrml" else self.scene.WriteToMRB
        if not write(str(path)):
            raise OSError(f"the scene could not be written to {path}")

    def loadScene(self, path: Path) -> None:
        """Close the scene and load another from an .mrb bundle or an .mrml file."""
        self.closeScene()
        if path.suffix == ".mrml":
            self.scene.SetURL(str(path))
            isLoaded = self.scene.Import()
        else:
            unpacked = tempfile.mkdtemp(dir=self._temporary.name)
            isLoaded = self.logics.app_logic.OpenSlicerDataBundle(str(path), unpacked)
        if not isLoaded:
            raise OSError(f"the scene could not be read from {path}")
        self._processOnce()

    # The user

    @property
    def messages(self) -> list[Message]:
        """The message boxes that were shown."""
        return self.dialogs.messages

    @property
    def answers(self) -> Any:
        """The user's answers to come; see Dialogs.answers."""
        return self.dialogs.answers

    def click(self, button: Any) -> None:
        """Click a button; AssertionError where a user could not."""
        name, window = button.name, button.window()
        if not button.enabled:
            raise AssertionError(f"{name} is disabled: {button.toolTip!r}")
        if not button.isVisibleTo(window):
            raise AssertionError(f"{name} is hidden")
        button.click()
        self._processOnce()

    def choose(self, comboBox: Any, text: str) -> None:
        """Choose the item with this text; AssertionError where there is none."""
        index = comboBox.findText(text)
        if index < 0:
            raise AssertionError(f"{comboBox.name} has no {text!r}")
        if not comboBox.enabled:
            raise AssertionError(f"{comboBox.name} is disabled: {comboBox.toolTip!r}")
        comboBox.setCurrentIndex(index)
        comboBox.activated.emit(index)
        self._processOnce()

    def process(self, seconds: float = 0.0, *, until: Callable[[], Any] | None = None, timeout: float = 30.0) -> Any:
        """Let the application work for some seconds, or until a condition holds.

        Args:
            seconds: How long, where there is no condition.
            until: Asked after every turn of the event loop.
            timeout: When to give up waiting, s: TimeoutError, with the messages shown so far.

        Returns:
            What ``until`` returned.
        """
        loop = QtCore.QEventLoop()
        end = time.monotonic() + (timeout if until is not None else seconds)
        result: Any = None
        timer = QtCore.QTimer()

        def look() -> None:
            nonlocal result
            result = until() if until is not None else None
            if result or time.monotonic() >= end:
                loop.quit()

        timer.timeout.connect(look)
        timer.start(10)
        loop.exec()
        timer.stop()
        if until is not None and not result:
            said = [message.text for message in self.messages]
            raise TimeoutError(f"nothing happened within {timeout} s; messages: {said}; exceptions: {self.exceptions}")
        return result

    def _processOnce(self) -> None:
        for _ in range(3):  # deferred deletion and queued calls may ask for more
            QtCore.QCoreApplication.processEvents()
            QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)

    @contextmanager
    def heartbeat(self) -> Iterator[Heartbeat]:
        """Measure the longest block of the GUI thread while the block runs."""
        beat = Heartbeat()
        beat._timer.start(Heartbeat.INTERVAL_MS)
        try:
            yield beat
        finally:
            beat._timer.stop()
            beat._beat()

    def screenshot(self, widget: Any, path: Path) -> None:
        """Save what a widget shows."""
        self._processOnce()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not QtWidgets.QWidget.grab(widget).save(str(path)):
            raise OSError(f"cannot write {path}")
