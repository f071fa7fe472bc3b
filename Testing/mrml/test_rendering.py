"""What Slicer's slice views really show: sides, scale, grey levels, labels; with OpenGL where there is one."""

import numpy as np
import pytest
import rendering
import slicer
from CTDiffusionLib import CornerAnnotation, Display, Layouts, SceneVolumes

SIZE = (200, 180)
SPACING = (3.0, 2.0, 4.0)  # mm along i, j, k
#: The box of 1000 HU in the phantom, as fractions of the field of view: right, front, upper eighth of the body.
BOX_HU, BODY_HU = 1000, 0

with_and_without_opengl = pytest.mark.parametrize(
    "with_opengl",
    [
        pytest.param(True, marks=pytest.mark.skipif(not rendering.has_opengl(), reason=rendering.OPENGL_REMEDY)),
        False,
    ],
)


def _phantom():
    """Air, a body of 0 HU, and a box of 1000 HU in its right, front, upper corner (DICOM axes: i left, j back)."""
    hu = np.full((40, 100, 80), -1024, np.int16)
    hu[4:36, 10:90, 8:72] = BODY_HU
    hu[26:34, 15:35, 12:28] = BOX_HU
    matrix = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    matrix[:3, 3] = (117.0, 98.0, -300.0)
    return hu, matrix


def _show(views, *, shift=0.0, preset="bone"):
    hu, matrix = _phantom()
    logic = views.app.volumes_logic
    real = SceneVolumes.insertVolume(hu, matrix, "real", volumesLogic=logic, preset=preset)
    matrix = matrix.copy()
    matrix[2, 3] += shift
    synthetic = SceneVolumes.insertSyntheticVolume(hu, matrix, reference=real, volumesLogic=logic)
    Layouts.showSideBySide(synthetic, real)
    box_centre = matrix @ (19.5, 24.5, 29.5, 1.0)
    for row, offset in zip(Layouts.SIDE_BY_SIDE.rows, (0.0, -shift), strict=True):
        for tag in row.tags:  # through the middle of the box
            Layouts.sliceNode(views.scene, tag).JumpSlice(*np.add(box_centre[:3], (0, 0, offset)))
    return synthetic, real


def _box_in(picture):
    """Rows and columns (first, one past the last) of the brightest grey box in a picture, without coloured text."""
    grey = picture.astype(int)
    bright = (grey.min(axis=2) > 200) & (np.ptp(grey, axis=2) < 8)
    rows, columns = np.flatnonzero(bright.sum(1) > 5), np.flatnonzero(bright.sum(0) > 5)
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def _amber(picture):
    red, green, blue = np.moveaxis(picture.astype(int), 2, 0)
    return int(((red > 180) & (green > 120) & (blue < 110)).sum())


@with_and_without_opengl
def test_sides_of_the_body_are_where_radiologists_expect_them(open_views, with_opengl):
    views = open_views(Layouts.SIDE_BY_SIDE.tags, size=SIZE, with_opengl=with_opengl)
    _show(views)
    middle_row, middle_column = SIZE[1] / 2, SIZE[0] / 2
    for row in Layouts.SIDE_BY_SIDE.rows:
        axial, coronal, sagittal = (_box_in(views.picture(tag)) for tag in row.tags)
        assert axial[1] < middle_row, "front of the body must be at the top of the axial view"
        assert axial[3] < middle_column, "the patient's right must be at the left of the axial view"
        assert coronal[1] < middle_row, "the head must be at the top of the coronal view"
        assert coronal[3] < middle_column, "the patient's right must be at the left of the coronal view"
        assert sagittal[1] < middle_row, "the head must be at the top of the sagittal view"
        assert sagittal[3] < middle_column, "the front must be at the left of the sagittal view"


@with_and_without_opengl
def test_sizes_are_in_scale_in_every_view(open_views, with_opengl):
    views = open_views(Layouts.SIDE_BY_SIDE.tags, size=SIZE, with_opengl=with_opengl)
    nodes = _show(views)
    scale = Layouts.fitViews(Layouts.SIDE_BY_SIDE, nodes)
    _, matrix = _phantom()
    for tag in Layouts.SIDE_BY_SIDE.tags:
        Layouts.sliceNode(views.scene, tag).JumpSlice(*(matrix @ (19.5, 24.5, 29.5, 1.0))[:3])
    right, front, up = 16 * SPACING[0], 20 * SPACING[1], 8 * SPACING[2]
    expected = {"Axial": (front, right), "Coronal": (up, right), "Sagittal": (up, front)}
    for row in Layouts.SIDE_BY_SIDE.rows:
        for tag, (height, width) in zip(row.tags, expected.values(), strict=True):
            top, bottom, left, end = _box_in(views.picture(tag))
            # The edge of the box is interpolated over one voxel: 4 mm at most, which is 2 pixels here.
            assert (bottom - top) * scale == pytest.approx(height, abs=4 + 2 * scale)
            assert (end - left) * scale == pytest.approx(width, abs=4 + 2 * scale)


