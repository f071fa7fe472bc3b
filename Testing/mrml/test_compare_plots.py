"""Histogram and line profile: the figures, the MRML nodes, and the charts as pictures."""

import compare_pictures
import numpy as np
import pytest
import rendering
import slicer
from CTDiffusionLib import ComparisonPlots, HounsfieldCurves, Layouts, SceneVolumes

SHAPE = (20, 60, 80)
#: Ranges of HU with a peak in every chest, and one without.
_TISSUES = (("lung", -920, -800), ("between", -500, -300), ("fat", -130, -60), ("soft", 0, 120))
MATRIX = np.diag([-3.0, -3.0, 5.0, 1.0])


def _body():
    """Air, a body of -100 HU with a lung of -850 HU and an organ of 60 HU in it, and a thin couch of 200 HU."""
    hu = np.full(SHAPE, -1000, np.int16)
    hu[:, 10:45, 10:70] = -100
    hu[:, 15:35, 15:35] = -850
    hu[:, 15:35, 45:65] = 60
    hu[:, 50, 5:75] = 200
    return hu


@pytest.fixture
def pair(app):
    real = SceneVolumes.insertVolume(_body(), MATRIX, "scan", volumesLogic=app.volumes_logic)
    made = np.where(_body() == 60, 110, _body()).astype(np.int16)
    return SceneVolumes.insertSyntheticVolume(made, MATRIX, "made", volumesLogic=app.volumes_logic), real


def _bin(hu):
    return (hu - HounsfieldCurves.LOWEST_HU) // HounsfieldCurves.BIN_HU


def _series(chart, index):
    node = chart.GetNthPlotSeriesNode(index)
    table = node.GetTableNode()
    return [
        slicer.util.arrayFromTableColumn(table, name).copy() for name in (node.GetXColumnName(), node.GetYColumnName())
    ]


def test_air_around_the_body_and_the_couch_are_left_out_and_the_lungs_are_not():
    mask = HounsfieldCurves.bodyMask(_body(), (5.0, 3.0, 3.0))
    expected = np.zeros(SHAPE, bool)
    expected[:, 10:45, 10:70] = True
    corners = np.abs(mask.astype(int) - expected).sum(axis=(1, 2))
    assert corners.max() <= 4  # opening rounds the four corners off
    assert mask[:, 15:35, 15:35].all()


def test_a_volume_of_air_alone_is_counted_as_it_is(app):
    node = SceneVolumes.insertVolume(np.full(SHAPE, -1000, np.int16), MATRIX, "air", volumesLogic=app.volumes_logic)
    hu, density = HounsfieldCurves.histogram(node)
    assert density.sum() * HounsfieldCurves.BIN_HU == pytest.approx(1)
    assert hu[density.argmax()] == pytest.approx(-1000, abs=HounsfieldCurves.BIN_HU)


def test_the_histogram_is_the_share_of_the_body_per_hu(app, pair):
    hu, density = HounsfieldCurves.histogram(pair[1])
    share = {value: density[_bin(value)] * HounsfieldCurves.BIN_HU for value in (-850, -100, 60, -1000)}
    body, part = 35 * 60, 20 * 20
    assert share[-850] == pytest.approx(part / body, rel=0.01)
    assert share[60] == pytest.approx(part / body, rel=0.01)
    assert share[-100] == pytest.approx((body - 2 * part) / body, rel=0.01)
    assert share[-1000] == 0
    assert (hu[0], hu[-1]) == (-1022, 1498)


def test_a_large_volume_is_thinned_out_without_a_change_of_the_curve(app, pair, monkeypatch):
    _hu, whole = HounsfieldCurves.histogram(pair[1])
    monkeypatch.setattr(HounsfieldCurves, "_ENOUGH_VOXELS", 20_000)
    _hu, thin = HounsfieldCurves.histogram(pair[1])
    assert not np.array_equal(thin, whole)
    np.testing.assert_allclose(thin, whole, atol=0.03)


