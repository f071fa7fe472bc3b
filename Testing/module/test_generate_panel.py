"""The section Generate in the host: real form, real clicks, real workers."""

from __future__ import annotations

import os
import signal
import time

import pytest
import slicer
from process_groups import isGone
from PySide6 import QtWidgets
from random_model import write_random_fine_model, write_random_model
from sections import CPU, checkControls, knowDevices

from CTDiffusionLogic import models
from CTDiffusionLogic.bundle import read_header


class Panel:
    """The opened section; devices are known, so that only one test has to wait for the doctor."""

    def __init__(self, host, monkeypatch, *, withDoctor=False):
        host.loadModule("CTDiffusion")
        if not withDoctor:
            knowDevices(monkeypatch)
        self.host = host
        self.widget = host.openModule("CTDiffusion")
        self.panel = self.widget.sections.generate
        self.ui = self.panel._ui
        self.compare = self.widget.sections.compare._ui

    def choose(self, model, **values):
        self.ui.modelFileEdit.currentPath = ""  # a file that is there already would be no change
        self.ui.modelFileEdit.currentPath = str(model)
        for name, value in {"slicesSpinBox": 10, "spacingSpinBox": 2.5, **values}.items():
            getattr(self.ui, name).value = value

    def slow(self, model):
        """Slices come one after the other, for a long time."""
        self.choose(model, slicesSpinBox=1000, spacingSpinBox=1.0, stepsSpinBox=1, detailStepsSpinBox=25)

    def start(self):
        self.host.click(self.ui.generateButton)
        assert self.panel._run is not None, self.ui.generateStatusLabel.text
        return self.panel._run

    def end(self, run):
        self.host.process(until=lambda: not run.isRunning, timeout=150)
        return self.ui.generateStatusLabel.text


@pytest.fixture
def panel(host, monkeypatch):
    return Panel(host, monkeypatch)


def volumes():
    scene = slicer.mrmlScene
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    return [scene.GetNthNodeByClass(n, "vtkMRMLScalarVolumeNode") for n in range(count)]


def test_from_an_empty_scene_to_a_volume(panel, model, capsys):
    ui = panel.ui
    assert not ui.generateButton.enabled or panel.panel._models  # without a model nothing can be done, and why:
    if not panel.panel._models:
        assert "no model yet" in ui.generateButton.toolTip
    panel.choose(model, countSpinBox=2)
    assert ui.generateButton.enabled
    assert ui.modelComboBox.currentText == "noise.safetensors"
    assert "64 x 64 pixels of 6 mm" in ui.modelInfoLabel.text
    assert ui.estimateLabel.text.startswith("about ")
    assert "guess" in ui.estimateLabel.text
    assert ui.estimateLabel.text.endswith(f"It will run on the CPU: {CPU}.")
    assert ui.deviceComboBox.currentText == "Automatic: CPU"
    assert ui.deviceInfoLabel.text == CPU
    said = []
    worker, polls = panel.panel._logic.worker, []
    poll = worker.poll

    def measured():
        began = time.thread_time()
        poll()
        polls.append(time.thread_time() - began)

    worker.poll = measured
    with panel.host.heartbeat() as heartbeat:
        run = panel.start()
        assert ui.generateButton.text == "Cancel"
        run.progressed.connect(lambda _event: said.append(ui.generateStatusLabel.text))
        text = panel.end(run)
    with capsys.disabled():
        block, busy = 1000 * heartbeat.longest, 1000 * max(polls)
        print(f"\nwhile generating: longest block of the GUI {block:.0f} ms, longest poll {busy:.0f} ms of CPU time")
    assert text.startswith("Done: SYNTHETIC noise seed ")
    assert any("slices" in words and " left" in words for words in said)
    first, second = volumes()
    seed = int(first.GetAttribute("CTDiffusion.Seed"))
    assert second.GetAttribute("CTDiffusion.Seed") == str(seed + 1)
    assert ui.seedSpinBox.value == seed
    assert ui.generateButton.text == "Generate"
    assert panel.compare.syntheticVolumeSelector.currentNode() is second
    ui.generateLogCollapsibleButton.collapsed = False
    panel.host.click(ui.copyGenerateLogButton)
    log = slicer.app.clipboard().text()
    assert log.startswith("ctdiffusion generate ")
    assert '"event": "finished"' in log


