import numpy as np
import pytest
import slicer
import vtk
from CTDiffusionLib import Layouts, SceneVolumes
from rendering import new_app


@pytest.fixture
def with_layout_logic(app):
    """Slicer's layout logic, which in Slicer sits in the layout manager and makes the views of a layout."""
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(app.scene)
    return logic


def _pair(app, shift=(0.0, 0.0, 0.0)):
    nodes = []
    for name, offset in (("synthetic", shift), ("real", (0.0, 0.0, 0.0))):
        matrix = np.diag([2.0, 2.0, 3.0, 1.0])
        matrix[:3, 3] = offset
        hu = np.zeros((20, 40, 30), np.int16)
        nodes.append(SceneVolumes.insertVolume(hu, matrix, name, volumesLogic=app.volumes_logic))
    return nodes


def _shown(app, tag):
    composite = Layouts.compositeNode(app.scene, tag)
    return [composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()]


@pytest.mark.parametrize("layout", [Layouts.SIDE_BY_SIDE, Layouts.OVERLAY])
def test_descriptions_are_what_slicers_layout_node_reads(layout):
    root = slicer.vtkMRMLLayoutNode.ParseLayout(Layouts.layoutXml(layout))
    views = [
        root.GetNestedElement(row).GetNestedElement(0).GetNestedElement(column).GetNestedElement(0)
        for row in range(len(layout.rows))
        for column in range(3)
    ]
    assert root.GetNumberOfNestedElements() == len(layout.rows)
    assert tuple(view.GetAttribute("singletontag") for view in views) == layout.tags
    assert {view.GetAttribute("class") for view in views} == {"vtkMRMLSliceNode"}
    assert layout.number > 100


def test_tags_and_groups_are_nobody_elses():
    tags = Layouts.SIDE_BY_SIDE.tags + Layouts.OVERLAY.tags
    assert len(set(tags)) == 9
    assert not set(tags) & {"Red", "Green", "Yellow", "Red+", "Green+", "Yellow+", "Slice4", "Compare1"}
    groups = [row.group for layout in (Layouts.SIDE_BY_SIDE, Layouts.OVERLAY) for row in layout.rows]
    assert len(set(groups)) == 3
    assert min(groups) > 1


@pytest.mark.parametrize("has_logic", [True, False])
def test_side_by_side_shows_each_volume_in_its_own_row(app, request, has_logic):
    if has_logic:
        request.getfixturevalue("with_layout_logic")
    synthetic, real = _pair(app)
    Layouts.showSideBySide(synthetic, real)
    assert app.scene.GetFirstNodeByClass("vtkMRMLLayoutNode").GetViewArrangement() == Layouts.SIDE_BY_SIDE.number
    for row, volume in zip(Layouts.SIDE_BY_SIDE.rows, (synthetic, real), strict=True):
        for tag, orientation in zip(row.tags, ("Axial", "Coronal", "Sagittal"), strict=True):
            node = Layouts.sliceNode(app.scene, tag)
            composite = Layouts.compositeNode(app.scene, tag)
            assert node.GetOrientation() == orientation
            assert node.GetName() == node.GetLayoutName() == composite.GetLayoutName() == tag
            assert _shown(app, tag) == [volume.GetID(), None]
            assert composite.GetLinkedControl() == composite.GetHotLinkedControl() == 1
    assert app.scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode") == 6


def test_slicers_own_views_are_left_alone(app, with_layout_logic):
    synthetic, real = _pair(app)
    Layouts.compositeNode(app.scene, "Red").SetBackgroundVolumeID(real.GetID())
    Layouts.showSideBySide(synthetic, real)
    Layouts.showOverlay(synthetic, real)
    assert _shown(app, "Red") == [real.GetID(), None]
    assert Layouts.sliceNode(app.scene, "Red").GetViewGroup() == 0
    assert Layouts.compositeNode(app.scene, "Red").GetLinkedControl() == 0


def test_overlay_lays_the_synthetic_volume_over_the_real_one(app, with_layout_logic):
    synthetic, real = _pair(app)
    Layouts.showOverlay(synthetic, real, opacity=0.3)
    for tag in Layouts.OVERLAY.tags:
        composite = Layouts.compositeNode(app.scene, tag)
        assert _shown(app, tag) == [real.GetID(), synthetic.GetID()]
        assert composite.GetForegroundOpacity() == pytest.approx(0.3)
        assert composite.GetLinkedControl() == composite.GetHotLinkedControl() == 1
    Layouts.setOverlayOpacity(0.8, scene=app.scene)
    assert {Layouts.compositeNode(app.scene, tag).GetForegroundOpacity() for tag in Layouts.OVERLAY.tags} == {0.8}
    with pytest.raises(ValueError, match=r"1\.5"):
        Layouts.setOverlayOpacity(1.5, scene=app.scene)