def test_the_histogram_becomes_table_series_and_chart_that_say_which_is_synthetic(app, pair):
    chart = ComparisonPlots.showHistogram(*pair)
    names = [chart.GetNthPlotSeriesNode(index).GetName() for index in range(2)]
    assert names == ["real: scan", "SYNTHETIC: made"]
    assert "SYNTHETIC" in chart.GetTitle()
    (x, real), (_, synthetic) = _series(chart, 0), _series(chart, 1)
    assert real.argmax() == synthetic.argmax() == _bin(-100)
    assert x[_bin(-100)] == -98  # of -100 to -96
    assert real[_bin(60)] > 1 > synthetic[_bin(60)] == 0
    assert synthetic[_bin(110)] > 1
    assert Layouts.plotViewNode(app.scene).GetPlotChartNode() is chart
    shown = [Layouts.compositeNode(app.scene, tag).GetBackgroundVolumeID() for tag in Layouts.PLOT.tags]
    assert shown == [node.GetID() for node in pair]


def test_asking_again_makes_no_second_nodes(app, pair):
    for _ in range(2):
        ComparisonPlots.showHistogram(*pair)
        ComparisonPlots.showProfile(*pair)
    classes = ("Table", "PlotChart", "PlotSeries", "MarkupsLine")
    counts = [app.scene.GetNumberOfNodesByClass(f"vtkMRML{name}Node") for name in classes]
    assert counts == [2, 2, 4, 1]


def test_a_profile_reads_hu_along_a_line_through_any_grid(app, oblique):
    k, j, i = np.indices((40, 70, 70))
    places = np.einsum("ab,bkji->akji", oblique, np.stack([i, j, k, np.ones(k.shape)]))
    ramp = (4 * (places[0] - oblique[0, 3])).astype(np.float32)
    node = app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "ramp")
    slicer.util.updateVolumeFromArray(node, ramp)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(oblique))
    start, end = (SceneVolumes.rasBounds(node).mean(axis=1) + np.array([shift, shift / 3, 0]) for shift in (-8, 8))
    values = HounsfieldCurves.profile(node, start, end, samples=50)
    expected = 4 * (np.linspace(start[0], end[0], 50) - oblique[0, 3])
    np.testing.assert_allclose(values, expected, atol=0.01)


def test_beyond_the_volume_there_is_no_value(app, pair):
    bounds = SceneVolumes.rasBounds(pair[1])
    start, end = (np.array([x, *bounds[1:].mean(axis=1)]) for x in (bounds[0, 1] + 30, bounds[0, 0] - 30))
    values = HounsfieldCurves.profile(pair[1], start, end, samples=301)
    outside = np.isnan(values)
    assert outside[:30].all()
    assert outside[-30:].all()
    assert not outside[31:-31].any()


def test_the_default_line_runs_from_right_to_left_through_the_centre(app, pair):
    chart = ComparisonPlots.showProfile(*pair)
    line = ComparisonPlots.defaultLine(pair[1])
    start, end = ComparisonPlots.lineEnds(line)
    bounds = SceneVolumes.rasBounds(pair[1])
    assert (start[0], end[0]) == (bounds[0, 1], bounds[0, 0])
    np.testing.assert_allclose([start[1:], end[1:]], [bounds[1:].mean(axis=1)] * 2)
    (mm, real), (_, synthetic) = _series(chart, 0), _series(chart, 1)
    assert mm[-1] == pytest.approx(240)
    middle_of_organ = np.abs(mm - 55 * 3).argmin()  # column 54.5 lies at 165 mm from the outer edge
    assert (real[middle_of_organ], synthetic[middle_of_organ]) == (60, 110)


