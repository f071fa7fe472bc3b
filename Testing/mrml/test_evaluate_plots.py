"""A report of an evaluation in a real scene: table, plots, and the layout that shows them; what is no report."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import slicer
import slicer.util
from CTDiffusionLib import EvaluateData, EvaluateLayout, EvaluateReport, Layouts, SceneVolumes, TrainLayout
from CTDiffusionLib.EvaluatePlots import EvaluatePlots
from evaluation_report import DISTANCES, DISTANCES_MM, write_report_json

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity.report import json_report
from CTDiffusionLogic.fidelity.report.html_report import SIGNS, format_number
from CTDiffusionLogic.fidelity.report.standing import RANKS
from CTDiffusionLogic.fidelity.results import PLANES
from CTDiffusionLogic.scan_search import find_scans
from CTDiffusionLogic.volume_io import read_volume


@pytest.fixture
def report(tmp_path):
    return EvaluateReport.EvaluateReport.read(write_report_json(tmp_path / "measurement 1"))


def column(table, name):
    values = table.GetTable().GetColumnByName(name)
    return [values.GetValue(row) for row in range(values.GetNumberOfValues())]


def nodes(scene, kind):
    return [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]


def seriesOf(chart):
    found = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    return {one.GetName(): one for one in found}


def test_the_reader_and_the_library_have_the_same_format():
    assert (EvaluateReport.FORMAT, EvaluateReport.FORMAT_VERSION) == (json_report.FORMAT, json_report.FORMAT_VERSION)
    assert EvaluateReport.SIGNS == SIGNS
    assert tuple(EvaluateReport.SIGNS)[:3] == RANKS
    assert EvaluateReport.PLANES == PLANES
    for value in (0.0, 0.00001, 0.0123456, 5.0, 99.96, 123.4, 123456.0, 1e6):
        assert EvaluateReport.numberText(value) == format_number(value)


def test_the_summary_says_what_matters_in_words(report):
    lines = report.summary(lambda text: text.replace("scene-real-002", "CT chest")).splitlines()
    assert lines[0] == (
        "Synthetic volumes: 2. Real scans: 3, of 3 patients. Of 3 sections: 1 near real, 1 off, 1 far off."
    )
    assert lines[1].startswith("\u25a0 Distance of images from real ones: far off. Mean over three planes 55")
    assert lines[2].startswith("\u25b2 Through-plane coherence: off.")
    assert lines[2].endswith("those of CT chest by 51 HU.")
    assert lines[3].startswith("\u25cf Physics of CT: as it should be.")  # the section's own words
    assert "fewer than 8 synthetic volumes" in lines[4]
    assert lines[5].startswith("Left out: 1.")


def test_intervals_are_told_only_where_they_are_known(report, tmp_path):
    figure = report.figure("coherence.difference.3mm")
    assert figure.synthetic.text(figure.unit) == "20.8 HU (15.1 to 26.9)"
    assert report.figure("physics.peak.lung").synthetic.text("HU") == "-842 HU"
    bare = EvaluateReport.EvaluateReport.read(write_report_json(tmp_path / "bare", floors=False) / "report.json")
    assert bare.figure("frechet.ctfeatures.axial").floor.text() == ""
    assert bare.figure("frechet.ctfeatures.axial").standingText == "\u25cb cannot be told"
    with pytest.raises(KeyError):
        report.figure("frechet")


def test_the_table_has_figures_intervals_and_floors(app, report):
    plots = EvaluatePlots(report, scene=app.scene)
    assert plots.table() is None
    plots.update()
    table = plots.table()
    assert table.GetNumberOfRows() == len(report.figures) == 6
    keys = column(table, "key")
    assert keys[0] == "frechet.ctfeatures.axial" and keys[-1] == "physics.peak.lung"
    assert column(table, "synthetic")[0] == 44.67  # four digits are enough to read
    assert [column(table, f"real{suffix}")[0] for suffix in ("", " 95 % low", " 95 % high")] == [12.5, 9.0, 17.0]
    assert math.isnan(column(table, "synthetic 95 % low")[-1])
    assert column(table, "unit") == ["", "", "", "", "HU", "HU"]
    assert column(table, "reads as")[1:3] == ["\u25b2 off", "\u25a0 far off"]
    assert column(table, "features")[0] == "ctfeatures"
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(app.scene)
    folder = hierarchy.GetItemChildWithName(hierarchy.GetSceneItemID(), "Measurement measurement 1")
    for node in (table, *plots.charts()):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == folder


def test_distances_stand_beside_their_floors_in_each_plane(app, report):
    plots = EvaluatePlots(report, scene=app.scene)
    plots.update()
    chart = plots.chart("frechet.ctfeatures")
    assert chart.GetTitle() == "Fréchet distance (ctfeatures)"
    assert chart.GetXAxisTitle() == "1: axial, 2: coronal, 3: sagittal, 4: mean"
    assert not chart.GetXAxisRangeAuto()
    assert tuple(chart.GetXAxisRange()) == (0.5, 4.5)
    series = seriesOf(chart)
    assert list(series) == [
        "synthetic to real",
        "synthetic to real, 95 %",
        "real patients among each other",
        "real patients among each other, 95 %",
    ]
    table = series["synthetic to real"].GetTableNode()
    for group, place in (("synthetic", 0), ("real", 1)):
        values = np.reshape(column(table, group), (4, 3))
        bars = np.reshape(column(table, f"{group} 95 %"), (4, 3))
        x = np.reshape(column(table, f"x {group}"), (4, 3))
        wanted = [DISTANCES[name][place] for name in ("axial", "coronal", "sagittal", "mean")]
        np.testing.assert_allclose(values[:, 0], [one[0] for one in wanted])
        np.testing.assert_allclose(bars[:, :2], [one[1:] for one in wanted])
        assert np.isnan(bars[:, 2]).all() and np.isnan(values[:, 1:]).all()  # gaps between the planes
        assert (np.round(x) == [[1], [2], [3], [4]]).all()
    assert column(table, "plane")[::3] == ["axial", "coronal", "sagittal", "mean"]
    marks, bars = series["synthetic to real"], series["synthetic to real, 95 %"]
    assert (marks.GetLineStyle(), bars.GetMarkerStyle()) == (marks.LineStyleNone, bars.MarkerStyleNone)
    assert marks.GetColor() == bars.GetColor() != series["real patients among each other"].GetColor()


def test_curves_are_plotted_with_their_bands(app, report):
    plots = EvaluatePlots(report, scene=app.scene)
    plots.update()
    chart = plots.chart("coherence.difference")
    assert chart.GetXAxisTitle() == "Distance of slices (mm)"
    assert chart.GetYAxisTitle() == "Mean difference (HU)"
    assert chart.GetXAxisLogScale() and not chart.GetYAxisLogScale()
    series = seriesOf(chart)
    assert list(series) == ["real", "real, 95 % low", "real, 95 % high", "synthetic"]
    table = series["synthetic"].GetTableNode()
    assert column(table, "x") == DISTANCES_MM
    assert column(table, series["synthetic"].GetYColumnName()) == [47.0, 61.0, 88.0, 117.0]
    assert series["real"].GetLineStyle() != series["synthetic"].GetLineStyle()
    spectrum = plots.chart("coherence.spectrum")
    assert spectrum.GetYAxisLogScale() and not spectrum.GetXAxisLogScale()
    table = seriesOf(spectrum)["real"].GetTableNode()
    assert column(table, "real")[:2] == [900.0, 90.0] and math.isnan(column(table, "real")[2])
    assert column(table, "independent slices") == [5.0, 5.0, 5.0]
    assert plots.chart("coherence.period") is None  # it has no points


def test_the_most_telling_charts_come_first(app, report):
    plots = EvaluatePlots(report, scene=app.scene)
    plots.update()
    titles = [chart.GetTitle() for chart in plots.charts()]
    assert titles == [
        "Fréchet distance (ctfeatures)",
        "HU inside the body",
        "Mean difference of slices inside the body",
        "Power spectrum along z",
    ]
    assert len(nodes(app.scene, "vtkMRMLTableNode")) == 1 + len(titles)


def test_without_floors_there_are_no_marks_of_real_scans(app, tmp_path):
    report = EvaluateReport.EvaluateReport.read(write_report_json(tmp_path / "a", floors=False))
    plots = EvaluatePlots(report, scene=app.scene)
    plots.update()
    assert list(seriesOf(plots.charts()[0])) == ["synthetic to real", "synthetic to real, 95 %"]


def test_nodes_are_made_once_saved_and_found_again(app, report, tmp_path):
    plots = EvaluatePlots(report, scene=app.scene)
    plots.update()
    before = [len(nodes(app.scene, f"vtkMRML{kind}Node")) for kind in ("Table", "PlotChart", "PlotSeries")]
    plots.update()
    other = EvaluatePlots(EvaluateReport.EvaluateReport.read(write_report_json(tmp_path / "other")), scene=app.scene)
    assert other.table() is None and other.charts() == []
    path = tmp_path / "scene.mrb"
    assert app.scene.WriteToMRB(str(path))
    app.scene.Clear(False)
    (tmp_path / "unpacked").mkdir()
    assert app.app_logic.OpenSlicerDataBundle(str(path), str(tmp_path / "unpacked"))
    assert [len(nodes(app.scene, f"vtkMRML{kind}Node")) for kind in ("Table", "PlotChart", "PlotSeries")] == before
    assert column(plots.table(), "synthetic")[0] == 44.67
    assert len(plots.charts()) == 4
    app.scene.RemoveNode(plots.table())
    plots.update()
    assert plots.table().GetNumberOfRows() == 6


def test_the_layout_shows_table_and_charts_and_goes_back(app, report):
    plots = EvaluatePlots(report, scene=app.scene)
    plots.update()
    layoutNode = Layouts.layoutNode(app.scene)
    layoutNode.SetViewArrangement(layoutNode.SlicerLayoutOneUpRedSliceView)
    EvaluateLayout.showReport(plots.table(), plots.charts(), scene=app.scene)
    EvaluateLayout.showReport(plots.table(), plots.charts()[:2], scene=app.scene)
    assert EvaluateLayout.isReportShown(app.scene)
    views = [app.scene.GetSingletonNode(tag, "vtkMRMLPlotViewNode") for tag in EvaluateLayout.PLOT_TAGS]
    assert [view.GetPlotChartNode() for view in views] == [*plots.charts()[:2], None]
    tableView = app.scene.GetSingletonNode(EvaluateLayout.TABLE_TAG, "vtkMRMLTableViewNode")
    assert tableView.GetTableNode() is plots.table()
    assert EvaluateLayout.restoreLayout(app.scene)
    assert layoutNode.GetViewArrangement() == layoutNode.SlicerLayoutOneUpRedSliceView
    assert not EvaluateLayout.restoreLayout(app.scene)


def test_the_layout_is_understood_by_slicer(app):
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(app.scene)
    EvaluateLayout.registerLayout(app.scene)
    logic.GetLayoutNode().SetViewArrangement(EvaluateLayout.REPORT_LAYOUT)
    views = logic.GetViewNodes()
    tags = [views.GetItemAsObject(n).GetLayoutName() for n in range(views.GetNumberOfItems())]
    assert sorted(tags) == sorted([*EvaluateLayout.PLOT_TAGS, EvaluateLayout.TABLE_TAG])
    numbers = [layout.number for layout in Layouts.OWN_LAYOUTS]
    assert EvaluateLayout.REPORT_LAYOUT not in [*numbers, TrainLayout.ONE_PLOT, TrainLayout.TWO_PLOTS]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: text[: len(text) // 2], "truncated or damaged"),
        (lambda text: json.dumps([1, 2]), "is not a report of CTDiffusion"),
        (lambda text: text.replace("ctdiffusion-fidelity", "another"), "is not a report of CTDiffusion"),
        (lambda text: text.replace('"format_version": 1', '"format_version": 2'), "another version of CTDiffusion"),
        (lambda text: text.replace('"standing"', '"word"'), "is damaged"),
        (lambda text: text.replace('"value": 44.674', '"value": "x"'), "is damaged"),
        (lambda text: text.replace("117.0", "117.0,\n 1.0"), "is damaged"),  # a line longer than its axis
    ],
)
def test_what_is_no_report_is_refused(tmp_path, spoil, words):
    file = write_report_json(tmp_path / "a") / "report.json"
    spoiled = spoil(file.read_text(encoding="utf-8"))
    assert spoiled != file.read_text(encoding="utf-8")
    file.write_text(spoiled, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        EvaluateReport.EvaluateReport.read(tmp_path / "a")


def test_a_report_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        EvaluateReport.EvaluateReport.read(tmp_path / "nowhere")


def test_volumes_become_files_that_say_what_they_are_and_name_nobody(app, hu, oblique, tmp_path):
    real = [SceneVolumes.insertVolume(hu, oblique, name, scene=app.scene, volumesLogic=app.volumes_logic)
            for name in ("Doe^Jane", "Doe^Jane 2")]  # fmt: skip
    made = SceneVolumes.insertSyntheticVolume(
        hu, oblique, "SYNTHETIC a", metadata={"model": "torso", "seed": 7}, scene=app.scene,
        volumesLogic=app.volumes_logic,
    )  # fmt: skip
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(app.scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Jane")
    for node in real:
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), patient)
    for group, chosen in ((EvaluateData.REAL, real), (EvaluateData.SYNTHETIC, [made])):
        volumes = [EvaluateData.measuredVolume(node, group) for node in chosen]
        EvaluateData.writeVolumes(volumes, group, tmp_path / group)
    found = find_scans([tmp_path / "real"]).found
    assert [scan.id for scan in found] == ["scene-real-001", "scene-real-002"]
    assert len({scan.patient for scan in found}) == 1  # one patient in the subject hierarchy is one here
    assert "Doe" not in "".join(path.read_bytes().decode("latin-1") for path in (tmp_path / "real").iterdir())
    back = read_volume(tmp_path / "synthetic" / "scene-synthetic-001.nrrd")
    np.testing.assert_array_equal(back.hu, hu)
    np.testing.assert_allclose(back.geometry.ijk_to_ras, oblique, atol=1e-4)
    assert (back.metadata["synthetic"], back.metadata["model"], back.metadata["seed"]) == ("yes", "torso", "7")
    names = {"scene-real-001": "CT chest"}
    text = f"measuring {tmp_path}/real/scene-real-001.nrrd, scene-real-002"
    assert EvaluateData.inWords(text, names, tmp_path / "real") == "measuring CT chest, scene-real-002"


def test_volumes_that_are_not_what_they_are_chosen_as_are_refused(app, hu, oblique):
    options = {"scene": app.scene, "volumesLogic": app.volumes_logic}
    real = SceneVolumes.insertVolume(hu, oblique, "real", **options)
    made = SceneVolumes.insertSyntheticVolume(hu, oblique, "made", metadata={"complete": "no"}, **options)
    phantom = SceneVolumes.insertSyntheticVolume(hu, oblique, "phantom", metadata={"phantom": "yes"}, **options)
    empty = app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    why = EvaluateData.whyNotMeasured
    assert why(real, "real") == why(real, "synthetic") == ""
    assert why(made, "synthetic") == "not complete"
    made.SetAttribute("CTDiffusion.Complete", "yes")
    assert (why(made, "real"), why(made, "synthetic")) == ("synthetic", "")
    assert "phantom" in why(phantom, "real")
    assert why(phantom, "real", allowPhantoms=True) == ""
    assert why(empty, "real") == "no CT volume"
    with pytest.raises(InputError, match="The volume made cannot be measured as a real one: synthetic"):
        EvaluateData.measuredVolume(made, "real")
    shear = slicer.vtkMRMLLinearTransformNode()
    matrix = np.eye(4)
    matrix[0, 1] = 0.7
    slicer.util.updateTransformMatrixFromArray(shear, matrix)
    app.scene.AddNode(shear)
    real.SetAndObserveTransformNodeID(shear.GetID())
    with pytest.raises(InputError, match="real has a geometry that cannot be used"):
        EvaluateData.measuredVolume(real, "real")
