"""The section Export in the host: real form, real clicks, real workers, files read back by others."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import slicer
from sections import checkControls, checkKeys

from CTDiffusionLogic.volume_io import read_volume

FACTS = {"model": "torso", "model_sha256": "ab" * 32, "seed": 7, "steps": 12, "version": "1.0"}


class Panel:
    """The opened section with a real and two synthetic volumes in the scene."""

    def __init__(self, host, monkeypatch, folder):
        host.loadModule("CTDiffusion")
        from CTDiffusionLib import GenerateDevices, SceneVolumes

        monkeypatch.setattr(GenerateDevices.DeviceFinder, "ask", lambda finder: None)
        self.hu = np.random.default_rng(3).integers(-1024, 3071, size=(24, 20, 18), dtype=np.int16)
        self.ijkToRAS = np.array(
            [[-0.7, 0.1, 0.0, 40.0], [-0.1, -0.7, 0.0, 31.5], [0, 0, 2.5, -1200.25], [0, 0, 0, 1]]
        )
        self.real = SceneVolumes.insertVolume(self.hu[::-1].copy(), self.ijkToRAS, "Doe^Jane")
        self.first, self.second = (
            SceneVolumes.insertSyntheticVolume(
                self.hu + np.int16(n), self.ijkToRAS, "SYNTHETIC torso", metadata={**FACTS, "seed": n}
            )
            for n in (0, 1)
        )
        self.hu = {self.first: self.hu, self.second: self.hu + np.int16(1)}
        self.host, self.folder = host, folder
        self.widget = host.openModule("CTDiffusion")
        self.panel = self.widget.sections.export
        self.ui = self.panel._ui
        self.ui.exportCollapsibleButton.collapsed = False
        self.ui.exportFolderEdit.currentPath = str(folder)

    @property
    def text(self):
        return self.ui.exportStatusLabel.text

    def export(self, *volumes, fileFormat="DICOM"):
        self.ui.exportFormatComboBox.setCurrentText(fileFormat)
        for volume in volumes:
            self.ui.exportVolumesSelector.check(volume)
        self.host.click(self.ui.exportButton)
        if self.panel._run is not None:
            self.host.process(until=lambda: not self.panel._run.isRunning, timeout=120)
        return self.text


@pytest.fixture
def panel(host, monkeypatch, tmp_path):
    return Panel(host, monkeypatch, tmp_path / "made by the export")


def test_only_synthetic_volumes_are_offered(panel):
    selector, button = panel.ui.exportVolumesSelector, panel.ui.exportButton
    assert [selector.nodeFromIndex(n) for n in range(selector.nodeCount())] == [panel.first, panel.second]
    assert not button.enabled
    assert button.toolTip == "Choose the synthetic volumes to export."
    assert not panel.ui.openFolderButton.enabled
    panel.first.SetAttribute("CTDiffusion.Synthetic", None)
    assert selector.nodeCount() == 1


def test_dicom_of_two_volumes(panel, capsys):
    ui = panel.ui
    ui.exportPatientNameEdit.text = "Batch 7"
    ui.exportPatientIDEdit.text = "B7"
    ui.exportStudyEdit.text = "Phantoms"
    assert ui.exportIdentityLabel.text.startswith(
        "Written as: SYNTHETIC^Batch 7, ID SYNTHETIC-B7-..., study SYNTHETIC Phantoms."
    )
    with panel.host.heartbeat() as heartbeat:
        text = panel.export(panel.first, panel.second)
    with capsys.disabled():
        print(f"\nwhile exporting: longest block of the GUI {1000 * heartbeat.longest:.0f} ms")
    assert text == "Done. Written: SYNTHETIC-torso, SYNTHETIC-torso_1."
    for volume, name in ((panel.first, "SYNTHETIC-torso"), (panel.second, "SYNTHETIC-torso_1")):
        files = sorted((panel.folder / name).iterdir())
        assert len(files) == 24
        image = pydicom.dcmread(files[5])
        assert image.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
        assert (image.SyntheticData, image.ContentQualification) == ("YES", "RESEARCH")
        assert str(image.PatientName) == "SYNTHETIC^Batch 7"
        assert image.PatientID.startswith("SYNTHETIC-B7-")
        assert image.StudyDescription == "SYNTHETIC Phantoms"
        assert image.SeriesDescription.startswith("SYNTHETIC torso")
        assert f"seed: {volume.GetAttribute('CTDiffusion.Seed')}" in image.DerivationDescription
        assert "Doe" not in str(image)
        back = read_volume(panel.folder / name)
        np.testing.assert_array_equal(back.hu, panel.hu[volume])
        np.testing.assert_allclose(back.geometry.ijk_to_ras, panel.ijkToRAS, rtol=0, atol=1e-4)
        assert (back.metadata["seed"], back.metadata["model"]) == (volume.GetAttribute("CTDiffusion.Seed"), "torso")
    panel.host.click(ui.openFolderButton)
    (url,) = panel.host.dialogs.openedUrls
    assert url.startswith("file://")
    assert Path(url.removeprefix("file://")) == panel.folder
    ui.exportLogCollapsibleButton.collapsed = False
    panel.host.click(ui.copyExportLogButton)
    assert slicer.app.clipboard().text().startswith("ctdiffusion export-dicom ")


@pytest.mark.parametrize(("fileFormat", "ending"), [("NRRD", ".nrrd"), ("NIfTI", ".nii.gz")])
def test_one_file(panel, fileFormat, ending):
    panel.export(panel.first, fileFormat=fileFormat)
    assert panel.text == f"Done. Written: SYNTHETIC-torso{ending}."
    assert not panel.ui.exportDicomCollapsibleButton.visible
    image = sitk.ReadImage(str(panel.folder / f"SYNTHETIC-torso{ending}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), panel.hu[panel.first])
    assert image.GetSpacing() == pytest.approx((0.5**0.5, 0.5**0.5, 2.5), abs=1e-4)
    assert image.GetOrigin() == pytest.approx((-40.0, -31.5, -1200.25), abs=1e-4)
    back = read_volume(panel.folder / f"SYNTHETIC-torso{ending}")
    assert back.metadata["synthetic"] == "yes"
    if fileFormat == "NRRD":
        assert back.metadata["model_sha256"] == "ab" * 32


def test_nothing_is_overwritten(panel):
    panel.export(panel.first, fileFormat="NRRD")
    before = (panel.folder / "SYNTHETIC-torso.nrrd").read_bytes()
    text = panel.export(panel.first, fileFormat="NRRD")
    assert text.startswith("Nothing was exported: ")
    assert "exists already. Choose another folder" in text
    assert (panel.folder / "SYNTHETIC-torso.nrrd").read_bytes() == before


def test_a_folder_that_may_not_be_written_to(panel, monkeypatch):
    panel.folder.mkdir()
    panel.folder.chmod(0o500)
    access = os.access  # for the superuser everything is allowed
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != panel.folder and access(path, mode))
    text = panel.export(panel.first)
    assert text.startswith("Nothing was exported: Cannot write ")
    assert "no permission" in text
    assert list(panel.folder.iterdir()) == []


def test_a_file_where_the_folder_should_be(panel):
    panel.folder.write_text("in the way")
    text = panel.export(panel.first)
    assert text.startswith("Nothing was exported: Cannot write ")
    assert "is not a folder" in text


def test_cancel_leaves_nothing(panel, monkeypatch):
    from CTDiffusionLib import ExportSource

    writeTo = ExportSource.ExportSource.writeTo

    def slowly(source, path):
        writeTo(source, path)
        while not (path.parent / "cancel").exists():
            pass

    monkeypatch.setattr(ExportSource.ExportSource, "writeTo", slowly)
    panel.ui.exportVolumesSelector.check(panel.first)
    panel.host.click(panel.ui.exportButton)
    assert panel.ui.exportButton.text == "Cancel"
    panel.host.click(panel.ui.exportButton)
    assert panel.ui.exportButton.text == "Stopping..."
    panel.host.process(until=lambda: not panel.panel._run.isRunning, timeout=60)
    assert panel.text == "Cancelled. Nothing was written."
    assert panel.ui.exportButton.text == "Export"
    assert not panel.folder.exists() or list(panel.folder.iterdir()) == []


def test_the_scene_is_closed_while_it_writes(panel):
    panel.ui.exportVolumesSelector.check(panel.first)
    expected = panel.hu[panel.first]
    panel.host.click(panel.ui.exportButton)
    run = panel.panel._run
    panel.host.closeScene()
    panel.host.process(until=lambda: not run.isRunning, timeout=60)
    np.testing.assert_array_equal(read_volume(panel.folder / "SYNTHETIC-torso").hu, expected)


def test_a_volume_that_is_not_complete(panel):
    panel.first.SetAttribute("CTDiffusion.Complete", "no")
    assert "SYNTHETIC torso is still being made. Wait" in panel.export(panel.first)
    panel.first.SetAttribute("CTDiffusion.FinalSlices", "0-7")
    text = panel.export(panel.first)
    assert text.splitlines() == [
        "Done. Written: SYNTHETIC-torso.",
        "SYNTHETIC torso is not complete: only its slices 0-7 are final.",
    ]


def test_choices_are_kept_with_the_scene(panel, tmp_path):
    panel.ui.exportStudyEdit.text = "Mine"
    panel.ui.exportFormatComboBox.setCurrentText("NIfTI")
    panel.host.saveScene(tmp_path / "scene.mrb")
    panel.host.closeScene()
    assert panel.ui.exportStudyEdit.text == "SYNTHETIC CT"
    panel.host.loadScene(tmp_path / "scene.mrb")
    panel.widget.enter()
    assert panel.ui.exportStudyEdit.text == "Mine"
    assert panel.ui.exportFormatComboBox.currentText == "NIfTI"
    assert panel.ui.exportVolumesSelector.nodeCount() == 2


def test_for_scripts(panel):
    logic = panel.widget.logic
    from CTDiffusionLogic.errors import InputError, UsageError

    (path,) = logic.exportVolumes(panel.first, panel.folder, fileFormat="NRRD")
    np.testing.assert_array_equal(read_volume(path).hu, panel.hu[panel.first])
    with pytest.raises(InputError, match="is not marked as synthetic; a real scan is never"):
        logic.exportVolumes(panel.real, panel.folder)
    with pytest.raises(UsageError, match="no format DOC"):
        logic.exportVolumes(panel.second, panel.folder, fileFormat="DOC")
    with pytest.raises(UsageError, match="nothing to export"):
        logic.exportVolumes([], panel.folder)


def test_it_fits_into_a_narrow_panel_and_can_be_reached_by_keyboard(panel):
    from PySide6 import QtWidgets

    section = panel.ui.exportCollapsibleButton
    panel.first.SetName("SYNTHETIC a model with a long name and more of it, seed 123456789 (partial)")
    panel.export(panel.first)
    panel.ui.exportLogCollapsibleButton.collapsed = False
    panel.host.process(0.05)
    assert QtWidgets.QWidget.minimumSizeHint(section).width() <= 360
    checkControls(panel.ui, QtWidgets.QPushButton, QtWidgets.QLineEdit, QtWidgets.QComboBox, atLeast=7)
    checkKeys(panel.ui, atLeast=6)
