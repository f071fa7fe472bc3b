"""Both volumes in 3D: who is shown where, labels, presets, cameras; and the real pixels."""

import compare_pictures
import numpy as np
import pytest
import rendering
import vtk
from CTDiffusionLib import CornerAnnotation, Layouts, SceneVolumes, VolumeRendering

MATRIX = np.diag([-4.0, -4.0, 6.0, 1.0])
LEFT, RIGHT = (tag for tag, _label in Layouts.RENDERING.threeDViews)
needs_opengl = pytest.mark.skipif(not rendering.has_opengl(), reason=rendering.OPENGL_REMEDY)


@pytest.fixture
def logic(app):
    return app.app_logic.GetModuleLogic("VolumeRendering")


def _pair(app, shift=0.0, *, boneOf="both"):
    hu = np.full((20, 40, 40), -1000, np.int16)
    hu[2:18, 8:32, 8:32] = 40
    bone = hu.copy()
    bone[4:16, 14:26, 14:26] = 900
    moved = MATRIX.copy()
    moved[2, 3] += shift
    real = SceneVolumes.insertVolume(bone if boneOf == "both" else hu, MATRIX, "real", volumesLogic=app.volumes_logic)
    return SceneVolumes.insertSyntheticVolume(bone, moved, reference=real, volumesLogic=app.volumes_logic), real


def _shown(app, tag):
    return VolumeRendering.renderedVolumes(Layouts.threeDViewNode(app.scene, tag))


def test_each_volume_is_in_its_own_view_with_the_same_preset(app, logic):
    synthetic, real = _pair(app)
    VolumeRendering.showRendering(synthetic, real, preset="airways", volumeRenderingLogic=logic)
    assert [_shown(app, tag) for tag in (LEFT, RIGHT)] == [[synthetic], [real]]
    displays = [volume.GetNthDisplayNode(1) for volume in (synthetic, real)]
    assert {display.GetVolumePropertyNode().GetName() for display in displays} == {"CT-Lung"}
    assert displays[0].GetVolumePropertyNode() is not displays[1].GetVolumePropertyNode()
    assert Layouts.isShown(Layouts.RENDERING, app.scene)


def test_every_preset_is_one_of_slicers(logic):
    assert all(logic.GetPresetByName(name) is not None for name in VolumeRendering.PRESETS.values())


def test_a_preset_that_is_not_there_is_refused_before_anything_changes(app, logic):
    with pytest.raises(ValueError, match="metal"):
        VolumeRendering.showRendering(*_pair(app), preset="metal", volumeRenderingLogic=logic)
    assert not Layouts.isShown(Layouts.RENDERING, app.scene)


def test_asking_again_or_for_another_volume_leaves_one_volume_in_a_view(app, logic):
    synthetic, real = _pair(app)
    for preset in ("bone", "skin"):
        VolumeRendering.showRendering(synthetic, real, preset=preset, volumeRenderingLogic=logic)
    assert app.scene.GetNumberOfNodesByClass("vtkMRMLVolumeRenderingDisplayNode") == 2
    other = _pair(app)[0]
    VolumeRendering.showRendering(other, real, volumeRenderingLogic=logic)
    assert [_shown(app, tag) for tag in (LEFT, RIGHT)] == [[other], [real]]


def test_the_users_own_rendering_of_the_scan_is_left_alone(app, logic):
    synthetic, real = _pair(app)
    own = logic.CreateDefaultVolumeRenderingNodes(real)
    own.GetVolumePropertyNode().Copy(logic.GetPresetByName("CT-MIP"))
    own.AddViewNodeID(Layouts.threeDViewNode(app.scene, "1").GetID())
    own.SetVisibility(True)
    VolumeRendering.showRendering(synthetic, real, volumeRenderingLogic=logic)
    assert own.GetVolumePropertyNode().GetName() == "CT-MIP"
    assert own.GetVisibility()
    assert _shown(app, "1") == [real]
    assert real.GetNumberOfDisplayNodes() == 3