@pytest.mark.parametrize("keep", [True, False])
def test_cancel_in_the_middle(panel, model, keep):
    panel.slow(model)
    panel.ui.keepPartialCheckBox.checked = keep
    run = panel.start()
    panel.host.process(until=lambda: run.nodes(), timeout=120)
    processID = run.job._process.processID
    panel.host.click(panel.ui.generateButton)
    assert panel.ui.generateButton.text == "Stopping..."
    assert not panel.ui.generateButton.enabled
    text = panel.end(run)
    assert text.startswith("Cancelled. Kept: SYNTHETIC noise" if keep else "Cancelled.")
    assert len(volumes()) == int(keep)
    assert isGone(processID)
    assert panel.ui.generateButton.text == "Generate"
    assert panel.ui.generateButton.enabled


def test_the_worker_is_killed(panel, model):
    panel.slow(model)
    run = panel.start()
    panel.host.process(until=lambda: run.nodes(), timeout=120)
    os.kill(run.job._process.processID, signal.SIGKILL)
    text = panel.end(run)
    assert text.startswith("Failed: The worker was ended from outside")
    assert "Close other programs" in text
    assert "[exit code" in panel.ui.generateLogText.plainText
    (node,) = volumes()
    assert node.GetName().endswith("(partial)")


def test_a_broken_model_file(panel, model, tmp_path):
    text = tmp_path / "text.safetensors"
    text.write_text("not a model")
    panel.choose(text)
    assert not panel.ui.generateButton.enabled
    assert "is not a CTDiffusion model" in panel.ui.modelInfoLabel.text
    assert panel.ui.generateButton.toolTip == panel.ui.modelInfoLabel.text
    damaged = tmp_path / "damaged.safetensors"
    content = bytearray(model.read_bytes())
    content[-100] ^= 255
    damaged.write_bytes(content)
    panel.choose(damaged)  # only the worker reads the weights
    text = panel.end(panel.start())
    assert text.startswith(f"Failed: The model file {damaged} is broken")
    assert volumes() == []


def test_a_second_start_while_one_runs(panel, model):
    panel.slow(model)
    run = panel.start()
    logic = panel.host.module("CTDiffusion").CTDiffusionLogic()
    with pytest.raises(RuntimeError, match="is running already"):
        logic.generate(model=model)
    panel.host.click(panel.ui.generateButton)
    assert "Cancelled" in panel.end(run)


def test_the_scene_is_closed_while_it_runs(panel, model):
    panel.slow(model)
    run = panel.start()
    panel.host.process(until=lambda: run.nodes(), timeout=120)
    processID = run.job._process.processID
    panel.host.closeScene()
    panel.end(run)
    assert run.ending.message == "The scene was closed."
    assert isGone(processID)
    assert volumes() == []
    assert panel.ui.generateButton.text == "Generate"
    panel.choose(model)
    assert panel.end(panel.start()).startswith("Done: SYNTHETIC noise")


@pytest.mark.parametrize("how", ["the application ends", "the module is reloaded"])
def test_nothing_survives(panel, model, how):
    panel.slow(model)
    run = panel.start()
    panel.host.process(until=lambda: run.details, timeout=120)
    process = run.job._process
    folder = run.job.folder
    if how == "the application ends":
        panel.host.quit()
    else:
        panel.host.reload("CTDiffusion")
    assert not run.isRunning
    assert process.hasEnded()
    assert isGone(process.processID)
    assert not folder.exists()


def test_like_a_scan(panel, model):
    import numpy as np
    from CTDiffusionLib import Provenance, SceneVolumes

    scan = SceneVolumes.insertVolume(np.zeros((6, 40, 48), np.int16), np.diag([-3.0, -3.0, 4.0, 1.0]), "scan")
    panel.choose(model)
    panel.ui.likeVolumeSelector.setCurrentNode(scan)
    assert not panel.ui.slicesSpinBox.enabled
    assert not panel.ui.spacingSpinBox.enabled
    assert panel.end(panel.start()).startswith("Done")
    made = volumes()[-1]
    assert slicer.util.arrayFromVolume(made).shape == (6, 40, 48)
    assert Provenance.referenceVolume(made) is scan
    assert panel.compare.realVolumeSelector.currentNode() is scan


