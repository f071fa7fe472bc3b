"""The Slicer module CTDiffusion: generate synthetic CT volumes and compare them with real scans.

Nothing here imports torch: training and generation run in processes of their own.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import slicer
from CTDiffusionLib import Comparison, CornerAnnotation, Layouts, SampleVolumes, SceneVolumes, SelfTest, SyntheticFile
from CTDiffusionLib.CompleteLogic import CompleteLogic
from CTDiffusionLib.EvaluateLogic import EvaluateLogic
from CTDiffusionLib.ExportLogic import ExportLogic
from CTDiffusionLib.GenerateLogic import GenerateLogic
from CTDiffusionLib.TrainLogic import TrainLogic
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

# Installed, the library lies beside this file, on the path. In a source tree it is the module folder's sibling.
_repository = Path(__file__).resolve().parents[1]
if importlib.util.find_spec("CTDiffusionLogic") is None and (_repository / "CTDiffusionLogic").is_dir():
    sys.path.append(str(_repository))


class CTDiffusion(ScriptedLoadableModule):
    """What Slicer shows about the module."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("CT Diffusion")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        parent.dependencies = ["Volumes", "SubjectHierarchy"]
        parent.contributors = ["CTDiffusion contributors"]
        parent.helpText = _(
            "Generate synthetic CT volumes with diffusion models, and compare them with real scans. "
            "Synthetic volumes are for research only and not for diagnosis."
        )
        parent.acknowledgementText = _(
            "The bundled models were trained on public scans of The Cancer Imaging Archive."
        )
        slicer.app.connect("startupCompleted()", self.onStartupCompleted)

    def onStartupCompleted(self) -> None:
        """Label synthetic volumes, know our layouts, offer our sample, whether or not the module is ever opened."""
        Layouts.registerLayouts()
        SampleVolumes.register()
        self.syntheticLabels = CornerAnnotation.SyntheticLabels(slicer.mrmlScene)


class CTDiffusionWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panels; see CTDiffusionLib.Sections."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)

    def setup(self) -> None:
        """Make the panels, once."""
        from CTDiffusionLib.Sections import Sections

        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/CTDiffusion.ui"))
        self.layout.addWidget(widget)
        self.firstSection = self.layout.count() - 1  # below the developer's buttons, where there are any
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = CTDiffusionLogic()
        self.sections = Sections(slicer.util.childWidgetVariables(widget), self.logic, self.loadSection)
        self.layout.addStretch(1)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.exit)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.enter()

    def loadSection(self, name: str, *, onTop: bool = False) -> Any:
        """Add the section of ``Resources/UI/<name>.ui`` below the others, or above; return its widgets by name."""
        section = slicer.util.loadUI(self.resourcePath(f"UI/{name}.ui"))
        self.layout.insertWidget(self.firstSection if onTop else self.layout.count(), section)
        section.setMRMLScene(slicer.mrmlScene)
        return slicer.util.childWidgetVariables(section)

    def enter(self) -> None:
        """The user opens the module."""
        self.sections.open()

    def exit(self, *_arguments: Any) -> None:
        """The user opens another module, or the scene is about to be closed."""
        self.sections.close()

    def cleanup(self) -> None:
        """Slicer closes, or the module is reloaded."""
        self.removeObservers()
        self.sections.cleanup()

    def onSceneEndClose(self, *_arguments: Any) -> None:
        """There is an empty scene now."""
        if self.parent.isEntered:
            self.enter()