@pytest.mark.parametrize(("shift", "isLinked"), [(12.0, True), (900.0, False)])
def test_views_look_from_the_front_and_turn_together_where_the_volumes_overlap(app, logic, shift, isLinked):
    synthetic, real = _pair(app, shift)
    VolumeRendering.showRendering(synthetic, real, volumeRenderingLogic=logic)
    views = [Layouts.threeDViewNode(app.scene, tag) for tag in (LEFT, RIGHT)]
    assert [bool(view.GetLinkedControl()) for view in views] == [isLinked] * 2
    cameras = [VolumeRendering.cameraNode(app.scene, view) for view in views]
    for camera, volume in zip(cameras, (real if isLinked else synthetic, real), strict=True):
        np.testing.assert_allclose(camera.GetFocalPoint(), SceneVolumes.rasBounds(volume).mean(axis=1))
        assert camera.GetPosition()[1] > camera.GetFocalPoint()[1] + 100  # in front of the patient
        assert camera.GetViewUp()[2] == 1
    distances = [camera.GetPosition()[1] - camera.GetFocalPoint()[1] for camera in cameras]
    assert distances[0] == pytest.approx(distances[1])  # one scale


def test_3d_views_of_synthetic_volumes_are_labelled_and_others_are_not(app, logic):
    renderers = {tag: vtk.vtkRenderer() for tag in (LEFT, RIGHT, "1", "Red")}
    labels = CornerAnnotation.SyntheticLabels(app.scene, renderers.get)

    def labelled():
        found = []
        for tag, renderer in renderers.items():
            props = renderer.GetViewProps()
            if any(props.GetItemAsObject(index).GetVisibility() for index in range(props.GetNumberOfItems())):
                found.append(tag)
        return found

    synthetic, real = _pair(app)
    VolumeRendering.showRendering(synthetic, real, volumeRenderingLogic=logic)
    assert labelled() == [LEFT]
    display = synthetic.GetNthDisplayNode(1)
    display.SetVisibility(False)
    assert labelled() == []
    display.SetVisibility(True)
    display.RemoveAllViewNodeIDs()  # now in every 3D view
    Layouts.threeDViewNode(app.scene, "1")
    assert labelled() == [LEFT, RIGHT, "1"]
    display.SetVisibility(False)
    # A slice view that is shown in 3D brings the volume there as well.
    red = Layouts.compositeNode(app.scene, "Red")
    red.SetBackgroundVolumeID(synthetic.GetID())
    assert labelled() == ["Red"]
    node = app.scene.CreateNodeByClass("vtkMRMLSliceNode")
    node.UnRegister(None)
    node.SetLayoutName("Red")
    app.scene.AddNode(node).SetSliceVisible(True)
    assert labelled() == [LEFT, RIGHT, "1", "Red"]
    red.SetBackgroundVolumeID(real.GetID())
    assert labelled() == []
    labels.stop()


@pytest.fixture
def views(app):
    """Both 3D views, really rendered."""
    opened = {tag: compare_pictures.open_3d_view(app, tag, size=(140, 140)) for tag in (LEFT, RIGHT)}
    yield opened
    for view in opened.values():
        view.finalize()


@needs_opengl
def test_pixels_show_bone_and_the_label_where_they_belong(app, logic, views):
    labels = CornerAnnotation.SyntheticLabels(app.scene, lambda tag: views[tag].renderer() if tag in views else None)
    synthetic, real = _pair(app, boneOf="synthetic")
    VolumeRendering.showRendering(synthetic, real, preset="bone", volumeRenderingLogic=logic)
    for tag in (LEFT, RIGHT):
        view = Layouts.threeDViewNode(app.scene, tag)
        view.SetBoxVisible(False)
        view.SetAxisLabelsVisible(False)
    left, right = (compare_pictures.view_picture(views[tag]).astype(int) for tag in (LEFT, RIGHT))
    middle = np.s_[60:80, 60:80]
    assert np.abs(left[middle] - right[middle]).mean() > 20  # bone on the left only
    amber = [
        ((picture[..., 0] > 180) & (picture[..., 1] > 120) & (picture[..., 2] < 110)) for picture in (left, right)
    ]
    assert amber[0][:30].sum() > 60
    assert amber[1].sum() == 0
    # The words are not cut at the sides of this narrow view.
    columns = np.flatnonzero(amber[0][:30].any(axis=0))
    assert columns[0] > 1
    assert columns[-1] < 138
    labels.stop()