def test_a_script_waits(panel, model):
    logic = panel.host.module("CTDiffusion").CTDiffusionLogic()
    seen = []
    node = logic.generate(
        model=model, slices=9, seed=3, device="cpu", onProgress=lambda *progress: seen.append(progress)
    )
    assert slicer.util.arrayFromVolume(node).shape == (9, 64, 64)
    assert seen[-1][0] == seen[-1][1]


def test_choices_are_saved_with_the_scene(panel, model, tmp_path):
    panel.choose(model, countSpinBox=3)
    panel.host.choose(panel.ui.qualityComboBox, "fine")
    panel.host.choose(panel.ui.deviceComboBox, "CPU")
    panel.ui.randomSeedCheckBox.checked = False
    panel.ui.seedSpinBox.value = 77
    request = panel.panel.request()
    assert (request.steps, request.detailSteps, request.seed, request.device) == (4, 4, 77, "cpu")
    panel.ui.detailStepsSpinBox.value = 9
    panel.host.saveScene(tmp_path / "scene.mrml")
    panel.host.closeScene()
    assert panel.ui.countSpinBox.value == 1
    panel.host.loadScene(tmp_path / "scene.mrml")
    panel.widget.enter()
    request = panel.panel.request()
    assert (request.count, request.seed, request.device) == (3, 77, "cpu")
    assert (request.steps, request.detailSteps, request.model) == (4, 9, str(model))
    assert panel.ui.modelComboBox.currentText == "noise.safetensors"


def test_the_larger_matrix_of_the_bundled_fine_model(panel, model, tmp_path, monkeypatch):
    from CTDiffusionLib import GenerateEstimate

    def estimated(fine):
        card = read_header(model).card
        return GenerateEstimate.estimate(card, panel.panel.request(), device="cpu", fine=fine).text

    ui, bundled = panel.ui, {}
    monkeypatch.setattr(models, "bundled_fine_model", lambda: bundled)
    panel.choose(model)
    assert (ui.matrixComboBox.enabled, ui.matrixComboBox.currentText) == (False, "As the model makes it (64)")
    assert ui.matrixComboBox.toolTip == "No fine model comes with this installation."
    bundled["fine"] = write_random_fine_model(tmp_path / "fine.safetensors", steps=4)
    panel.choose(model)
    fine = read_header(bundled["fine"]).card
    assert ui.matrixComboBox.enabled
    request = panel.panel.request()
    assert (request.matrix, request.fineSteps) == (None, None)
    panel.host.choose(ui.matrixComboBox, "128 x 128 (finer, slower)")
    assert ui.modelInfoLabel.text.startswith("128 x 128 pixels of 3 mm")
    assert ui.modelInfoLabel.text.endswith("Refined from 64 x 64 by the fine model finer.")
    request = panel.panel.request()
    assert (request.matrix, request.fineSteps) == (128, None)
    assert "--matrix=128" in request.words(tmp_path, isLike=False)
    ui.slicesSpinBox.value = 1000  # so that words for people tell the two apart
    assert ui.estimateLabel.text.startswith(estimated(fine))
    assert estimated(fine) != estimated(None)
    panel.host.choose(ui.qualityComboBox, "draft")
    assert panel.panel.request().fineSteps == 2
    panel.host.saveScene(tmp_path / "scene.mrml")
    panel.host.closeScene()
    panel.choose(model)
    assert (panel.panel.request().matrix, ui.matrixComboBox.currentText) == (None, "As the model makes it (64)")
    panel.host.loadScene(tmp_path / "scene.mrml")
    panel.widget.enter()
    assert (panel.panel.request().matrix, ui.matrixComboBox.currentText) == (128, "128 x 128 (finer, slower)")
    # Another model, which it does not go with: what was chosen is kept for the next one that it does go with.
    panel.choose(write_random_model(tmp_path / "larger.safetensors", image_size=128))
    assert not ui.matrixComboBox.enabled
    assert "makes 128 x 128 pixels of 64 x 64; those of the chosen model are 128 x 128" in ui.matrixComboBox.toolTip
    assert (panel.panel.request().matrix, ui.matrixComboBox.currentText) == (None, "As the model makes it (128)")
    panel.choose(model)
    assert (panel.panel.request().matrix, panel.panel.request().fineSteps) == (128, 2)
    broken = tmp_path / "text.safetensors"
    broken.write_text("not a model")
    panel.choose(broken)
    assert (ui.matrixComboBox.enabled, ui.matrixComboBox.toolTip) == (False, ui.modelInfoLabel.text)
    bundled["fine"] = model  # no fine model, under its name
    panel.choose(model)
    assert "is not a fine model" in ui.matrixComboBox.toolTip
    assert panel.panel.request().matrix is None