def test_the_users_line_is_followed(app, pair):
    line = ComparisonPlots.newLine(app.scene)
    with pytest.raises(ValueError, match="two points"):
        ComparisonPlots.showProfile(*pair, line)
    centre = SceneVolumes.rasBounds(pair[1]).mean(axis=1)
    line.AddControlPointWorld(*centre)
    assert ComparisonPlots.lineEnds(line) is None
    line.AddControlPointWorld(*centre)
    with pytest.raises(ValueError, match="same place"):
        ComparisonPlots.showProfile(*pair, line)
    line.SetNthControlPointPositionWorld(1, *(centre + np.array([0, 30, 0])))
    chart = ComparisonPlots.showProfile(*pair, line)
    assert _series(chart, 0)[0][-1] == pytest.approx(30)
    line.SetNthControlPointPositionWorld(1, *(centre + np.array([0, 0, 20])))
    assert ComparisonPlots.updateProfile(*pair, line) is chart
    assert _series(chart, 0)[0][-1] == pytest.approx(20)


def test_volumes_far_apart_are_read_around_their_own_centres(app, pair):
    real = pair[1]
    far = MATRIX.copy()
    far[2, 3] = 2000.0
    synthetic = SceneVolumes.insertSyntheticVolume(_body(), far, "far", volumesLogic=app.volumes_logic)
    chart = ComparisonPlots.showProfile(synthetic, real)
    assert "own centre" in chart.GetTitle()
    np.testing.assert_array_equal(_series(chart, 0)[1], _series(chart, 1)[1])
    offsets = [Layouts.sliceNode(app.scene, tag).GetSliceOffset() for tag in Layouts.PLOT.tags]
    assert offsets[0] - offsets[1] == pytest.approx(2000)


def test_volumes_of_one_name_have_columns_of_their_own(app, pair):
    for node in pair:
        node.SetName("same")
    table = ComparisonPlots.showProfile(*pair).GetNthPlotSeriesNode(0).GetTableNode()
    names = [table.GetColumnName(index) for index in range(table.GetNumberOfColumns())]
    assert len(set(names)) == 3


@pytest.mark.real_data
def test_a_real_scan_with_a_phantom_of_another_grid(app, ct_data):
    from CTDiffusionLogic.phantom import torso_phantom
    from CTDiffusionLogic.volume_io import read_volume

    scan = read_volume(ct_data / "nifti" / "chest_cmbcrc01068.nii.gz")
    drawn = torso_phantom(slices=40, size=96, spacing_mm=(4.2, 4.2, 6.0))
    real = SceneVolumes.insertVolume(scan.hu, scan.geometry.ijk_to_ras, "scan", volumesLogic=app.volumes_logic)
    made = SceneVolumes.insertSyntheticVolume(
        drawn.hu, drawn.geometry.ijk_to_ras, "phantom", volumesLogic=app.volumes_logic
    )
    chart = ComparisonPlots.showHistogram(made, real)
    for index in range(2):
        hu, percent = _series(chart, index)
        assert percent.sum() * HounsfieldCurves.BIN_HU == pytest.approx(100, abs=3)
        assert percent[hu < -960].sum() * HounsfieldCurves.BIN_HU < 3  # of air there is only what lungs and bowel hold
        peaks = {name: percent[(hu > low) & (hu < high)].max() for name, low, high in _TISSUES}
        assert min(peaks["lung"], peaks["fat"], peaks["soft"]) > 3 * peaks["between"]
    profile = ComparisonPlots.showProfile(made, real)
    assert all(np.isfinite(_series(profile, index)[1]).any() for index in range(2))


@pytest.mark.skipif(not rendering.has_opengl(), reason=rendering.OPENGL_REMEDY)
@pytest.mark.parametrize("show", [ComparisonPlots.showHistogram, ComparisonPlots.showProfile])
def test_both_curves_are_seen_in_their_colours(app, pair, show):
    picture = compare_pictures.chart_picture(show(*pair)).astype(int)
    red, green, blue = np.moveaxis(picture, 2, 0)
    assert ((blue > red + 60) & (blue > green + 20)).sum() > 300  # real
    assert ((red > blue + 100) & (red > green + 40)).sum() > 100  # synthetic, dashed
