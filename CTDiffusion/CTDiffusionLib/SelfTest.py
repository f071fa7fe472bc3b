"""What ``Reload and Test`` and ctest try in Slicer itself; the thorough tests are in Testing.

Nothing is downloaded, and nothing is computed that takes torch: it may not be installed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util

from . import (
    CompleteData,
    ExportDicom,
    InstallCheck,
    InstallPlan,
    Layouts,
    Provenance,
    SampleVolumes,
    SceneVolumes,
    TrainData,
)
from .CompleteLogic import CompleteLogic
from .CompleteRequest import CompleteRequest
from .EvaluateLogic import EvaluateLogic
from .EvaluatePlots import EvaluatePlots
from .EvaluateReport import FORMAT, FORMAT_VERSION, EvaluateReport
from .GenerateDevices import DeviceFinder
from .GenerateSettings import GenerateSettings, MemoryStore
from .TrainLogic import TrainLogic
from .TrainMetrics import LOSS, TrainMetrics
from .TrainPlots import TrainPlots
from .Worker import Worker

#: The doctor imports all packages in a new process: seconds, or a minute on a slow disk.
_PATIENCE_S = 180.0
_IJK_TO_RAS = np.diag([-2.0, -2.0, 3.0, 1.0])


def insertAndCompare(test: Any, logic: Any) -> None:
    """A synthetic volume stands beside its reference and is shown with it.

    :param test: a unittest.TestCase.
    :param logic: CTDiffusion.CTDiffusionLogic.
    """
    hu, ijkToRAS = np.zeros((8, 16, 16), np.int16), _IJK_TO_RAS
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


def trainingScans(test: Any) -> None:
    """Volumes become files for a training; its curves become plots; a training without scans is refused.

    :param test: a unittest.TestCase.
    """
    from CTDiffusionLogic.errors import InputError
    from CTDiffusionLogic.volume_io import read_volume

    hu = np.full((10, 16, 16), -900, np.int16)
    real = SceneVolumes.insertVolume(hu, _IJK_TO_RAS, "real")
    synthetic = SceneVolumes.insertSyntheticVolume(hu, _IJK_TO_RAS)
    test.assertEqual(TrainData.whyNotCT(real), "")
    test.assertTrue(TrainData.whyNotCT(synthetic))
    training = TrainLogic(Worker(), GenerateSettings(MemoryStore()))  # the user's own settings stay as they are
    with tempfile.TemporaryDirectory() as folder:
        TrainData.writeVolumes([TrainData.exportOf(real)], Path(folder))
        written = read_volume(TrainData.volumeFile(Path(folder), 1))
        test.assertTrue(np.array_equal(written.hu, hu))
        test.assertTrue(np.allclose(written.geometry.ijk_to_ras, _IJK_TO_RAS, atol=1e-3))
        with test.assertRaises(InputError):
            training.train(Path(folder) / "run")
        with test.assertRaises(InputError):
            training.train(Path(folder) / "run", volumes=[synthetic])
        metrics = TrainMetrics()
        for step in (20, 40):
            metrics.take({"step": step, "epoch": step / 10, "anatomy": 1.0 / step})
        plots = TrainPlots(Path(folder) / "run")
        plots.update(metrics)
        test.assertEqual(plots.chart(LOSS).GetNumberOfPlotSeriesNodes(), 1)


def exportDicom(test: Any) -> None:
    """Synthetic volumes become DICOM that says so; real ones are refused, by the plug-in of the DICOM module too.

    :param test: a unittest.TestCase.
    """
    import pydicom

    from CTDiffusionLogic.errors import InputError

    hu = np.arange(4 * 16 * 16, dtype=np.int16).reshape(4, 16, 16)
    real = SceneVolumes.insertVolume(hu, _IJK_TO_RAS, "real")
    synthetic = SceneVolumes.insertSyntheticVolume(hu, _IJK_TO_RAS, metadata={"model": "self test", "seed": 7})
    with tempfile.TemporaryDirectory() as folder:
        series = ExportDicom.writeDicom(synthetic, folder)
        images = [pydicom.dcmread(path) for path in sorted(series.iterdir())]
        test.assertEqual(len(images), 4)
        for image in images:
            test.assertEqual(image.SyntheticData, "YES")
            test.assertEqual(list(image.ImageType), ["DERIVED", "SECONDARY", "AXIAL"])
            test.assertTrue(str(image.PatientName).startswith("SYNTHETIC"))
        with test.assertRaises(InputError):
            ExportDicom.writeDicom(real, folder)
    plugins = getattr(slicer.modules, "dicomPlugins", {})
    if "DICOMSyntheticCTPlugin" in plugins:  # not where the self test runs without Slicer
        plugin = plugins["DICOMSyntheticCTPlugin"]()
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        (offered,) = plugin.examineForExport(hierarchy.GetItemByDataNode(synthetic))
        test.assertGreater(offered.confidence, 0.5)  # the scalar volume plug-in's
        test.assertEqual(plugin.examineForExport(hierarchy.GetItemByDataNode(real)), [])


def evaluation(test: Any) -> None:
    """A report becomes a table and plots; a measurement without volumes, or with wrong ones, is refused.

    :param test: a unittest.TestCase.
    """
    from CTDiffusionLogic.errors import InputError

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "report.json").write_text(json.dumps(_report()), encoding="utf-8")
        report = EvaluateReport.read(folder)
    plots = EvaluatePlots(report)
    plots.update()
    test.assertEqual(plots.table().GetNumberOfRows(), 1)
    test.assertEqual(float(plots.table().GetTable().GetValueByName(0, "synthetic").ToString()), 57.5)
    (chart,) = plots.charts()
    test.assertEqual(chart.GetNumberOfPlotSeriesNodes(), 2)
    test.assertIn("Slices differ.", report.summary())
    hu = np.full((8, 16, 16), 40, np.int16)
    real = SceneVolumes.insertVolume(hu, _IJK_TO_RAS, "real")
    synthetic = SceneVolumes.insertSyntheticVolume(hu, _IJK_TO_RAS)
    evaluations = EvaluateLogic(Worker())
    for chosen in (([real], []), ([], [synthetic]), ([synthetic], [synthetic])):
        with test.assertRaises(InputError):
            evaluations.evaluate(*chosen)


def completion(test: Any) -> None:
    """What a scan lacks is planned on its own grid; what cannot be done is refused before a worker starts.

    :param test: a unittest.TestCase.
    """
    from CTDiffusionLogic.errors import InputError, UsageError

    scan = SceneVolumes.insertVolume(np.full((10, 16, 16), 40, np.int16), _IJK_TO_RAS, "real")
    source = CompleteData.scanToComplete(scan).source
    request = CompleteRequest(missing=(4, 5))
    planned = request.completion(source)
    test.assertEqual(planned.missing, (4, 5))
    test.assertIn("12.0 to 15.0 mm", CompleteData.planText(request, planned))
    longer = CompleteRequest(extend=3, towards="feet").completion(source)
    test.assertEqual((longer.shape[0], longer.missing), (13, (0, 1, 2)))
    test.assertTrue(np.allclose(longer.geometry.ijk_to_ras[:3, 3], (0, 0, -9)))
    view = Layouts.sliceNode(slicer.mrmlScene, CompleteData.VIEW)
    if view is not None:  # not where the self test runs without views
        view.SetSliceToRASByNTP(0, 0, 1, -1, 0, 0, -16, -16, 10, 0)
        test.assertEqual(CompleteData.shownSlice(scan), 3)
    completions = CompleteLogic(Worker())
    for wrong in ({"missing": [10]}, {"spacingMm": 1.3}, {"extend": 0}, {"extend": 2, "spacingMm": 1.5}, {}):
        with test.assertRaises(UsageError):
            completions.complete(scan, **wrong)
    with test.assertRaises(InputError):
        completions.complete(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"), extend=2)


def _report() -> dict[str, Any]:
    """The least that a report.json has: one figure and one curve."""
    figure: dict[str, Any] = {"key": "coherence.difference.3mm", "title": "Differences", "unit": "HU", "plane": None}
    figure |= {"synthetic": {"value": 57.5, "low": 50.0, "high": 60.0}, "floor": None, "standing": "off"}
    figure |= {"extractor": "", "meaning": ""}
    curve: dict[str, Any] = {
        "key": "coherence.difference",
        "title": "Differences",
        "x": [3.0, 6.0],
        "x_log": True,
        "y_log": False,
    }
    curve |= {"lines": {"real": [50.0, 70.0], "synthetic": [57.0, None]}, "bands": {}}
    curve |= {"x_title": "Distance", "x_unit": "mm", "y_title": "Difference", "y_unit": "HU"}
    section: dict[str, Any] = {
        "key": "coherence",
        "title": "Coherence",
        "verdict": "Slices differ.",
        "standing": "off",
        "details": {},
    }
    section |= {"figures": [figure], "curves": [curve]}
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "sections": [section]}


def sampleData(test: Any) -> None:
    """The phantom is offered, and drawn without a download.

    :param test: a unittest.TestCase.
    """
    if SampleVolumes.register():
        import SampleData

        sources = SampleData.SampleDataLogic.sampleDataSourcesByCategory("CT Diffusion")
        test.assertIn(SampleVolumes.NAME, [source.sampleName for source in sources])
    if not hasattr(slicer.app, "processEvents"):  # the self test runs without Slicer
        return
    size = SampleVolumes.SIZE
    SampleVolumes.SIZE = {"slices": 4, "spacing_mm": (9.0, 9.0, 20.0), "size": 48}
    try:
        node = SampleVolumes.drawPhantom()
    finally:
        SampleVolumes.SIZE = size
    test.assertEqual(slicer.util.arrayFromVolume(node).shape, (4, 48, 48))
    test.assertEqual(Provenance.provenance(node)["Phantom"], "yes")


def panels(test: Any) -> None:
    """Where there are widgets: all sections are there, and nothing can be pressed that cannot work.

    :param test: a unittest.TestCase.
    """
    try:
        import qt  # noqa: F401
    except ImportError:  # the self test runs without Slicer
        return
    sections = slicer.modules.ctdiffusion.widgetRepresentation().self().sections
    sections.open()
    withButtons = (sections.generate, sections.compare, sections.train, sections.export, sections.evaluate)
    for section in (*withButtons, sections.install, sections.complete):
        test.assertTrue(vars(section._ui))
    test.assertFalse(sections.train._ui.trainButton.enabled)  # there are no scans
    test.assertTrue(sections.train._ui.trainButton.toolTip)
    test.assertFalse(sections.export._ui.exportButton.enabled)  # and no volumes
    test.assertFalse(sections.evaluate._ui.evaluateButton.enabled)
    test.assertFalse(sections.complete._ui.completeButton.enabled)
    test.assertTrue(sections.install._ui.installStatusLabel.text)


def installation(test: Any) -> None:
    """The doctor answers from a process of its own, and torch stays out of Slicer; an installation can be planned.

    :param test: a unittest.TestCase.
    """
    wasThere = "torch" in sys.modules
    worker = Worker()
    finder = DeviceFinder(worker)
    finder.ask()
    until = time.monotonic() + _PATIENCE_S
    processEvents = getattr(slicer.app, "processEvents", lambda: None)
    while finder.isAsking and time.monotonic() < until:
        worker.poll()
        processEvents()
        time.sleep(0.05)
    worker.endAll()
    test.assertIn("torch", [check["name"] for check in finder.checks], finder.log)
    state = InstallCheck.stateOf(finder)
    test.assertIn(state.kind, ("ready", "incomplete", "failed"), finder.log)
    test.assertTrue(state.text)
    test.assertEqual("torch" in sys.modules, wasThere)
    plan = InstallPlan.makePlan(("torch", "diffusers"), source="pip")
    test.assertEqual(plan.packages, ("torch", "diffusers"))
    test.assertGreater(plan.downloadMB, 100)
