"""What ``Reload and Test`` and ctest try in Slicer itself; the thorough tests are in Testing."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import slicer.util

from . import Layouts, Provenance, SceneVolumes


def insertAndCompare(test: Any, logic: Any) -> None:
    """A synthetic volume stands beside its reference and is shown with it.

    :param test: a unittest.TestCase.
    :param logic: CTDiffusion.CTDiffusionLogic.
    """
    hu, ijkToRAS = np.zeros((8, 16, 16), np.int16), np.diag([-2.0, -2.0, 3.0, 1.0])
    real = SceneVolumes.insertVolume(hu, ijkToRAS, "real")
    synthetic = logic.insertSyntheticVolume(hu, ijkToRAS, metadata={"seed": 7}, reference=real)
    logic.updateSlices(synthetic, 2, np.full((3, 16, 16), 40, np.int16))
    test.assertEqual(slicer.util.arrayFromVolume(synthetic)[:, 0, 0].tolist(), [0, 0, 40, 40, 40, 0, 0, 0])
    test.assertTrue(np.allclose(SceneVolumes.ijkToRAS(synthetic), ijkToRAS))
    test.assertEqual(Provenance.provenance(synthetic)["Seed"], "7")
    test.assertIs(Provenance.referenceVolume(synthetic), real)
    logic.showSideBySide(synthetic, real, preset="lung")
    for row, node in zip(Layouts.SIDE_BY_SIDE.rows, (synthetic, real), strict=True):
        composite = Layouts.compositeNode(slicer.mrmlScene, row.tags[0])
        test.assertEqual(composite.GetBackgroundVolumeID(), node.GetID())
    logic.showOverlay(synthetic, real, opacity=0.25)
    difference = logic.showDifference(synthetic, real)
    test.assertEqual(int(slicer.util.arrayFromVolume(difference).max()), 40)
    logic.showCheckerboard(synthetic, real)
    for chart in (logic.showHistogram(synthetic, real), logic.showProfile(synthetic, real)):
        test.assertEqual(chart.GetNumberOfPlotSeriesNodes(), 2)
    if hasattr(slicer.modules, "volumerendering"):  # not where the self test runs without Slicer
        logic.showRendering(synthetic, real)
    test.assertTrue(logic.restoreLayout())
