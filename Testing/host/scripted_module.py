"""Stand-ins for slicer.ScriptedLoadableModule, slicer.i18n and slicer.packaging, which slicer-core does not have."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import types
import unittest
from pathlib import Path
from typing import Any

import slicer

from . import facts


class ScriptedLoadableModule:
    """Base of the class that describes a module."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        for name in ("title", "helpText", "acknowledgementText"):
            setattr(parent, name, "")
        for name in ("categories", "dependencies", "contributors"):
            setattr(parent, name, [])
        icon = Path(parent.path).parent / "Resources" / "Icons" / f"{self.moduleName}.png"
        if icon.is_file():
            import qt

            parent.icon = qt.QIcon(str(icon))
        slicer.selfTests = {**getattr(slicer, "selfTests", {}), self.moduleName: self.runTest}

    def resourcePath(self, filename: str) -> str:
        """Return the path of a file in the module's Resources."""
        return str(Path(self.parent.path).parent / "Resources" / filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        """Return a sentence with a link."""
        return f"<p>For more information, see the <a href='{docPage or self.moduleName}'>online documentation</a>.</p>"

    def runTest(self, msec: int = 100, **options: Any) -> None:
        """Run the module's self test."""
        test = getattr(importlib.import_module(type(self).__module__), f"{self.moduleName}Test")()
        test.messageDelay = msec
        test.runTest(**options)


class ScriptedLoadableModuleWidget:
    """Base of a module's panel."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        if parent is None:
            import qt

            self.parent = slicer.qMRMLWidget()
            self.parent.setLayout(qt.QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
        else:
            self.parent = parent
        self.layout = self.parent.layout()
        if parent is None:
            self.setup()
            self.parent.show()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        """Return the path of a file in the module's Resources."""
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self) -> None:
        """Make the developer section, where that is switched on; the host has none."""

    def setupDeveloperSection(self) -> None:
        """The host has none."""

    def cleanup(self) -> None:
        """Overridden by modules."""

    def onReload(self) -> None:
        """Load the module's code anew."""
        slicer.util.reloadScriptedModule(self.moduleName)

    def _onModuleAboutToBeUnloaded(self, moduleName: str) -> None:
        if moduleName == self.moduleName:
            self.cleanup()
            manager = slicer.app.moduleManager()
            manager.disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


class ScriptedLoadableModuleLogic:
    """Base of a module's logic; its parameter node is a singleton of the scene."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        """Return the scene's parameter node of this module; it is made where there is none."""
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node is not None:
                if node.GetAttribute("ModuleName") != self.moduleName:
                    node.SetAttribute("ModuleName", self.moduleName)  # closing a scene empties singletons
                return node
        elif nodes := self.getAllParameterNodes():
            return nodes[0]
        return slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list[Any]:
        """Return the scene's parameter nodes of this module."""
        scene, kind = slicer.mrmlScene, "vtkMRMLScriptedModuleNode"
        nodes = [scene.GetNthNodeByClass(index, kind) for index in range(scene.GetNumberOfNodesByClass(kind))]
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self) -> Any:
        """Return a new parameter node, not yet in the scene."""
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of a module's self test."""

    messageDelay = 50

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        """Log a message and let the application work."""
        logging.info(message)
        slicer.app.processEvents()

    def runTest(self) -> None:
        """Run all methods whose name begins with "test"."""
        for name in dir(self):
            if name.startswith("test"):
                getattr(self, name)()


def pip_check(requirements: Any) -> bool:
    """Whether the requirements are installed, by their metadata only."""
    from packaging.requirements import Requirement

    for text in [requirements] if isinstance(requirements, (str, Requirement)) else requirements:
        requirement = text if isinstance(text, Requirement) else Requirement(text)
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            return False
        if not requirement.specifier.contains(version, prereleases=True):
            return False
    return True


def load_requirements(path: Any) -> list[str]:
    """Return a requirements file's lines without comments and options."""
    lines = [line.partition(" #")[0].strip() for line in Path(path).read_text().splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def _refuseInstall(*arguments: Any, **options: Any) -> None:
    raise AssertionError(f"the module installs Python packages: {arguments}; a test must replace slicer.packaging's")


def _module(name: str, members: dict[str, Any]) -> types.ModuleType:
    module = types.ModuleType(name)
    known = facts.FACTS["python"].get(name)

    def refuse(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        names = {text.partition("(")[0] for text in known["functions"]} | set(known["classes"]) if known else set()
        if attribute in names:
            raise NotImplementedError(f"{name}.{attribute} exists in Slicer, but not in Testing/host: add it there")
        raise AttributeError(f"module {name!r} has no attribute {attribute!r} in Slicer {facts.SLICER_VERSION}")

    module.__getattr__ = refuse
    for attribute, value in members.items():
        setattr(module, attribute, value)
    return module


def newModules() -> dict[str, types.ModuleType]:
    """Return the modules by the name under which they are imported."""
    classes = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )

    def translate(context: str, text: str) -> str:
        return slicer.app.translate(context, text)

    made = {
        "slicer.ScriptedLoadableModule": {
            **{cls.__name__: cls for cls in classes},
            "__all__": [cls.__name__ for cls in classes],
        },
        "slicer.i18n": {
            "tr": lambda text: translate("CTDiffusion", text),
            "translate": translate,
            "getContext": lambda sourceFile: Path(sourceFile).stem,
        },
        "slicer.packaging": {
            "pip_check": pip_check,
            "load_requirements": load_requirements,
            "isPipInstallInProgress": lambda: False,
            "pip_ensure": _refuseInstall,
            "pip_install": _refuseInstall,
            "pip_uninstall": _refuseInstall,
        },
    }
    return {name: _module(name, members) for name, members in made.items()}
