"""The section Train before it trains: scans, choices, tool tips."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from sections import checkControls
from train_section import Panel, insert


@pytest.fixture
def panel(host, monkeypatch):
    return Panel(host, monkeypatch)


def test_volumes_of_the_scene_are_ticked(panel, tmp_path):
    from PySide6 import QtCore

    ui, host, widget = panel.ui, panel.host, panel.ui.scansListWidget
    ct = insert("CT chest")
    insert("SYNTHETIC", metadata={"seed": 1})
    insert("MR", np.full((10, 20, 20), 90, np.int16))
    host.process(until=lambda: widget.count == 3)
    assert panel.rows() == ["CT chest", "SYNTHETIC (synthetic)", "MR (not a CT: no value below -200 HU)"]
    items = [widget.item(row) for row in range(3)]
    isEnabled = [bool(item.flags() & QtCore.Qt.ItemIsEnabled) for item in items]
    assert isEnabled == [True, False, False]
    assert not ui.trainButton.enabled
    items[0].setCheckState(QtCore.Qt.Checked)
    assert panel.panel.sources.volumes() == [ct]
    assert ui.trainButton.enabled
    ui.trainAdvancedCollapsibleButton.collapsed = False
    host.click(ui.anyVolumeCheckBox)
    assert all(widget.item(row).flags() & QtCore.Qt.ItemIsEnabled for row in range(3))
    widget.item(1).setCheckState(QtCore.Qt.Checked)
    assert len(panel.panel.sources.volumes()) == 2
    host.click(ui.anyVolumeCheckBox)  # ticked before: it stays to be seen, but nothing starts
    assert not ui.trainButton.enabled
    assert ui.trainButton.toolTip == "SYNTHETIC: synthetic"
    widget.item(1).setCheckState(QtCore.Qt.Unchecked)
    assert ui.trainButton.enabled
    ct.SetName("CT thorax")
    host.process(until=lambda: panel.rows()[0] == "CT thorax")
    host.scene.RemoveNode(ct)
    host.process(until=lambda: widget.count == 2)
    assert not ui.trainButton.enabled


def test_folders_are_added_and_removed(panel, tmp_path):
    ui, host = panel.ui, panel.host
    (tmp_path / "a").mkdir()
    panel.choose(tmp_path / "run", tmp_path / "a", tmp_path / "gone", tmp_path / "a", "")
    assert panel.rows() == [f"Folder: {tmp_path / 'a'}", f"Folder: {tmp_path / 'gone'}"]
    assert ui.trainButton.toolTip == f"{tmp_path / 'gone'} does not exist."
    assert not ui.removeScansButton.enabled
    ui.scansListWidget.setCurrentRow(1)
    host.click(ui.removeScansButton)
    assert panel.rows() == [f"Folder: {tmp_path / 'a'}"]
    assert ui.trainButton.enabled
    ui.runFolderEdit.currentPath = ""
    assert ui.trainButton.toolTip == "Choose a folder for the training."


def test_without_a_dicom_database_it_is_said(panel):
    panel.ui.dicomCollapsibleButton.collapsed = False
    assert panel.ui.dicomInfoLabel.text.startswith("There is no open DICOM database")
    assert not panel.ui.listDicomButton.enabled


class Database:
    """What is used of a ctkDICOMDatabase, under its names; the host has none."""

    isOpen = True

    def patients(self):
        return [str(number) for number in range(200)]

    studiesForPatient = seriesForStudy = lambda self, uid: [uid]
    studyForSeries = patientForStudy = nameForPatient = lambda self, uid: uid

    def fieldForStudy(self, field, uid):
        return "20260102"

    def fieldForSeries(self, field, uid):
        return "CT" if int(uid) % 2 else "MR"

    def descriptionForSeries(self, uid):
        return "thorax"


def test_series_of_a_dicom_database(panel, monkeypatch):
    ui, host = panel.ui, panel.host
    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
    ui.dicomCollapsibleButton.collapsed = False
    host.process(until=lambda: ui.listDicomButton.enabled)
    assert ui.dicomInfoLabel.text == "100 CT series. Select some, and add them."
    for row in (0, 2):
        ui.dicomListWidget.item(row).setSelected(True)
    host.click(ui.addDicomButton)
    assert panel.rows() == ["DICOM: 1, 20260102, thorax", "DICOM: 5, 20260102, thorax"]
    assert ui.trainButton.enabled
    assert list(panel.panel._parameters.trainingSeries) == ["1", "5"]


def test_choices_are_saved_with_the_scene(panel, tmp_path):
    ui, host = panel.ui, panel.host
    node = insert("CT chest")
    host.process(until=lambda: ui.scansListWidget.count == 1)
    panel.choose(tmp_path / "run", tmp_path, minutesSpinBox=33, trainSeedSpinBox=5)
    from PySide6 import QtCore

    ui.scansListWidget.item(0).setCheckState(QtCore.Qt.Checked)
    ui.noteEdit.text = "phantoms; CC0"
    slicer.util.arrayFromVolume(node)
    host.saveScene(tmp_path / "scene.mrb")
    host.closeScene()
    assert panel.rows() == []
    assert ui.minutesSpinBox.value == 120
    host.loadScene(tmp_path / "scene.mrb")
    panel.widget.enter()
    assert panel.rows() == ["CT chest", f"Folder: {tmp_path}"]
    from CTDiffusionLib.TrainLogic import requestOf

    request = requestOf(panel.panel._parameters)
    assert (request.run, request.preset, request.imageSize) == (tmp_path / "run", "tiny", 64)
    assert (request.maxMinutes, request.seed, request.note) == (33, 5, "phantoms; CC0")
    assert [one.GetName() for one in panel.panel.sources.volumes()] == ["CT chest"]


def test_everything_has_a_tool_tip_and_can_be_reached(panel):
    from PySide6 import QtWidgets

    inputs = (QtWidgets.QPushButton, QtWidgets.QSpinBox, QtWidgets.QComboBox, QtWidgets.QListWidget)
    checkControls(panel.ui, *inputs, QtWidgets.QCheckBox, QtWidgets.QLineEdit, atLeast=17)
