"""``ctdiffusion generate`` with a model of random weights: what it writes, what it says, what it refuses."""

from __future__ import annotations

import hashlib
import resource
import signal
import subprocess

import numpy as np
import pydicom
import pytest
from command import tree

from CTDiffusionLogic import generation_request, sampling
from CTDiffusionLogic.bundle import load_model
from CTDiffusionLogic.cli import generate
from CTDiffusionLogic.cli.events import Finished, Progress, Slices, Started, Warned, parse_line
from CTDiffusionLogic.cli.main import main
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import read_volume, write_volume

SMALL = ("--slices", "12", "--device", "cpu", "--threads", "1")
#: Hours of work: a run that is still in its first steps whenever it is stopped.
LONG = ("--slices", "200", "--steps", "10000", "--device", "cpu")


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def here(capfd, *words) -> tuple[int, list]:
    """Run the command in this process: spares the imports where a process of its own proves nothing more."""
    code = main(["generate", *map(str, words), "--events", "json"])
    return code, [parse_line(line) for line in capfd.readouterr().out.splitlines()]


def test_several_volumes_with_events_and_previews(model, run, tmp_path, capfd):
    words = ("--model", model, *SMALL, "--seed", "5", "--spacing-mm", "2.5")
    ended = run("generate", *words, "--out", "x/a.nrrd", "--count", "2", "--preview-dir", "p", "--events", "json")
    assert ended.code == 0, ended.err
    assert ended.err == ""
    started, *middle, finished = ended.events
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    assert finished.outputs == ("x/a-1.nrrd", "x/a-2.nrrd")
    assert finished.details["seeds"] == [5, 6]
    progress = [e for e in middle if isinstance(e, Progress)]
    assert [e.done for e in progress] == sorted(e.done for e in progress)
    assert progress[-1].done == progress[-1].of
    assert progress[0].of == progress[-1].of
    assert {e.phase for e in progress} == {f"volume {n} of 2, {s}" for n in (1, 2) for s in ("anatomy", "detail")}

    assert tree(tmp_path / "x") == {"a-1.nrrd", "a-2.nrrd"}
    slices = [e for e in middle if isinstance(e, Slices)]
    for number in (1, 2):
        volume = read_volume(tmp_path / f"x/a-{number}.nrrd")
        assert volume.shape == tuple(started.details["shape"]) == (12, 64, 64)
        assert np.allclose(volume.geometry.ijk_to_lps, started.details["ijk_to_lps"], atol=1e-4)
        assert volume.spacing == pytest.approx((6.0, 6.0, 2.5))
        assert volume.metadata["synthetic"] == "yes"
        assert volume.metadata["seed"] == str(4 + number)
        assert volume.metadata["model_sha256"] == load_model(model).sha256
        chunks = [e for e in slices if e.volume == number]
        assert [e.first for e in chunks] == list(np.cumsum([0, *(e.count for e in chunks)])[:-1])
        stacked = np.concatenate([np.load(tmp_path / e.path, allow_pickle=False) for e in chunks])
        assert stacked.dtype == np.int16
        assert np.array_equal(stacked, volume.hu)

    # The second volume alone, in another process, has the same bytes.
    code, _ = here(capfd, *words, "--seed", "6", "--out", tmp_path / "b.nrrd")
    assert code == 0
    assert sha256(tmp_path / "b.nrrd") == sha256(tmp_path / "x/a-2.nrrd") != sha256(tmp_path / "x/a-1.nrrd")


def test_text_for_people(model, tmp_path, capfd):
    out = tmp_path / "one.nii.gz"
    assert main(["generate", "--model", str(model), "--slices", "1", "--out", str(out), "--spacing-mm", "40"]) == 0
    text = capfd.readouterr()
    assert text.out == f"{out}\n"
    assert "warning: The model has learnt slices 1 to 8 mm apart; 40 mm is beyond that." in text.err
    assert "detail: " in text.err
    assert "Done in " in text.err
    volume = read_volume(out)
    assert volume.shape == (1, 64, 64)
    assert volume.metadata["synthetic"] == "yes"


def test_like_a_scan_as_dicom(model, tmp_path, capfd):
    # Slices that run to the feet, on another matrix than the model's.
    direction = np.diag([1.0, -1.0, -1.0])
    scan = CTVolume(np.full((6, 40, 48), -1000, np.int16), Geometry((3.0, 3.5, 4.0), (9, 8, 7), direction))
    write_volume(scan, tmp_path / "scan.nrrd")
    words = ("--model", model, "--like", tmp_path / "scan.nrrd", "--preview-dir", tmp_path / "p")
    code, events = here(capfd, *words, "--out", f"{tmp_path}/series.v1/")
    assert code == 0, events[-1]
    assert events[0].details["shape"] == [6, 40, 48]
    assert np.allclose(events[0].details["ijk_to_lps"], scan.geometry.ijk_to_lps)
    files = sorted((tmp_path / "series.v1").iterdir())
    assert len(files) == 6
    assert pydicom.dcmread(files[0]).SyntheticData == "YES"
    made = read_volume(tmp_path / "series.v1")
    assert made.geometry.is_close(scan.geometry)
    preview = np.empty_like(made.hu)
    for e in events:
        if isinstance(e, Slices):
            preview[e.first : e.first + e.count] = np.load(e.path)
    assert np.array_equal(preview, made.hu)

    code, events = here(capfd, *words, "--slices", "3", "--spacing-mm", "5", "--out", tmp_path / "three.mha")
    assert code == 0, events[-1]
    three = read_volume(tmp_path / "three.mha")
    assert three.shape == tuple(events[0].details["shape"]) == (3, 40, 48)
    assert np.allclose(three.geometry.ijk_to_lps, events[0].details["ijk_to_lps"], atol=1e-4)


