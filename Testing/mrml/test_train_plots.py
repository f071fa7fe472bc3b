"""Curves of a training in a real scene: tables, series and charts, and the layout that shows them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import slicer
import slicer.util
from CTDiffusionLib import Layouts, TrainLayout
from CTDiffusionLib.TrainMetrics import FRECHET, HELD_OUT, LOSS, MAX_POINTS, TrainMetrics
from CTDiffusionLib.TrainPlots import TrainPlots

LINES = [
    {"step": 1, "epoch": 0.05, "anatomy_held_out": 1.5},
    {"step": 1, "epoch": 0.05, "detail_held_out": 1.2},
    {"step": 20, "epoch": 1.0, "seconds_per_step": 0.1, "anatomy": 0.9, "anatomy_norm": 3.0, "detail": 0.8},
    {"step": 40, "epoch": 2.0, "anatomy": 0.5, "detail": 0.6},
    {"step": 40, "epoch": 2.0, "anatomy_held_out": 0.7},
    {"step": 40, "epoch": 2.0, "detail_held_out": 0.65},
]


@pytest.fixture
def run(tmp_path):
    """A folder with figures, one line cut off as by a kill."""
    folder = tmp_path / "my training"
    folder.mkdir()
    text = "".join(json.dumps(line) + "\n" for line in LINES)
    (folder / "metrics.jsonl").write_text(text + '{"step": 60, "epo')
    return folder


def nodes(scene, kind):
    return [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]


def column(table, name):
    return [float(table.GetTable().GetColumnByName(name).GetValue(row)) for row in range(table.GetNumberOfRows())]


def test_figures_are_read_as_curves(run):
    metrics = TrainMetrics.ofRun(run)
    assert metrics.groups() == [LOSS, HELD_OUT]
    loss = metrics.columns(LOSS)
    assert set(loss) == {"epoch", "anatomy", "detail"}  # not norms, not seconds
    np.testing.assert_allclose(loss["anatomy"], [0.9, 0.5])
    held = metrics.columns(HELD_OUT)
    np.testing.assert_allclose(held["epoch"], [0.05, 2.0])
    np.testing.assert_allclose(held["detail_held_out"], [1.2, 0.65])
    assert metrics.take({"step": 40, "epoch": 2.0, "anatomy": 0.4})  # again, after a resume
    np.testing.assert_allclose(metrics.columns(LOSS)["anatomy"], [0.9, 0.4])
    assert not metrics.take({"device": "cpu"})
    assert not metrics.take({"step": 41, "epoch": 2.1, "anatomy": None})
    assert TrainMetrics.ofRun(run / "nowhere").groups() == []


def test_scores_are_taken_by_their_name_or_by_their_file(run):
    metrics = TrainMetrics()
    metrics.take({"step": 10, "epoch": 1, "fid_axial": 90.0})
    metrics.take({"step": 10, "epoch": 1, "seconds": 5.0, "coronal": 80.0}, isFidelity=True)
    assert set(metrics.columns(FRECHET)) == {"epoch", "fid_axial", "coronal"}
    (run / "fidelity.jsonl").write_text('{"epoch": 2, "axial": 70.0}\n')
    np.testing.assert_allclose(TrainMetrics.ofRun(run).columns(FRECHET)["axial"], [70.0])


SCORE = {
    "step": 40, "epoch": 2.0, "hours": 0.1, "frechet": 60.0, "frechet_low": 50.0, "frechet_high": 70.0,
    "frechet_axial": 50.0, "frechet_coronal": 70.0, "frechet_sagittal": 60.0, "frechet_floor": 20.0,
    "frechet_floor_low": 15.0, "frechet_training": 58.0, "frechet_training_floor": 22.0, "kid": 0.4, "kid_axial": 0.3,
    "against": "held-out", "extractor": "ctfeatures", "extractor_sha256": "ab", "counts": {"synthetic_volumes": 6},
    "seconds": 20.0,
}  # fmt: skip
CURVES = {
    "frechet", "frechet_axial", "frechet_coronal", "frechet_sagittal", "frechet_floor", "frechet_training",
}  # fmt: skip


def test_of_a_measurement_the_distances_and_the_floor_are_curves(run, app):
    (run / "fidelity.jsonl").write_text(json.dumps(SCORE) + "\n")
    metrics = TrainMetrics.ofRun(run)
    assert set(metrics.columns(FRECHET)) == {"epoch", *CURVES}
    assert metrics.take({**SCORE, "step": 60, "epoch": 3.0, "frechet": 40.0}, isFidelity=True)
    np.testing.assert_allclose(metrics.columns(FRECHET)["frechet"], [60.0, 40.0])
    plots = TrainPlots(run, scene=app.scene)
    plots.update(metrics)
    chart = plots.chart(FRECHET)
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert {one.GetYColumnName() for one in series} == CURVES
    floor = next(one for one in series if one.GetYColumnName() == "frechet_floor")
    mean = next(one for one in series if one.GetYColumnName() == "frechet")
    assert floor.GetLineStyle() == floor.LineStyleDash and mean.GetLineStyle() == mean.LineStyleSolid
    assert column(mean.GetTableNode(), "frechet") == [60.0, 40.0]


def test_scores_of_another_extractor_begin_a_new_curve(run):
    other = {**SCORE, "step": 60, "epoch": 3.0, "extractor": "inception", "extractor_sha256": "cd"}
    (run / "fidelity.jsonl").write_text(json.dumps(SCORE) + "\n" + json.dumps(other) + "\n")
    metrics = TrainMetrics.ofRun(run)
    assert metrics.columns(FRECHET)["epoch"].tolist() == [3.0]
    metrics.take({"step": 80, "epoch": 4.0, "frechet": 1.0, "extractor": "inception"}, isFidelity=True)
    assert metrics.columns(FRECHET)["epoch"].tolist() == [3.0, 4.0]


def test_long_trainings_are_thinned(run):
    metrics = TrainMetrics()
    for step in range(3 * MAX_POINTS):
        metrics.take({"step": step, "epoch": step / 100, "anatomy": float(step)})
    loss = metrics.columns(LOSS)
    assert len(loss["epoch"]) == len(loss["anatomy"]) == MAX_POINTS
    assert loss["anatomy"][:2].tolist() == [1.0, 4.0]  # means of three
    lines = [json.dumps({"step": n, "epoch": n / 100, "anatomy": 1.0}) for n in range(20 * MAX_POINTS)]
    lines[777] = json.dumps({"step": 777, "epoch": 7.77, "anatomy_held_out": 2.0})
    (run / "metrics.jsonl").write_text("\n".join(lines))
    read = TrainMetrics.ofRun(run)
    assert len(read.columns(LOSS)["epoch"]) <= MAX_POINTS
    assert read.columns(HELD_OUT)["epoch"].tolist() == [7.77]


def test_nodes_are_made_once_and_filled(app, run):
    plots = TrainPlots(run, scene=app.scene)
    metrics = TrainMetrics.ofRun(run)
    assert plots.update(metrics)
    chart = plots.chart(LOSS)
    assert chart.GetTitle() == "Loss of my training"
    assert chart.GetXAxisTitle() == "epoch"
    names = [chart.GetNthPlotSeriesNode(n).GetName() for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert names == ["anatomy", "detail", "anatomy, held out", "detail, held out"]
    anatomy, heldOut = chart.GetNthPlotSeriesNode(0), chart.GetNthPlotSeriesNode(2)
    assert (anatomy.GetXColumnName(), anatomy.GetYColumnName()) == ("epoch", "anatomy")
    assert column(anatomy.GetTableNode(), "anatomy") == [0.9, 0.5]
    assert column(heldOut.GetTableNode(), "anatomy_held_out") == [1.5, 0.7]
    assert anatomy.GetColor() == heldOut.GetColor()
    assert anatomy.GetLineStyle() != heldOut.GetLineStyle()
    # One more figure: the same nodes, filled anew.
    metrics.take({"step": 60, "epoch": 3.0, "anatomy": 0.3, "detail": 0.4})
    assert not plots.update(metrics)
    assert column(anatomy.GetTableNode(), "epoch") == [1.0, 2.0, 3.0]
    assert len(nodes(app.scene, "vtkMRMLTableNode")) == 2
    assert len(nodes(app.scene, "vtkMRMLPlotSeriesNode")) == 4
    assert plots.chart(FRECHET) is None
    # A score, as soon as the library reports one: a chart of its own.
    metrics.take({"step": 60, "epoch": 3.0, "fid": 55.0})
    assert plots.update(metrics)
    assert plots.chart(FRECHET).GetNumberOfPlotSeriesNodes() == 1
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(app.scene)
    folder = hierarchy.GetItemChildWithName(hierarchy.GetSceneItemID(), "Training my training")
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(chart)) == folder


def test_nodes_that_are_gone_are_made_anew(app, run):
    plots, metrics = TrainPlots(run, scene=app.scene), TrainMetrics.ofRun(run)
    plots.update(metrics)
    app.scene.RemoveNode(nodes(app.scene, "vtkMRMLTableNode")[0])
    plots.update(metrics)
    assert plots.chart(LOSS).GetNthPlotSeriesNode(0).GetTableNode() is not None
    app.scene.RemoveNode(plots.chart(LOSS))
    assert plots.update(metrics)
    assert plots.chart(LOSS).GetNumberOfPlotSeriesNodes() == 4
    app.scene.Clear(False)
    assert plots.chart(LOSS) is None
    assert plots.update(metrics)
    assert column(plots.chart(LOSS).GetNthPlotSeriesNode(1).GetTableNode(), "detail") == [0.8, 0.6]


def test_nodes_are_saved_and_found_again(app, run, tmp_path):
    plots = TrainPlots(run, scene=app.scene)
    plots.update(TrainMetrics.ofRun(run))
    path = tmp_path / "scene.mrb"
    assert app.scene.WriteToMRB(str(path))
    app.scene.Clear(False)
    (tmp_path / "unpacked").mkdir()
    assert app.app_logic.OpenSlicerDataBundle(str(path), str(tmp_path / "unpacked"))
    assert not plots.update(TrainMetrics.ofRun(run))  # those of the file serve
    chart = plots.chart(LOSS)
    assert chart.GetNumberOfPlotSeriesNodes() == 4
    assert column(chart.GetNthPlotSeriesNode(0).GetTableNode(), "anatomy") == [0.9, 0.5]
    # Another training has nodes of its own.
    other = TrainPlots(tmp_path / "other", scene=app.scene)
    assert other.chart(LOSS) is None


def test_the_layout_shows_charts_and_goes_back(app, run):
    plots, metrics = TrainPlots(run, scene=app.scene), TrainMetrics.ofRun(run)
    plots.update(metrics)
    layoutNode = app.scene.GetFirstNodeByClass("vtkMRMLLayoutNode") or app.scene.AddNewNodeByClass("vtkMRMLLayoutNode")
    layoutNode.SetViewArrangement(layoutNode.SlicerLayoutOneUpRedSliceView)
    TrainLayout.showCharts(plots.chart(LOSS), scene=app.scene)
    assert TrainLayout.areChartsShown(app.scene)
    view = TrainLayout.plotView(app.scene, TrainLayout.PLOT_TAGS[0])
    assert view.GetPlotChartNode() is plots.chart(LOSS)
    assert TrainLayout.plotView(app.scene, TrainLayout.PLOT_TAGS[1]) is None
    metrics.take({"step": 60, "epoch": 3.0, "fid": 55.0})
    plots.update(metrics)
    TrainLayout.showCharts(plots.chart(LOSS), plots.chart(FRECHET), scene=app.scene)
    assert layoutNode.GetViewArrangement() == TrainLayout.TWO_PLOTS
    second = TrainLayout.plotView(app.scene, TrainLayout.PLOT_TAGS[1])
    assert second.GetPlotChartNode() is plots.chart(FRECHET)
    assert TrainLayout.restoreLayout(app.scene)
    assert layoutNode.GetViewArrangement() == layoutNode.SlicerLayoutOneUpRedSliceView
    assert not TrainLayout.restoreLayout(app.scene)
    assert not TrainLayout.areChartsShown(app.scene)


def test_layouts_are_understood_by_slicer(app):
    """Slicer's own layout logic makes the views that the descriptions ask for."""
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(app.scene)
    TrainLayout.registerLayouts(app.scene)
    layoutNode = logic.GetLayoutNode()
    for number, plots in ((TrainLayout.ONE_PLOT, 1), (TrainLayout.TWO_PLOTS, 2)):
        layoutNode.SetViewArrangement(number)
        views = logic.GetViewNodes()
        tags = [views.GetItemAsObject(n).GetLayoutName() for n in range(views.GetNumberOfItems())]
        assert sorted(tags) == sorted(["Red", "Yellow", "Green", *TrainLayout.PLOT_TAGS[:plots]])
    numbers = [value for name, value in vars(Layouts).items() if name.endswith("_ID") and isinstance(value, int)]
    assert not set(numbers) & {TrainLayout.ONE_PLOT, TrainLayout.TWO_PLOTS}
