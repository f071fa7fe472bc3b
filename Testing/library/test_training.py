"""The trainer's parts, and a whole training that is killed and resumed."""

import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from CTDiffusionLogic.bundle import load_denoisers, load_model
from CTDiffusionLogic.errors import InputError, UsageError
from CTDiffusionLogic.noise import SlabLoss
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.training import loop, run_fingerprints
from CTDiffusionLogic.training import run as training_run
from CTDiffusionLogic.training.checkpoint import load_newest, save_checkpoint
from CTDiffusionLogic.training.contact_sheet import TILE
from CTDiffusionLogic.training.loop import MetricsLog
from CTDiffusionLogic.training.options import PRESETS, TrainOptions
from CTDiffusionLogic.training.run import train
from CTDiffusionLogic.training.schedule import (
    COOLEST,
    FALL,
    REWARM_STEPS,
    Cooldown,
    LevelFall,
    learning_rate,
    rewarmed,
)
from CTDiffusionLogic.training.stage import HELD_OUT_BATCHES
from CTDiffusionLogic.volume_io import write_volume

pytestmark = pytest.mark.usefixtures("rough_body_positions")

#: Two epochs of this take about forty optimiser steps.
TINY = {"preset": "tiny", "image_size": 64, "device": "cpu", "hold_out": ("scan2",), "epochs": 2}


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(3):
        volume = torso_phantom(slices=40, size=96, spacing_mm=(4.2, 4.2, 5.0), seed=seed)
        write_volume(volume, folder / f"scan{seed}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def trained(scans, rough_body_positions, tmp_path_factory):
    run = tmp_path_factory.mktemp("straight") / "run"
    events = []
    options = TrainOptions(data=(scans,), run=run, checkpoint_minutes=0.01, **TINY)

    def on_event(name, facts):
        more = {"steps_of_model": steps_of(run / "model.safetensors")} if name == "checkpoint" else {}
        events.append((name, facts | more))

    result = train(options, on_event=on_event)
    return run, result, events


def steps_of(model: Path) -> int:
    return load_model(model).card["training"]["steps"]


def losses(run: Path) -> dict[int, dict[str, float]]:
    entries: dict[int, dict[str, float]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        values.pop("seconds_per_step", None)
        entries.setdefault(int(values["step"]), {}).update(values)
    return entries


def test_learning_rate_warms_up_holds_and_decays():
    def rate(step):
        return learning_rate(step, peak=1e-3, warmup_steps=100, decay_steps=1000)

    assert rate(0) == pytest.approx(1e-5)
    assert rate(99) == rate(999) == 1e-3
    assert rate(4000) == pytest.approx(5e-4)


def test_noise_levels_begin_high_and_come_down_to_stay():
    assert [LevelFall(end=100).part(step) for step in (0, 50, 100, 900)] == [1.0, 0.5, 0.0, 0.0]
    loss = SlabLoss(mean=-0.2, std=1.5, sigma_data=0.5)
    plain, shifted = (torch.logit(loss.draw_levels(999, torch.Generator().manual_seed(0), shift=s)) for s in (0, 0.7))
    assert torch.allclose(shifted - plain, torch.tensor(0.7), atol=2e-3)


def test_noise_levels_come_down_in_time_where_the_end_is_known():
    usual = LevelFall(end=3000)
    assert usual.before(9000, step=0) == usual, "long enough"
    short = usual.before(280, step=0)
    assert short.part(0) == 1.0 and short.part(84) == pytest.approx(0.5) and short.part(168) == 0.0
    late = usual.before(1200, step=1000)  # its last piece: from where it is, without a jump
    assert late.part(1000) == pytest.approx(usual.part(1000))
    assert late.part(1060) == pytest.approx(usual.part(1000) / 2) and late.part(1120) == 0.0
    assert usual.before(1000, step=1000) == usual, "nothing is trained"


def test_a_fall_that_goes_on_is_the_same_and_never_rises():
    for last_step in range(1, 60):
        fall = LevelFall(end=40).before(last_step, step=0)
        for step in range(last_step + 1):
            assert fall.before(last_step, step=step) == fall, "resumed with the same end"
            longer = fall.before(3 * last_step, step=step)
            assert all(longer.part(later) <= fall.part(step) for later in range(step, 3 * last_step))


def test_the_levels_of_a_step_shift_only_what_is_learnt_from(scans, rough_body_positions, tmp_path, monkeypatch):
    """The held-out loss stays where it is in the end, so that it can be compared over a training."""
    tiny = PRESETS["tiny"]
    for name in ("anatomy", "detail"):
        tiny = replace(tiny, **{name: replace(getattr(tiny, name), level_shift=1.0)})
    tiny = replace(tiny, guide=None)  # a guide begins anew, with high noise, where others are fine-tuned
    monkeypatch.setitem(PRESETS, "tiny", tiny)
    shifts: list[float] = []
    draw = SlabLoss.draw_levels

    def seen(self, count, generator, *, shift=0.0):
        shifts.append(shift)
        return draw(self, count, generator, shift=shift)

    monkeypatch.setattr(SlabLoss, "draw_levels", seen)
    monkeypatch.setattr(loop, "write_sheet", lambda *_arguments, **_options: "")
    result = train(TrainOptions(data=(scans,), run=tmp_path / "run", fidelity_every="off", **{**TINY, "epochs": 1}))
    learnt = sorted((shift for shift in shifts if shift), reverse=True)
    assert learnt[:2] == [1.0, 1.0], "both stages"
    assert learnt[-1] == pytest.approx(1 / math.floor(FALL * result.steps)), "they come down before its end"
    assert shifts.count(0.0) >= 2 * HELD_OUT_BATCHES
    shifts.clear()
    tuned = TrainOptions(data=(scans,), run=tmp_path / "tuned", fidelity_every="off", **{**TINY, "epochs": 1})
    train(replace(tuned, init=result.model))
    train(replace(tuned, resume=True, epochs=2))
    assert set(shifts) == {0.0}, "a trained model has its outlines, also where its fine-tuning goes on"


def test_a_cooldown_falls_in_a_line_over_the_last_steps():
    cooldown = Cooldown.of_last(100, 0.2)
    assert [cooldown.factor(step) for step in (0, 79)] == [1.0, 1.0]
    assert cooldown.factor(89) == pytest.approx(1 - (1 - COOLEST) / 2)
    assert [cooldown.factor(step) for step in (99, 100, 500)] == pytest.approx([COOLEST] * 3)


def test_after_a_cooldown_the_rate_comes_back_but_inside_of_one_the_path_is_the_same():
    assert rewarmed(70, resumed=70, factor=COOLEST) == COOLEST
    assert rewarmed(70 + REWARM_STEPS, resumed=70, factor=COOLEST) == 1.0
    cooldown = Cooldown.of_last(100, 0.5)
    for resumed in range(101):
        before = 1.0 if resumed == 0 else cooldown.factor(resumed - 1)
        for step in range(resumed, 100):
            assert rewarmed(step, resumed=resumed, factor=before) >= cooldown.factor(step)


def test_a_training_by_time_cools_down_at_its_end_and_warms_up_when_it_goes_on(scans, tmp_path, monkeypatch):
    clock = SimpleNamespace(monotonic=itertools.count().__next__)  # a second between two looks at it
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(training_run, "time", clock)
    monkeypatch.setattr(loop, "write_sheet", lambda *_arguments, **_options: "")
    options = TrainOptions(data=(scans,), run=tmp_path / "run", fidelity_every="off", **{**TINY, "epochs": None})
    ended = train(replace(options, max_minutes=0.5, cooldown=0.5))
    assert ended.reason == "time"

    def factors() -> list[float]:
        return [entry["rate_factor"] for entry in losses(options.run).values() if "rate_factor" in entry]

    cooled = factors()
    assert cooled[0] == 1.0 and cooled == sorted(cooled, reverse=True) and cooled[-1] < 0.4
    train(replace(options, resume=True, epochs=math.ceil(ended.epochs + 1), cooldown=0.0))
    assert cooled[-1] < factors()[-1] < 1.0


def test_a_training_leaves_what_it_promises(trained):
    run, result, events = trained
    assert result.reason == "epochs" and result.epochs == pytest.approx(2)
    assert {p.name for p in run.iterdir()} >= {
        "plan.json", "metrics.jsonl", "checkpoints", "model.safetensors", "samples", "cache",
    }  # fmt: skip
    picture = Image.open(next((run / "samples").glob("*.png")))
    assert picture.size == (8 * TILE, 6 * TILE)
    assert picture.getextrema()[1] > 100, "a sheet that is not black"
    names = [name for name, _ in events]
    assert {"device", "corpus", "progress", "metric", "checkpoint", "sample"} <= set(names)
    saved = [facts for name, facts in events if name == "checkpoint"]
    assert [facts["steps_of_model"] for facts in saved] == [facts["step"] for facts in saved], "each has its model"
    assert len(saved) > 1 and saved[-1]["step"] == result.steps
    [warning] = [facts["message"] for name, facts in events if name == "warning"]
    assert warning.startswith("3 of 3 scans are synthetic: scan0.nii.gz, ")
    progress = [f for n, f in events if n == "progress" and f["phase"] == "training"]
    assert progress[-1]["done"] == result.steps


def test_the_loss_falls(trained):
    run, result, _ = trained
    entries = losses(run)
    assert entries[result.steps]["anatomy_held_out"] < 0.8 * entries[1]["anatomy_held_out"]
    assert entries[result.steps]["anatomy"] < entries[20]["anatomy"]


def test_the_model_loads_and_its_card_tells_what_it_saw(trained):
    run, result, _ = trained
    model = load_model(run / "model.safetensors")
    assert model.card["training"]["patients"] == 2
    assert model.card["training"]["held_out_patients"] == 1
    assert model.card["training"]["steps"] == result.steps
    assert "scan0" not in json.dumps(model.card), "names of scans stay with their owner"
    anatomy, detail = load_denoisers(model)
    assert anatomy.config.stage == "anatomy" and detail.config.residual_scale > 0
    assert any(name.startswith("body.") for name in model.tensors)


def test_fingerprints_are_taken_before_the_first_step_and_not_again(trained, tmp_path, monkeypatch):
    straight, result, events = trained
    phases = [facts["phase"] for name, facts in events if name == "progress"]
    assert phases.count("taking fingerprints") == 3
    assert "taking fingerprints" not in phases[phases.index("training") :]

    def refused(*_arguments):
        raise AssertionError("they were taken again")

    monkeypatch.setattr(run_fingerprints, "corpus_fingerprints", refused)
    run = tmp_path / "run"
    shutil.copytree(straight, run, ignore=shutil.ignore_patterns("cache", "samples", "model*"))
    (run / "cache").symlink_to(straight / "cache")
    assert train(TrainOptions(data=(), run=run, resume=True, **TINY)).steps == result.steps
    before, after = (load_model(folder / "model.safetensors") for folder in (straight, run))
    assert after.card["fingerprints"] == before.card["fingerprints"]
    assert torch.equal(after.tensors["fingerprints.codes"], before.tensors["fingerprints.codes"])
    assert len(after.tensors["fingerprints.codes"])


def test_a_run_is_not_overwritten_and_needs_its_own_options(trained, scans):
    run, _, _ = trained
    with pytest.raises(UsageError, match="holds a training already"):
        train(TrainOptions(data=(scans,), run=run, **TINY))
    with pytest.raises(UsageError, match="--seed 0, now it is 4"):
        train(TrainOptions(data=(), run=run, resume=True, **{**TINY, "seed": 4}))
    with pytest.raises(InputError, match="no training to resume"):
        train(TrainOptions(data=(), run=run.parent / "none", resume=True, **TINY))


def test_after_kill_9_a_resumed_training_has_the_losses_of_an_uninterrupted_one(trained, tmp_path):
    straight, result, _ = trained
    run = tmp_path / "run"
    run.mkdir()
    for name in ("plan.json", "options.json", "body.safetensors"):
        shutil.copy(straight / name, run)
    (run / "cache").symlink_to(straight / "cache")
    process = subprocess.Popen(
        [
            sys.executable, "-m", "CTDiffusionLogic", "train", "--run", str(run), "--preset", "tiny", "--resume",
            "--image-size", "64", "--device", "cpu", "--epochs", "2", "--checkpoint-minutes", "0.02",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while not list(run.glob("checkpoints/step-*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    checkpoint = load_newest(run / "checkpoints")
    assert checkpoint is not None and 0 < checkpoint.step < result.steps, "killed in the middle"

    assert train(TrainOptions(data=(), run=run, resume=True, **TINY)).reason == "epochs"
    falls = [load_newest(folder / "checkpoints").facts["level_fall"] for folder in (straight, run)]
    assert falls[0] == falls[1] and falls[0]["end"] == math.floor(FALL * result.steps)
    expected, seen = losses(straight), losses(run)
    assert expected.keys() == seen.keys()
    first_whole_window = (checkpoint.step // 20 + 2) * 20
    compared = 0
    for step, values in expected.items():
        if step <= checkpoint.step or (step < first_whole_window and "anatomy" in values):
            continue
        for name, value in values.items():
            assert seen[step][name] == pytest.approx(value, rel=2e-3), (step, name)
            compared += 1
    assert compared > 0


def test_a_cancelled_training_keeps_its_work(scans, tmp_path):
    answers = iter([False, False, True])
    options = TrainOptions(data=(scans,), run=tmp_path / "run", fidelity_every="off", **TINY)  # measuring asks, too
    result = train(options, is_cancelled=lambda: next(answers))
    assert result.reason == "cancelled" and result.steps == 3
    checkpoint = load_newest(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None and checkpoint.step == 3
    assert result.model.exists()


def test_fine_tuning_starts_from_the_given_weights(trained, scans, tmp_path):
    run, _, _ = trained
    start = run / "model.safetensors"
    options = TrainOptions(data=(scans,), run=tmp_path / "run", init=start, **TINY)
    events = []
    train(options, on_event=lambda n, f: events.append(f | {"name": n}), is_cancelled=lambda: True)
    first = next(e["anatomy_held_out"] for e in events if "anatomy_held_out" in e)
    assert first < 1.2 * losses(run)[max(losses(run))]["anatomy_held_out"]
    with pytest.raises(InputError, match="another network"):
        other = TrainOptions(data=(scans,), run=tmp_path / "other", init=start, **{**TINY, "preset": "standard"})
        train(other, is_cancelled=lambda: True)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, {"x": torch.full((4,), float(step))}, step=step, facts={"hours": 0.5})
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-00000002.safetensors", "step-00000003.safetensors"]
    newest = tmp_path / "step-00000003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-8])
    checkpoint = load_newest(tmp_path)
    assert checkpoint is not None and checkpoint.step == 2 and checkpoint.tensors["x"][0] == 2
    (tmp_path / "step-00000002.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="No checkpoint"):
        load_newest(tmp_path)


def test_a_foreign_file_is_no_checkpoint(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "step-00000001.safetensors")
    with pytest.raises(InputError, match="not a checkpoint"):
        load_newest(tmp_path)


def test_metrics_after_the_checkpoint_are_dropped_on_resume(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10, "a": 1}\n{"step": 20, "a": 2}\n{"step": 30, "a')
    log = MetricsLog(path, 20)
    assert log.newest == {"step": 20, "a": 2}
    log.write({"step": 21, "a": 0.5})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20, 21]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"preset": "huge"}, "no preset 'huge'"),
        ({"image_size": 100}, "multiple of 64, got 100"),
        ({"max_minutes": -1.0}, "--max-minutes must be positive"),
        ({"resume": True, "init": Path("m.safetensors")}, "--init and --resume"),
    ],
)
def test_senseless_options_are_refused(change, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        TrainOptions(data=(tmp_path,), run=tmp_path, **change).check()
