"""Flicker, lens, checkerboard, difference, 3D, histogram and line profile, clicked in the panel."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import slicer
from host.module_host import ModuleHost
from PySide6 import QtCore, QtTest, QtWidgets

MATRIX = np.diag([-4.0, -4.0, 6.0, 1.0])


@pytest.fixture
def host():
    with ModuleHost() as host:
        host.loadModule("CTDiffusion")
        from CTDiffusionLib.GenerateDevices import DeviceFinder

        DeviceFinder.ask = lambda finder: None  # it takes a process with torch
        yield host


def _hu(value):
    hu = np.full((12, 40, 40), -1000, np.int16)
    hu[:, 8:32, 8:32] = value
    return hu


@pytest.fixture
def panel(host):
    """The panel with a real and a synthetic volume of one grid chosen; opened by nobody else's doing."""
    from CTDiffusionLib import SceneVolumes

    widget = host.openModule("CTDiffusion")
    real = SceneVolumes.insertVolume(_hu(40), MATRIX, "scan")
    synthetic = SceneVolumes.insertSyntheticVolume(_hu(140), MATRIX, "made", reference=real)
    ui = widget.sections.compare._ui
    ui.realVolumeSelector.setCurrentNode(real)
    ui.syntheticVolumeSelector.setCurrentNode(synthetic)
    return types.SimpleNamespace(
        host=host, widget=widget, compare=widget.sections.compare, ui=ui, real=real, synthetic=synthetic
    )


def _opacity():
    from CTDiffusionLib import Layouts

    return Layouts.overlayOpacity()


def _press(host, key, target=None):
    QtWidgets.QWidget.activateWindow(host.mainWindow)
    host.process(0.05)
    QtTest.QTest.keyClick(target or host.mainWindow, key)
    host.process(0.02)


def test_an_empty_box_of_the_file_is_empty(panel):
    assert panel.ui.volumeFileEdit.currentPath == ""
    panel.widget.logic.getParameterNode().volumeFile = "."  # as earlier versions kept it
    panel.host.leaveModule("CTDiffusion")
    slicer.modules.ctdiffusion.widgetRepresentation().enter()
    assert panel.ui.volumeFileEdit.currentPath == ""
    assert not panel.ui.loadButton.enabled


def test_every_control_says_what_it_does_and_the_section_is_narrow(panel):
    section = panel.widget.parent.findChild(name="compareCollapsibleButton")
    kinds = (QtWidgets.QAbstractButton, QtWidgets.QComboBox, QtWidgets.QAbstractSpinBox)
    controls = [widget for widget in vars(panel.ui).values() if isinstance(widget, kinds)]
    assert len(controls) > 15
    for widget in controls:
        assert widget.toolTip, widget.name
    assert QtWidgets.QWidget.minimumSizeHint(section).width() <= 420
    panel.ui.syntheticVolumeSelector.setCurrentNode(None)
    assert "Choose a real volume and a synthetic one" in panel.ui.renderingButton.toolTip
    panel.ui.syntheticVolumeSelector.setCurrentNode(panel.synthetic)
    assert panel.ui.renderingButton.toolTip.startswith("Render the synthetic volume")


def test_swap_shows_one_volume_after_the_other(panel):
    for expected in (0.0, 1.0, 0.0):
        panel.host.click(panel.ui.swapButton)
        assert _opacity() == expected
    panel.host.click(panel.ui.overlayButton)
    assert _opacity() == 0.5


def test_the_key_swaps_while_the_overlay_is_shown_and_at_no_other_time(panel):
    key = QtCore.Qt.Key.Key_K
    panel.host.click(panel.ui.overlayButton)
    for expected in (0.0, 1.0):
        _press(panel.host, key)
        assert _opacity() == expected
    panel.host.click(panel.ui.sideBySideButton)
    _press(panel.host, key)
    assert _opacity() == 1.0
    panel.host.click(panel.ui.overlayButton)
    panel.host.leaveModule("CTDiffusion")
    _press(panel.host, key)
    assert _opacity() == 0.5
    slicer.modules.ctdiffusion.widgetRepresentation().enter()
    _press(panel.host, key)
    assert _opacity() == 0.0


