"""Stand-ins for slicer.app, the module manager, the layout manager, and for modules with their widgets."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from .mrml_widgets import _SceneWidget
from .pythonqt import QApplication, QObject
from .standin import StandIn, standsFor

Signal = QtCore.Signal
#: What Qt says about the platform without a screen, and nothing else.
_QT_NOISE = "This plugin does not support propagateSizeHints()"


def onQtMessage(_kind: Any, _context: Any, text: str) -> None:
    """Print what Qt has to say."""
    if text != _QT_NOISE:
        print(f"Qt: {text}", file=sys.stderr)


@standsFor("qSlicerModuleManager")
class qSlicerModuleManager(StandIn, QObject):
    """Knows the modules that are loaded."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def modulesNames(self) -> list[str]:
        return sorted(name for name, module in vars(slicer.modules).items() if hasattr(module, "logic"))

    def module(self, name: str) -> Any:
        return getattr(slicer.modules, name.lower(), None)


@standsFor("qSlicerLayoutManager")
class qSlicerLayoutManager(StandIn, QObject):
    """The layout of the scene's views. There are no view widgets, so sliceWidget and the like find none."""

    layoutChanged = Signal(int)

    def __init__(self, logic: Any, sliceLogics: Any) -> None:
        super().__init__()
        self._logic, self._sliceLogics = logic, sliceLogics

    @property
    def layout(self) -> int:
        node = self._logic.GetLayoutNode()
        return node.GetViewArrangement() if node is not None else 0

    @layout.setter
    def layout(self, number: int) -> None:
        self.setLayout(number)

    def setLayout(self, number: int) -> None:
        if number != self.layout:
            self._logic.GetLayoutNode().SetViewArrangement(number)
            self.layoutChanged.emit(number)

    def layoutLogic(self) -> Any:
        return self._logic

    def mrmlSliceLogics(self) -> Any:
        return self._sliceLogics

    def sliceViewNames(self) -> list[str]:
        views = self._logic.GetViewNodes()
        nodes = [views.GetItemAsObject(index) for index in range(views.GetNumberOfItems())]
        return [node.GetLayoutName() for node in nodes if node.IsA("vtkMRMLSliceNode")]

    def sliceWidget(self, name: str) -> Any:
        return None

    def threeDWidget(self, which: Any) -> Any:
        return None

    def plotWidget(self, number: int) -> Any:
        return None

    def tableWidget(self, number: int) -> Any:
        return None

    def resetSliceViews(self) -> None:
        """Nothing is shown."""

    def resetThreeDViews(self) -> None:
        """Nothing is shown."""


@standsFor("qSlicerCommandOptions")
class qSlicerCommandOptions(StandIn, QObject):
    """How the application was started."""

    noMainWindow = False
    testingEnabled = False
    pythonDisabled = False


@standsFor("qSlicerExtensionsManagerModel")
class qSlicerExtensionsManagerModel(StandIn, QObject):
    """The extensions: a test says in ``_installed`` which there are, and in ``_isReachable`` whether the server is."""

    interactive = True

    def __init__(self) -> None:
        super().__init__()
        self._installed: set[str] = set()
        self._isReachable = True

    def isExtensionInstalled(self, name: str) -> bool:
        return name in self._installed

    def installExtensionFromServer(self, name: str, restart: bool = True, update: bool = False) -> bool:
        if not self._isReachable:
            return False
        self._installed.add(name)
        return True


@standsFor("qSlicerApplication")
class qSlicerApplication(StandIn, QApplication):
    """slicer.app: one in a process; ``begin`` gives it a new host's scene and folders."""

    startupCompleted = Signal()
    renderPaused = Signal(bool)
    mrmlSceneChanged = Signal(object)
    #: Qt's own can be emitted by Qt alone.
    aboutToQuit = Signal()
    slicerHome = "/opt/Slicer"
    majorVersion, minorVersion, revision = 5, 12, "34045"
    applicationName = "Slicer"
    applicationVersion = "5.12.3-2026-07-01"
    isInstalled = True
    releaseType = "Stable"
    repositoryRevision = "34045"

    def __init__(self, arguments: list[str]) -> None:
        super().__init__(arguments)
        self._folder = Path()
        self._scene: Any = None
        self._logics: Any = None
        self._isTesting = False
        self._moduleManager: Any = None
        self._layoutManager: Any = None
        self._extensions: Any = None
        self._restartReasons: list[str] = []

    def _begin(self, *, scene: Any, logics: Any, folder: Path, isTesting: bool, layoutManager: Any) -> None:
        """Serve a new host: its scene and module logics, an empty folder for settings and files."""
        self._folder, self._scene, self._logics, self._isTesting = folder, scene, logics, isTesting
        self._layoutManager = layoutManager
        self._moduleManager = qSlicerModuleManager()
        self._extensions, self._restartReasons = qSlicerExtensionsManagerModel(), []
        self._end()

    def _end(self) -> None:
        """Forget what was connected to the application."""
        connections, self._connections = self.__dict__.get("_connections", []), []
        for signature, _target, call in connections:
            getattr(self, signature.partition("(")[0]).disconnect(call)

    @property
    def temporaryPath(self) -> str:
        return str(self._folder / "temporary")

    @property
    def cachePath(self) -> str:
        return str(self._folder / "cache")

    @property
    def slicerUserSettingsFilePath(self) -> str:
        return str(self._folder / "Slicer.ini")

    @property
    def os(self) -> str:
        return {"linux": "linux", "darwin": "macosx", "win32": "win"}.get(sys.platform, sys.platform)

    def settings(self) -> Any:
        import qt

        return qt.QSettings()

    userSettings = settings
    revisionUserSettings = settings

    def mrmlScene(self) -> Any:
        return self._scene

    def applicationLogic(self) -> Any:
        return self._logics.app_logic

    def layoutManager(self) -> Any:
        return self._layoutManager

    def moduleManager(self) -> Any:
        return self._moduleManager

    def moduleLogic(self, name: str) -> Any:
        return getattr(slicer.modules, name.lower()).logic()

    def commandOptions(self) -> Any:
        options = qSlicerCommandOptions()
        options.testingEnabled = self._isTesting
        return options

    def testingEnabled(self) -> bool:
        return self._isTesting

    def startupEnvironment(self) -> Any:
        environment = QtCore.QProcessEnvironment()
        for key, value in os.environ.items():
            environment.insert(key, value)
        return environment

    def pauseRender(self) -> None:
        """Nothing is rendered."""

    def resumeRender(self) -> None:
        """Nothing is rendered."""

    def setRenderPaused(self, isPaused: bool) -> None:
        """Nothing is rendered."""

    def extensionsManagerModel(self) -> Any:
        return self._extensions

    def confirmRestart(self, reason: str = "") -> bool:
        self._restartReasons.append(reason)
        return False

    def restart(self) -> None:
        raise AssertionError("the module restarts Slicer")


