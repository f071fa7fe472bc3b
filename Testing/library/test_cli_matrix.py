"""``ctdiffusion generate --matrix`` and ``--fine``: a larger matrix, or one line that says why not."""

from __future__ import annotations

import numpy as np
import pytest
from random_model import write_random_fine_model, write_random_model

from CTDiffusionLogic import models
from CTDiffusionLogic.bundle import FORMAT_VERSION, load_denoisers, load_model, read_header, save_model
from CTDiffusionLogic.cli.events import Progress, Slices, parse_line
from CTDiffusionLogic.cli.main import main
from CTDiffusionLogic.errors import ModelFileError
from CTDiffusionLogic.volume_io import read_volume


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_random_model(folder / "noise.safetensors")
    write_random_fine_model(folder / "finer.safetensors")
    write_random_fine_model(folder / "other.safetensors", coarse_size=32)
    return folder


def run(capfd, *words, command="generate"):
    code = main([command, *map(str, words), "--events", "json"])
    return code, [parse_line(line) for line in capfd.readouterr().out.splitlines()]


def generate(capfd, folder, tmp_path, *words):
    own = (
        "--model",
        folder / "noise.safetensors",
        "--slices",
        "9",
        "--seed",
        "7",
        "--device",
        "cpu",
        "--threads",
        "1",
    )
    return run(capfd, *own, "--out", tmp_path / "a.nrrd", *words)


def test_a_larger_matrix(folder, tmp_path, capfd):
    words = ("--fine", folder / "finer.safetensors", "--matrix", "128", "--preview-dir", tmp_path / "p")
    code, events = generate(capfd, folder, tmp_path, *words)
    assert code == 0, events[-1]
    fine = read_header(folder / "finer.safetensors")
    assert events[0].details["shape"] == [9, 128, 128]
    assert events[0].details["fine_model"] == "finer"
    assert events[-1].details["fine_model_sha256"] == fine.sha256
    volume = read_volume(tmp_path / "a.nrrd")
    assert volume.shape == (9, 128, 128)
    assert volume.spacing == pytest.approx((3.0, 3.0, 3.0))
    assert np.allclose(volume.geometry.ijk_to_lps, events[0].details["ijk_to_lps"], atol=1e-4)
    assert volume.metadata["fine_model_sha256"] == fine.sha256
    assert {e.phase for e in events if isinstance(e, Progress)} == {"anatomy", "detail", "fine"}
    previews = [np.load(e.path) for e in events if isinstance(e, Slices)]
    assert np.array_equal(np.concatenate(previews), volume.hu)
    assert volume.hu.std() > 0


def test_the_model_s_own_matrix_needs_no_fine_model(folder, tmp_path, capfd):
    code, events = generate(capfd, folder, tmp_path, "--matrix", "64")
    assert code == 0, events[-1]
    assert "fine_model" not in read_volume(tmp_path / "a.nrrd").metadata


def test_the_bundled_fine_model_and_none(folder, tmp_path, capfd, monkeypatch):
    bundled = {"fine": folder / "finer.safetensors"}
    monkeypatch.setattr(models, "bundled_fine_model", lambda: bundled)
    code, events = generate(capfd, folder, tmp_path, "--matrix", "128", "--fine-steps", "1")
    assert code == 0, events[-1]
    assert read_volume(tmp_path / "a.nrrd").metadata["fine_steps"] == "1"
    bundled.clear()
    code, events = generate(capfd, folder, tmp_path, "--matrix", "128", "--overwrite")
    assert code == 1
    assert events[-1].message == "No fine model comes with this installation."
    assert "--preset fine" in events[-1].remedy


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--fine noise.safetensors", 1, "noise.safetensors is not a fine model: it makes volumes by itself."),
        ("--model finer.safetensors", 1, "finer.safetensors is a fine model: it makes finer images of volumes"),
        ("--fine other.safetensors", 1, "refines images of 32 x 32 pixels; the model noise makes 64 x 64"),
        ("--fine nowhere", 1, "no model file nowhere"),
        ("--fine finer.safetensors --matrix 512", 2, "--matrix 512 cannot be made"),
        ("--fine finer.safetensors --matrix 64", 2, "--matrix 64 cannot be made"),
        ("--fine-steps 3", 2, "--fine-steps goes with --matrix or --fine only"),
        ("--fine finer.safetensors --independent-slices", 2, "--fine does not go with --independent-slices"),
    ],
)
def test_what_does_not_go_together(words, code, message, folder, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(folder)
    ended, events = generate(capfd, folder, tmp_path, *words.split())
    assert ended == code
    assert [e.event for e in events] == ["failed"]
    assert message in events[-1].message
    assert events[-1].remedy
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", ["--extend", "--fill", "--thin"])
def test_completed_scans_keep_their_matrix(how, folder, tmp_path, capfd):
    more = {"--extend": ("--slices", "3"), "--fill": ("--missing", "2"), "--thin": ("--spacing-mm", "1")}[how]
    code, events = run(capfd, how, "scan.nrrd", *more, "--fine", folder / "finer.safetensors", "--out", "a.nrrd")
    assert code == 2
    assert f"--fine does not go with {how}" in events[-1].message


def test_a_fine_model_shows_what_it_is(folder, capfd):
    code, events = run(capfd, folder / "finer.safetensors", command="info")
    assert code == 0
    assert events[-1].details["card"]["stages"].keys() == {"detail"}
    assert main(["info", str(folder / "finer.safetensors")]) == 0
    assert "image size: 128" in capfd.readouterr().out
    header = read_header(folder / "finer.safetensors")
    assert header.is_fine
    assert header.fine_sizes() == (64, 128)
    with pytest.raises(ModelFileError, match="no volumes by itself"):
        load_denoisers(load_model(header.path))


def test_older_readers_refuse_fine_models_and_read_the_others(folder, tmp_path):
    def version(path):
        return path.read_bytes().split(b'"format_version":"')[1][:1]

    assert FORMAT_VERSION == 2
    assert version(folder / "finer.safetensors") == b"2"
    assert version(folder / "noise.safetensors") == b"1"
    fine = load_model(folder / "finer.safetensors")
    save_model(tmp_path / "again.safetensors", fine.tensors, fine.card)
    assert load_model(tmp_path / "again.safetensors").sha256 == fine.sha256
    with pytest.raises(ValueError, match="detail alone"):
        save_model(tmp_path / "x.safetensors", {}, {"stages": {"anatomy": {}}})
