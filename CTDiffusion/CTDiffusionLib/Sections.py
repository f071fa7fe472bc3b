"""The sections of the module's panel: made together, given their parameters together, ended together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer.util
from slicer.i18n import tr as _

from . import Provenance
from .ComparePanel import ComparePanel
from .CompletePanel import CompletePanel
from .EvaluatePanel import EvaluatePanel
from .ExportPanel import ExportPanel
from .GenerateDevices import DeviceFinder
from .GeneratePanel import GeneratePanel
from .InstallLogic import InstallLogic
from .InstallPanel import InstallPanel
from .ReaderPanel import ReaderPanel
from .TrainPanel import TrainPanel


class Sections:
    """Generate and Compare, on the widgets of CTDiffusion.ui; the other sections have .ui files of their own.

    :param ui: the widgets by name (slicer.util.childWidgetVariables).
    :param logic: CTDiffusion.CTDiffusionLogic.
    :param loadSection: adds the section of a .ui file (name, onTop=False) to the panel; returns its widgets by name.
    """

    def __init__(self, ui: Any, logic: Any, loadSection: Callable[..., Any]) -> None:
        self._logic, self._loadSection = logic, loadSection
        self.devices = DeviceFinder(logic.generation.worker)
        # Each with its own widgets: connectGui refuses those of parameters that are another panel's.
        own = slicer.util.childWidgetVariables
        self.compare = ComparePanel(own(ui.compareCollapsibleButton), logic)
        self.generate = GeneratePanel(own(ui.generateCollapsibleButton), logic.generation, self.devices)
        self.complete = CompletePanel(loadSection("CompleteSection"), logic.completions, self.generate, self.devices)
        self.complete.volumeMade.connect(self.onVolumeMade)
        self.train = TrainPanel(loadSection("TrainSection"), logic.training, self.devices)
        self.train.modelMade.connect(self.onModelMade)
        self.train.modelFinished.connect(self.onModelFinished)
        self.export = ExportPanel(loadSection("ExportSection"), logic.exports)
        self.evaluate = EvaluatePanel(loadSection("EvaluateSection"), logic.evaluations, self.devices)
        self.reader = ReaderPanel(loadSection("ReaderSection", onTop=False))
        self.generate.volumeMade.connect(self.onVolumeMade)
        installation = InstallLogic(logic.generation.worker, self.devices)
        self.install = InstallPanel(loadSection("InstallSection", onTop=True), installation)

    def open(self) -> None:
        """Show and follow what is chosen in the scene; look for devices, the first time."""
        compare, generate, export, train, reader, evaluate, complete = self._logic.getParameterNodes()
        self.compare.setParameters(compare)
        self.generate.setParameters(generate)
        self.export.setParameters(export)
        self.train.setParameters(train)
        self.reader.setParameters(reader)
        self.evaluate.setParameters(evaluate)
        self.complete.setParameters(complete)  # after Generate, whose choices it shows
        if not self.devices.isKnown:
            self.devices.ask()

    def close(self) -> None:
        """Follow nothing: the user is elsewhere, or the scene is about to be closed. Only jobs go on."""
        self.compare.setParameters(None)
        self.generate.setParameters(None)
        self.export.setParameters(None)
        self.train.setParameters(None)
        self.reader.setParameters(None)
        self.evaluate.setParameters(None)
        self.complete.setParameters(None)

    def cleanup(self) -> None:
        """Slicer closes, or the module is reloaded: jobs end with their whole process trees."""
        self.close()
        self.compare.cleanup()
        self.generate.cleanup()
        self.train.cleanup()
        self.reader.cleanup()
        self.evaluate.cleanup()
        self.complete.cleanup()
        self.install.cleanup()
        self.export.cleanup()
        self._logic.generation.worker.endAll(_("The module was closed."))

    def onVolumeMade(self, volume: Any) -> None:
        """Let the user compare it at once with the volume it was made like, if there is one; export or measure it."""
        parameters = self._logic.getParameterNode()
        parameters.syntheticVolume = volume
        if (reference := Provenance.referenceVolume(volume)) is not None:
            parameters.realVolume = reference
        self.export.choose(volume)
        self.evaluate.choose(volume)

    def onModelMade(self, _model: Any) -> None:
        """A training has written another checkpoint: its model can be tried while it goes on."""
        self.generate.fillModels()
        self.generate.onParametersModified()
        self.complete.onParametersModified()

    def onModelFinished(self, model: Any) -> None:
        """Choose the model of a training that has ended."""
        self.generate.fillModels()
        self._logic.getParameterNodes()[1].model = str(model)
        self.onModelMade(model)
