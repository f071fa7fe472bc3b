"""The section Measure in the host: real form, real clicks, one whole measurement; else reports of the real writer."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import slicer
from evaluation_report import write_report_json

from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import write_volume


@cache
def drawn(seed):
    return torso_phantom(slices=20, size=48, spacing_mm=(8.5, 8.5, 6.0), seed=seed)


class Panel:
    """The opened section with two scans and two synthetic volumes in the scene, and one of each in files."""

    def __init__(self, host, monkeypatch, folder):
        host.loadModule("CTDiffusion")
        from CTDiffusionLib import GenerateDevices, SceneVolumes

        monkeypatch.setattr(GenerateDevices.DeviceFinder, "ask", lambda finder: None)
        self.host, self.folder = host, folder
        self.real, self.made = [], []
        for n in range(2):
            scan, other = drawn(n), drawn(40 + n)
            matrix = scan.geometry.ijk_to_ras
            self.real.append(SceneVolumes.insertVolume(scan.hu, matrix, f"CT {n}"))
            noise = np.random.default_rng(n).normal(0, 60, other.hu.shape).astype(np.int16)
            facts = {"model": "torso", "seed": n}
            self.made.append(SceneVolumes.insertSyntheticVolume(other.hu + noise, matrix, f"SYN {n}", metadata=facts))
        self.phantom = SceneVolumes.insertSyntheticVolume(
            scan.hu, matrix, "phantom", metadata={"phantom": "yes", "model": "formulas"}
        )
        scan = drawn(7)
        self.file = folder / "scans" / "one more.nrrd"
        write_volume(CTVolume(scan.hu, scan.geometry, {}), self.file)
        self.widget = host.openModule("CTDiffusion")
        self.panel = self.widget.sections.evaluate
        self.ui = self.panel._ui
        self.ui.evaluateCollapsibleButton.collapsed = False
        self.ui.evaluateFolderEdit.currentPath = str(folder / "reports")

    @property
    def text(self):
        return self.ui.evaluateStatusLabel.text

    def rows(self, group):
        widget = getattr(self.ui, f"evaluate{group}ListWidget")
        return {widget.item(n).text(): widget.item(n) for n in range(widget.count)}

    def tick(self, group, *names, isTicked=True):
        from PySide6.QtCore import Qt

        for name in names:
            self.rows(group)[name].setCheckState(Qt.CheckState.Checked if isTicked else Qt.CheckState.Unchecked)

    def tickAll(self):
        self.tick("Real", "CT 0", "CT 1")
        self.tick("Synthetic", "SYN 0", "SYN 1")

    def measure(self, *, wait=True):
        self.host.click(self.ui.evaluateButton)
        if wait and self.panel._run is not None:
            self.host.process(until=lambda: not self.panel._run.isRunning, timeout=300)
        return self.text

    def showEarlier(self, path):
        self.host.answers.append(str(path))
        self.host.click(self.ui.evaluateEarlierButton)

    def reports(self):
        return sorted((self.folder / "reports").glob("*")) if (self.folder / "reports").exists() else []


@pytest.fixture
def panel(host, monkeypatch, tmp_path):
    return Panel(host, monkeypatch, tmp_path)


def test_a_whole_measurement(panel, capsys):
    """Two scans of the scene and one in a file, two synthetic volumes: figures, table, plots, page."""
    from CTDiffusionLib import EvaluateLayout, EvaluatePlots

    host, ui = panel.host, panel.ui
    panel.tickAll()
    host.answers.append([str(panel.file)])
    host.click(ui.evaluateAddRealFilesButton)
    ui.evaluateImagesSpinBox.value = 2
    assert ui.evaluateButton.enabled, ui.evaluateButton.toolTip
    said = []
    with host.heartbeat() as heartbeat:
        panel.measure(wait=False)
        panel.panel._run.progressed.connect(lambda event: said.append(event.phase))
        host.process(until=lambda: not panel.panel._run.isRunning, timeout=300)
    with capsys.disabled():
        print(f"\nwhile measuring: longest block of the GUI {1000 * heartbeat.longest:.0f} ms")
    (folder,) = panel.reports()
    assert panel.text == f"Done: the report is in {folder}."
    assert sorted(path.name for path in folder.iterdir()) == ["plots", "report.html", "report.json"]
    assert {"measuring CT 0", "measuring CT 1", "measuring SYN 0", "measuring SYN 1"} <= set(said)
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert data["counts"]["real"] == {"volumes": 3, "patients": 3}
    assert data["counts"]["synthetic"]["volumes"] == 2
    origins = [volume["origin"] for volume in data["inputs"] if volume["id"].startswith("scene-synthetic")]
    assert [(origin["model"], origin["seed"]) for origin in origins] == [("torso", "0"), ("torso", "1")]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "CT 0" not in page and "scene-real-001" in page  # names of volumes may be names of people
    # In the panel, in the scene, and in views.
    assert ui.evaluateSummaryLabel.text.startswith("Synthetic volumes: 2. Real scans: 3, of 3 patients. Of ")
    report = panel.panel.report
    sections = [section for section in data["sections"] if section["figures"]]
    table = ui.evaluateFiguresTable
    assert table.rowCount == len(report.figures) + len(sections)
    assert table.item(0, 0).text() == "Distance of images from real ones"
    assert table.item(1, 0).text() == "Fréchet distance, axial [ctfeatures]"
    value = next(f for f in data["sections"][0]["figures"] if f["key"] == "frechet.ctfeatures.axial")["synthetic"]
    assert table.item(1, 1).text().split("\n")[0] == report.figures[0].synthetic.text().split(" (")[0]
    assert report.figures[0].synthetic.value == value["value"]
    plots = EvaluatePlots.EvaluatePlots(report)
    assert plots.table().GetNumberOfRows() == len(report.figures) > 20
    assert [chart.GetTitle() for chart in plots.charts()][:3] == [
        "Fréchet distance (ctfeatures)",
        "HU inside the body",
        "Mean difference of slices inside the body",
    ]
    assert EvaluateLayout.isReportShown()
    host.click(ui.evaluateLayoutButton)
    assert not EvaluateLayout.isReportShown()
    host.click(ui.evaluateShowButton)
    assert EvaluateLayout.isReportShown()
    host.click(ui.evaluatePageButton)
    (url,) = host.dialogs.openedUrls
    assert Path(url.removeprefix("file://")) == folder / "report.html"
    ui.evaluateLogCollapsibleButton.collapsed = False
    host.click(ui.copyEvaluateLogButton)
    assert slicer.app.clipboard().text().startswith("ctdiffusion evaluate --real=")


def test_volumes_are_listed_where_they_belong(panel):
    assert list(panel.rows("Real")) == ["CT 0", "CT 1"]
    assert list(panel.rows("Synthetic")) == ["SYN 0", "SYN 1", "phantom"]
    panel.tick("Synthetic", "SYN 0")
    panel.widget.sections.onVolumeMade(panel.made[1])  # a new one is for the next measurement
    assert panel.panel.sources["synthetic"].volumes() == panel.made
    panel.ui.evaluatePhantomsCheckBox.setChecked(True)
    panel.host.process(until=lambda: "phantom" in panel.rows("Real"), timeout=5)
    panel.made[0].SetName("another name")
    panel.host.process(until=lambda: "another name" in panel.rows("Synthetic"), timeout=5)
    slicer.mrmlScene.RemoveNode(panel.made[0])
    panel.host.process(until=lambda: "another name" not in panel.rows("Synthetic"), timeout=5)
    panel.tick("Real", "CT 0")
    panel.real[0].SetAttribute("CTDiffusion.Synthetic", "yes")  # ticked before anybody knew
    panel.host.process(until=lambda: "CT 0 (synthetic)" in panel.rows("Real"), timeout=5)
    assert panel.ui.evaluateButton.toolTip == "CT 0: synthetic"


def test_nothing_can_be_pressed_that_cannot_work(panel):
    button = panel.ui.evaluateButton
    assert not button.enabled
    assert button.toolTip == "Tick real scans, or add folders or files with them."
    panel.tick("Real", "CT 0")
    assert button.toolTip == "Tick synthetic volumes, or add folders or files with them."
    panel.tick("Synthetic", "SYN 1")
    assert button.enabled
    panel.ui.evaluateFolderEdit.currentPath = ""
    assert button.toolTip == "Choose a folder for the reports."
    panel.ui.evaluateFolderEdit.currentPath = str(panel.folder)
    panel.host.answers.append(str(panel.folder / "scans"))
    panel.host.click(panel.ui.evaluateAddSyntheticFolderButton)
    assert f"Folder: {panel.folder / 'scans'}" in panel.rows("Synthetic")
    shutil.rmtree(panel.folder / "scans")
    panel.tick("Synthetic", "SYN 0")
    assert button.toolTip == f"{panel.folder / 'scans'} does not exist."
    panel.rows("Synthetic")[f"Not there: {panel.folder / 'scans'}"].setSelected(True)
    panel.host.click(panel.ui.evaluateRemoveSyntheticButton)
    assert button.enabled
    assert not panel.ui.evaluateRemoveSyntheticButton.enabled
    assert not panel.ui.evaluateResultsFrame.visible


def test_weights_and_baselines_reach_the_command(panel):
    from CTDiffusionLib.EvaluateLogic import requestOf

    ui, button, weights = panel.ui, panel.ui.evaluateButton, panel.folder / "weights.safetensors"
    panel.tickAll()
    ui.evaluateAdvancedCollapsibleButton.collapsed = False
    panel.host.choose(ui.evaluateExtractorComboBox, "radimagenet")
    assert button.toolTip == "radimagenet needs a file with its weights: see Advanced."
    ui.evaluateWeightsEdit.currentPath = str(weights)
    assert button.toolTip == f"{weights} does not exist."
    weights.touch()
    ui.evaluateHeldOutEdit.currentPath = str(panel.folder / "scans")
    ui.evaluateIndependentEdit.currentPath = str(panel.folder)
    assert button.enabled
    words = requestOf(panel.panel._parameters, panel.folder / "out").words([], [])
    assert {f"--extractor=radimagenet:{weights}", f"--held-out={panel.folder / 'scans'}"} <= set(words)
    assert f"--independent={panel.folder}" in words
    for name, word in {"ctfeatures": str(weights), "radiomics": "radiomics"}.items():
        panel.host.choose(ui.evaluateExtractorComboBox, name)
        words = requestOf(panel.panel._parameters, panel.folder / "out").words([], [])
        assert f"--extractor={word}" in words


def test_a_worker_that_fails_says_why(panel):
    panel.tick("Real", "CT 0")
    panel.host.answers.append([str(panel.file)])
    panel.host.click(panel.ui.evaluateAddSyntheticFilesButton)
    panel.measure(wait=False)
    panel.file.unlink()  # before the worker looks for it
    panel.host.process(until=lambda: not panel.panel._run.isRunning, timeout=120)
    assert panel.text == f"Failed: {panel.file} does not exist. Check the path."
    assert panel.ui.evaluateButton.text == "Measure"
    assert "does not exist" in panel.ui.evaluateLogText.plainText
    assert panel.reports() == [] and not panel.ui.evaluateResultsFrame.visible


def test_what_the_worker_advises_is_said_in_the_panel_s_words():
    from CTDiffusionLib import EvaluateRun

    words = {
        "Name a new folder, or empty this one first.": "Choose another folder.",
        "a.nrrd: is a phantom, not a patient's scan; --allow-phantoms lets it in": (
            "a.nrrd: is a phantom, not a patient's scan; Advanced has an option that lets it in"
        ),
    }
    for said, wanted in words.items():
        assert EvaluateRun.inPanelWords(said) == wanted


def test_cancel_leaves_nothing(panel):
    panel.tickAll()
    panel.measure(wait=False)
    assert panel.ui.evaluateButton.text == "Cancel"
    panel.measure(wait=False)
    assert panel.ui.evaluateButton.text == "Stopping..."
    assert not panel.ui.evaluateButton.enabled
    panel.host.process(until=lambda: not panel.panel._run.isRunning, timeout=60)
    assert panel.text == "Cancelled. Nothing was written."
    assert panel.ui.evaluateButton.text == "Measure"
    assert panel.reports() == [] and not panel.ui.evaluateResultsFrame.visible


def test_an_earlier_report_is_shown_kept_with_the_scene_and_missed_when_it_is_gone(panel, tmp_path):
    from CTDiffusionLib import EvaluateLayout

    ui, folder = panel.ui, write_report_json(tmp_path / "earlier")
    panel.showEarlier(folder / "report.json")
    assert panel.text == "The report in earlier."
    assert ui.evaluateFiguresTable.item(1, 1).text() == "44.7\n(30.5 to 60.2)"
    assert ui.evaluateFiguresTable.item(1, 3).text() == "\u25b2 off"
    assert "How far the images lie" in ui.evaluateFiguresTable.item(1, 0).toolTip()
    assert EvaluateLayout.isReportShown()
    panel.host.saveScene(tmp_path / "scene.mrb")
    panel.host.closeScene()
    assert not ui.evaluateResultsFrame.visible
    panel.host.loadScene(tmp_path / "scene.mrb")
    panel.widget.enter()
    assert ui.evaluateResultsFrame.visible
    assert ui.evaluateSummaryLabel.text.startswith("Synthetic volumes: 2. Real scans: 3")
    shutil.rmtree(folder)
    panel.host.closeScene()
    panel.host.loadScene(tmp_path / "scene.mrb")
    panel.widget.enter()
    assert not ui.evaluateResultsFrame.visible
    assert panel.text.startswith(f"The report {folder} cannot be read: No such file")
    tables = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode")
    assert tables == 5  # figures and plots are still in the scene
    # Files that are no reports, and one without its page.

    (tmp_path / "other.json").write_text("{}")
    panel.showEarlier(tmp_path / "other.json")
    assert panel.text.startswith(f"{tmp_path / 'other.json'} is not a report of CTDiffusion. Choose the report.json")
    assert not panel.ui.evaluateResultsFrame.visible
    folder = write_report_json(tmp_path / "b")
    (folder / "report.html").unlink()
    panel.showEarlier(folder / "report.json")
    assert not panel.ui.evaluatePageButton.enabled
    assert "no report.html" in panel.ui.evaluatePageButton.toolTip
    panel.showEarlier("")  # the dialog is closed


def test_choices_are_kept_with_the_scene(panel, tmp_path):
    panel.tickAll()
    panel.host.answers.append([str(panel.file)])
    panel.host.click(panel.ui.evaluateAddRealFilesButton)
    panel.ui.evaluateImagesSpinBox.value = 3
    panel.ui.evaluateTrainingEdit.currentPath = str(tmp_path)
    panel.host.saveScene(tmp_path / "scene.mrb")
    panel.host.closeScene()
    assert panel.rows("Real") == {}
    assert panel.ui.evaluateImagesSpinBox.value == 16
    panel.host.loadScene(tmp_path / "scene.mrb")
    panel.widget.enter()
    from PySide6.QtCore import Qt

    ticked = [name for name, row in panel.rows("Real").items() if row.checkState() == Qt.CheckState.Checked]
    assert ticked == ["CT 0", "CT 1"]
    assert f"File: {panel.file}" in panel.rows("Real")
    assert panel.ui.evaluateImagesSpinBox.value == 3
    assert panel.ui.evaluateTrainingEdit.currentPath == str(tmp_path)


def test_for_scripts(panel, tmp_path):
    from CTDiffusionLogic.errors import Cancelled, InputError

    logic = panel.widget.logic
    with pytest.raises(InputError, match="no synthetic volumes to measure"):
        logic.evaluate(panel.real, [])
    with pytest.raises(InputError, match="SYN 0 cannot be measured as a real one: synthetic"):
        logic.evaluate([panel.made[0]], panel.made)
    run = logic.evaluate(
        [panel.real[0], panel.file], panel.made[0], folder=tmp_path / "out", extractors="radiomics", training=tmp_path,
        waitForCompletion=False,
    )  # fmt: skip
    words = run.job.request.words(Path("/job"))
    run.cancel()
    assert words == [
        "evaluate",
        f"--real={panel.file}",
        "--real=/job/volumes/real",
        "--synthetic=/job/volumes/synthetic",
        f"--training={tmp_path}",
        f"--out={tmp_path / 'out'}",
        "--images-per-volume=16",
        "--device=auto",
        "--seed=0",
        "--extractor=radiomics",
    ]
    panel.host.process(until=lambda: not run.isRunning, timeout=60)
    assert run.ending.kind == "cancelled"
    assert not (tmp_path / "out").exists()
    from CTDiffusionLib.RunResult import raiseUnlessFinished

    with pytest.raises(Cancelled, match="Nothing was written"):
        raiseUnlessFinished(run.ending)
    report = logic.showReport(write_report_json(tmp_path / "earlier"))
    assert report.figure("frechet.ctfeatures.mean").synthetic.value == 54.99


def test_it_fits_into_a_narrow_panel_and_can_be_reached_by_keyboard(panel, tmp_path):
    from PySide6 import QtCore, QtWidgets

    ui = panel.ui
    section = ui.evaluateCollapsibleButton
    panel.made[0].SetName("SYNTHETIC a model with a long name and more of it, seed 123456789 (partial)")
    panel.showEarlier(write_report_json(tmp_path / ("a long name " * 6)) / "report.json")
    ui.evaluateAdvancedCollapsibleButton.collapsed = False
    panel.host.process(0.5)
    assert QtWidgets.QWidget.minimumSizeHint(section).width() <= 400
    inputs = (
        QtWidgets.QPushButton, QtWidgets.QLineEdit, QtWidgets.QComboBox, QtWidgets.QListWidget, QtWidgets.QSpinBox,
        QtWidgets.QTableWidget, QtWidgets.QCheckBox,
    )  # fmt: skip
    found = [w for w in vars(ui).values() if isinstance(w, inputs) and w.name.startswith(("evaluate", "copyEval"))]
    assert len(found) >= 18
    for widget in [w for w in found if "Collapsible" not in w.name]:
        assert widget.toolTip, widget.name
        assert widget.focusPolicy != QtCore.Qt.NoFocus, widget.name
    assert not ui.evaluateFiguresTable.tabKeyNavigation  # the key leads on to the buttons
    texts = [w.text for w in vars(ui).values() if isinstance(w, QtWidgets.QLabel | QtWidgets.QAbstractButton)]
    keys = [text[text.index("&") + 1].lower() for text in texts if "&" in text]
    assert len(keys) == len(set(keys)) >= 11
