"""The layouts that came after side by side and overlay: derived volume, 3D, plot."""

import numpy as np
import pytest
import slicer
from CTDiffusionLib import ComparisonPlots, Layouts, SceneVolumes, VolumeRendering


@pytest.fixture
def layout_logic(app):
    """Slicer's layout logic, which in Slicer sits in the layout manager and makes the views of a layout."""
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(app.scene)
    return logic


def _views(element):
    if element.GetName() == "view":
        return [(element.GetAttribute("class"), element.GetAttribute("singletontag"))]
    return [
        view
        for index in range(element.GetNumberOfNestedElements())
        for view in _views(element.GetNestedElement(index))
    ]


def test_numbers_are_different_and_no_ones_else():
    numbers = [layout.number for layout in Layouts.OWN_LAYOUTS]
    assert len(set(numbers)) == len(numbers) == 5
    assert min(numbers) > 1000


@pytest.mark.parametrize("layout", Layouts.OWN_LAYOUTS)
def test_slicers_layout_node_reads_them(app, layout, layout_logic):
    root = slicer.vtkMRMLLayoutNode.ParseLayout(Layouts.layoutXml(layout))
    expected = [("vtkMRMLSliceNode", tag) for tag in layout.tags]
    expected += [("vtkMRMLPlotViewNode", layout.plotView)] if layout.plotView else []
    expected += [("vtkMRMLViewNode", tag) for tag, _label in layout.threeDViews]
    assert _views(root) == expected
    Layouts.switchTo(app.scene, layout)
    made = layout_logic.GetViewNodes()
    nodes = [made.GetItemAsObject(index) for index in range(made.GetNumberOfItems())]
    assert [(node.GetClassName(), node.GetLayoutName()) for node in nodes] == expected


@pytest.mark.parametrize("has_logic", [True, False])
@pytest.mark.parametrize("layout", Layouts.OWN_LAYOUTS)
def test_the_users_layout_comes_back(app, request, layout, has_logic):
    if has_logic:
        request.getfixturevalue("layout_logic")
    node = Layouts.layoutNode(app.scene)
    node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    for shown in (Layouts.OVERLAY, layout):  # ours after ours: the user's is still the one to go back to
        Layouts.switchTo(app.scene, shown)
    assert Layouts.isShown(layout, app.scene)
    assert Layouts.restoreLayout(app.scene)
    assert node.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView


def test_view_nodes_are_made_once(app):
    for _ in range(2):
        Layouts.switchTo(app.scene, Layouts.RENDERING)
        Layouts.switchTo(app.scene, Layouts.PLOT)
    assert app.scene.GetNumberOfNodesByClass("vtkMRMLViewNode") == 2
    assert app.scene.GetNumberOfNodesByClass("vtkMRMLPlotViewNode") == 1


def test_3d_and_plot_are_there_again_when_a_saved_scene_is_opened(app, layout_logic, tmp_path):
    from rendering import new_app

    hu, matrix = np.full((6, 12, 12), 40, np.int16), np.diag([3.0, 3.0, 5.0, 1.0])
    real = SceneVolumes.insertVolume(hu, matrix, "real", volumesLogic=app.volumes_logic)
    synthetic = SceneVolumes.insertSyntheticVolume(hu, matrix, reference=real, volumesLogic=app.volumes_logic)
    logic = app.app_logic.GetModuleLogic("VolumeRendering")
    VolumeRendering.showRendering(synthetic, real, volumeRenderingLogic=logic)
    chart = ComparisonPlots.showProfile(synthetic, real)
    app.io_manager.save_scene(tmp_path / "scene.mrb")
    loaded = new_app()
    other = slicer.vtkMRMLLayoutLogic()
    other.SetMRMLScene(loaded.scene)
    Layouts.registerLayouts(loaded.scene)
    loaded.io_manager.load_scene(tmp_path / "scene.mrb")
    assert Layouts.isShown(Layouts.PLOT, loaded.scene)
    again = Layouts.plotViewNode(loaded.scene).GetPlotChartNode()
    assert again.GetTitle() == chart.GetTitle()
    assert again.GetNumberOfPlotSeriesNodes() == 2
    view = Layouts.threeDViewNode(loaded.scene, Layouts.RENDERING.threeDViews[0][0])
    assert [volume.GetName() for volume in VolumeRendering.renderedVolumes(view)] == ["Synthetic CT"]
