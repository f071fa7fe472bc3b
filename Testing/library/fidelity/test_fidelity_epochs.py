"""Measuring while a training runs: when, what is written, what is kept, and that no training is the worse for it."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from CTDiffusionLogic.bundle import load_model
from CTDiffusionLogic.errors import ModelFileError, OutputError, UsageError
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.training import fidelity_epochs, fidelity_schedule, loop
from CTDiffusionLogic.training.checkpoint import load_newest, save_checkpoint
from CTDiffusionLogic.training.fidelity_epochs import undisturbed
from CTDiffusionLogic.training.fidelity_log import FidelityLog, draw_curve
from CTDiffusionLogic.training.fidelity_meter import MeterOptions
from CTDiffusionLogic.training.fidelity_schedule import FIRST_LOOK_S, LONG_EPOCH_S, SHARE, FidelitySchedule
from CTDiffusionLogic.training.options import TrainOptions
from CTDiffusionLogic.training.run import train
from CTDiffusionLogic.volume_io import write_volume

TINY = {"preset": "tiny", "image_size": 64, "device": "cpu", "hold_out": ("scan2",), "fidelity_every": 1}


class Moments:
    """A cheap extractor: what an image's grey values are like."""

    name = "moments"
    sha256 = "0" * 64
    dimensions = 2
    calls = 0

    def features(self, images, pixel_mm):
        self.calls += 1
        np.random.random(7)  # noqa: NPY002  # an extractor may do as it likes
        torch.rand(3)
        scaled = images / 500.0
        return np.stack([scaled.mean(axis=(1, 2)), scaled.std(axis=(1, 2))], axis=1).astype(np.float32)


class Broken(Moments):
    def features(self, images, pixel_mm):
        raise RuntimeError("No such kernel.\nTraceback and more")


@pytest.fixture(scope="module", autouse=True)
def small(rough_body_positions):
    """Measurements of a second, and no sample sheets."""
    options = MeterOptions(volumes=2, steps=2, detail_steps=2, draws=3, rounds=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity_epochs, "MeterOptions", lambda: options)
        patch.setattr(loop, "write_sheet", lambda *_, **__: Path())
        yield


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, small) -> Path:
    """A run folder whose scans are on the grid."""
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(3):
        volume = torso_phantom(slices=16, size=64, spacing_mm=(6.0, 6.0, 9.0), seed=seed)
        write_volume(volume, folder / f"scan{seed}.nii.gz")
    run = folder / "run"
    options = {**TINY, "fidelity_every": "off"}
    train(TrainOptions(data=(folder,), run=run, **options), is_cancelled=lambda: True)
    shutil.rmtree(run / "checkpoints")
    return run


def run_of(prepared, run, **changes):
    """Train in ``run``, from the beginning if it is new."""
    if not run.exists():
        run.mkdir()
        for name in ("plan.json", "options.json", "body.safetensors"):
            shutil.copy(prepared / name, run)
        (run / "cache").symlink_to(prepared / "cache")
    events = []
    is_cancelled = changes.pop("is_cancelled", None)
    extractor = changes.pop("extractor", Moments())
    options = TrainOptions(**{"data": (), "run": run, "resume": True, "epochs": 1, **TINY, **changes})
    result = train(
        options, on_event=lambda n, f: events.append((n, f)), is_cancelled=is_cancelled, extractor=extractor
    )
    return result, events


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def measured(prepared, tmp_path_factory):
    run = tmp_path_factory.mktemp("measured") / "run"
    result, events = run_of(prepared, run, epochs=2)
    return run, result, events


# When -----------------------------------------------------------------------------------------------------------


def test_a_number_of_epochs_is_obeyed():
    schedule = FidelitySchedule(2, 10)
    due = [step for step in range(1, 61) if schedule.is_due(step, 1.0, seconds_per_step=1.0)]
    assert due == [20, 40, 60]
    schedule.note(20, 1000.0, expected_s=1000.0)
    assert schedule.is_due(40, 1.0, seconds_per_step=1.0), "whatever it costs"
    assert not schedule.is_too_long(1000.0, 1.0)