def test_the_key_can_still_be_typed(panel):
    panel.host.click(panel.ui.overlayButton)
    field = QtWidgets.QLineEdit(panel.host.mainWindow)
    field.show()
    field.setFocus()
    _press(panel.host, QtCore.Qt.Key.Key_K, field)
    assert field.text() == "k"
    assert _opacity() == 0.5


def test_the_key_is_given_back_and_two_panels_share_it(panel):
    second = panel.host.newPanel("CTDiffusion")
    panel.host.click(panel.ui.overlayButton)
    shortcuts = [c for c in QtCore.QObject.children(panel.host.mainWindow) if c.inherits("QShortcut")]
    assert len(shortcuts) == 2
    for expected in (0.0, 1.0, 0.0):
        _press(panel.host, QtCore.Qt.Key.Key_K)
        assert _opacity() == expected
    second.cleanup()
    panel.widget.cleanup()
    panel.host.process(0.02)
    assert not [c for c in QtCore.QObject.children(panel.host.mainWindow) if c.inherits("QShortcut")]


def test_volumes_are_swapped_by_themselves_until_told_otherwise(panel):
    ui = panel.ui
    ui.flickerSecondsSpinBox.value = 0.1
    assert ui.flickerSecondsSpinBox.value == 0.4  # no more than three flashes a second
    ui.flickerCheckBox.checked = True
    assert ui.flickerCheckBox.checked
    seen = []

    def both():
        seen.append(_opacity())
        return {0.0, 1.0} <= set(seen)

    panel.host.process(until=both, timeout=20)
    ui.flickerCheckBox.checked = False
    assert _opacity() == 0.5
    assert not panel.compare._flicker.isRunning


@pytest.mark.parametrize("ending", ["layout", "scene", "leave", "restore"])
def test_flicker_ends_with_the_overlay(panel, ending):
    ui = panel.ui
    ui.flickerCheckBox.checked = True
    assert panel.compare._flicker.isRunning
    {
        "layout": lambda: slicer.app.layoutManager().setLayout(3),
        "scene": panel.host.closeScene,
        "leave": lambda: panel.host.leaveModule("CTDiffusion"),
        "restore": lambda: panel.host.click(ui.restoreButton),
    }[ending]()
    assert not panel.compare._flicker.isRunning
    assert not ui.flickerCheckBox.checked


def test_without_the_compare_volumes_module_the_lens_says_so(panel):
    assert not panel.ui.lensCheckBox.enabled
    assert "Compare Volumes" in panel.ui.lensCheckBox.toolTip


@pytest.fixture
def layerReveal(monkeypatch):
    """CompareVolumes.LayerReveal by its real signature (github.com/pieper/CompareVolumes); it needs real views."""
    living = []

    class LayerReveal:
        def __init__(self, parent=None, width=400, height=400, showWidget=False, scale=False):
            living.append(self)

        def cleanup(self):
            living.remove(self)

    monkeypatch.setitem(sys.modules, "CompareVolumes", types.SimpleNamespace(LayerReveal=LayerReveal))
    monkeypatch.setattr(slicer.modules, "comparevolumes", object(), raising=False)
    return living


@pytest.mark.parametrize("ending", ["uncheck", "layout", "scene", "leave"])
def test_the_lens_lies_over_the_overlay_and_goes_with_it(host, layerReveal, panel, ending):
    from CTDiffusionLib import CornerAnnotation, Layouts

    ui = panel.ui
    ui.lensCheckBox.checked = True
    assert len(layerReveal) == 1
    assert Layouts.isOverlayShown()
    assert _opacity() == 0  # the real volume, and the synthetic one under the mouse
    composite = Layouts.compositeNode(slicer.mrmlScene, Layouts.OVERLAY.tags[0])
    assert CornerAnnotation.showsSynthetic(composite)
    {
        "uncheck": lambda: setattr(ui.lensCheckBox, "checked", False),
        "layout": lambda: slicer.app.layoutManager().setLayout(3),
        "scene": panel.host.closeScene,
        "leave": lambda: panel.host.leaveModule("CTDiffusion"),
    }[ending]()
    assert layerReveal == []
    assert not ui.lensCheckBox.checked
    if ending == "uncheck":
        assert _opacity() == 0.5
        Layouts.setOverlayOpacity(0.0)
        assert not CornerAnnotation.showsSynthetic(composite)


