import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from CTDiffusionLib import Display, SceneVolumes


def _insert(app, hu, matrix, name="CT", **options):
    return SceneVolumes.insertVolume(hu, matrix, name, volumesLogic=app.volumes_logic, **options)


def test_voxels_and_oblique_geometry_are_exact(app, hu, oblique):
    node = _insert(app, hu, oblique)
    np.testing.assert_allclose(SceneVolumes.ijkToRAS(node), oblique, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), hu)
    assert node.GetImageData().GetScalarTypeAsString() == "short"
    # Geometry is the node's, never the image data's: Slicer's rule.
    assert node.GetImageData().GetSpacing() == (1, 1, 1)
    assert node.GetImageData().GetOrigin() == (0, 0, 0)
    # The corner voxel lies where the matrix says, asked of Slicer itself.
    bounds = SceneVolumes.rasBounds(node)
    corners = np.array([[i, j, k, 1] for i in (-0.5, 10.5) for j in (-0.5, 8.5) for k in (-0.5, 6.5)]) @ oblique.T
    np.testing.assert_allclose(bounds, np.stack([corners.min(0), corners.max(0)], axis=1)[:3], atol=1e-6)


def test_left_handed_axes_are_kept(app, hu):
    matrix = np.diag([2.0, 2.0, -3.0, 1.0])
    np.testing.assert_array_equal(SceneVolumes.ijkToRAS(_insert(app, hu, matrix)), matrix)


def test_the_array_is_copied(app, hu, oblique):
    node = _insert(app, hu, oblique)
    before = int(hu[0, 0, 0])
    hu[0, 0, 0] = 77
    assert slicer.util.arrayFromVolume(node)[0, 0, 0] == before


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.uint16])
def test_other_voxel_types_are_refused_and_nothing_is_added(app, hu, oblique, dtype):
    with pytest.raises(ValueError, match=np.dtype(dtype).name):
        _insert(app, hu.astype(dtype), oblique)
    assert app.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


@pytest.mark.parametrize(
    "matrix", [np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan), np.ones((4, 4)), np.diag([1, 1, 1, 2])]
)
def test_bad_matrices_are_refused_and_nothing_is_added(app, hu, matrix):
    with pytest.raises(ValueError, match="ijkToRAS"):
        _insert(app, hu, matrix)
    assert app.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_names_are_made_unique(app, hu, oblique):
    names = {_insert(app, hu, oblique, "CT").GetName() for _ in range(3)}
    assert len(names) == 3


@pytest.mark.parametrize(
    ("preset", "window", "level"),
    [("bone", 1000, 400), ("brain", 100, 50), ("abdomen", 350, 40), ("lung", 1400, -500)],
)
def test_presets_have_slicers_window_and_level(app, hu, oblique, preset, window, level):
    display = Display.displayNodeOf(_insert(app, hu, oblique, preset=preset))
    assert (display.GetWindow(), display.GetLevel()) == (window, level)
    assert not display.GetAutoWindowLevel()
    assert display.GetColorNodeID() == "vtkMRMLColorTableNodeGrey"


def test_every_preset_is_known_to_slicer(app):
    assert set(Display.PRESETS.values()) <= set(app.volumes_logic.GetVolumeDisplayPresetIDs())


def test_an_unknown_preset_is_named(app, hu, oblique):
    with pytest.raises(ValueError, match="'liver'"):
        Display.applyPreset([_insert(app, hu, oblique)], "liver", volumesLogic=app.volumes_logic)


def test_window_level_of_the_reference_is_taken_over(app, hu, oblique):
    real = _insert(app, hu, oblique, "real")
    Display.setWindowLevel([real], 1234, -321)
    node = SceneVolumes.insertSyntheticVolume(hu, oblique, reference=real, volumesLogic=app.volumes_logic)
    display = Display.displayNodeOf(node)
    assert (display.GetWindow(), display.GetLevel()) == (1234, -321)
    with pytest.raises(ValueError, match="positive"):
        Display.setWindowLevel([real], 0, 0)


def test_the_synthetic_volume_stands_beside_its_reference(app, hu, oblique):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(app.scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    study = hierarchy.CreateStudyItem(patient, "study")
    real, other = (_insert(app, hu, oblique, name) for name in ("real", "other"))
    for node in (real, other):
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), study)
    node = SceneVolumes.insertSyntheticVolume(hu, oblique, reference=real, volumesLogic=app.volumes_logic)
    children = vtk.vtkIdList()
    hierarchy.GetItemChildren(study, children)
    order = [hierarchy.GetItemDataNode(children.GetId(n)) for n in range(children.GetNumberOfIds())]
    assert order == [real, node, other]


def test_slices_are_replaced_where_they_belong_and_views_are_told(app, hu, oblique):
    node = SceneVolumes.insertEmptySyntheticVolume(hu.shape, oblique, "growing", volumesLogic=app.volumes_logic)
    voxels = slicer.util.arrayFromVolume(node)
    assert (voxels == -1024).all()
    events = []
    node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: events.append(1))
    SceneVolumes.updateSlices(node, 2, hu[2:5])
    SceneVolumes.updateSlices(node, 6, hu[6])
    expected = np.full_like(hu, -1024)
    expected[[2, 3, 4, 6]] = hu[[2, 3, 4, 6]]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), expected)
    assert len(events) == 2


@pytest.mark.parametrize(
    ("first", "shape", "dtype"),
    [
        (6, (2, 9, 11), np.int16),
        (-1, (1, 9, 11), np.int16),
        (0, (1, 9, 10), np.int16),
        (0, (1, 9, 11), np.int64),
        (0, (0, 9, 11), np.int16),
    ],
)
def test_slices_that_do_not_fit_leave_the_volume_alone(app, hu, oblique, first, shape, dtype):
    node = _insert(app, hu, oblique)
    with pytest.raises(ValueError, match=r"lices|int16"):
        SceneVolumes.updateSlices(node, first, np.zeros(shape, dtype))
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), hu)