@standsFor("qSlicerScriptedLoadableModuleWidget")
class qSlicerScriptedLoadableModuleWidget(_SceneWidget):
    """The module's panel: makes the Python class <module>Widget and hands setup, enter and exit on to it."""

    def __init__(self, moduleName: str) -> None:
        super().__init__()
        QtWidgets.QVBoxLayout(self)
        self._name = moduleName
        self._python: Any = None
        self._isEntered = False
        self.setObjectName(f"{moduleName}ModuleWidget")

    @property
    def moduleName(self) -> str:
        return self._name

    @property
    def isEntered(self) -> bool:
        return self._isEntered

    def _start(self) -> None:
        cls = getattr(sys.modules[self._name], f"{self._name}Widget")
        self._python = cls(self)
        setattr(slicer.modules, f"{self._name}Widget", self._python)
        self._python.setup()

    def reload(self) -> None:
        self._start()

    def self(self) -> Any:
        return self._python

    def enter(self) -> None:
        self._isEntered = True
        if hasattr(self._python, "enter"):
            self._python.enter()

    def exit(self) -> None:
        self._isEntered = False
        if hasattr(self._python, "exit"):
            self._python.exit()

    def module(self) -> Any:
        return getattr(slicer.modules, self._name.lower())


@standsFor("qSlicerScriptedLoadableModule")
class qSlicerScriptedLoadableModule(StandIn, QObject):
    """A scripted module: what the Python class <module> says about it, and its panel once it is wanted."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._widget: Any = None
        self._facts: dict[str, Any] = {}

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def name(self) -> str:
        return self._path.stem

    def widgetRepresentation(self) -> Any:
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget(self.name)
            self._widget._start()
            self._widget.setMRMLScene(slicer.mrmlScene)
        return self._widget

    def createNewWidgetRepresentation(self) -> Any:
        widget = qSlicerScriptedLoadableModuleWidget(self.name)
        widget._start()
        widget.setMRMLScene(slicer.mrmlScene)
        return widget

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def logic(self) -> Any:
        return None


def _fact(name: str) -> property:
    def get(self: Any) -> Any:
        return self._facts.get(name)

    def put(self: Any, value: Any) -> None:
        self._facts[name] = value

    return property(get, put)


for _name in (
    "title",
    "categories",
    "dependencies",
    "contributors",
    "helpText",
    "acknowledgementText",
    "icon",
    "hidden",
    "index",
    "extensions",
    "associatedNodeTypes",
    "widgetRepresentationCreationEnabled",
):
    setattr(qSlicerScriptedLoadableModule, _name, _fact(_name))


class CoreModule:
    """A module of Slicer of which only the logic is here, for example ``slicer.modules.volumes``."""

    def __init__(self, name: str, logic: Any) -> None:
        self.name = self.title = name
        self._logic = logic

    def logic(self) -> Any:
        """Return slicer-core's module logic, with the scene set."""
        return self._logic


class Modules:
    """slicer.modules."""

    def __init__(self, logics: Any) -> None:
        scene = logics.scene
        found = {
            "Volumes": logics.volumes_logic,
            "SubjectHierarchy": logics.subject_hierarchy_logic,
            "VolumeRendering": logics.app_logic.GetModuleLogic("VolumeRendering"),
            "Markups": logics.app_logic.GetModuleLogic("Markups"),
            "Segmentations": logics.segmentations_logic,
            "Terminologies": logics.terminologies_logic,
            "Colors": logics.color_logic,
            "Data": logics.data_logic,
        }
        for name in ("Sequences", "Plots", "Tables"):
            cls = getattr(slicer, f"vtkSlicer{name}Logic", None) or getattr(
                slicer, f"vtkSlicer{name}ModuleLogic", None
            )
            if cls is not None:
                found[name] = cls()
                found[name].SetMRMLApplicationLogic(logics.app_logic)
                found[name].SetMRMLScene(scene)
        for name, logic in found.items():
            if logic is not None:
                setattr(self, name.lower(), CoreModule(name, logic))

    def __getattr__(self, name: str) -> Any:
        # As in Slicer without that module.
        raise AttributeError(f"module 'modules' has no attribute {name!r}: no such module in the host")
