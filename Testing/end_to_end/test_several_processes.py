"""One command in two processes, as torchrun and `accelerate launch` start it: to train together, to share volumes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from conftest import ENVIRONMENT, command

from CTDiffusionLogic.bundle import load_model
from CTDiffusionLogic.cli.events import Finished, Metric, Started, parse_line
from CTDiffusionLogic.cli.main import main
from CTDiffusionLogic.corpus.patches import Patches
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.training import loop
from CTDiffusionLogic.training.batches import PatchBatch, ReadyBatch
from CTDiffusionLogic.training.checkpoint import load_newest
from CTDiffusionLogic.training.options import TrainOptions
from CTDiffusionLogic.training.run import train
from CTDiffusionLogic.training.stage import StageTrainer
from CTDiffusionLogic.volume_io import write_volume

#: 32 slices in batches of 4 by two processes: 4 steps an epoch.
EPOCHS, STEPS = 10, 40
TINY = ("--preset", "tiny", "--image-size", "128", "--device", "cpu", "--epochs", EPOCHS, "--fidelity-every", "off")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def losses(run: Path) -> dict[int, dict[str, float]]:
    """What metrics.jsonl has of each step; no step may be told twice by two processes."""
    entries: dict[int, dict[str, float]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        values.pop("seconds_per_step", None)
        entry = entries.setdefault(int(values.pop("step")), {})
        values.pop("epoch")
        assert not entry.keys() & values.keys()
        entry.update(values)
    return entries


class DoubledBatch(StageTrainer):
    """What two processes must amount to: one that learns from the batches of both at once."""

    def ready(self, number, *, held_out=False):
        if held_out:
            return super().ready(number, held_out=True)
        return joined(*(super(DoubledBatch, self).ready(2 * number + n) for n in (0, 1)))


def joined(first, second):
    """Two batches, or two of their parts, as one."""
    if isinstance(first, torch.Tensor):
        return torch.cat([first, second])
    if isinstance(first, SlabConditions):
        return SlabConditions.cat([first, second])
    if isinstance(first, ReadyBatch):
        return ReadyBatch(*(joined(*pair) for pair in zip(first, second, strict=True)))
    if isinstance(first, PatchBatch | Patches):
        names = [field.name for field in dataclasses.fields(first)]
        return type(first)(*(joined(getattr(first, name), getattr(second, name)) for name in names))
    return first + second  # tuples


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(3):
        volume = torso_phantom(slices=16, size=64, spacing_mm=(6.0, 6.0, 5.0), seed=seed)
        write_volume(volume, folder / f"scan{seed}.nii.gz")
    return folder


def test_two_processes_train_like_one_and_end_together(scans, tmp_path, monkeypatch):
    run = tmp_path / "run"
    words = ("train", "--run", run, *TINY, "--events", "json")

    # Started by torchrun; the second process is killed in the middle.
    started = (*words, scans, "--hold-out", "scan2", "--checkpoint-minutes", "0.01")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port())
    launcher = subprocess.Popen(  # without "--", torchrun takes our options for abbreviations of its own
        [*map(str, torchrun), "-m", "--", *command(*started)[2:]],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 600
    while not list(run.glob("checkpoints/step-*")):
        assert launcher.poll() is None, launcher.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = psutil.Process(launcher.pid).children()
    [second] = [worker for worker in workers if worker.environ()["RANK"] == "1"]
    os.kill(second.pid, signal.SIGKILL)
    out, err = launcher.communicate(timeout=60)
    assert launcher.returncode != 0
    assert len(workers) == 2 and not any(worker.is_running() for worker in workers), "no process is left"
    assert not list((run / "checkpoints").glob(".*")), "nothing half-written"
    checkpoint = load_newest(run / "checkpoints")
    assert checkpoint is not None and 0 < checkpoint.step < STEPS, "killed in the middle"
    events = [parse_line(line) for line in out.splitlines()]
    assert None not in events, "lines of two processes in one"
    assert len([event for event in events if isinstance(event, Started)]) == 1
    assert "Another process of this training has ended, so process 0 of 2 stops, too." in out

    # Gone on by hand, without a launcher.
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    both = [
        subprocess.Popen(
            command(*words, "--resume"), env={**ENVIRONMENT, **shared, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in "01"
    ]  # fmt: skip
    (out, err), (silence, other) = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], err + other
    assert silence == ""
    events = [parse_line(line) for line in out.splitlines()]
    assert isinstance(events[-1], Finished) and events[-1].details["steps"] == STEPS
    assert len([event for event in events if isinstance(event, Metric) and event.name == "checkpoint"]) == 1

    # Against one process with the doubled batch.
    alone = tmp_path / "alone"
    shutil.copytree(run, alone, ignore=lambda *_: ["checkpoints", "metrics.jsonl", "samples"])
    monkeypatch.setattr(loop, "StageTrainer", DoubledBatch)
    monkeypatch.setattr(loop, "epoch_steps", lambda *_: STEPS // EPOCHS)
    options = {"preset": "tiny", "image_size": 128, "device": "cpu", "epochs": EPOCHS, "fidelity_every": "off"}
    assert train(TrainOptions(data=(), run=alone, resume=True, **options)).steps == STEPS
    expected, seen = losses(alone), losses(run)
    assert expected.keys() == seen.keys()
    broken = range(checkpoint.step + 1, (checkpoint.step // 20 + 1) * 20 + 1)  # this mean lacks steps before the kill
    for step, values in expected.items():
        for name, value in values.items():
            if step not in broken or "held_out" in name:
                assert seen[step][name] == pytest.approx(value, rel=2e-3), (step, name)
    ours, theirs = load_model(run / "model.safetensors"), load_model(alone / "model.safetensors")
    assert ours.card["training"]["slabs"] == {"anatomy": 8 * STEPS, "detail": 8 * STEPS}
    for name, tensor in theirs.tensors.items():
        assert torch.allclose(ours.tensors[name].float(), tensor.float(), atol=2e-3), name


def test_two_processes_share_the_volumes_of_one(model, tmp_path, capfd, monkeypatch):
    def generate(folder: Path, **variables: str) -> list:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        words = ("--model", model, "--slices", "2", "--count", "3", "--seed", "7", "--out", folder / "a.nrrd")
        assert main(["generate", *map(str, words), "--threads", "1", "--events", "json"]) == 0
        return [parse_line(line) for line in capfd.readouterr().out.splitlines()]

    generate(tmp_path / "one")
    first = generate(tmp_path / "two", WORLD_SIZE="2", RANK="0", LOCAL_RANK="0")
    assert first[-1].details["seeds"] == [7, 9] and first[-1].details["processes"] == 2
    assert [Path(path).name for path in first[-1].outputs] == ["a-1.nrrd", "a-3.nrrd"]
    assert generate(tmp_path / "two", RANK="1", LOCAL_RANK="1") == [], "only the first one speaks"
    for name in ("a-1.nrrd", "a-2.nrrd", "a-3.nrrd"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    generate(tmp_path / "two", WORLD_SIZE="5", RANK="4")  # more processes than volumes


def test_variables_that_name_no_process_are_refused(model, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    assert main(["generate", "--model", str(model), "--out", str(tmp_path / "a.nrrd")]) == 2
    assert "WORLD_SIZE='2', RANK='2'" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
