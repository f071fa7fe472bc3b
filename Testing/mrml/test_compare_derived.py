"""Checkerboard and difference: voxels, grids, names, colours, and what the views show of them."""

import numpy as np
import pytest
import slicer
from CTDiffusionLib import Comparison, CornerAnnotation, DerivedVolumes, Display, Layouts, Provenance, SceneVolumes
from CTDiffusionLib.VolumeGrids import gridMismatch, huArray, huOnGridOf, ijkToWorld

SHAPE = (12, 40, 30)


def _ramp(matrix, shape=SHAPE):
    """A volume whose HU are 2 x + 3 y - z of its voxels' places in mm: linear interpolation is exact in it."""
    k, j, i = np.indices(shape)
    places = np.einsum("ab,bkji->akji", np.asarray(matrix), np.stack([i, j, k, np.ones(shape)]))
    return np.rint(2 * places[0] + 3 * places[1] - places[2]).astype(np.int16)


def _insert(app, hu, matrix, *, synthetic=False):
    if synthetic:
        return SceneVolumes.insertSyntheticVolume(hu, matrix, "made", volumesLogic=app.volumes_logic)
    return SceneVolumes.insertVolume(hu, matrix, "scan", volumesLogic=app.volumes_logic)


@pytest.fixture
def pair(app):
    matrix = np.diag([-2.0, -2.0, 4.0, 1.0])
    real = _insert(app, np.full(SHAPE, 40, np.int16), matrix)
    return _insert(app, np.full(SHAPE, 140, np.int16), matrix, synthetic=True), real


def test_the_difference_is_synthetic_minus_real_in_hu(app, pair):
    synthetic, real = pair
    slicer.util.arrayFromVolume(synthetic)[3, 5, 7] = -60
    node = Comparison.showDifference(synthetic, real, rangeHU=150, volumesLogic=app.volumes_logic)
    hu = slicer.util.arrayFromVolume(node)
    assert hu[0, 0, 0] == 100
    assert hu[3, 5, 7] == -100
    assert np.array_equal(SceneVolumes.ijkToRAS(node), SceneVolumes.ijkToRAS(real))
    display = Display.displayNodeOf(node)
    assert (display.GetWindow(), display.GetLevel()) == (300, 0)
    assert Provenance.isSynthetic(node)
    assert Provenance.referenceVolume(node) is real
    assert node.GetName() == "SYNTHETIC difference: made / scan"
    shown = [Layouts.compositeNode(app.scene, tag).GetBackgroundVolumeID() for tag in Layouts.DERIVED.tags]
    assert shown == [node.GetID()] * 3


def test_differences_beyond_int16_are_cut_not_wrapped(app, pair):
    synthetic, real = pair
    slicer.util.arrayFromVolume(synthetic)[0, 0, 0] = 32767
    slicer.util.arrayFromVolume(real)[0, 0, 0] = -32768
    node = DerivedVolumes.difference(synthetic, real, volumesLogic=app.volumes_logic)
    assert slicer.util.arrayFromVolume(node)[0, 0, 0] == 32767


def test_colours_of_a_difference_diverge_from_black(app, pair):
    node = DerivedVolumes.difference(*pair, volumesLogic=app.volumes_logic)
    colours = Display.displayNodeOf(node).GetColorNode()
    rgb = np.array([colours.GetLookupTable().GetTableValue(index)[:3] for index in range(255)])
    assert colours.GetNumberOfColors() == 255
    assert rgb[127].max() < 0.1
    brightness = rgb.max(axis=1)
    assert (np.diff(brightness[:128]) <= 1e-6).all()
    assert (np.diff(brightness[127:]) >= -1e-6).all()
    assert rgb[0, 2] > 0.8 > rgb[0, 0]  # blue below
    assert rgb[254, 0] > 0.8 > rgb[254, 2]  # orange above
    DerivedVolumes.difference(*pair, volumesLogic=app.volumes_logic)
    assert DerivedVolumes.differenceColours(app.scene) is colours


@pytest.mark.parametrize(
    ("shape", "matrix", "words"),
    [
        ((12, 40, 31), np.diag([-2.0, -2.0, 4.0, 1.0]), "31 x 40 x 12"),
        (SHAPE, np.diag([-2.0, -2.0, 5.0, 1.0]), "2 x 2 x 5"),
        (SHAPE, np.array([[-2.0, 0, 0, 7.5], [0, -2, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]]), "7.5 mm apart"),
    ],
)
def test_a_difference_needs_one_grid_and_says_what_differs(app, pair, shape, matrix, words):
    _synthetic, real = pair
    other = _insert(app, np.zeros(shape, np.int16), matrix, synthetic=True)
    assert words in DerivedVolumes.differenceProblem(other, real)
    with pytest.raises(ValueError, match="same grid"):
        DerivedVolumes.difference(other, real, volumesLogic=app.volumes_logic)


def test_rounding_in_a_file_is_no_other_grid(app, pair):
    synthetic, real = pair
    matrix = SceneVolumes.ijkToRAS(real) + 1e-5 * np.eye(4, k=3)
    synthetic.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    assert gridMismatch(synthetic, real) == ""


def test_squares_of_a_checkerboard_have_the_size_asked_for(app, pair):
    synthetic, real = pair
    node = Comparison.showCheckerboard(synthetic, real, squareMm=20, volumesLogic=app.volumes_logic)
    hu = slicer.util.arrayFromVolume(node)
    assert set(np.unique(hu)) == {40, 140}
    assert np.flatnonzero(np.diff(hu[0, 0])).tolist() == [9, 19]  # 20 mm are 10 columns of 2 mm
    assert np.flatnonzero(np.diff(hu[0, :, 0])).tolist() == [9, 19, 29]
    assert len(np.flatnonzero(np.diff(hu[:, 0, 0]))) == 1  # 48 mm: two boxes
    displays = [Display.displayNodeOf(volume) for volume in (node, real)]
    assert len({(display.GetWindow(), display.GetLevel()) for display in displays}) == 1


