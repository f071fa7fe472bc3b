"""The section Train in the host: real form, real clicks, real (tiny) trainings."""

from __future__ import annotations

import json
import os
import signal
import time
from functools import partial

import pytest
import slicer
from process_groups import isGone
from sections import CPU
from train_section import PATIENCE, Panel, nodes

from CTDiffusionLogic.bundle import read_header
from CTDiffusionLogic.corpus import prepare
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.training.options import TrainOptions
from CTDiffusionLogic.training.run import train
from CTDiffusionLogic.volume_io import write_volume


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Three phantom scans and one with too few slices, in a folder."""
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(3):
        phantom = torso_phantom(slices=24, size=64, spacing_mm=(6.3, 6.3, 8.0), seed=seed)
        write_volume(phantom, folder / f"scan{seed}.nii.gz")
    write_volume(torso_phantom(slices=4, size=64, spacing_mm=(6.3, 6.3, 8.0)), folder / "short.nii.gz")
    return folder


@pytest.fixture(scope="module")
def halfTrained(scans, tmp_path_factory):
    """The folder of a training of one epoch; body positions are only roughly right."""
    run = tmp_path_factory.mktemp("half") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "fit_body_position", partial(prepare.fit_body_position, steps=50))
        train(TrainOptions(data=(scans,), run=run, preset="tiny", image_size=64, epochs=1, device="cpu", seed=3))
    return run


@pytest.fixture
def panel(host, monkeypatch):
    return Panel(host, monkeypatch)


def rowsOf(curve):
    """How many figures a curve of the plots has."""
    (series,) = (node for node in nodes("vtkMRMLPlotSeriesNode") if node.GetName() == curve)
    return series.GetTableNode().GetNumberOfRows()


def written(run, curve):
    """The steps for which a training has written a figure."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"] for line in lines if curve in line}


def test_from_three_scans_to_a_model_and_its_first_volume(panel, scans, tmp_path, capsys):
    ui, host = panel.ui, panel.host
    assert not ui.trainButton.enabled
    assert ui.trainButton.toolTip.startswith("Tick volumes, or add folders")
    assert not ui.resumeButton.enabled
    assert "training 20" in ui.runFolderEdit.currentPath
    run = tmp_path / "my training"
    panel.choose(run, scans, epochsSpinBox=2)
    assert panel.rows() == [f"Folder: {scans}"]
    assert ui.trainDeviceComboBox.currentText == f"Automatic: {CPU}"
    said, bars, polls = [], [], []
    worker = panel.panel._logic.worker
    poll = worker.poll

    def measured():
        began = time.thread_time()
        poll()
        polls.append(time.thread_time() - began)

    worker.poll = measured
    with host.heartbeat() as heartbeat:
        training = panel.start()
        assert ui.trainButton.text == "Stop"
        training.progressed.connect(lambda _event: said.append(ui.trainStatusLabel.text))
        training.progressed.connect(lambda _event: bars.append(ui.trainProgressBar.value))
        panel.untilItTrains(training)
        host.click(ui.showPlotsButton)
        text = panel.end(training)
    with capsys.disabled():
        block, busy = 1000 * heartbeat.longest, 1000 * max(polls)
        print(f"\nwhile training: longest block of the GUI {block:.0f} ms, longest poll {busy:.0f} ms of CPU time")
    assert text == "Done: the model my training can be chosen under Generate."
    assert any(words.startswith("Training, step ") and " left" in words for words in said)
    assert any(words.startswith("Measuring scan0") for words in said)
    assert bars[-1] > 0
    summary = ui.trainSummaryLabel.text
    assert summary.startswith("Learns from 2 scans of 2 patients (48 slices). 1 held out")
    assert "1 left out:\n  " in summary
    assert "short.nii.gz: has 4 slices" in summary
    # Plots are in the scene and shown.
    names = {node.GetName() for node in nodes("vtkMRMLPlotSeriesNode")}
    assert names == {"anatomy", "detail", "anatomy, held out", "detail, held out"}
    (chart,) = nodes("vtkMRMLPlotChartNode")
    assert rowsOf("anatomy") == len(written(run, "anatomy")) > 0
    assert rowsOf("anatomy, held out") == len(written(run, "anatomy_held_out")) > 0
    (view,) = nodes("vtkMRMLPlotViewNode")
    assert view.GetPlotChartNode() is chart
    host.click(ui.plotsLayoutButton)
    assert not ui.plotsLayoutButton.enabled
    # The sheet of samples is shown as wide as the panel.
    assert ui.sampleLabel.visible
    assert ui.sampleLabel.pixmap.width() == ui.trainStatusLabel.width
    # The model is chosen under Generate, and generates.
    assert panel.generate.modelComboBox.currentText == "my training"
    assert "64 x 64 pixels" in panel.generate.modelInfoLabel.text
    card = read_header(run / "model.safetensors").card
    assert card["training"]["patients"] == 2
    for name, value in {"slicesSpinBox": 8, "stepsSpinBox": 2, "detailStepsSpinBox": 2}.items():
        getattr(panel.generate, name).value = value
    host.click(panel.generate.generateButton)
    generation = panel.widget.sections.generate._run
    host.process(until=lambda: not generation.isRunning, timeout=PATIENCE)
    assert generation.ending.kind == "finished", generation.ending.text
    assert nodes("vtkMRMLScalarVolumeNode")[0].GetAttribute("CTDiffusion.Model") == "my training"
    # The folder can be resumed, not trained anew.
    assert not ui.trainButton.enabled
    assert "holds a training" in ui.trainButton.toolTip
    assert ui.runInfoLabel.text.startswith("It holds a training")
    assert ui.resumeButton.enabled
    host.click(ui.newRunButton)
    assert ui.runFolderEdit.currentPath.startswith(str(tmp_path / "training 20"))
    assert ui.trainButton.enabled
    ui.trainLogCollapsibleButton.collapsed = False
    host.click(ui.copyTrainLogButton)
    assert slicer.app.clipboard().text().startswith("ctdiffusion train ")