def test_off_is_never():
    schedule = FidelitySchedule("off", 10, expected_s=1.0)
    assert not any(schedule.is_due(step, 1e6, seconds_per_step=1.0) for step in range(1, 100))
    assert not schedule.is_last_due(10, 1e6) and schedule.reserve_s(10, 1e6) == 0


def test_auto_keeps_its_share_of_the_time():
    schedule = FidelitySchedule("auto", 10)
    step, clock, spent, measured = 0, 0.0, 0.0, []
    while clock < 7200:
        step, clock = step + 1, clock + 1.5
        if schedule.is_due(step, clock, seconds_per_step=1.5):
            if schedule.is_too_long(20.0, clock):
                schedule.note(step, 2.0, expected_s=20.0)
                spent, clock = spent + 2.0, clock + 2.0
                continue
            schedule.note(step, 20.0, expected_s=20.0)
            measured.append(step)
            spent, clock = spent + 20.0, clock + 20.0
    assert all(step % 10 == 0 for step in measured), "at the end of epochs"
    assert 0.03 * clock < spent <= SHARE * clock + 20.0
    assert 10 < len(measured) < 20


def test_auto_leaves_trial_runs_alone_and_puts_off_what_takes_too_long():
    schedule = FidelitySchedule("auto", 10)
    assert not schedule.is_due(10, FIRST_LOOK_S - 1, seconds_per_step=0.1)
    assert schedule.is_due(10, FIRST_LOOK_S, seconds_per_step=0.1)
    assert schedule.is_too_long(600.0, FIRST_LOOK_S) and not schedule.is_too_long(2.0, FIRST_LOOK_S)
    schedule.note(10, 3.0, expected_s=600.0)
    assert not schedule.is_due(20, 600.0, seconds_per_step=0.1)
    assert schedule.is_due(30, 603.0 / SHARE, seconds_per_step=0.1)


def test_auto_spends_no_more_on_measurements_that_fail():
    schedule = FidelitySchedule("auto", 10)
    schedule.note(10, 30.0, expected_s=None)
    assert not schedule.is_due(20, 30.0 / SHARE - 1, seconds_per_step=1.0)
    assert schedule.is_due(30, 30.0 / SHARE + 1, seconds_per_step=1.0)


def test_auto_does_not_wait_for_the_end_of_long_epochs():
    schedule = FidelitySchedule("auto", 1000, expected_s=10.0)
    assert not schedule.is_due(500, 1e5, seconds_per_step=0.9 * LONG_EPOCH_S / 1000)
    assert schedule.is_due(500, 1e5, seconds_per_step=1.1 * LONG_EPOCH_S / 1000)


def test_the_last_model_is_measured_within_the_time_budget():
    schedule = FidelitySchedule("auto", 10, expected_s=20.0)
    assert schedule.is_last_due(25, 600.0) and schedule.reserve_s(25, 600.0) == pytest.approx(22.0)
    assert not schedule.is_last_due(25, 100.0), "not where it would take much of the time"
    schedule.note(25, 20.0, expected_s=20.0)
    assert not schedule.is_last_due(25, 600.0), "not twice"
    shared = FidelitySchedule("auto", 10, expected_s=20.0, is_shared=True)
    assert shared.reserve_s(25, 600.0) == 0, "other processes do not know of it"


# What -----------------------------------------------------------------------------------------------------------