def test_checkerboard_and_difference_are_shown_and_the_layout_comes_back(panel):
    from CTDiffusionLib import Layouts, Provenance

    before = slicer.app.layoutManager().layout
    panel.ui.squareSpinBox.value = 25
    panel.host.click(panel.ui.checkerboardButton)
    assert Layouts.isShown(Layouts.DERIVED)
    panel.ui.differenceSpinBox.value = 300
    panel.host.click(panel.ui.differenceButton)
    derived = [node for node in Provenance.syntheticVolumes() if node is not panel.synthetic]
    assert [node.GetName() for node in derived] == [
        "SYNTHETIC checkerboard: made / scan",
        "SYNTHETIC difference: made / scan",
    ]
    difference = derived[1]
    assert slicer.util.arrayFromVolume(difference).max() == 100
    assert difference.GetDisplayNode().GetWindow() == 600
    composite = Layouts.compositeNode(slicer.mrmlScene, Layouts.DERIVED.tags[0])
    assert composite.GetBackgroundVolumeID() == difference.GetID()
    panel.host.click(panel.ui.restoreButton)
    assert slicer.app.layoutManager().layout == before
    panel.ui.syntheticVolumeSelector.setCurrentNode(difference)
    assert "computed from them" in panel.ui.sideBySideButton.toolTip
    assert panel.host.messages == []


def test_a_difference_of_two_grids_is_refused_with_the_reason(panel):
    from CTDiffusionLib import SceneVolumes

    other = SceneVolumes.insertSyntheticVolume(_hu(40)[:, :30], MATRIX, "smaller")
    panel.ui.syntheticVolumeSelector.setCurrentNode(other)
    assert not panel.ui.differenceButton.enabled
    assert "40 x 30 x 12 and 40 x 40 x 12" in panel.ui.differenceButton.toolTip
    for button in (panel.ui.checkerboardButton, panel.ui.histogramButton, panel.ui.profileButton):
        panel.host.click(button)  # these need no common grid
    far = MATRIX.copy()
    far[2, 3] = 5000
    panel.ui.syntheticVolumeSelector.setCurrentNode(SceneVolumes.insertSyntheticVolume(_hu(40), far, "far"))
    assert "do not overlap" in panel.ui.checkerboardButton.toolTip
    assert panel.host.messages == []


def test_both_volumes_are_rendered_in_3d(panel):
    from CTDiffusionLib import Layouts, VolumeRendering

    panel.host.choose(panel.ui.renderingPresetComboBox, "airways")
    panel.host.click(panel.ui.renderingButton)
    shown = [
        VolumeRendering.renderedVolumes(Layouts.threeDViewNode(slicer.mrmlScene, tag))
        for tag, _label in Layouts.RENDERING.threeDViews
    ]
    assert shown == [[panel.synthetic], [panel.real]]
    assert panel.synthetic.GetNthDisplayNode(1).GetVolumePropertyNode().GetName() == "CT-Lung"
    assert panel.host.messages == []


def test_the_histogram_is_plotted(panel):
    from CTDiffusionLib import ComparisonPlots, Layouts

    panel.host.click(panel.ui.histogramButton)
    chart = ComparisonPlots.chartNode(slicer.mrmlScene, ComparisonPlots.HISTOGRAM)
    assert Layouts.plotViewNode(slicer.mrmlScene).GetPlotChartNode() is chart
    assert Layouts.isShown(Layouts.PLOT)
    assert panel.host.messages == []


