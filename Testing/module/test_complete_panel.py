"""The section Complete in the host: real form, real clicks, real workers."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from PySide6 import QtWidgets
from sections import CPU, checkControls, checkKeys, knowDevices, lookAt

IJK_TO_RAS = np.array([[-8.0, 0, 0, 90], [0, -8.0, 0, 80], [0, 0, 3.0, -100], [0, 0, 0, 1]])
HU = np.full((12, 24, 20), -1000, np.int16)
HU[:, 6:18, 5:15] = np.random.default_rng(1).integers(0, 80, (12, 12, 10))
EXTEND, FILL, THIN = "Continue it at one end", "Make some of its slices anew", "Put thin slices between its own"


class Panel:
    """The opened section, with a scan; devices are known."""

    def __init__(self, host, monkeypatch):
        host.loadModule("CTDiffusion")
        knowDevices(monkeypatch)
        from CTDiffusionLib import SceneVolumes

        self.host = host
        self.scan = SceneVolumes.insertVolume(HU, IJK_TO_RAS, "CT chest")
        self.widget = host.openModule("CTDiffusion")
        self.panel = self.widget.sections.complete
        self.ui = self.panel._ui
        self.generate = self.widget.sections.generate._ui
        self.ui.completeCollapsibleButton.collapsed = False

    def choose(self, how, **values):
        self.ui.completeVolumeSelector.setCurrentNode(self.scan)
        self.host.choose(self.ui.completeHowComboBox, how)
        for name, value in values.items():
            getattr(self.ui, name).value = value

    def visible(self):
        names = [name for name, widget in vars(self.ui).items() if isinstance(widget, QtWidgets.QWidget)]
        return {name for name in names if getattr(self.ui, name).isVisibleTo(self.ui.completeCollapsibleButton)}


@pytest.fixture
def panel(host, monkeypatch):
    return Panel(host, monkeypatch)


def test_spoiled_slices_are_made_anew(panel, model):
    from CTDiffusionLib import Provenance, SceneVolumes

    host, ui = panel.host, panel.ui
    panel.choose(FILL)
    panel.generate.modelFileEdit.currentPath = str(model)
    panel.generate.detailStepsSpinBox.value = 2
    lookAt(-91)
    host.click(ui.completeFirstButton)
    lookAt(-88)
    host.click(ui.completeLastButton)
    assert (ui.completeFirstSpinBox.value, ui.completeLastSpinBox.value) == (3, 4)
    assert "made anew, from -91.0 to -88.0 mm" in ui.completeInfoLabel.text
    assert ui.completeEstimateLabel.text.startswith(
        "With noise.safetensors, and the seed, quality and device chosen under Generate: about "
    )
    assert ui.completeEstimateLabel.text.endswith(f"It will run on the CPU: {CPU}.")
    host.click(ui.completeButton)
    assert ui.completeButton.text == "Cancel"
    run = panel.panel._run
    host.process(until=lambda: not run.isRunning, timeout=150)
    text = ui.completeStatusLabel.text
    seed = panel.generate.seedSpinBox.value
    name = f"SYNTHETIC, PARTLY REAL: filled, noise seed {seed}"
    assert text.startswith(f"Done: {name}.\nSlices 0-2,5-11 of the result (counted from 0) are the scan's own"), text
    (made,) = run.nodes()
    hu = slicer.util.arrayFromVolume(made)
    real = [0, 1, 2, *range(5, 12)]
    np.testing.assert_array_equal(hu[real], HU[real])
    assert all(len(np.unique(hu[k])) > 10 and (hu[k] != HU[k]).any() for k in (3, 4))
    np.testing.assert_allclose(SceneVolumes.ijkToRAS(made), IJK_TO_RAS, atol=1e-6)
    facts = Provenance.provenance(made)
    assert (facts["RealSlices"], facts["Completion"], facts["Complete"]) == ("1-3,6-12", "filled slices 4-5", "yes")
    assert facts["Seed"] == str(seed)
    assert Provenance.isPartlyReal(made)
    assert Provenance.referenceVolume(made) is panel.scan
    assert made.GetParentTransformNode() is None
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    items = [hierarchy.GetItemByDataNode(one) for one in (panel.scan, made)]
    assert hierarchy.GetItemParent(items[0]) == hierarchy.GetItemParent(items[1])
    compare = panel.widget.sections.compare._ui
    assert compare.syntheticVolumeSelector.currentNode() is made
    assert compare.realVolumeSelector.currentNode() is panel.scan
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(panel.scan), HU)
    ui.completeLogCollapsibleButton.collapsed = False
    host.click(ui.copyCompleteLogButton)
    assert slicer.app.clipboard().text().startswith("ctdiffusion generate ")


def test_only_what_belongs_to_the_choice_is_shown(panel):
    own = {
        EXTEND: {"completeSlicesSpinBox", "completeTowardsComboBox", "completeSlicesLabel", "completeTowardsLabel"},
        FILL: {f"complete{end}{kind}" for end in ("First", "Last") for kind in ("Label", "SpinBox", "Button")},
        THIN: {"completeBetweenSpinBox", "completeBetweenLabel"},
    }
    for how, names in own.items():
        panel.choose(how)
        assert names <= panel.visible()
        assert not set().union(*(other for one, other in own.items() if one != how)) & panel.visible()
    panel.ui.completeBetweenSpinBox.value = 2
    assert panel.ui.completeInfoLabel.text.startswith("Slices 1 mm apart instead of 3 mm: 34 in all instead of 12.")


def test_nothing_can_be_pressed_that_cannot_work(panel, model):
    ui, button = panel.ui, panel.ui.completeButton
    panel.generate.modelFileEdit.currentPath = str(model)
    ui.completeVolumeSelector.setCurrentNode(None)
    assert not button.enabled and not ui.completeFirstButton.enabled
    assert button.toolTip == ui.completeInfoLabel.text == "Choose a scan of the scene."
    panel.choose(FILL, completeFirstSpinBox=5, completeLastSpinBox=4)
    assert button.toolTip == "The first slice comes after the last one."
    ui.completeLastSpinBox.value = 12
    assert not button.enabled
    assert ui.completeInfoLabel.text == "The scan has no slice 12. Its slices are 0 to 11."
    ui.completeLastSpinBox.value = 6
    assert button.enabled
    lookAt(-91, normal=(0, 1, 0))
    panel.host.click(ui.completeFirstButton)
    assert ui.completeStatusLabel.text == "The Red view does not show the scan's own slices: set it to Axial."
    assert ui.completeFirstSpinBox.value == 5
    # What happens to the scan is seen.
    turned = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    turned.SetMatrixTransformToParent(
        slicer.util.vtkMatrixFromArray(np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]]))
    )
    panel.scan.SetAndObserveTransformNodeID(turned.GetID())
    panel.host.process(until=lambda: not button.enabled, timeout=20)
    assert button.toolTip.startswith("The scan is not stored in axial slices. Store it slice by slice")
    panel.scan.SetAndObserveTransformNodeID(None)
    panel.host.process(until=lambda: button.enabled, timeout=20)
    slicer.util.updateVolumeFromArray(panel.scan, HU[:6])
    panel.host.process(until=lambda: not button.enabled, timeout=20)
    assert button.toolTip == "The scan has no slice 6. Its slices are 0 to 5."
    slicer.mrmlScene.RemoveNode(panel.scan)
    assert not button.enabled


def test_cancel_keeps_nothing(panel, model):
    panel.choose(EXTEND)
    panel.generate.modelFileEdit.currentPath = str(model)
    panel.generate.stepsSpinBox.value = 10000
    button = panel.ui.completeButton
    panel.host.click(button)
    run = panel.panel._run
    panel.host.process(until=lambda: run.nodes() or not run.isRunning, timeout=150)  # the scan's own slices are there
    panel.host.click(button)
    assert button.text == "Stopping..." and not button.enabled
    panel.host.process(until=lambda: not run.isRunning, timeout=60)
    assert panel.ui.completeStatusLabel.text.startswith("Cancelled.")
    assert "Kept" not in panel.ui.completeStatusLabel.text
    assert run.nodes() == []
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1
    assert button.text == "Complete" and button.enabled


def test_choices_are_kept_with_the_scene(panel, tmp_path):
    panel.choose(FILL, completeFirstSpinBox=3, completeLastSpinBox=7)
    panel.host.saveScene(tmp_path / "scene.mrb")
    panel.host.closeScene()
    assert panel.ui.completeHowComboBox.currentText == EXTEND
    panel.host.loadScene(tmp_path / "scene.mrb")
    panel.widget.enter()
    ui = panel.ui
    assert ui.completeHowComboBox.currentText == FILL
    assert (ui.completeFirstSpinBox.value, ui.completeLastSpinBox.value) == (3, 7)
    assert ui.completeVolumeSelector.currentNode().GetName() == "CT chest"
    assert ui.completeInfoLabel.text.startswith("5 of the scan's slices are made anew")


def test_it_fits_into_a_narrow_panel_and_can_be_reached_by_keyboard(panel):
    for how in (EXTEND, FILL, THIN):
        panel.choose(how)
        panel.host.process(0.05)
        assert QtWidgets.QWidget.minimumSizeHint(panel.ui.completeCollapsibleButton).width() <= 400
    kinds = (QtWidgets.QPushButton, QtWidgets.QSpinBox, QtWidgets.QComboBox)
    checkControls(panel.ui, *kinds, atLeast=10)
    checkKeys(panel.ui, atLeast=9)