def test_a_training_leaves_its_figures_a_curve_and_its_best_model(measured):
    run, result, events = measured
    lines = lines_of(run / "fidelity.jsonl")
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[-1]["step"] == result.steps
    for line in lines:
        assert {"frechet", "frechet_axial", "frechet_floor", "kid", "frechet_training", "hours", "seconds"} <= set(
            line
        )
        assert (line["extractor"], line["extractor_sha256"], line["against"]) == ("moments", "0" * 64, "held-out")
    told = [facts for name, facts in events if name == "fidelity"]
    assert [(f["step"], f["frechet"]) for f in told] == [(line["step"], line["frechet"]) for line in lines]
    assert not [f for name, f in events if name == "warning" and "measured" in f["message"]]
    picture = Image.open(run / "fidelity.png").convert("L")
    assert min(picture.size) > 400 and picture.getextrema()[0] < 50
    best = min(lines, key=lambda line: line["frechet"])
    card = load_model(run / "model-best.safetensors").card
    assert card["training"]["steps"] == card["metrics"]["fidelity"]["step"] == best["step"]
    assert card["metrics"]["fidelity"]["frechet"] == best["frechet"]
    assert card["metrics"]["fidelity"]["frechet_floor"] == best["frechet_floor"]
    assert [p.name for p in (run / "checkpoints").glob("best-*")] == [f"best-{best['step']:08d}.safetensors"]
    newest = load_model(run / "model.safetensors").card
    assert newest["metrics"]["fidelity"]["step"] == result.steps
    assert newest["training"]["epochs"] == pytest.approx(2)


def test_measuring_changes_no_loss(measured, prepared, tmp_path):
    run, _, _ = measured
    run_of(prepared, tmp_path / "plain", fidelity_every="off", epochs=2)

    def losses(folder: Path) -> list[dict]:
        entries = lines_of(folder / "metrics.jsonl")
        return [{k: v for k, v in entry.items() if k != "seconds_per_step"} for entry in entries]

    assert losses(tmp_path / "plain") == losses(run), "to the last digit that is written"
    assert not (tmp_path / "plain" / "fidelity.jsonl").exists()
    plain, seen = (load_newest(folder / "checkpoints").tensors for folder in (tmp_path / "plain", run))
    assert all(torch.equal(plain[name], seen[name]) for name in plain), "nor any weight"


def test_auto_gives_up_what_would_take_too_long_without_a_word(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(fidelity_schedule, "FIRST_LOOK_S", 0.0)
    monkeypatch.setattr(fidelity_schedule, "SHARE", 1e-9)
    extractor = Moments()
    result, events = run_of(prepared, tmp_path / "run", fidelity_every="auto", extractor=extractor)
    assert result.reason == "epochs" and extractor.calls == 0
    assert not [facts for name, facts in events if name == "fidelity" or "goes on" in str(facts)]
    monkeypatch.setattr(fidelity_schedule, "SHARE", 1e9)
    run_of(prepared, tmp_path / "run", fidelity_every="auto", extractor=extractor, epochs=2)
    assert [line["epoch"] for line in lines_of(tmp_path / "run" / "fidelity.jsonl")] == [2]


def test_random_numbers_are_put_back():
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)

    def draw() -> tuple:
        return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002

    with undisturbed(torch.device("cpu")):
        first = draw()
    with pytest.raises(OSError, match="oh"), undisturbed(torch.device("cpu")):
        draw()
        raise OSError("oh")
    assert draw() == first


def test_a_resumed_training_drops_later_lines_and_goes_on(measured, prepared, tmp_path):
    run, _, _ = measured
    again = tmp_path / "run"
    again.mkdir()
    for name in ("plan.json", "options.json", "body.safetensors", "metrics.jsonl"):
        (again / name).write_bytes((run / name).read_bytes())
    (again / "cache").symlink_to(prepared / "cache")
    newest = load_newest(run / "checkpoints")
    save_checkpoint(again / "checkpoints", newest.tensors, step=newest.step, facts=newest.facts)
    first, second = lines_of(run / "fidelity.jsonl")
    later = {**second, "step": second["step"] + 5, "epoch": 2.5, "frechet": 0.0}
    text = "".join(json.dumps(line) + "\n" for line in (first, second, later))
    (again / "fidelity.jsonl").write_text(text + '{"step": 99')
    run_of(prepared, again, epochs=3)
    lines = lines_of(again / "fidelity.jsonl")
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[:2] == [first, second]
    assert lines[2]["protocol_sha256"] == first["protocol_sha256"]