def test_a_line_is_drawn_and_its_profile_follows(panel):
    from CTDiffusionLib import ComparisonPlots, Layouts

    panel.host.click(panel.ui.drawLineButton)
    line = panel.ui.profileLineSelector.currentNode()
    selection = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSelectionNode")
    assert selection.GetActivePlaceNodeID() == line.GetID()
    interaction = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLInteractionNode")
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    view = Layouts.plotViewNode(slicer.mrmlScene)
    line.AddControlPointWorld(-50, -60, 30)
    assert view.GetPlotChartNode() is None
    line.AddControlPointWorld(-110, -60, 30)
    chart = view.GetPlotChartNode()
    assert chart is ComparisonPlots.chartNode(slicer.mrmlScene, ComparisonPlots.PROFILE)

    def length():
        series = chart.GetNthPlotSeriesNode(0)
        return slicer.util.arrayFromTableColumn(series.GetTableNode(), series.GetXColumnName())[-1]

    assert length() == pytest.approx(60)
    line.SetNthControlPointPositionWorld(1, -90, -60, 30)
    assert length() == pytest.approx(40)
    panel.host.click(panel.ui.restoreButton)
    line.SetNthControlPointPositionWorld(1, -80, -60, 30)
    assert length() == pytest.approx(40)  # nobody sees it
    panel.host.click(panel.ui.profileButton)
    assert length() == pytest.approx(30)
    assert panel.host.messages == []


def test_without_a_line_the_profile_runs_through_the_centre_and_the_line_is_shown(panel):
    panel.host.click(panel.ui.profileButton)
    line = panel.ui.profileLineSelector.currentNode()
    assert line.GetNumberOfControlPoints() == 2
    panel.host.click(panel.ui.profileButton)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsLineNode") == 1


def test_a_line_of_one_point_is_explained(panel):
    from CTDiffusionLib import ComparisonPlots

    line = ComparisonPlots.newLine(slicer.mrmlScene)
    line.AddControlPointWorld(0, 0, 0)
    panel.ui.profileLineSelector.setCurrentNode(line)
    panel.host.click(panel.ui.profileButton)
    (message,) = panel.host.messages
    assert "two points" in message.text


def test_preset_and_opacity_act_on_what_is_shown(panel):
    panel.host.click(panel.ui.overlayButton)
    panel.host.choose(panel.ui.presetComboBox, "lung")
    display = panel.synthetic.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == (1400, -500)
    panel.ui.opacitySlider.value = 0.2
    assert _opacity() == pytest.approx(0.2)
    panel.host.click(panel.ui.restoreButton)
    panel.host.choose(panel.ui.presetComboBox, "bone")
    assert display.GetWindow() == 1400  # in the user's own layout nothing changes unasked


def test_choices_are_saved_and_loaded_with_the_scene(panel, tmp_path):
    ui, host = panel.ui, panel.host
    host.click(ui.profileButton)
    ui.squareSpinBox.value, ui.differenceSpinBox.value, ui.flickerSecondsSpinBox.value = 15, 350, 1.5
    host.choose(ui.renderingPresetComboBox, "muscle")
    host.saveScene(tmp_path / "scene.mrb")
    host.closeScene()
    assert ui.squareSpinBox.value == 40
    host.loadScene(tmp_path / "scene.mrb")
    panel.widget.enter()
    assert (ui.squareSpinBox.value, ui.differenceSpinBox.value, ui.flickerSecondsSpinBox.value) == (15, 350, 1.5)
    assert ui.renderingPresetComboBox.currentText == "muscle"
    assert ui.profileLineSelector.currentNode().GetNumberOfControlPoints() == 2
    host.click(ui.profileButton)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 1
    assert host.messages == []


def test_a_volume_without_voxels_cannot_be_analysed(panel):
    from CTDiffusionLib import Provenance

    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    Provenance.setProvenance(empty, {})
    panel.ui.syntheticVolumeSelector.setCurrentNode(empty)
    for button in (panel.ui.checkerboardButton, panel.ui.differenceButton, panel.ui.histogramButton):
        assert "no voxels" in button.toolTip
        assert not button.enabled
