"""The module as the user has it: opened in the host, clicked, saved, loaded, closed, reloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer
from host.module_host import ModuleHost

from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import write_volume

HU = np.arange(-1000, 7 * 9 * 11 - 1000, dtype=np.int16).reshape(7, 9, 11)
SYNTHETIC = {"synthetic": "yes", "model": "torso", "seed": "7"}


def start(host):
    """Slicer starts, with a module that does not look for devices: that takes a process with torch."""
    host.loadModule("CTDiffusion")
    from CTDiffusionLib.GenerateDevices import DeviceFinder

    DeviceFinder.ask = lambda finder: None  # of this host's import of the module only


@pytest.fixture
def host():
    with ModuleHost() as host:
        start(host)
        yield host


@pytest.fixture
def syntheticFile(tmp_path) -> Path:
    path = tmp_path / "made.nrrd"
    write_volume(CTVolume(HU, Geometry.from_ijk_to_ras(np.diag([-2.0, -2.0, 3.0, 1.0])), SYNTHETIC), path)
    return path


def addReal(name="real"):
    from CTDiffusionLib import SceneVolumes

    return SceneVolumes.insertVolume(HU, np.diag([-2.0, -2.0, 3.0, 1.0]), name)


def load(host, widget, path):
    """Load a file with the panel, as a user does."""
    ui = widget.sections.compare._ui
    ui.volumeFileEdit.currentPath = str(path)
    host.click(ui.loadButton)
    return ui.syntheticVolumeSelector.currentNode()


def test_the_module_opens_with_everything_in_place(host):
    widget = host.openModule("CTDiffusion")
    ui = widget.sections.compare._ui
    assert slicer.modules.ctdiffusion.title == "CT Diffusion"
    assert slicer.modules.ctdiffusion.icon.isNull() is False
    assert not ui.loadButton.enabled
    assert not ui.sideBySideButton.enabled
    assert ui.realVolumeSelector.mrmlScene() is slicer.mrmlScene
    assert [ui.presetComboBox.itemText(i) for i in range(ui.presetComboBox.count)] == sorted(
        ["abdomen", "bone", "brain", "lung"]
    )


def test_from_an_empty_scene_to_two_volumes_side_by_side_and_back(host, syntheticFile):
    widget = host.openModule("CTDiffusion")
    ui, layouts = widget.sections.compare._ui, slicer.app.layoutManager()
    before = layouts.layout
    real = addReal()
    ui.realVolumeSelector.setCurrentNode(real)
    synthetic = load(host, widget, syntheticFile)
    assert synthetic.GetName() == "SYNTHETIC made"
    assert "Seed: 7" in ui.provenanceLabel.text
    host.choose(ui.presetComboBox, "lung")
    host.click(ui.sideBySideButton)
    assert layouts.layout > 100
    display = synthetic.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == (1400, -500)
    host.click(ui.overlayButton)
    ui.opacitySlider.value = 0.25
    opacities = [
        slicer.mrmlScene.GetNthNodeByClass(i, "vtkMRMLSliceCompositeNode").GetForegroundOpacity()
        for i in range(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode"))
    ]
    assert 0.25 in opacities
    host.click(ui.restoreButton)
    assert layouts.layout == before
    assert host.messages == []


def test_a_file_that_is_not_synthetic_is_refused_in_plain_words(host, tmp_path):
    path = tmp_path / "real.nrrd"
    write_volume(CTVolume(HU, Geometry.from_ijk_to_ras(np.eye(4)), {}), path)
    widget = host.openModule("CTDiffusion")
    load(host, widget, path)
    (message,) = host.messages
    assert message.icon == "Critical"
    assert "could not be loaded" in message.text
    assert "real.nrrd does not say that it is synthetic" in message.text
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_two_real_volumes_cannot_be_compared(host):
    widget = host.openModule("CTDiffusion")
    ui = widget.sections.compare._ui
    first, second = addReal("first"), addReal("second")
    ui.realVolumeSelector.setCurrentNode(first)
    ui.syntheticVolumeSelector.setCurrentNode(second)
    with pytest.raises(AssertionError, match="sideBySideButton is disabled: 'Choose a real volume and a synthetic"):
        host.click(ui.sideBySideButton)


def test_choices_are_saved_and_loaded_with_the_scene(host, syntheticFile, tmp_path):
    widget = host.openModule("CTDiffusion")
    ui = widget.sections.compare._ui
    ui.realVolumeSelector.setCurrentNode(addReal())
    load(host, widget, syntheticFile)
    host.choose(ui.presetComboBox, "bone")
    ui.opacitySlider.value = 0.75
    host.saveScene(tmp_path / "scene.mrb")
    host.closeScene()
    assert (ui.presetComboBox.currentText, ui.opacitySlider.value) == ("abdomen", 0.5)
    assert ui.syntheticVolumeSelector.currentNode() is None
    host.loadScene(tmp_path / "scene.mrb")
    widget.enter()
    assert (ui.presetComboBox.currentText, ui.opacitySlider.value) == ("bone", 0.75)
    assert ui.realVolumeSelector.currentNode().GetName() == "real"
    assert ui.syntheticVolumeSelector.currentNode().GetName() == "SYNTHETIC made"
    assert ui.volumeFileEdit.currentPath == str(syntheticFile)
    assert "Seed: 7" in ui.provenanceLabel.text


def test_the_panel_works_in_the_next_scene(host, syntheticFile):
    widget = host.openModule("CTDiffusion")
    old = widget.logic.getParameterNode().parameterNode
    addReal()
    host.closeScene()
    ui = widget.sections.compare._ui
    assert not ui.sideBySideButton.enabled
    assert load(host, widget, syntheticFile) is not None
    new = widget.logic.getParameterNode()
    assert new.syntheticVolume is ui.syntheticVolumeSelector.currentNode()
    assert slicer.mrmlScene.IsNodePresent(new.parameterNode)
    assert old is new.parameterNode or not slicer.mrmlScene.IsNodePresent(old)


def test_nothing_follows_the_scene_after_the_module_is_left_or_unloaded(host):
    widget = host.openModule("CTDiffusion")
    node, ui = widget.logic.getParameterNode().parameterNode, widget.sections.compare._ui
    host.leaveModule("CTDiffusion")
    node.SetParameter("overlayOpacity", "0.9")
    assert ui.opacitySlider.value == 0.5
    slicer.modules.ctdiffusion.widgetRepresentation().enter()
    assert ui.opacitySlider.value == 0.9
    assert widget.Observations
    host.quit()
    assert not widget.Observations
    assert not widget.sections.compare.Observations
    node.SetParameter("overlayOpacity", "0.1")
    assert ui.opacitySlider.value == 0.9
    host.closeScene()
    assert host.exceptions == []


def test_closing_the_scene_while_another_module_is_open_leaves_the_panel_alone(host):
    widget = host.openModule("CTDiffusion")
    ui = widget.sections.compare._ui
    ui.opacitySlider.value = 0.9
    host.leaveModule("CTDiffusion")
    host.closeScene()
    assert ui.opacitySlider.value == 0.9  # it is brought up to date when the module is opened again
    slicer.modules.ctdiffusion.widgetRepresentation().enter()
    assert ui.opacitySlider.value == 0.5


def test_a_reload_leaves_one_working_panel(host):
    first = host.openModule("CTDiffusion")
    second = host.reload("CTDiffusion")
    assert second is not first
    assert not first.Observations
    second.sections.compare._ui.opacitySlider.value = 0.3
    assert second.logic.getParameterNode().overlayOpacity == pytest.approx(0.3)
    host.closeScene()
    assert host.exceptions == []


def test_two_panels_show_the_same_choices(host):
    first = host.openModule("CTDiffusion")
    second = host.newPanel("CTDiffusion")
    first.sections.compare._ui.opacitySlider.value = 0.8
    assert second.sections.compare._ui.opacitySlider.value == pytest.approx(0.8)
    real = addReal()
    second.sections.compare._ui.realVolumeSelector.setCurrentNode(real)
    assert first.sections.compare._ui.realVolumeSelector.currentNode() is real
    second.cleanup()
    first.sections.compare._ui.opacitySlider.value = 0.1
    assert second.sections.compare._ui.opacitySlider.value == pytest.approx(0.8)


def test_two_applications_after_each_other_do_not_meet(syntheticFile):
    for _ in range(2):
        with ModuleHost() as host:
            start(host)
            widget = host.openModule("CTDiffusion")
            assert widget.sections.compare._ui.volumeFileEdit.currentPath in ("", ".")
            assert load(host, widget, syntheticFile) is not None
            assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1
