"""The Slicer module CTDiffusion: load synthetic CT volumes and compare them with real scans.

Nothing here imports torch: training and generation run in processes of their own.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from CTDiffusionLib import Comparison, CornerAnnotation, Layouts, Provenance, SceneVolumes, SyntheticFile
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
            "Compare synthetic CT volumes, made by diffusion models, with real scans. "
            "Synthetic volumes are for research only and not for diagnosis."
        )
        parent.acknowledgementText = _(
            "The bundled models were trained on public scans of The Cancer Imaging Archive."
        )
        slicer.app.connect("startupCompleted()", self.onStartupCompleted)

    def onStartupCompleted(self) -> None:
        """Label synthetic volumes, and know our layouts, whether or not the module is ever opened."""
        Layouts.registerLayouts()
        self.syntheticLabels = CornerAnnotation.SyntheticLabels(slicer.mrmlScene)


class CTDiffusionWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel; see CTDiffusionLib.ComparePanel."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)

    def setup(self) -> None:
        """Make the panel, once."""
        from CTDiffusionLib.ComparePanel import ComparePanel

        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/CTDiffusion.ui"))
        self.layout.addWidget(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = CTDiffusionLogic()
        self.panel = ComparePanel(slicer.util.childWidgetVariables(widget), self.logic)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.exit)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.enter()

    def enter(self) -> None:
        """The user opens the module."""
        self.panel.setParameters(self.logic.getParameterNode())

    def exit(self, *_arguments: Any) -> None:
        """The user opens another module, or the scene is about to be closed."""
        self.panel.setParameters(None)

    def cleanup(self) -> None:
        """Slicer closes, or the module is reloaded."""
        self.removeObservers()
        self.exit()

    def onSceneEndClose(self, *_arguments: Any) -> None:
        """There is an empty scene now."""
        if self.parent.isEntered:
            self.enter()


class CTDiffusionLogic(ScriptedLoadableModuleLogic):
    """What the module does, for other modules and scripts too. (The package CTDiffusionLogic is the library.)

    Example::

        logic = CTDiffusion.CTDiffusionLogic()
        synthetic = logic.loadSyntheticVolume("synthetic.nrrd", reference=realVolumeNode)
        logic.showSideBySide(synthetic, realVolumeNode, preset="lung")
    """

    loadSyntheticVolume = staticmethod(SyntheticFile.loadSyntheticVolume)
    insertSyntheticVolume = staticmethod(SceneVolumes.insertSyntheticVolume)
    updateSlices = staticmethod(SceneVolumes.updateSlices)
    showSideBySide = staticmethod(Comparison.showSideBySide)
    showOverlay = staticmethod(Comparison.showOverlay)
    setOverlayOpacity = staticmethod(Layouts.setOverlayOpacity)
    restoreLayout = staticmethod(Layouts.restoreLayout)

    def getParameterNode(self) -> Any:
        """The module's choices in the scene; see CTDiffusionLib.CompareParameters."""
        from CTDiffusionLib.CompareParameters import CompareParameters

        wrap: Any = CompareParameters  # the decorator has given it another constructor
        return wrap(super().getParameterNode())


class CTDiffusionTest(ScriptedLoadableModuleTest):
    """Runs in Slicer: ``Reload and Test``, or ctest. The thorough tests are in Testing/mrml."""

    def runTest(self) -> None:
        """Run all tests, each in an empty scene."""
        slicer.mrmlScene.Clear()
        self.test_insertAndCompare()

    def test_insertAndCompare(self) -> None:
        """A synthetic volume stands beside its reference and is shown with it."""
        logic, hu, ijkToRAS = CTDiffusionLogic(), np.zeros((8, 16, 16), np.int16), np.diag([-2.0, -2.0, 3.0, 1.0])
        real = SceneVolumes.insertVolume(hu, ijkToRAS, "real")
        synthetic = logic.insertSyntheticVolume(hu, ijkToRAS, metadata={"seed": 7}, reference=real)
        logic.updateSlices(synthetic, 2, np.full((3, 16, 16), 40, np.int16))
        self.assertEqual(slicer.util.arrayFromVolume(synthetic)[:, 0, 0].tolist(), [0, 0, 40, 40, 40, 0, 0, 0])
        self.assertTrue(np.allclose(SceneVolumes.ijkToRAS(synthetic), ijkToRAS))
        self.assertEqual(Provenance.provenance(synthetic)["Seed"], "7")
        self.assertIs(Provenance.referenceVolume(synthetic), real)
        logic.showSideBySide(synthetic, real, preset="lung")
        for row, node in zip(Layouts.SIDE_BY_SIDE.rows, (synthetic, real), strict=True):
            composite = Layouts.compositeNode(slicer.mrmlScene, row.tags[0])
            self.assertEqual(composite.GetBackgroundVolumeID(), node.GetID())
        logic.showOverlay(synthetic, real, opacity=0.25)
        self.assertTrue(logic.restoreLayout())
        self.delayDisplay("Test passed")