def test_the_users_layout_comes_back(app, with_layout_logic):
    layout_node = with_layout_logic.GetLayoutNode()
    layout_node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    synthetic, real = _pair(app)
    Layouts.showSideBySide(synthetic, real)
    Layouts.showOverlay(synthetic, real)  # ours after ours: the user's is still the one to go back to
    assert Layouts.restoreLayout(app.scene)
    assert layout_node.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
    assert not Layouts.restoreLayout(app.scene)


def test_a_layout_the_user_chose_meanwhile_is_not_undone(app, with_layout_logic):
    layout_node = with_layout_logic.GetLayoutNode()
    Layouts.showSideBySide(*_pair(app))
    layout_node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    Layouts.restoreLayout(app.scene)
    assert layout_node.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView


def _browse(app, tag, offset):
    """What Slicer does while the user drags the slider of a view."""
    node = Layouts.sliceNode(app.scene, tag)
    node.SetInteracting(1)
    node.SetInteractionFlags(slicer.vtkMRMLSliceNode.SliceToRASFlag | slicer.vtkMRMLSliceNode.XYZOriginFlag)
    node.SetSliceOffset(offset)
    node.SetInteracting(0)


@pytest.mark.parametrize(("shift", "moves"), [((0, 0, 6), True), ((0, 0, 500), False)])
def test_rows_move_together_where_the_volumes_overlap(app, with_layout_logic, shift, moves):
    synthetic, real = _pair(app, shift)
    Layouts.showSideBySide(synthetic, real)
    upper, lower = (row.tags[0] for row in Layouts.SIDE_BY_SIDE.rows)
    _browse(app, upper, 33.0)
    assert Layouts.sliceNode(app.scene, upper).GetSliceOffset() == pytest.approx(33.0)
    assert (Layouts.sliceNode(app.scene, lower).GetSliceOffset() == pytest.approx(33.0)) is moves
    coronal = Layouts.sliceNode(app.scene, Layouts.SIDE_BY_SIDE.rows[0].tags[1])
    assert coronal.GetSliceOffset() != pytest.approx(33.0)


def test_all_views_have_one_scale_and_the_middle_of_their_volume(app, with_layout_logic):
    synthetic, real = _pair(app, (0, 0, 500))
    Layouts.showSideBySide(synthetic, real)
    scale = Layouts.fitViews(Layouts.SIDE_BY_SIDE, [synthetic, real])
    for row, volume in zip(Layouts.SIDE_BY_SIDE.rows, (synthetic, real), strict=True):
        for tag in row.tags:
            node = Layouts.sliceNode(app.scene, tag)
            per_pixel = np.array(node.GetFieldOfView()[:2]) / node.GetDimensions()[:2]
            np.testing.assert_allclose(per_pixel, scale)
            width, height, _ = node.GetDimensions()
            centre = node.GetXYToRAS().MultiplyPoint((width / 2, height / 2, 0, 1))[:3]
            np.testing.assert_allclose(centre, SceneVolumes.rasBounds(volume).mean(axis=1), atol=scale)


def test_layouts_are_known_again_when_a_saved_scene_is_opened(app, with_layout_logic, tmp_path):
    Layouts.showSideBySide(*_pair(app))
    app.io_manager.save_scene(tmp_path / "scene.mrb")
    loaded = new_app()
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(loaded.scene)
    Layouts.registerLayouts(loaded.scene)  # as the module does when Slicer has started
    loaded.io_manager.load_scene(tmp_path / "scene.mrb")
    layout_node = logic.GetLayoutNode()
    assert layout_node.GetViewArrangement() == Layouts.SIDE_BY_SIDE.number
    assert layout_node.GetCurrentLayoutDescription() == Layouts.layoutXml(Layouts.SIDE_BY_SIDE)
    views = logic.GetViewNodes()
    assert [views.GetItemAsObject(n).GetLayoutName() for n in range(6)] == list(Layouts.SIDE_BY_SIDE.tags)
    composite = Layouts.compositeNode(loaded.scene, Layouts.SIDE_BY_SIDE.tags[0])
    assert loaded.scene.GetNodeByID(composite.GetBackgroundVolumeID()).GetName() == "synthetic"


def test_the_portable_layout_is_slicers_own(app, with_layout_logic):
    builtin = with_layout_logic.GetLayoutNode().GetLayoutDescription(Layouts.THREE_OVER_THREE.number)
    root = vtk.vtkXMLUtilities.ReadElementFromString(builtin)
    tags = [
        root.GetNestedElement(r)
        .GetNestedElement(0)
        .GetNestedElement(c)
        .GetNestedElement(0)
        .GetAttribute("singletontag")
        for r in range(2)
        for c in range(3)
    ]
    assert tuple(tags) == Layouts.THREE_OVER_THREE.tags
    synthetic, real = _pair(app)
    Layouts.showSideBySide(synthetic, real, layout=Layouts.THREE_OVER_THREE)
    assert [_shown(app, tag)[0] for tag in tags] == [synthetic.GetID()] * 3 + [real.GetID()] * 3