def test_stop_in_the_middle_and_resume(panel, halfTrained, tmp_path):
    ui = panel.ui
    run = panel.resume(halfTrained, tmp_path)
    assert run.request.preset == "tiny"  # as it was started, whatever is chosen
    assert run.request.seed == 3
    assert not ui.resumeButton.enabled
    assert not ui.runFolderEdit.enabled
    assert ui.trainProgressBar.maximum == 0  # no limit: to and fro
    assert ui.sampleLabel.visible  # the last sheet of the first part
    processID = run.job._process.processID
    panel.host.click(ui.trainButton)
    assert ui.trainStatusLabel.text.startswith("Stopping: waits for the checkpoint, the model and a sheet of samples.")
    assert ui.trainButton.text == "Stop now"
    assert "checkpoint that it began with is kept" in ui.trainButton.toolTip
    text = panel.end(run)
    steps = run.step
    assert text == f"Stopped. {steps} steps are learnt; the model is in {run.request.run}. Resume goes on from there."
    assert isGone(processID)
    assert ui.trainButton.text == "Train"
    assert list((run.request.run / "checkpoints").glob(f"*{steps}*"))
    assert read_header(run.request.run / "model.safetensors").card["training"]["steps"] == steps
    assert panel.generate.modelComboBox.currentText == "half"
    # On from there, to the end of the budget.
    ui.epochsSpinBox.value = steps // 12 + 2
    again = panel.start("resumeButton")
    assert panel.end(again).startswith("Done")
    assert again.step > steps
    assert rowsOf("anatomy") == len(written(run.request.run, "anatomy"))  # both parts, each step once


def test_the_worker_is_killed(panel, halfTrained, tmp_path):
    run = panel.resume(halfTrained, tmp_path, untilItTrains=False)
    os.kill(run.job._process.processID, signal.SIGKILL)
    text = panel.end(run)
    assert text.startswith("Failed: The worker was ended from outside")
    assert "a smaller preset or image size" in text
    assert "[exit code" in panel.ui.trainLogText.plainText
    assert panel.ui.resumeButton.enabled
    assert not panel.ui.trainProgressBar.visible


def test_the_scene_is_closed_and_a_second_start_refused_while_it_runs(panel, halfTrained, tmp_path):
    host, ui = panel.host, panel.ui
    run = panel.resume(halfTrained, tmp_path)
    with pytest.raises(RuntimeError, match="is running already"):
        host.module("CTDiffusion").CTDiffusionLogic().train(tmp_path / "other", folders=[tmp_path])
    host.click(ui.showPlotsButton)
    host.closeScene()
    assert run.isRunning
    assert ui.trainButton.text == "Stop"
    assert ui.runFolderEdit.currentPath == str(run.request.run)
    (chart,) = nodes("vtkMRMLPlotChartNode")
    assert chart.GetNumberOfPlotSeriesNodes() == 4
    (view,) = nodes("vtkMRMLPlotViewNode")
    assert view.GetPlotChartNode() is chart
    host.leaveModule("CTDiffusion")  # the user works elsewhere
    before = run.step
    host.process(until=lambda: run.step > before, timeout=PATIENCE)
    panel.widget.enter()
    host.click(ui.trainButton)
    assert panel.end(run).startswith("Stopped.")


@pytest.mark.parametrize("how", ["the application ends", "the module is reloaded"])
def test_nothing_survives(panel, halfTrained, tmp_path, how):
    run = panel.resume(halfTrained, tmp_path, untilItTrains=how == "the application ends")
    process, folder = run.job._process, run.job.folder
    if how == "the application ends":
        panel.host.quit()
    else:
        panel.host.reload("CTDiffusion")
    assert not run.isRunning
    assert isGone(process.processID)
    assert not folder.exists()