def test_figures_of_other_extractors_are_not_compared(tmp_path):
    log = FidelityLog(tmp_path / "fidelity.jsonl")
    line = {"step": 1, "epoch": 1.0, "frechet": 5.0, "extractor_sha256": "a", "protocol_sha256": "p", "against": "x"}
    log.write(line)
    assert log.is_best(line)
    other = {**line, "step": 2, "frechet": 90.0, "extractor_sha256": "b"}
    log.write(other)
    assert log.is_best(other) and [one["step"] for one in log.alike(other)] == [2]
    worse = {**line, "step": 3, "frechet": 6.0}
    log.write(worse)
    assert not log.is_best(worse) and [one["step"] for one in log.alike(worse)] == [1, 3]
    assert [one["step"] for one in FidelityLog(log.path, step=2).lines] == [1, 2]
    assert len(lines_of(log.path)) == 2


@pytest.mark.parametrize("values", [[300.0, 40.0, 12.0], [12.0], [5.0, 4.0], [0.0, 0.0]])
def test_curves_of_any_course_are_drawn(values, tmp_path):
    lines = [
        {
            "step": n,
            "epoch": float(n),
            "frechet": v,
            "frechet_axial": v,
            "frechet_low": 0.8 * v,
            "frechet_high": 1.2 * v,
        }
        | {"frechet_floor": 8.0, "frechet_floor_low": 6.0, "frechet_floor_high": 9.0, "against": "held-out"}
        for n, v in enumerate(values)
    ]
    draw_curve(lines, tmp_path / "a.png", title="a")
    assert Image.open(tmp_path / "a.png").size[0] > 400


# And whatever happens ---------------------------------------------------------------------------------------------


def test_a_failure_is_told_once_and_the_training_goes_on(prepared, tmp_path):
    result, events = run_of(prepared, tmp_path / "run", extractor=Broken(), epochs=2)
    assert result.reason == "epochs" and result.epochs == pytest.approx(2)
    told = [facts["message"] for name, facts in events if name == "warning" and "training goes on" in facts["message"]]
    assert told == [
        "The images could not be measured; the training goes on. RuntimeError: No such kernel. Traceback and more"
    ]
    assert not (tmp_path / "run" / "fidelity.jsonl").exists()
    assert not (tmp_path / "run" / "model-best.safetensors").exists()


def test_a_best_model_that_cannot_be_written_is_told_and_the_training_goes_on(prepared, tmp_path, monkeypatch):
    def fails(folder, tensors, *, step, facts, is_best=False):
        if is_best:
            raise OutputError(f"{folder} cannot be written: no space left on the disk.", remedy="Free some.")
        return save_checkpoint(folder, tensors, step=step, facts=facts)

    monkeypatch.setattr(loop, "save_checkpoint", fails)
    result, events = run_of(prepared, tmp_path / "run")
    assert result.model.exists()
    (told,) = [f["message"] for n, f in events if n == "warning" and "best model" in f["message"]]
    assert "no space left" in told


def test_weights_that_are_missing_are_told_before_the_training_begins(prepared, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ModelFileError, match="nowhere"):
        run_of(prepared, run, extractor=None, fidelity_extractor=str(tmp_path / "nowhere.safetensors"))
    with pytest.raises(UsageError, match="no feature extractor"):
        run_of(prepared, run, extractor=None, fidelity_extractor="nothing")
    assert not (run / "metrics.jsonl").exists()
    with pytest.raises(UsageError, match="--fidelity-every"):
        TrainOptions(data=(), run=tmp_path, fidelity_every="sometimes").check()


def test_cancel_during_a_measurement_ends_the_training_with_a_checkpoint(prepared, tmp_path):
    told = []

    class Slow(Moments):
        def features(self, images, pixel_mm):
            told.append("asked")
            return super().features(images, pixel_mm)

    result, events = run_of(prepared, tmp_path / "run", extractor=Slow(), is_cancelled=lambda: bool(told))
    assert result.reason == "cancelled"
    assert len(told) == 3, "the images of one scan, of three planes, and no more"
    assert load_newest(tmp_path / "run" / "checkpoints").step == result.steps
    assert not [f for name, f in events if name in ("fidelity", "warning") and "measured" in str(f)]
