"""The section Reader study in the host: real form, real clicks and keys, real files; blind while it goes on."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import slicer
from host.module_host import ModuleHost
from PySide6 import QtCore, QtGui, QtTest, QtWidgets
from sections import checkControls, checkKeys

from CTDiffusionLogic.fidelity.reader_files import key_path, open_study
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import write_volume

#: In the middle of a slice: real volumes are odd there, synthetic ones even. A reader could not see it.
PLACE = np.s_[0, 12, 12]


def voxels(number: int, *, synthetic: bool) -> np.ndarray:
    hu = np.full((30, 24, 26), -1000, np.int16)
    hu[:, 4:20, 5:21] = 40 + 2 * number + (0 if synthetic else 1)
    return hu


class Panel:
    """The opened section with two real and two synthetic volumes in the scene."""

    def __init__(self, host, folder: Path):
        host.loadModule("CTDiffusion")
        from CTDiffusionLib import SceneVolumes
        from CTDiffusionLib.GenerateDevices import DeviceFinder

        DeviceFinder.ask = lambda finder: None
        self.host, self.folder = host, folder
        matrix = np.array([[-2.0, 0, 0, 30], [0, -2, 0, 40], [0, 0, 3, -900], [0, 0, 0, 1]])
        self.real = [SceneVolumes.insertVolume(voxels(n, synthetic=False), matrix, f"Doe^Jane {n}") for n in range(2)]
        self.synthetic = [
            SceneVolumes.insertSyntheticVolume(
                voxels(n, synthetic=True), matrix, f"SYNTHETIC {n}", metadata={"seed": n}
            )
            for n in range(2)
        ]
        self.widget = host.openModule("CTDiffusion")
        self.panel = self.widget.sections.reader
        self.ui = self.panel._ui
        self.ui.readerCollapsibleButton.collapsed = False
        self.layouts = slicer.app.layoutManager()
        self.layouts.layout = slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView

    def choose(self, *, name="study.csv", items=6, mode="pairs", shown="slices"):
        ui = self.ui
        ui.readerFileEdit.currentPath = str(self.folder / name)
        for volume in (*self.real, *self.synthetic):
            ui.readerVolumesSelector.check(volume)
        self.host.choose(ui.readerModeComboBox, mode)
        self.host.choose(ui.readerShownComboBox, shown)
        ui.readerItemsSpinBox.value = items

    def start(self):
        self.host.click(self.ui.readerStartButton)
        self.host.process(until=lambda: self.panel._steps is None, timeout=60)

    def key(self, key):
        QtTest.QTest.keyClick(self.host.mainWindow, key)
        self.host._processOnce()

    def shown(self) -> list:
        """The volume nodes in the study's views, the left one first."""
        scene, stage = slicer.mrmlScene, self.panel._run._stage
        composites = [
            scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
            for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode"))
        ]
        ids = {composite.GetLayoutName(): composite.GetBackgroundVolumeID() for composite in composites}
        return [scene.GetNodeByID(ids[row.tags[0]]) for row in stage.layout.rows]

    def truth(self) -> int:
        """0 or 1: the right answer, from the voxels that are shown."""
        values = [int(slicer.util.arrayFromVolume(node)[PLACE]) for node in self.shown()]
        if len(values) == 2:
            (index,) = [n for n, value in enumerate(values) if value % 2]
            return index
        return 0 if values[0] % 2 else 1

    def answer(self, index: int | None = None, confidence: int = 4):
        """Give an answer with the mouse, the right one if none is named."""
        ui, truth = self.ui, self.truth() if index is None else index
        self.host.click([ui.readerChoice1Button, ui.readerChoice2Button][truth])
        self.host.click(getattr(ui, f"readerConfidence{confidence}Button"))

    def rows(self, name="study.csv") -> list[dict]:
        with (self.folder / name).open(newline="") as file:
            return list(csv.DictReader(file))

    def isRestored(self) -> bool:
        """Whether nothing of a study is left in scene, layout or keys."""
        self.host._processOnce()
        nodes = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
        left = [node.GetName() for node in nodes if node.GetAttribute("CTDiffusion.ReaderStudy")]
        window = self.host.mainWindow
        keys = [
            c for c in QtCore.QObject.children(window) if c.inherits("QShortcut") and QtGui.QShortcut.key(c) == "3"
        ]
        return (
            left == []
            and keys == []
            and self.layouts.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
            and not self.panel._isBusy
            and self.ui.readerAnswerFrame.isHidden()
        )


@pytest.fixture
def panel(tmp_path):
    with ModuleHost() as host:
        yield Panel(host, tmp_path)


