"""The section Generate in the host: real form, real clicks, real workers."""

from __future__ import annotations

import os
import signal
import time

import pytest
import slicer
from generate_section import GenerateSection, volumes
from process_groups import isGone
from PySide6 import QtWidgets
from sections import CPU, checkControls


@pytest.fixture
def panel(host, monkeypatch):
    return GenerateSection(host, monkeypatch)


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
    panel.host.choose(panel.ui.qualityComboBox, "thorough (slower)")
    panel.host.choose(panel.ui.deviceComboBox, "CPU")
    panel.ui.randomSeedCheckBox.checked = False
    panel.ui.seedSpinBox.value = 77
    request = panel.panel.request()
    assert (request.steps, request.detailSteps, request.seed, request.device) == (4, 4, 77, "cpu")
    # A scene says "fine" for it, whatever the list says: those saved by other versions are read.
    assert panel.panel._parameters.parameterNode.GetParameter("quality") == "fine"
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
    assert panel.ui.qualityComboBox.currentText == "thorough (slower)"


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
    panel = GenerateSection(host, monkeypatch, withDoctor=True)
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