def test_the_command_knows_what_the_library_can():
    assert set(generate.SAMPLERS) == set(sampling.SAMPLERS)
    for name in ("MAX_SLICES", "MAX_STEPS", "MAX_GUIDANCE", "DEFAULT_SLICES", "DEFAULT_SPACING_MM"):
        assert getattr(generate, name) == getattr(generation_request, name)


def test_an_unknown_region_is_wrong_use(model, tmp_path, capfd):
    code, events = here(capfd, "--model", model, "--region", "knee", "--out", tmp_path / "a.nrrd")
    assert code == 2
    assert "no class 'knee'" in events[-1].message
    assert tree(tmp_path) == set()


def refused(ended, code: int, words: str) -> None:
    assert (ended.code, ended.out) == (code, "")
    assert words in ended.failure
    assert len(ended.err.splitlines()) == 1, ended.err


def test_wrong_models(run, tmp_path):
    (tmp_path / "text.safetensors").write_text("not a model")
    refused(run("generate", "--model", "text.safetensors", "--out", "a.nrrd"), 1, "text.safetensors is not")
    refused(run("generate", "--model", "nowhere", "--out", "a.nrrd"), 1, "no model file nowhere")
    assert tree(tmp_path) == {"text.safetensors"}


def test_outputs_that_cannot_be(model, run, tmp_path):
    words = ("generate", "--model", model, "--out")
    refused(run(*words, "a.png"), 2, "'.png'")
    refused(run(*words, "/proc/a.nrrd"), 1, "/proc")
    (tmp_path / "a-2.nrrd").write_text("precious")
    refused(run(*words, "a.nrrd", "--count", "2"), 1, "a-2.nrrd exists already")
    assert tree(tmp_path) == {"a-2.nrrd"}
    assert (tmp_path / "a-2.nrrd").read_text() == "precious"


def test_a_bad_scan_to_be_like(model, bad_inputs, run, tmp_path):
    path, words = bad_inputs["nan.nii.gz"]
    refused(run("generate", "--model", model, "--out", "a.nrrd", "--like", path), 1, words)
    assert tree(tmp_path) == set()


def test_cuda_where_there_is_none(model, run, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    refused(run("generate", "--model", model, "--out", "a.nrrd", "--device", "cuda"), 1, "No CUDA device can be used")
    assert tree(tmp_path) == set()


def test_a_disk_that_is_full_from_the_start(model, run, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        ended = run("generate", "--model", model, "--out", disk / "a.nrrd")
        refused(ended, 1, "Not enough space in")
        assert "200.0 kB are free" in ended.failure
        assert tree(disk) == set()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_that_fills_up_while_writing(model, run, tmp_path):
    limit = 20_000  # bytes; the volume needs more

    def small_files_only():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    ended = run("generate", "--model", model, *SMALL, "--out", "a.nrrd", before=small_files_only)
    assert ended.code == 1
    assert "a.nrrd cannot be written" in ended.failure
    assert tree(tmp_path) == set()


def until_working(process) -> None:
    """Read events until the first progress has come."""
    for line in process.stdout:
        if isinstance(parse_line(line), Progress):
            return
    raise AssertionError(process.stderr.read())


def stopped(process) -> list:
    out, _ = process.communicate(timeout=60)
    return [parse_line(line) for line in out.splitlines()]


@pytest.mark.parametrize("how", ["SIGINT", "file"])
def test_a_clean_stop(how, model, start, tmp_path):
    words = ("--model", model, *LONG, "--out", "new/a.nrrd", "--cancel-file", "stop", "--events", "json")
    process = start("generate", *words)
    until_working(process)
    if how == "file":
        (tmp_path / "stop").touch()
    else:
        process.send_signal(getattr(signal, how))
    events = stopped(process)
    assert process.returncode == 130
    assert events[-1].code == "cancelled"
    assert tree(tmp_path) <= {"stop"}


def test_killed(model, start, tmp_path):
    process = start("generate", "--model", model, *LONG, "--out", "new/a.nrrd", "--events", "json")
    until_working(process)
    process.kill()
    assert not any(isinstance(e, Finished) for e in stopped(process))
    assert process.returncode == -signal.SIGKILL
    assert tree(tmp_path) == set()


def test_nobody_reads_any_more(model, start, tmp_path):
    process = start("generate", "--model", model, *LONG, "--out", "a.nrrd", "--events", "json")
    until_working(process)
    process.stdout.close()  # as when Slicer dies
    assert process.wait(timeout=60) == 130
    assert tree(tmp_path) == set()
    assert "Traceback" not in process.stderr.read()


def test_an_output_that_appears_meanwhile_is_not_overwritten(model, tmp_path, capfd, monkeypatch):
    from CTDiffusionLogic import generation

    def slow(*args, **kwargs):
        (tmp_path / "a.nrrd").write_text("somebody else's")
        return original(*args, **kwargs)

    original = generation.generate
    monkeypatch.setattr(generation, "generate", slow)
    code, events = here(capfd, "--model", model, "--slices", "1", "--out", tmp_path / "a.nrrd")
    assert code == 1
    assert "exists already" in events[-1].message
    assert (tmp_path / "a.nrrd").read_text() == "somebody else's"
    code, _ = here(capfd, "--model", model, "--slices", "1", "--out", tmp_path / "a.nrrd", "--overwrite")
    assert code == 0
    assert read_volume(tmp_path / "a.nrrd").shape == (1, 64, 64)


def test_warnings_are_events(model, tmp_path, capfd):
    code, events = here(capfd, "--model", model, "--slices", "1", "--body-mm", "900", "--out", tmp_path / "a.nrrd")
    assert code == 0
    assert any(isinstance(e, Warned) and "900 mm along the body" in e.message for e in events)