def test_a_finished_training_can_be_chosen_by_its_folder(panel, model, tmp_path):
    folder = tmp_path / "my training"
    folder.mkdir()
    panel.ui.modelFileEdit.currentPath = str(folder)  # nothing in it yet
    (folder / "model.safetensors").write_bytes(model.read_bytes())
    panel.ui.modelFileEdit.currentPath = ""
    panel.ui.modelFileEdit.currentPath = str(folder)
    assert panel.ui.modelComboBox.currentText == "my training"
    assert panel.panel.request().model == str(folder / "model.safetensors")


def test_the_same_model_file_can_be_chosen_again(panel, model, tmp_path):
    ui = panel.ui

    def browse(path):
        panel.host.answers.append(str(path))
        ui.modelFileEdit.findChildren(QtWidgets.QToolButton)[0].click()
        panel.host.process()
        return panel.panel.request().model

    assert browse(model) == str(model)
    bundled = ui.modelComboBox.itemText(0)
    panel.host.choose(ui.modelComboBox, bundled)
    assert ui.modelFileEdit.currentPath == ""  # a bundled one is used
    assert browse(model) == str(model)
    panel.host.saveScene(tmp_path / "scene.mrml")
    panel.host.closeScene()
    assert panel.panel.request().model != str(model)
    assert (ui.modelComboBox.currentText, ui.modelFileEdit.currentPath) == (bundled, "")
    assert browse(model) == str(model)
    assert (ui.modelComboBox.currentText, ui.modelFileEdit.currentPath) == ("noise.safetensors", str(model))
    panel.host.choose(ui.modelComboBox, bundled)
    panel.host.choose(ui.modelComboBox, "noise.safetensors")
    assert ui.modelFileEdit.currentPath == str(model)
    panel.host.closeScene()
    panel.host.loadScene(tmp_path / "scene.mrml")
    panel.widget.enter()
    assert ui.modelFileEdit.currentPath == panel.panel.request().model == str(model)
    ui.modelFileEdit.currentPath = str(model)[:-3]  # half of another name
    ui.slicesSpinBox.value = 12
    assert ui.modelFileEdit.currentPath == str(model)[:-3]


def test_devices_come_from_the_doctor(host, monkeypatch, capsys):
    panel = Panel(host, monkeypatch, withDoctor=True)
    devices = panel.widget.sections.devices
    assert "being looked for" in panel.ui.deviceInfoLabel.text
    assert panel.ui.estimateLabel.text.endswith("on a CPU.")  # not: that it will run there
    assert not panel.ui.devicesButton.enabled
    with host.heartbeat() as heartbeat:
        host.process(until=lambda: not devices.isAsking, timeout=300)
    with capsys.disabled():
        print(f"\nlongest block of the GUI while looking for devices: {1000 * heartbeat.longest:.0f} ms")
    assert "cpu" in [device.name for device in devices.devices], devices.problem
    assert devices.automatic().description in panel.ui.deviceInfoLabel.text
    assert panel.ui.devicesButton.enabled


def test_everything_has_a_tool_tip_and_can_be_reached(panel):
    inputs = (QtWidgets.QPushButton, QtWidgets.QSpinBox, QtWidgets.QDoubleSpinBox, QtWidgets.QComboBox)
    checkControls(panel.ui, *inputs, QtWidgets.QCheckBox, atLeast=12)
