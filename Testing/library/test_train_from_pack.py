"""Scans are packed in one place and trained from in another, piece by piece, with one command line."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from CTDiffusionLogic.bundle import load_model, save_model
from CTDiffusionLogic.cli.events import Failed, Finished, Progress, Warned, parse_line
from CTDiffusionLogic.cli.main import main
from CTDiffusionLogic.corpus.body_position import UNIT_MM
from CTDiffusionLogic.corpus.pack import read_pack, write_pack
from CTDiffusionLogic.corpus.pack_options import PackOptions
from CTDiffusionLogic.errors import InputError, OutputError, UsageError
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.training import loop
from CTDiffusionLogic.training.checkpoint import Checkpoint, load_newest
from CTDiffusionLogic.training.options import TrainOptions
from CTDiffusionLogic.training.run import train
from CTDiffusionLogic.training.run_folder import begin_run, fill_run, is_begun, open_run
from CTDiffusionLogic.volume_io import write_volume

pytestmark = pytest.mark.usefixtures("rough_body_positions")

TINY = {"preset": "tiny", "image_size": 64, "device": "cpu", "fidelity_every": "off"}
WORDS = ["--preset", "tiny", "--image-size", "64", "--device", "cpu", "--fidelity-every", "off", "--threads", "1"]


@pytest.fixture(autouse=True)
def no_sheets(monkeypatch, tmp_path):
    """Sheets of samples take most of the time of so short a training; test_training.py looks at them."""
    monkeypatch.setattr(loop, "write_sheet", lambda *_, **__: tmp_path)


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mueller")
    for seed in range(3):
        volume = torso_phantom(slices=16, size=64, spacing_mm=(6.5, 6.5, 6.0), seed=seed)
        write_volume(volume, folder / f"mueller{seed}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def prepared(scans, rough_body_positions, tmp_path_factory) -> Path:
    """A run folder that has been prepared and not trained."""
    options = TrainOptions(data=(scans,), run=tmp_path_factory.mktemp("prepared") / "run", **TINY)
    begin_run(options, options.check(), lambda *_: None)
    return options.run


@pytest.fixture(scope="module")
def packed(prepared, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "torso.ctpack"
    write_pack(path, open_run(prepared), PackOptions(hu_step=0))
    return path


def steps(options: TrainOptions, count: int) -> Checkpoint:
    """Train for ``count`` steps more."""
    answers = iter([False] * (count - 1) + [True])
    train(options, is_cancelled=lambda: next(answers))
    checkpoint = load_newest(options.run / "checkpoints")
    assert checkpoint is not None
    return checkpoint


def test_a_training_from_an_exact_pack_goes_as_from_the_scans(prepared, packed, tmp_path):
    shutil.copytree(prepared, tmp_path / "a")
    from_scans = steps(TrainOptions(data=(), run=tmp_path / "a", resume=True, **TINY), 3)
    from_pack = steps(TrainOptions(data=(packed,), run=tmp_path / "b", **TINY), 3)
    assert from_pack.step == from_scans.step == 3
    assert from_pack.tensors.keys() == from_scans.tensors.keys()
    for name, tensor in from_scans.tensors.items():
        assert torch.equal(tensor, from_pack.tensors[name]), name
    ours, theirs = (load_model(tmp_path / run / "model.safetensors").card for run in "ba")
    assert ours["metrics"] == theirs["metrics"] and ours["plan"] == theirs["plan"]
    assert ours["training"]["patients"] == 2 and ours["fingerprints"] == theirs["fingerprints"]
    assert "mueller" not in str(ours)


def test_one_command_line_begins_goes_on_and_counts_all_pieces(packed, tmp_path, capfd):
    words = ["train", str(packed), "--run", str(tmp_path / "run"), "--resume", "--events", "json", *WORDS]
    begun = subprocess.run(
        [sys.executable, "-m", "CTDiffusionLogic", *words, "--epochs", "1"], capture_output=True, text=True
    )
    assert begun.returncode == 0, begun.stderr
    events = [parse_line(line) for line in begun.stdout.splitlines()]
    assert [e.done for e in events if isinstance(e, Progress) and e.phase == "unpacking"] == [0, 1, 2]
    assert any(isinstance(e, Warned) and "scan-00001" in e.message for e in events), "phantoms are synthetic"
    first = events[-1].details["steps"]
    assert main([*words, "--epochs", "2"]) == 0
    events = [parse_line(line) for line in capfd.readouterr().out.splitlines()]
    assert isinstance(events[-1], Finished) and events[-1].details["steps"] == 2 * first
    assert not any(isinstance(e, Progress) and e.phase == "unpacking" for e in events)


def test_what_was_cut_short_begins_anew_and_what_is_there_is_kept(prepared, packed, tmp_path):
    options = TrainOptions(data=(packed,), run=tmp_path / "run", resume=True, **TINY)
    with pytest.raises(InputError, match="no training to resume"):
        train(replace(options, data=()))
    shutil.copytree(prepared, options.run)
    (options.run / "options.json").unlink()  # killed while it prepared
    assert not is_begun(options.run)
    assert steps(options, 1).step == 1
    assert is_begun(options.run) and open_run(options.run).plan.scans[0].id == "scan-00001"
    assert steps(options, 2).step == 3, "it went on"
    (options.run / "plan.json").unlink()
    with pytest.raises(UsageError, match=r"holds a training already.*lost plan\.json"):
        train(options)
    assert load_newest(options.run / "checkpoints").step == 3


def test_a_run_folder_travels_without_its_slices(prepared, packed, tmp_path):
    options = TrainOptions(data=(packed,), run=tmp_path / "run", resume=True, **TINY)
    steps(options, 1)
    shutil.rmtree(options.run / "cache")
    with pytest.raises(InputError, match="lacks the slices of scan-00001"):
        train(replace(options, data=()))
    assert steps(options, 1).step == 2
    corpus = open_run(prepared)
    fewer = replace(corpus, plan=replace(corpus.plan, scans=corpus.plan.scans[:2]))
    write_pack(tmp_path / "other.ctpack", fewer)
    for missing in (False, True):
        if missing:
            shutil.rmtree(options.run / "cache")
        with pytest.raises(UsageError, match="is not what the training in"):
            train(replace(options, data=(tmp_path / "other.ctpack",)))


def test_a_model_that_a_training_begins_with_keeps_its_places_and_units(packed, tmp_path):
    steps(TrainOptions(data=(packed,), run=tmp_path / "first", **TINY), 1)
    model = load_model(tmp_path / "first" / "model.safetensors")
    card = copy.deepcopy(dict(model.card))
    card["stages"]["anatomy"]["sigma_data"] = 0.7
    card["stages"]["detail"]["residual_scale"] = 0.9
    head = "body.head.bias"
    start = tmp_path / "start.safetensors"
    save_model(start, {**model.tensors, head: model.tensors[head] + 1}, card)
    options = TrainOptions(data=(packed,), run=tmp_path / "run", init=start, **TINY)
    assert steps(options, 1).step == 1
    options = replace(options, init=None, resume=True)
    before, plan = read_pack(packed).plan, open_run(options.run).plan
    assert plan.sigma_data["anatomy"] == 0.7 and plan.residual_scale == 0.9
    moved = [new.body_mm - old.body_mm for new, old in zip(plan.scans, before.scans, strict=True)]
    assert np.allclose(moved, UNIT_MM, atol=0.05 * UNIT_MM), "the model stores its weights in half precision"
    assert steps(options, 1).step == 2
    shutil.rmtree(options.run / "cache")
    assert steps(options, 1).step == 3
    assert open_run(options.run).plan == plan


def test_a_training_begun_with_scans_goes_on_with_their_pack(prepared, packed, tmp_path):
    shutil.copytree(prepared, tmp_path / "run")
    options = TrainOptions(data=(packed,), run=tmp_path / "run", resume=True, **TINY)
    told: list[str] = []
    fill_run(options, options.check(), lambda name, _: told.append(name))
    assert told == [] and open_run(options.run).plan == open_run(prepared).plan, "its own slices are there"


@pytest.fixture(scope="module")
def rounded(prepared, tmp_path_factory) -> Path:
    """A pack of the same scans, whose HU are multiples of 3."""
    path = tmp_path_factory.mktemp("packs") / "rounded.ctpack"
    write_pack(path, open_run(prepared), PackOptions(hu_step=3))
    return path


def filled(pack: Path, folder: Path) -> TrainOptions:
    """Begin a training with a pack, or take its run folder up again; it is not trained."""
    options = TrainOptions(data=(pack,), run=folder, resume=True, **TINY)
    fill_run(options, options.check(), lambda *_: None)
    return options


def slices_in(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "cache").glob("*")}


def test_a_pack_whose_hu_are_rounded_otherwise_is_another_pack(prepared, packed, rounded, tmp_path):
    assert read_pack(packed).plan == read_pack(rounded).plan, "nothing else tells them apart"
    shutil.copytree(prepared, tmp_path / "scans")
    for run, pack, other, ours, theirs in (
        (tmp_path / "a", packed, rounded, 0, 3),
        (tmp_path / "b", rounded, packed, 3, 0),
        (tmp_path / "scans", None, rounded, 0, 3),
    ):
        if pack is not None:
            filled(pack, run)
        before = slices_in(run)
        words = f"{other} was packed with --hu-step {theirs}; the training in {run} was begun with slices of --hu-step"
        with pytest.raises(UsageError) as caught:
            filled(other, run)
        assert caught.value.message == f"{words} {ours}."
        assert caught.value.remedy.startswith(f"Leave {other.name} out: the slices are there. Or name the pack that")
        assert slices_in(run) == before
        if pack is not None:
            (run / "cache" / "scan-00002.npy").unlink()
            with pytest.raises(UsageError) as caught:
                filled(other, run)
            assert caught.value.message == f"{words} {ours}."
            assert caught.value.remedy.endswith(f"or make one with `ctdiffusion pack --hu-step {ours}`.")
            assert caught.value.remedy.startswith("Name the pack")
            assert len(slices_in(run)) == 2, "nothing of the other was unpacked"
            filled(pack, run)
            assert slices_in(run) == before
    noted = json.loads((tmp_path / "b" / "options.json").read_text())
    assert noted.pop("hu_step") == 3
    (tmp_path / "b" / "options.json").write_text(json.dumps(noted))
    filled(packed, tmp_path / "b")  # begun before steps were noted: its plan alone is compared


def test_what_was_rounded_once_is_packed_again_as_it_is(rounded, tmp_path):
    options = filled(rounded, tmp_path / "run")
    write_pack(tmp_path / "again.ctpack", open_run(options.run), PackOptions(hu_step=0))
    assert (tmp_path / "again.ctpack").read_bytes() == rounded.read_bytes()
    filled(tmp_path / "again.ctpack", options.run)
    write_pack(tmp_path / "coarser.ctpack", open_run(options.run), PackOptions(hu_step=5))
    with pytest.raises(UsageError, match=r"coarser\.ctpack was packed with --hu-step 5.* slices of --hu-step 3\."):
        filled(tmp_path / "coarser.ctpack", options.run)


def free_space(monkeypatch, free: int) -> None:
    usage = shutil.disk_usage(Path.cwd())
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=free))


#: Of the three scans' slices, with the file system's share.
CACHE_BYTES = 3 * (2 * 16 * 64 * 64 + 8192)


@pytest.mark.parametrize("what", ["packed", "scans"])
def test_too_little_space_is_noticed_before_anything_is_written(what, request, tmp_path, monkeypatch):
    options = TrainOptions(data=(request.getfixturevalue(what),), run=tmp_path / "new" / "run", **TINY)
    free_space(monkeypatch, CACHE_BYTES - 1)
    with pytest.raises(OutputError) as caught:
        begin_run(options, options.check(), lambda *_: None)
    assert caught.value.message == (
        f"Not enough space in {options.run / 'cache'}: about 408.0 kB are needed, 408.0 kB are free."
    )
    assert "another one" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []
    free_space(monkeypatch, CACHE_BYTES)
    begin_run(options, options.check(), lambda *_: None)
    assert len(slices_in(options.run)) == 3


def test_slices_that_are_there_need_no_space_twice(packed, tmp_path, monkeypatch):
    options = filled(packed, tmp_path / "run")
    (options.run / "cache" / "scan-00002.npy").unlink()
    half_written = options.run / "cache" / ".0123abcd-scan-00002.npy"
    half_written.write_bytes(bytes(10**5))
    free_space(monkeypatch, 2 * 10**5)  # less than two scans
    with pytest.raises(OutputError, match=r"about 2\d\d\.\d kB are needed, 195\.3 kB are free"):
        filled(packed, options.run)
    free_space(monkeypatch, 3 * 10**5)
    filled(packed, options.run)
    assert sorted(slices_in(options.run)) == [f"scan-0000{n}.npy" for n in (1, 2, 3)], "nothing half written is left"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_small_disk_stays_empty(packed, scans, tmp_path, capfd):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine mounts no disks")
    try:
        with pytest.raises(OutputError, match=r"about 408\.0 kB are needed, 200\.0 kB are free"):
            filled(packed, disk / "run")
        code, events = run(capfd, scans, "--out", disk / "a.ctpack", *WORDS[:4])
        assert (code, events[-1].code) == (1, "cannot-write")
        assert events[-1].message.startswith("Not enough space in ")
        assert events[-1].remedy == "Free some space on that disk, or write to another one."
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": 128}, r"images of 64 pixels, not of 128.*Add --image-size 64"),
        ({"hold_out": ("mueller0",)}, "--hold-out comes too late"),
        ({"index": Path("INDEX.csv")}, "--index comes too late"),
        ({"use_labels": True}, "has no classes"),
    ],
)
def test_a_pack_for_other_options_is_refused_with_the_remedy(packed, tmp_path, changes, words):
    options = TrainOptions(**{"data": (packed,), "run": tmp_path / "run", **TINY, **changes})
    with pytest.raises(UsageError) as caught:
        begin_run(options, options.check(), lambda *_: None)
    caught.match(words)
    assert not (tmp_path / "run").exists()


def test_a_pack_of_another_anatomy_or_too_short_scans_is_refused(prepared, packed, tmp_path):
    options = TrainOptions(data=(packed,), run=tmp_path / "run", **TINY)
    preset = options.check()
    with pytest.raises(UsageError, match=r"not made for --preset tiny\..*Use --preset standard or tiny or large"):
        begin_run(options, replace(preset, anatomy_size=32), lambda *_: None)
    with pytest.raises(UsageError, match="fewer than 17 slices"):
        begin_run(options, replace(preset, slices=17), lambda *_: None)
    with pytest.raises(UsageError, match="is a whole corpus"):
        begin_run(replace(options, data=(tmp_path, packed)), preset, lambda *_: None)


def run(capfd, *words):
    code = main(["pack", *map(str, words), "--events", "json"])
    return code, [parse_line(line) for line in capfd.readouterr().out.splitlines()]


def test_scans_are_packed_by_the_command(scans, tmp_path, capfd):
    (tmp_path / "late.nii.gz").write_bytes(b"nothing")
    out = tmp_path / "torso.ctpack"
    words = [scans, tmp_path / "late.nii.gz", "--image-size", "64", "--hold-out", "mueller1", "--preset", "tiny"]
    code, events = run(capfd, *words, "--out", out)
    assert code == 0
    assert list(tmp_path.iterdir()).count(out) == 1 and len(list(tmp_path.iterdir())) == 2, "no folder is left"
    last = events[-1]
    assert isinstance(last, Finished) and last.outputs == (str(out),)
    told = {key: last.details[key] for key in ("bytes", "scans", "patients", "slices", "image_size", "hu_step")}
    assert told == {
        "bytes": out.stat().st_size, "scans": 3, "patients": 3, "slices": 48, "image_size": 64, "hu_step": 3,
    }  # fmt: skip
    assert last.details["sha256"] == read_pack(out).sha256
    assert [Path(item["path"]).name for item in last.details["skipped"]] == ["late.nii.gz"]
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert any("images of 3 patients" in message for message in warnings)
    assert {"packing", "learning body positions"} <= {e.phase for e in events if isinstance(e, Progress)}
    assert [scan.id for scan in read_pack(out).plan.held_out] == ["scan-00002"]


def test_a_training_is_packed_by_the_command(prepared, packed, tmp_path, capfd):
    out = tmp_path / "torso.ctpack"
    code, _ = run(capfd, "--run", prepared, "--out", out, "--hu-step", "0")
    assert code == 0 and out.read_bytes() == packed.read_bytes()
    code, events = run(capfd, "--run", prepared, "--out", out)
    assert (code, events[-1].message) == (1, f"{out} exists already.")
    assert run(capfd, "--run", prepared, "--out", out, "--overwrite")[0] == 0
    assert out.stat().st_size < packed.stat().st_size


def test_wrong_use_and_wrong_folders(prepared, scans, tmp_path, capfd):
    def failure(*words) -> Failed:
        code, events = run(capfd, *words)
        assert code == events[-1].exit_code
        assert list(tmp_path.iterdir()) == []
        return events[-1]

    out = tmp_path / "a.ctpack"
    assert "DATA or --run" in failure("--out", out).message
    assert "DATA or --run" in failure(scans, "--run", prepared, "--out", out).message
    assert (
        "--image-size does not go with --run" in failure("--run", prepared, "--image-size", 64, "--out", out).message
    )
    assert "does not end in .ctpack" in failure(scans, "--out", tmp_path / "a.zip").message
    assert "multiple of 64" in failure(scans, "--out", out, "--image-size", 100).message
    assert "from 0 to 25" in failure(scans, "--out", out, "--hu-step", 26).message
    assert failure(scans / "none", "--out", out).message.endswith("does not exist.")
    assert "holds no training" in failure("--run", scans, "--out", out).message
    assert "No CT scans found" in failure(tmp_path, "--out", out).message


def test_packing_can_be_cancelled(prepared, tmp_path, capfd):
    (tmp_path / "stop").touch()
    code, events = run(capfd, "--run", prepared, "--out", tmp_path / "a.ctpack", "--cancel-file", tmp_path / "stop")
    assert (code, events[-1].code) == (130, "cancelled")
    assert [path.name for path in tmp_path.iterdir()] == ["stop"]