def test_what_is_missing_is_said(panel):
    ui = panel.ui
    assert not ui.readerStartButton.enabled
    assert "Choose real and synthetic volumes" in ui.readerStartButton.toolTip
    ui.readerVolumesSelector.check(panel.real[0])
    assert "1 real and 0 synthetic volumes" in ui.readerInfoLabel.text
    ui.readerVolumesSelector.check(panel.synthetic[0])
    assert "Choose a results file" in ui.readerStartButton.toolTip
    ui.readerFileEdit.currentPath = str(panel.folder / "a.csv")
    assert ui.readerStartButton.enabled
    ui.readerCodeEdit.text = "Jane Doe"
    assert "not a code" in ui.readerStartButton.toolTip
    assert not ui.readerResultsButton.enabled


def test_a_study_of_pairs_from_start_to_results(panel):
    panel.choose(items=6)
    panel.start()
    assert panel.ui.readerStartButton.text == "&Stop"
    assert not panel.ui.readerChoicesCollapsibleButton.enabled
    assert panel.layouts.layout == 5301
    for number in range(6):
        assert panel.ui.readerInfoLabel.text == f"Question {number + 1} of 6."
        truth = panel.truth()
        panel.answer(truth if number < 5 else 1 - truth, confidence=number % 5 + 1)
    assert panel.isRestored()
    rows = panel.rows()
    assert [row["confidence"] for row in rows] == ["1", "2", "3", "4", "5", "1"]
    assert {row["window"] for row in rows} == {"350/40"}
    assert all(float(row["seconds"]) >= 0 for row in rows)
    assert "R1: 5 of 6 right (83 %" in panel.ui.readerResultsLabel.text
    assert "Table in the scene: Reader study study." in panel.ui.readerResultsLabel.text
    table = slicer.util.getNode("Reader study study")
    assert [table.GetColumnName(n) for n in range(4)] == ["reader", "answered", "correct", "accuracy"]
    assert table.GetCellText(0, 0) == "R1"
    assert float(table.GetCellText(0, 3)) == pytest.approx(5 / 6, abs=1e-3)
    assert not panel.ui.readerStartButton.enabled
    assert "This reader is done" in panel.ui.readerStartButton.toolTip
    panel.host.click(panel.ui.readerResultsButton)  # again: into the same table
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1
    assert "R1: 5 of 6 right" in panel.ui.readerResultsLabel.text
    panel.ui.readerFileEdit.currentPath = str(panel.host.folder / "another study.csv")
    assert panel.ui.readerResultsLabel.text == ""
    assert panel.host.messages == []


def test_one_by_one_with_the_keyboard(panel):
    panel.choose(items=8, mode="one by one")
    panel.start()
    assert panel.ui.readerChoice2Button.text == "2: synthetic"
    assert len(panel.shown()) == 1
    keys = [QtCore.Qt.Key.Key_1, QtCore.Qt.Key.Key_2]
    panel.key(QtCore.Qt.Key.Key_3)  # no choice yet: nothing to rate
    assert panel.rows() == []
    panel.key(keys[1 - panel.truth()])
    assert panel.ui.readerConfidence1Button.enabled
    panel.key(QtCore.Qt.Key.Key_Backspace)
    assert not panel.ui.readerConfidence1Button.enabled
    for number in range(8):
        panel.key(keys[panel.truth()])
        panel.key(QtCore.Qt.Key.Key_5 if number else QtCore.Qt.Key.Key_1)
    assert panel.isRestored()
    assert [row["confidence"] for row in panel.rows()] == ["1"] + 7 * ["5"]
    assert "8 of 8 right" in panel.ui.readerResultsLabel.text
    assert "AUC 1.00" in panel.ui.readerResultsLabel.text


def test_nothing_that_is_shown_tells_where_it_came_from(panel):
    from CTDiffusionLib.CornerAnnotation import showsSynthetic

    panel.choose(items=4)
    panel.start()
    seen = []
    for _ in range(4):
        for node in panel.shown():
            assert node.GetName() in ("Image 1", "Image 2")
            attributes = list(node.GetAttributeNames())
            assert attributes == ["CTDiffusion.ReaderStudy"]
            assert node.GetHideFromEditors()
            assert not node.GetSaveWithScene()
            assert not node.GetDisplayNode().GetSaveWithScene()
            assert node.GetStorageNode() is None
            assert node.GetNodeReferenceID("CTDiffusionReference") is None
            origin = np.array(node.GetOrigin()) + np.array([-1, -1, 1]) * np.array(node.GetSpacing()) * (
                (np.array(node.GetImageData().GetDimensions()) - 1) / 2
            )
            np.testing.assert_allclose(origin, 0, atol=1e-6)
            seen.append(tuple(node.GetImageData().GetDimensions()))
        nodes = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
        ours = [n for n in nodes if n.IsA("vtkMRMLSliceCompositeNode") and "Reader" in (n.GetLayoutName() or "")]
        assert len(ours) == 2
        assert not any(showsSynthetic(composite) for composite in ours)
        panel.answer()
    assert len(set(seen)) == 1
    text = (panel.folder / "study.csv").read_text()
    assert not any(word in text for word in ("Doe", "SYNTHETIC", "synthetic", "vtkMRML"))
    assert "Doe^Jane" in key_path(panel.folder / "study.csv").read_text()
    assert [node.GetAttribute("CTDiffusion.Synthetic") for node in panel.synthetic] == ["yes", "yes"]