class CTDiffusionLogic(ScriptedLoadableModuleLogic):
    """What the module does, for other modules and scripts too. (The package CTDiffusionLogic is the library.)

    Example::

        logic = CTDiffusion.CTDiffusionLogic()
        synthetic = logic.generate(likeVolume=realVolumeNode, seed=7)    # or logic.loadSyntheticVolume("a.nrrd")
        logic.showSideBySide(synthetic, realVolumeNode, preset="lung")
    """

    loadSyntheticVolume = staticmethod(SyntheticFile.loadSyntheticVolume)
    insertSyntheticVolume = staticmethod(SceneVolumes.insertSyntheticVolume)
    updateSlices = staticmethod(SceneVolumes.updateSlices)
    showSideBySide = staticmethod(Comparison.showSideBySide)
    showOverlay = staticmethod(Comparison.showOverlay)
    showCheckerboard = staticmethod(Comparison.showCheckerboard)
    showDifference = staticmethod(Comparison.showDifference)
    showRendering = staticmethod(Comparison.showRendering)
    showHistogram = staticmethod(Comparison.showHistogram)
    showProfile = staticmethod(Comparison.showProfile)
    setOverlayOpacity = staticmethod(Layouts.setOverlayOpacity)
    restoreLayout = staticmethod(Layouts.restoreLayout)

    @cached_property
    def generation(self) -> GenerateLogic:
        """What generates; made when it is first needed."""
        return GenerateLogic()

    @cached_property
    def completions(self) -> CompleteLogic:
        """What completes real scans; made when it is first needed."""
        return CompleteLogic(self.generation.worker)

    @cached_property
    def exports(self) -> ExportLogic:
        """What exports; made when it is first needed."""
        return ExportLogic()

    @cached_property
    def training(self) -> TrainLogic:
        """What trains; made when it is first needed."""
        return TrainLogic(self.generation.worker, self.generation.settings)

    @cached_property
    def evaluations(self) -> EvaluateLogic:
        """What measures; made when it is first needed."""
        return EvaluateLogic(self.generation.worker)

    def train(self, runFolder: str | Path, **options: Any) -> Any:
        """Train a model on real scans; see CTDiffusionLib.TrainLogic.train."""
        return self.training.train(runFolder, **options)

    def evaluate(self, real: Any, synthetic: Any, **options: Any) -> Any:
        """Measure how real synthetic volumes are; see CTDiffusionLib.EvaluateLogic.evaluate."""
        return self.evaluations.evaluate(real, synthetic, **options)

    def showReport(self, report: Any) -> Any:
        """Show the figures and plots of a measurement; see CTDiffusionLib.EvaluateLogic.showReport."""
        return self.evaluations.showReport(report)

    def exportVolumes(self, nodes: Any, folder: str | Path, **options: Any) -> Any:
        """Write synthetic volumes as DICOM, NRRD or NIfTI; see CTDiffusionLib.ExportLogic.exportVolumes."""
        return self.exports.exportVolumes(nodes, folder, **options)

    def generate(self, **options: Any) -> Any:
        """Generate volumes into the scene; see CTDiffusionLib.GenerateLogic.generate."""
        return self.generation.generate(**options)

    def complete(self, volume: Any, **options: Any) -> Any:
        """Make what a real scan lacks; see CTDiffusionLib.CompleteLogic.complete."""
        return self.completions.complete(volume, **options)

    def getParameterNode(self) -> Any:
        """The choices of the comparison in the scene; see CTDiffusionLib.CompareParameters."""
        return self.getParameterNodes()[0]

    def getParameterNodes(self) -> tuple[Any, ...]:
        """The module's choices in the scene, all in one node: of comparison, generations, exports and so on."""
        from CTDiffusionLib.CompareParameters import CompareParameters
        from CTDiffusionLib.CompleteParameters import CompleteParameters
        from CTDiffusionLib.EvaluateParameters import EvaluateParameters
        from CTDiffusionLib.ExportParameters import ExportParameters
        from CTDiffusionLib.GenerateParameters import GenerateParameters
        from CTDiffusionLib.ReaderParameters import ReaderParameters
        from CTDiffusionLib.TrainParameters import TrainParameters

        # Any: decorators gave them other constructors.
        wraps: tuple[Any, ...] = (
            CompareParameters,
            GenerateParameters,
            ExportParameters,
            TrainParameters,
            ReaderParameters,
            EvaluateParameters,
            CompleteParameters,
        )
        node = super().getParameterNode()
        return tuple(wrap(node) for wrap in wraps)


class CTDiffusionTest(ScriptedLoadableModuleTest):
    """Runs in Slicer: ``Reload and Test``, or ctest; without a network. The thorough tests are in Testing."""

    def setUp(self) -> None:
        """Begin with an empty scene: ctest runs the tests one by one."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run all tests, each in an empty scene."""
        for test in (
            self.test_insertAndCompare,
            self.test_trainingScans,
            self.test_export,
            self.test_report,
            self.test_completion,
            self.test_sampleData,
            self.test_panels,
            self.test_installation,
        ):
            self.setUp()
            test()
        self.delayDisplay("Test passed")

    def test_insertAndCompare(self) -> None:
        """A synthetic volume stands beside its reference and is shown with it."""
        SelfTest.insertAndCompare(self, CTDiffusionLogic())

    def test_trainingScans(self) -> None:
        """Volumes become files for a training; curves become plots; a training without scans is refused."""
        SelfTest.trainingScans(self)

    def test_export(self) -> None:
        """Synthetic volumes become DICOM that says so; real ones are refused, by the plug-in too."""
        SelfTest.exportDicom(self)

    def test_report(self) -> None:
        """A report becomes a table and plots; a measurement without volumes, or with wrong ones, is refused."""
        SelfTest.evaluation(self)

    def test_completion(self) -> None:
        """What a scan lacks is planned on its own grid; what cannot be done is refused before a worker starts."""
        SelfTest.completion(self)

    def test_sampleData(self) -> None:
        """The phantom is offered, and drawn without a download."""
        SelfTest.sampleData(self)

    def test_panels(self) -> None:
        """Where there are widgets: all sections are there, and nothing can be pressed that cannot work."""
        SelfTest.panels(self)

    def test_installation(self) -> None:
        """The doctor answers from a process of its own, and torch stays out of Slicer."""
        SelfTest.installation(self)