@pytest.mark.parametrize("squareMm", [1, 5000])
def test_squares_smaller_than_voxels_or_larger_than_the_volume_do_no_harm(app, pair, squareMm):
    node = DerivedVolumes.checkerboard(*pair, squareMm=squareMm, volumesLogic=app.volumes_logic)
    assert set(np.unique(slicer.util.arrayFromVolume(node))) <= {40, 140}
    with pytest.raises(ValueError, match="-3"):
        DerivedVolumes.checkerboard(*pair, squareMm=-3, volumesLogic=app.volumes_logic)


def test_a_volume_of_another_grid_is_read_where_the_voxels_of_the_target_lie(app, oblique):
    small = np.diag([3.0, 2.5, 3.0, 1.0])
    small[:3, 3] = SceneVolumes.rasBounds(_insert(app, np.zeros((60, 90, 90), np.int16), oblique)).mean(axis=1) - 12
    target = _insert(app, np.zeros((8, 10, 9), np.int16), small)
    source = _insert(app, _ramp(oblique, (60, 90, 90)), oblique, synthetic=True)
    read = huOnGridOf(source, target)
    expected = _ramp(small, (8, 10, 9))
    inside = read > SceneVolumes.AIR_HU
    assert inside.mean() > 0.9
    np.testing.assert_allclose(read[inside], expected[inside], atol=1.01)  # both are rounded to whole HU


def test_parent_transforms_count(app, pair):
    synthetic, real = pair
    transform = app.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shift = np.eye(4)
    shift[0, 3] = 10.0
    slicer.util.updateTransformMatrixFromArray(transform, shift)
    real.SetAndObserveTransformNodeID(transform.GetID())
    assert "10 mm apart" in gridMismatch(synthetic, real)
    node = DerivedVolumes.checkerboard(synthetic, real, squareMm=5000, volumesLogic=app.volumes_logic)
    assert np.allclose(ijkToWorld(node), ijkToWorld(real))
    outside = huOnGridOf(synthetic, real)  # the first five columns lie 10 mm beyond the synthetic volume
    assert (outside[:, :, :5] == SceneVolumes.AIR_HU).all()
    assert (outside[:, :, 5:] == 140).all()


def test_volumes_that_do_not_meet_have_no_checkerboard(app, pair):
    _synthetic, real = pair
    matrix = np.diag([-2.0, -2.0, 4.0, 1.0])
    matrix[2, 3] = 900.0
    far = _insert(app, np.zeros(SHAPE, np.int16), matrix, synthetic=True)
    with pytest.raises(ValueError, match="do not overlap"):
        DerivedVolumes.checkerboard(far, real, volumesLogic=app.volumes_logic)


def test_asking_again_fills_the_same_node(app, pair):
    synthetic, real = pair
    first = DerivedVolumes.difference(synthetic, real, volumesLogic=app.volumes_logic)
    slicer.util.arrayFromVolume(synthetic)[:] = 45
    second = DerivedVolumes.difference(synthetic, real, volumesLogic=app.volumes_logic)
    assert second is first
    assert set(np.unique(slicer.util.arrayFromVolume(first))) == {5}
    other = DerivedVolumes.checkerboard(synthetic, real, volumesLogic=app.volumes_logic)
    assert other is not first
    assert DerivedVolumes.isDerived(other)
    assert not DerivedVolumes.isDerived(synthetic)


def test_floating_point_volumes_are_rounded(app, pair):
    _synthetic, real = pair
    slicer.util.updateVolumeFromArray(real, np.full(SHAPE, 40.6))
    assert set(np.unique(huArray(real))) == {41}


def test_views_of_what_was_computed_are_labelled(app, pair):
    import vtk

    renderers = {tag: vtk.vtkRenderer() for tag in Layouts.DERIVED.tags}
    labels = CornerAnnotation.SyntheticLabels(app.scene, renderers.get)
    Comparison.showDifference(*pair, volumesLogic=app.volumes_logic)
    assert [renderer.GetViewProps().GetNumberOfItems() for renderer in renderers.values()] == [1, 1, 1]
    labels.stop()


def test_pixels_are_blue_where_the_synthetic_volume_is_lower_and_orange_where_it_is_higher(open_views):
    views = open_views(Layouts.DERIVED.tags, size=(120, 100), with_opengl=False)
    matrix = np.diag([-2.0, -2.0, 4.0, 1.0])
    hu = np.full(SHAPE, 40, np.int16)
    real = SceneVolumes.insertVolume(hu, matrix, "scan", volumesLogic=views.app.volumes_logic)
    hu[:, :, :10], hu[:, :, 20:] = -160, 240
    synthetic = SceneVolumes.insertSyntheticVolume(hu, matrix, volumesLogic=views.app.volumes_logic)
    Comparison.showDifference(synthetic, real, rangeHU=200, volumesLogic=views.app.volumes_logic)
    picture = views.picture(Layouts.DERIVED.tags[0]).astype(int)
    row = picture[50][picture[50].max(axis=1) > 0]
    third = len(row) // 3  # i runs to the left: the picture's left is i = 0
    left, middle, right = row[third // 2], row[third + third // 2], row[-third // 2]
    assert left[2] > left[0] + 80
    assert middle.max() < 20
    assert right[0] > right[2] + 80