def test_stop_and_resume(panel):
    panel.choose(items=6)
    panel.start()
    for _ in range(2):
        panel.answer()
    pending = [slicer.util.arrayFromVolume(node).copy() for node in panel.shown()]
    panel.host.click(panel.ui.readerChoice1Button)  # an answer that is not complete does not count
    panel.host.click(panel.ui.readerStartButton)
    assert panel.isRestored()
    assert panel.ui.readerInfoLabel.text == "Stopped: 2 of 6 answers are in the file. Resume goes on."
    assert panel.ui.readerStartButton.text == "Re&sume"
    panel.start()
    for node, before in zip(panel.shown(), pending, strict=True):
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), before)
    for _ in range(4):
        panel.answer()
    assert panel.isRestored()
    assert len(panel.rows()) == 6
    panel.ui.readerCodeEdit.text = "R2"
    assert "R2: 0 of 6 answered" in panel.ui.readerInfoLabel.text
    panel.start()
    panel.answer()
    panel.host.click(panel.ui.readerStartButton)
    assert [row["reader"] for row in panel.rows()] == 6 * ["R1"] + ["R2"]


@pytest.mark.parametrize("ending", ["the scene is closed", "the module is left", "Slicer ends", "the module reloads"])
def test_when_the_study_is_interrupted_everything_is_as_before_and_it_goes_on_later(panel, ending):
    panel.choose(items=6)
    panel.start()
    panel.answer()
    if ending == "the scene is closed":
        panel.host.closeScene()
    elif ending == "the module is left":
        panel.host.leaveModule("CTDiffusion")
    elif ending == "Slicer ends":
        panel.host.quit()
    else:
        panel.host.reload("CTDiffusion")
    assert panel.isRestored()
    assert len(panel.rows()) == 1
    assert len(open_study(panel.folder / "study.csv").left("R1")) == 5
    assert panel.host.exceptions == []
    if ending == "the module is left":
        slicer.modules.ctdiffusion.widgetRepresentation().enter()
        panel.start()
        panel.answer()
        assert len(panel.rows()) == 2


def test_a_scene_that_is_saved_in_the_middle_has_nothing_of_the_study(panel, tmp_path):
    panel.choose(items=6)
    panel.start()
    panel.answer()
    panel.host.saveScene(tmp_path / "scene.mrb")
    panel.answer()  # saving does not disturb
    with zipfile.ZipFile(tmp_path / "scene.mrb") as bundle:
        (text,) = (bundle.read(name).decode() for name in bundle.namelist() if name.endswith(".mrml"))
    assert not any(word in text for word in ("Image 1", "Reader1", "5301", "ReaderStudy"))
    assert "Doe^Jane 0" in text
    panel.host.loadScene(tmp_path / "scene.mrb")
    assert panel.isRestored()
    slicer.modules.ctdiffusion.widgetRepresentation().enter()
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert sorted(names) == ["Doe^Jane 0", "Doe^Jane 1", "SYNTHETIC 0", "SYNTHETIC 1"]
    # In the scene of another session the study goes on with volumes of the same names.
    assert "R1: 2 of 6 answered" in panel.ui.readerInfoLabel.text
    assert len(panel.ui.readerVolumesSelector.checkedNodes()) == 4
    panel.start()
    panel.answer()
    assert len(panel.rows()) == 3


def test_volumes_that_have_gone_are_named(panel):
    panel.choose(items=4)
    panel.start()
    panel.host.click(panel.ui.readerStartButton)
    slicer.mrmlScene.RemoveNode(panel.real[1])
    panel.start()
    assert "Doe^Jane 1 is not in the scene" in panel.ui.readerInfoLabel.text
    assert panel.isRestored()


