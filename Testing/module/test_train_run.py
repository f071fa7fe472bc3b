"""Trainings in a real scene, of workers that say what a training would: no torch, so that every ending is quick.

Real trainings are in test_train_panel.py.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import slicer
from CTDiffusionLib import SceneVolumes, TrainData, TrainLayout, Worker
from CTDiffusionLib.GenerateModels import modelChoices
from CTDiffusionLib.GenerateSettings import GenerateSettings, MemoryStore
from CTDiffusionLib.JobProcess import JobProcess
from CTDiffusionLib.TrainLogic import TrainLogic
from CTDiffusionLib.TrainMetrics import FRECHET, LOSS
from CTDiffusionLib.TrainRequest import TrainRequest, canBeResumed, holdsTraining, newestSample

from CTDiffusionLogic.cli.events import Failed, Finished, Metric, Progress, Started, Warned, to_line
from CTDiffusionLogic.errors import Cancelled, CTDiffusionError, InputError

SYNTHETIC = "1 of 6 scans is synthetic: a.nrrd. A model learns their faults with them."
SKIPPED = Warned("Left out /data/a.nrrd: has 4 slices; at least 8 are needed.")
CORPUS = Metric("corpus", {"scans": 5, "patients": 4, "slices": 300, "held_out_scans": 1})


def loss(step, **values):
    return Metric("training", {"step": step, "epoch": step / 10, **values})


class Stage:
    """What the next worker says and does."""

    def __init__(self, tmp_path):
        self.run = tmp_path / "my training"
        self.words = tmp_path / "words.json"
        self.script = ""

    def says(self, *events, then="", exitCode=0):
        """Print events, do something in Python (``run`` is the folder, ``cancel`` the sentinel), end."""
        lines = [to_line(event) for event in events]
        self.script = (
            "import json, os, sys, time, pathlib\n"
            f"words = sys.argv[1:]\npathlib.Path({str(self.words)!r}).write_text(json.dumps(words))\n"
            f"run = pathlib.Path({str(self.run)!r})\n"
            "cancel = pathlib.Path(words[words.index('--cancel-file') + 1])\n"
            f"for line in {lines!r}: print(line, flush=True)\n{then}\nsys.exit({exitCode})"
        )

    def launch(self, words, **options):
        return JobProcess([sys.executable, "-u", "-c", self.script, *words], **options)

    def checkpoint(self, step=40):
        """The event, and a training that can be resumed, on the disk: all but the checkpoint itself."""
        self.run.mkdir(exist_ok=True)
        for name in ("plan.json", "body.safetensors", "model.safetensors"):
            (self.run / name).touch()
        (self.run / "options.json").write_text(json.dumps({"preset": "tiny", "image_size": 128, "seed": 7}))
        return Metric("checkpoint", {"path": "x", "step": step})

    def keep(self):
        """The checkpoint, on the disk; returns its file."""
        (self.run / "checkpoints").mkdir(exist_ok=True)
        (self.run / "checkpoints" / "step.safetensors").touch()
        return self.run / "checkpoints" / "step.safetensors"

    def told(self):
        return json.loads(self.words.read_text())


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


@pytest.fixture
def logic(app, stage, tmp_path):
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    worker = Worker.Worker(timer=Worker.NoTimer(), launch=stage.launch, temporaryFolder=str(jobs))
    yield TrainLogic(worker, GenerateSettings(MemoryStore()), scene=app.scene)
    worker.endAll()
    assert list(jobs.iterdir()) == []


def train(logic, stage, tmp_path, **options):
    return logic.train(stage.run, folders=[tmp_path], **{"maxMinutes": 5, **options})


def test_to_the_end_with_plots_and_a_model(logic, stage, app, tmp_path):
    stage.says(
        Started("train", "1", {}),
        Progress(1, 6, None, "measuring a"),
        SKIPPED,
        Warned(SYNTHETIC),
        CORPUS,
        loss(20, anatomy=0.9, detail=0.8),
        loss(20, anatomy_held_out=0.95),
        Metric("sample", {"path": "/x/step-1.png", "step": 20}),
        Progress(20, 100, 33.0, "training"),
        Metric("fidelity", {"step": 20, "epoch": 2, "axial": 99.0}),
        stage.checkpoint(100),
        Finished((str(stage.run / "model.safetensors"),), {"steps": 100}),
    )
    run = train(logic, stage, tmp_path, preset="tiny", imageSize=64, waitForCompletion=False, note="-- CC0")
    seen = {"sheets": [], "progress": [], "models": []}
    run.sampleMade.connect(seen["sheets"].append)
    run.progressed.connect(lambda event: seen["progress"].append((event.phase, event.done)))
    run.modelMade.connect(seen["models"].append)
    ending = logic.worker.waitFor(run.job)
    assert ending.kind == run.ending.kind == "finished"
    words = stage.told()[4:]  # after python -u -m CTDiffusionLogic
    assert words[:2] == ["train", str(tmp_path)]
    assert {"--preset=tiny", "--image-size=64", "--max-minutes=5", "--seed=0", "--note=-- CC0"} <= set(words)
    assert not any("epochs" in word or "resume" in word for word in words)
    assert run.summary.splitlines() == [
        "Learns from 5 scans of 4 patients (300 slices). 1 held out, to test with.",
        f"Warning: {SYNTHETIC}",
        "1 left out:",
        "  /data/a.nrrd: has 4 slices; at least 8 are needed.",
    ]
    assert seen["progress"] == [("measuring a", 1), ("training", 20)]
    assert seen["sheets"] == [Path("/x/step-1.png")]
    assert set(seen["models"]) == {stage.run / "model.safetensors"}
    assert run.plots.chart(LOSS).GetNumberOfPlotSeriesNodes() == 3
    assert run.plots.chart(FRECHET).GetNthPlotSeriesNode(0).GetYColumnName() == "axial"
    newest = next(one for one in modelChoices(logic.settings) if "bundled" not in one.label)
    assert (newest.label, newest.path) == ("my training", stage.run / "model.safetensors")


def test_a_script_waits_and_gets_the_model(logic, stage, tmp_path):
    stage.says(Progress(1, 2, 3.0, "training"), stage.checkpoint(), Finished(("m",)))
    seen = []
    assert train(logic, stage, tmp_path, onProgress=lambda *told: seen.append(told)) == stage.run / "model.safetensors"
    assert seen == [(1, 2, 3.0, "training")]


def test_volumes_reach_the_worker_under_their_names(logic, stage, app, tmp_path):
    hu = np.full((10, 20, 20), -1000, np.int16)
    matrix = np.diag([-4.0, -4.0, 5.0, 1.0])
    volumes = [SceneVolumes.insertVolume(hu, matrix, name, volumesLogic=app.volumes_logic) for name in ("A", "B")]
    stage.says(
        then=(
            "scans = pathlib.Path(words[5])\n"
            "files = sorted(path.name for path in scans.iterdir())\n"
            "assert files == ['INDEX.csv', 'volume-001.nrrd', 'volume-002.nrrd'], files\n"
            "print(json.dumps({'event': 'warning', 'message': f'Left out {scans}/volume-002.nrrd: it is short.'}))\n"
            "print(json.dumps({'event': 'failed', 'code': 'bad-input', 'exit_code': 1, 'remedy': 'Give more.',\n"
            "    'message': 'None of the scans can be used. volume-001.nrrd: is broken'}))"
        ),
        exitCode=1,
    )
    with pytest.raises(CTDiffusionError, match=r"None of the scans can be used\. A: is broken Give more\."):
        logic.train(stage.run, volumes=volumes)
    run = logic.train(stage.run, volumes=volumes, waitForCompletion=False)
    logic.worker.waitFor(run.job)
    assert run.summary == "1 left out:\n  B: it is short."
    assert "volume-00" not in run.log.split("scans", 1)[1]
    assert not logic.settings.models()


def test_what_cannot_be_learnt_from(logic, stage, app, tmp_path):
    matrix = np.diag([-4.0, -4.0, 5.0, 1.0])
    mr = SceneVolumes.insertVolume(np.full((10, 20, 20), 90, np.int16), matrix, "MR", volumesLogic=app.volumes_logic)
    with pytest.raises(InputError, match=r"The volume MR cannot be learnt from: not a CT"):
        logic.train(stage.run, volumes=[mr])
    stage.says(stage.checkpoint(), Finished(("m",)))
    kept = stage.keep()
    with pytest.raises(InputError, match="holds a training already"):
        logic.train(stage.run, volumes=[mr], withAny=True)
    kept.unlink()
    assert logic.train(stage.run, volumes=[mr], withAny=True)  # the user says so: the worker has the last word
    with pytest.raises(InputError, match="There are no scans to learn from"):
        logic.train(stage.run)
    with pytest.raises(InputError, match="nowhere does not exist"):
        logic.train(stage.run, folders=[tmp_path / "nowhere"])
    with pytest.raises(InputError, match="There is no open DICOM database"):
        logic.train(stage.run, dicomSeries=["1.2.3"])
    with pytest.raises(InputError, match="holds no training that could go on"):
        logic.train(tmp_path / "empty", resume=True)


def test_an_unreadable_folder(logic, stage, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # who runs the tests may be allowed everything
    with pytest.raises(InputError, match="cannot be read: you have no permission"):
        train(logic, stage, tmp_path)


@pytest.mark.parametrize(
    ("failed", "told"),
    [
        (
            Failed("bad-input", "No CT scans found in /data.", "Give files or folders of DICOM, NIfTI, NRRD or MHA."),
            "No CT scans found in /data. Choose volumes, or folders that hold CT scans as DICOM, NIfTI, NRRD or MHA.",
        ),
        (
            Failed("no-resource", "The Python package torch is not installed.", "Install it."),
            "The Python package torch is not installed. Install it.",
        ),
        (
            Failed("cannot-write", "/r/plan.json cannot be written: No space left on device.", "Free some space."),
            "/r/plan.json cannot be written: No space left on device. Free some space.",
        ),
        (
            Failed("no-resource", "Memory ran out.", "Close other programs, or use --device cpu."),
            "Memory ran out. Close other programs, or use the CPU as the device.",
        ),
    ],
)
def test_failures_in_words_of_the_panel(logic, stage, tmp_path, failed, told):
    stage.says(failed, exitCode=1)
    run = train(logic, stage, tmp_path, waitForCompletion=False)
    logic.worker.waitFor(run.job)
    assert run.ending.kind == "failed"
    assert run.ending.text == told
    assert run.model is None


def test_killed_after_a_checkpoint(logic, stage, tmp_path):
    stage.says(loss(20, anatomy=1.0), stage.checkpoint(), then="os.kill(os.getpid(), 9)")
    run = train(logic, stage, tmp_path, waitForCompletion=False)
    logic.worker.waitFor(run.job)
    assert (run.ending.kind, run.ending.code) == ("failed", "killed")
    assert "memory ran out" in run.ending.message
    assert "a smaller preset" in run.ending.remedy
    assert run.ending.remedy.endswith("Resume goes on from the last checkpoint.")
    assert logic.settings.models() == [stage.run / "model.safetensors"]  # what it had learnt until then


_STOPS = "while not cancel.exists(): time.sleep(0.02)\n"


def test_stopped_with_a_checkpoint_and_resumed(logic, stage, app, tmp_path):
    checkpoint = json.dumps(to_line(stage.checkpoint(60)))
    failed = json.dumps(to_line(Failed("cancelled", "Stopped at step 60; saved.", "Add --resume to go on.", 130)))
    stage.says(
        Progress(40, None, None, "training"),
        loss(40, anatomy=0.7),
        then=f"{_STOPS}print({checkpoint})\nprint({failed})",
        exitCode=130,
    )
    run = train(logic, stage, tmp_path, waitForCompletion=False, maxMinutes=None)
    while not run.step:
        logic.worker.poll()
    with pytest.raises(Worker.JobBusyError):
        train(logic, stage, tmp_path)
    said = []
    run.stopProgressed.connect(said.append)
    run.stop()
    assert run.job.isStopping
    logic.worker.waitFor(run.job)
    assert said == [
        "Stopping: waits for the checkpoint, the model and a sheet of samples. Stop now ends it at once. "
        "There is no checkpoint yet: nothing is kept.",
        "Stopping: waits for a sheet of samples; checkpoint and model are saved. Stop now ends it at once. "
        "The checkpoint of step 60 is kept.",
    ]
    assert run.ending.text == f"Stopped. 60 steps are learnt; the model is in {stage.run}. Resume goes on from there."
    stage.keep()
    assert holdsTraining(stage.run)
    assert canBeResumed(stage.run)
    # Resumed with what it was started with, without scans, and with the curves so far.
    (stage.run / "metrics.jsonl").write_text('{"step": 40, "epoch": 4, "anatomy": 0.7}\n')
    app.scene.Clear(False)
    stage.says(loss(80, anatomy=0.5), Finished(("m",)))
    run = logic.train(stage.run, resume=True, imageSize=512, maxMinutes=1, waitForCompletion=False)
    logic.worker.waitFor(run.job)
    words = stage.told()[4:]
    assert {"--resume", "--preset=tiny", "--image-size=128", "--seed=7", "--max-minutes=1"} <= set(words)
    assert words[1].startswith("--run=")
    table = run.plots.chart(LOSS).GetNthPlotSeriesNode(0).GetTableNode()
    assert slicer.util.arrayFromTableColumn(table, "anatomy").tolist() == [0.7, 0.5]


def test_a_script_that_is_stopped(logic, stage, tmp_path):
    stage.says(Progress(0, 6, None, "measuring a"), then=_STOPS, exitCode=130)
    with pytest.raises(Cancelled, match="Stopped"):
        train(logic, stage, tmp_path, onProgress=lambda *_: logic.worker._jobs["train"].cancel("Stopped."))


def test_ended_at_once(logic, stage, tmp_path):
    stage.says(Progress(0, 6, None, "measuring a"), then="time.sleep(600)")
    run = train(logic, stage, tmp_path, waitForCompletion=False)
    seen = []
    run.progressed.connect(seen.append)
    while not seen:
        logic.worker.poll()
    run.stop()
    run.kill()  # the second click
    assert logic.worker.waitFor(run.job).kind == "cancelled"
    assert run.ending.text == "Stopped at once. There is no checkpoint yet: nothing is kept."


def test_ended_at_once_while_it_saves_keeps_the_last_checkpoint(logic, stage, tmp_path):
    stage.says(stage.checkpoint(40), Progress(55, None, None, "training"), then="time.sleep(600)")
    run = train(logic, stage, tmp_path, waitForCompletion=False)
    while run.step != 55:
        logic.worker.poll()
    kept = stage.keep()
    began = time.monotonic()
    run.stop()
    assert "The checkpoint of step 40 is kept." in run.kept
    run.kill()
    assert logic.worker.waitFor(run.job).kind == "cancelled"
    assert time.monotonic() - began < 60  # and not the ten minutes that it may take by itself
    assert run.ending.text == "Stopped at once. The checkpoint of step 40 is kept. Resume goes on from there."
    assert kept.exists()
    assert run.model == stage.run / "model.safetensors"


def test_it_survives_the_closing_of_the_scene(logic, stage, app, tmp_path):
    stage.says(loss(20, anatomy=0.9, detail=0.8), then=_STOPS, exitCode=130)
    run = train(logic, stage, tmp_path, waitForCompletion=False)
    while run.plots.chart(LOSS) is None:
        logic.worker.poll()
    layoutLogic = slicer.vtkMRMLLayoutLogic()  # Slicer's own, which sets the layout again after the closing
    layoutLogic.SetMRMLScene(app.scene)
    layoutNode = layoutLogic.GetLayoutNode()
    layoutNode.SetViewArrangement(layoutNode.SlicerLayoutOneUpRedSliceView)
    TrainLayout.showCharts(run.plots.chart(LOSS), scene=app.scene)
    app.scene.Clear(False)
    assert run.isRunning
    chart = run.plots.chart(LOSS)  # again, and shown
    assert TrainLayout.plotView(app.scene, TrainLayout.PLOT_TAGS[0]).GetPlotChartNode() is chart
    assert layoutNode.GetViewArrangement() == TrainLayout.ONE_PLOT
    assert TrainLayout.userLayout(app.scene) == layoutNode.SlicerLayoutOneUpRedSliceView
    assert slicer.util.arrayFromTableColumn(chart.GetNthPlotSeriesNode(0).GetTableNode(), "anatomy").tolist() == [0.9]
    run.stop()
    logic.worker.waitFor(run.job)
    app.scene.Clear(False)
    assert run.plots.chart(LOSS) is None  # no longer: it has ended
    assert TrainLayout.restoreLayout(app.scene)  # where to is forgotten with the scene
    assert layoutNode.GetViewArrangement() == layoutNode.SlicerLayoutFourUpView


def test_the_newest_sheet(stage):
    assert newestSample(stage.run) is None
    (stage.run / "samples").mkdir(parents=True)
    for name in ("a.png", "b.png", ".half.png"):
        (stage.run / "samples" / name).touch()
    assert newestSample(stage.run).name in ("a.png", "b.png")
    assert TrainRequest(run=stage.run).words([]) == [
        "train", f"--run={stage.run}", "--preset=standard", "--image-size=256", "--device=auto", "--seed=0"
    ]  # fmt: skip
    assert TrainData.volumeFile(stage.run, 3).name == "volume-003.nrrd"