@with_and_without_opengl
def test_both_volumes_have_the_same_grey_levels(open_views, with_opengl):
    views = open_views(Layouts.SIDE_BY_SIDE.tags, size=SIZE, with_opengl=with_opengl)
    nodes = _show(views)
    upper, lower = (row.tags[0] for row in Layouts.SIDE_BY_SIDE.rows)
    for window, level in ((1000, 400), (2000, 0)):
        Display.setWindowLevel(nodes, window, level)
        body = [views.picture(tag)[SIZE[1] // 2, SIZE[0] // 2 + 20] for tag in (upper, lower)]
        expected = (BODY_HU - level + window / 2) / window * 255
        np.testing.assert_allclose(body, expected, atol=2)


@pytest.mark.skipif(not rendering.has_opengl(), reason=rendering.OPENGL_REMEDY)
def test_synthetic_views_carry_the_label_as_pixels(open_views):
    views = open_views(Layouts.SIDE_BY_SIDE.tags, size=SIZE, with_opengl=True)
    labels = CornerAnnotation.SyntheticLabels(views.scene, views.renderer)
    synthetic, real = _show(views)
    upper, lower = Layouts.SIDE_BY_SIDE.rows
    for tag in upper.tags:
        picture = views.picture(tag)
        assert _amber(picture[: SIZE[1] // 5]) > 100, "no label at the upper edge of a synthetic view"
        assert _amber(picture[SIZE[1] // 5 :]) == 0
    assert [_amber(views.picture(tag)) for tag in lower.tags] == [0, 0, 0]
    Layouts.compositeNode(views.scene, upper.tags[0]).SetBackgroundVolumeID(real.GetID())
    Layouts.compositeNode(views.scene, lower.tags[0]).SetBackgroundVolumeID(synthetic.GetID())
    assert _amber(views.picture(upper.tags[0])) == 0
    assert _amber(views.picture(lower.tags[0])) > 100
    labels.stop()
    assert _amber(views.picture(lower.tags[0])) == 0


@pytest.mark.skipif(not rendering.has_opengl(), reason=rendering.OPENGL_REMEDY)
def test_pictures_without_opengl_are_the_same_pixels(open_views):
    pictures = []
    for with_opengl in (True, False):
        views = open_views(Layouts.SIDE_BY_SIDE.tags, size=SIZE, with_opengl=with_opengl)
        _show(views, shift=7.0)
        pictures.append(np.stack([views.picture(tag) for tag in Layouts.SIDE_BY_SIDE.tags]).astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


@with_and_without_opengl
def test_views_follow_slices_that_arrive(open_views, with_opengl):
    views = open_views(Layouts.SIDE_BY_SIDE.tags, size=SIZE, with_opengl=with_opengl)
    hu, matrix = _phantom()
    logic = views.app.volumes_logic
    real = SceneVolumes.insertVolume(hu, matrix, "real", volumesLogic=logic, preset="bone")
    node = SceneVolumes.insertEmptySyntheticVolume(hu.shape, matrix, reference=real, volumesLogic=logic)
    Layouts.showSideBySide(node, real)
    coronal = Layouts.SIDE_BY_SIDE.rows[0].tags[1]
    assert views.picture(coronal).max() == 0
    SceneVolumes.updateSlices(node, 0, hu[:20])  # the lower half
    half = views.picture(coronal).max(axis=(1, 2))
    assert half[: SIZE[1] // 2 - 4].max() == 0
    assert half[SIZE[1] // 2 + 4 :].max() > 20
    SceneVolumes.updateSlices(node, 20, hu[20:])
    assert views.picture(coronal).max(axis=(1, 2))[: SIZE[1] // 2 - 4].max() > 20


def test_the_overlay_blends_both_volumes(open_views):
    views = open_views(Layouts.OVERLAY.tags, size=SIZE, with_opengl=False)
    hu, matrix = _phantom()
    logic = views.app.volumes_logic
    real = SceneVolumes.insertVolume(hu, matrix, "real", volumesLogic=logic, preset="bone")
    bone = SceneVolumes.insertSyntheticVolume(np.full_like(hu, BOX_HU), matrix, reference=real, volumesLogic=logic)
    values = []
    for opacity in (0.0, 0.5, 1.0):
        Layouts.showOverlay(bone, real, opacity=opacity)
        values.append(int(views.picture(Layouts.OVERLAY.tags[0])[SIZE[1] // 2, SIZE[0] // 2 + 20, 0]))
    body, both = (BODY_HU - 400 + 500) / 1000 * 255, 255
    np.testing.assert_allclose(values, [body, (body + both) / 2, both], atol=3)


def test_a_view_without_a_volume_is_black(open_views):
    views = open_views(("Red",), size=SIZE, with_opengl=False)
    assert views.picture("Red").shape == (SIZE[1], SIZE[0], 3)
    assert views.picture("Red").max() == 0
    assert slicer.mrmlScene is views.scene