def test_the_window_is_the_same_on_both_sides_and_is_recorded(panel):
    panel.choose(items=4)
    panel.start()
    panel.host.click(panel.ui.readerLungButton)
    displays = [node.GetDisplayNode() for node in panel.shown()]
    assert [(d.GetWindow(), d.GetLevel()) for d in displays] == 2 * [(1400, -500)]
    assert [panel.ui.readerLungButton.checked, panel.ui.readerAbdomenButton.checked] == [True, False]
    panel.answer()
    displays[0].SetWindowLevel(500, 60)  # the mouse
    assert (displays[1].GetWindow(), displays[1].GetLevel()) == (500, 60)
    panel.answer()
    assert [row["window"] for row in panel.rows()] == ["1400/-500", "500/60"]
    displays = [node.GetDisplayNode() for node in panel.shown()]
    assert displays[0].GetWindow() == 1400  # the next item begins with the preset


def test_whole_volumes_from_folders(panel):
    matrix = Geometry.from_ijk_to_ras(np.diag([-2.0, -2.0, 3.0, 1.0]))
    for name, synthetic in (("real", False), ("made", True)):
        for n in range(2):
            # A synthetic volume of another program says nothing about itself; its folder does.
            write_volume(CTVolume(voxels(n, synthetic=synthetic), matrix), panel.folder / name / f"Doe{n}.nrrd")
    ui = panel.ui
    ui.readerRealFolderEdit.currentPath = str(panel.folder / "real")
    ui.readerSyntheticFolderEdit.currentPath = str(panel.folder / "made")
    panel.host.choose(ui.readerShownComboBox, "volumes")
    ui.readerItemsSpinBox.value = 2
    ui.readerFileEdit.currentPath = str(panel.folder / "study.csv")
    panel.start()
    assert panel.layouts.layout == 5302
    assert [node.GetImageData().GetDimensions()[2] for node in panel.shown()] == [30, 30]
    panel.answer()
    panel.answer()
    assert panel.isRestored()
    assert "2 of 2 right" in ui.readerResultsLabel.text
    assert "Doe" not in (panel.folder / "study.csv").read_text()


def test_too_many_volumes_and_mixed_folders_are_refused_before_any_file_is_made(panel):
    panel.choose(items=5, shown="volumes")
    panel.start()
    assert "5 items need 5 real volumes, and there are 2" in panel.ui.readerInfoLabel.text
    matrix = Geometry.from_ijk_to_ras(np.diag([-2.0, -2.0, 3.0, 1.0]))
    write_volume(
        CTVolume(voxels(0, synthetic=True), matrix, {"synthetic": "yes"}), panel.folder / "real" / "secret.nrrd"
    )
    panel.choose(items=12)
    panel.ui.readerRealFolderEdit.currentPath = str(panel.folder / "real")
    panel.start()
    assert "secret.nrrd says that it is synthetic, but is among the real" in panel.ui.readerInfoLabel.text
    assert not (panel.folder / "study.csv").exists()
    assert panel.isRestored()


def test_the_results_of_another_study_are_refused(panel):
    panel.choose(items=4, name="other.csv")
    panel.start()
    panel.answer()
    panel.host.click(panel.ui.readerStartButton)
    panel.choose(items=4)
    panel.ui.readerSeedSpinBox.value = 7
    panel.start()
    panel.host.click(panel.ui.readerStartButton)
    (panel.folder / "study.csv").write_bytes((panel.folder / "other.csv").read_bytes())
    panel.ui.readerFileEdit.currentPath = ""
    panel.ui.readerFileEdit.currentPath = str(panel.folder / "study.csv")
    assert "belongs to another study" in panel.ui.readerInfoLabel.text
    assert not panel.ui.readerStartButton.enabled


def test_an_answer_that_cannot_be_written_is_asked_for_again(panel):
    panel.choose(items=4)
    panel.start()
    (panel.folder / "study.csv").unlink()
    panel.answer()
    assert "The answer was not written" in panel.ui.readerInfoLabel.text
    assert panel.panel._run.done == 0
    assert panel.panel._run.isRunning


def test_the_section_fits_into_a_narrow_panel_and_can_be_reached_by_keyboard(panel):
    panel.choose(items=2)
    panel.start()
    panel.host.process(0.05)
    assert panel.ui.readerChoicesCollapsibleButton.collapsed  # room for the answers
    assert QtWidgets.QWidget.sizeHint(panel.ui.readerCollapsibleButton).width() <= 378  # ctk's buttons shrink no more
    panel.panel.stop()
    assert not panel.ui.readerChoicesCollapsibleButton.collapsed
    assert QtWidgets.QWidget.sizeHint(panel.ui.readerCollapsibleButton).width() <= 378
    panel.start()
    inputs = (QtWidgets.QPushButton, QtWidgets.QLineEdit, QtWidgets.QComboBox, QtWidgets.QSpinBox, QtWidgets.QCheckBox)
    checkControls(panel.ui, *inputs, atLeast=19)
    checkKeys(panel.ui, atLeast=8)
