"""Fingerprints in the model file, and what `generate` does with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from CTDiffusionLogic.bundle import load_denoisers, load_model, read_header
from CTDiffusionLogic.cli import main as cli
from CTDiffusionLogic.cli.events import Finished, Warned, parse_line
from CTDiffusionLogic.errors import InputError, ModelFileError, UsageError
from CTDiffusionLogic.fidelity.copy_search import limits_from, real_against_others, reference_from
from CTDiffusionLogic.fidelity.fingerprints import (
    add_fingerprints,
    check_volume,
    describe_scan,
    read_fingerprints,
    remove_fingerprints,
    take_fingerprints,
    to_card,
    to_tensors,
)
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.volume import CTVolume, flip_slices
from CTDiffusionLogic.volume_io import read_volume, write_volume

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from random_model import write_random_model

SPACING = (5.0, 4.2, 4.2)


def phantom(seed: int) -> CTVolume:
    return torso_phantom(slices=24, size=96, spacing_mm=(4.2, 4.2, 5.0), seed=seed)


def described(volume: CTVolume, seed: int):
    return describe_scan(volume.hu, SPACING, id=f"scan {seed}", patient=f"Jane Doe {seed}")


@pytest.fixture(scope="module")
def scans():
    return [described(phantom(seed), seed) for seed in range(4)]


@pytest.fixture(scope="module")
def held_out():
    return [described(phantom(20), 20)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_random_model(tmp_path_factory.mktemp("plain") / "noise.safetensors")


@pytest.fixture(scope="module")
def printed(plain, scans, held_out):
    out = plain.with_name("printed.safetensors")
    add_fingerprints(plain, scans, out, held_out=held_out)
    return out


def test_they_are_small_nameless_and_survive_the_file(plain, printed, scans, held_out):
    fresh, kept = take_fingerprints(scans, held_out), read_fingerprints(load_model(printed))
    assert np.allclose(kept.reference.numbers, fresh.reference.numbers)
    assert kept.limits.ratio == fresh.limits.ratio and kept.patients == 4
    windows = len(kept.reference.numbers)
    assert printed.stat().st_size - plain.stat().st_size < 60 * windows + 2500
    assert b"Jane" not in printed.read_bytes() and b"scan 0" not in printed.read_bytes()
    # Rounding to 8 bits costs little beside what differs between people.
    exact = reference_from(scans)
    error = np.abs((kept.reference.numbers - exact.numbers) / exact.spread)
    assert np.quantile(error, 0.99) < 0.05
    exact_limits = limits_from(real_against_others([*held_out, *scans], scans, exact), patients=4)
    assert kept.limits.ratio == pytest.approx(exact_limits.ratio, rel=0.05)


def test_weights_stay_and_old_files_still_load(plain, printed, tmp_path):
    before, after = load_model(plain), load_model(printed)
    assert read_fingerprints(before) is None
    assert all(np.array_equal(tensor.numpy(), after.tensors[name].numpy()) for name, tensor in before.tensors.items())
    load_denoisers(after)
    remove_fingerprints(printed, tmp_path / "without.safetensors")
    assert (tmp_path / "without.safetensors").read_bytes() == plain.read_bytes()


def test_copies_are_named_and_other_people_are_not(printed):
    fingerprints = read_fingerprints(load_model(printed))
    copy = check_volume(flip_slices(phantom(2)), fingerprints)
    assert copy.copy and "may be a copy" in copy.sentence
    assert copy.metadata()["copy_check"] == "close to a training scan"
    other = check_volume(phantom(30), fingerprints)
    assert not other.copy and other.metadata()["copy_check"] == "no copy found"
    short = phantom(30)
    short = CTVolume(short.hu[:3], short.geometry, short.metadata)
    assert check_volume(short, fingerprints).metadata() == {"copy_check": "not checked"}


def test_wrong_scans_are_refused(plain, printed, scans, tmp_path):
    from CTDiffusionLogic.bundle import save_model

    file = load_model(plain)
    counted = tmp_path / "counted.safetensors"
    save_model(counted, file.tensors, {**file.card, "training": {"scans": 5, "patients": 5}})
    with pytest.raises(UsageError, match="trained on 5 scans, and 4 were given"):
        add_fingerprints(counted, scans, tmp_path / "out.safetensors")
    short = describe_scan(phantom(1).hu[:4], SPACING, id="short", patient="short")
    with pytest.raises(InputError, match="40 mm"):
        add_fingerprints(plain, [short], tmp_path / "out.safetensors")
    assert take_fingerprints([short]) is None
    fingerprints = take_fingerprints(scans)
    tensors = {name: t for name, t in to_tensors(fingerprints).items() if "codes" not in name}
    broken = tmp_path / "broken.safetensors"
    save_model(broken, {**file.tensors, **tensors}, {**file.card, "fingerprints": to_card(fingerprints)})
    with pytest.raises(ModelFileError, match="incomplete"):
        read_fingerprints(load_model(broken))
    newer = {**file.card, "fingerprints": {**to_card(fingerprints), "version": 99}}
    save_model(broken, {**file.tensors, **to_tensors(fingerprints)}, newer)
    assert read_fingerprints(load_model(broken)) is None, "numbers of another meaning are not compared"


def command(capfd, *words) -> tuple[int, list]:
    code = cli.main([*map(str, words), "--events", "json"])
    return code, [parse_line(line) for line in capfd.readouterr().out.splitlines()]


@pytest.fixture
def generated(monkeypatch):
    """Have the model give back a training scan, or somebody else."""
    from CTDiffusionLogic import generation

    def give(seed):
        monkeypatch.setattr(generation, "generate", lambda *args, **kwargs: phantom(seed))

    return give


def test_generate_warns_before_a_copy_is_shared(printed, generated, tmp_path, capfd):
    words = ("generate", "--model", printed, "--slices", "24", "--spacing-mm", "5", "--out")
    generated(1)
    code, events = command(capfd, *words, tmp_path / "a.nrrd")
    assert code == 0, events[-1]
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert len(warnings) == 1 and "do not share it before you have looked" in warnings[0]
    assert read_volume(tmp_path / "a.nrrd").metadata["copy_check"] == "close to a training scan"
    assert isinstance(events[-1], Finished) and events[-1].details["copy_check"][0]["copy"] is True

    code, events = command(capfd, *words, tmp_path / "b.nrrd", "--no-check-copies")
    assert code == 0 and not any(isinstance(event, Warned) for event in events)
    assert "copy_check" not in read_volume(tmp_path / "b.nrrd").metadata

    generated(30)
    code, events = command(capfd, *words, tmp_path / "c.nrrd", "--check-copies")
    assert code == 0 and not any(isinstance(event, Warned) for event in events)
    assert read_volume(tmp_path / "c.nrrd").metadata["copy_check"] == "no copy found"


def test_a_volume_is_not_lost_where_the_check_cannot_be_made(printed, generated, tmp_path, capfd, monkeypatch):
    generated(1)
    monkeypatch.setitem(sys.modules, "scipy", None)  # as if it were missing or broken
    code, events = command(capfd, "generate", "--model", printed, "--slices", "24", "--out", tmp_path / "a.nrrd")
    assert code == 0, events[-1]
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert len(warnings) == 1 and warnings[0].startswith("Not checked for copies of training scans: ")
    assert read_volume(tmp_path / "a.nrrd").metadata["copy_check"] == "not checked"


#: Slow to import, and of no use to a few slices.
SPARED = {"scipy", "pydicom", "torch._dynamo", "diffusers.pipelines", "diffusers.schedulers", "monai", "matplotlib"}


def test_generate_imports_only_what_a_few_slices_need(printed, tmp_path):
    words = ["generate", "--model", str(printed), "--slices", "6", "--steps", "1", "--detail-steps", "1"]
    words += ["--device", "cpu", "--threads", "1", "--out", str(tmp_path / "a.nrrd")]
    script = "import sys; from CTDiffusionLogic.cli.main import main; code = main(sys.argv[2:])\n"
    script += "print(code, sorted(set(sys.argv[1].split()) & set(sys.modules)))"
    command = [sys.executable, "-c", script, " ".join(SPARED), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert read_volume(tmp_path / "a.nrrd").metadata["copy_check"] == "not checked", "its 18 mm are too short"


def test_a_model_without_fingerprints_says_so_when_asked(plain, generated, tmp_path, capfd):
    generated(1)
    code, events = command(capfd, "generate", "--model", plain, "--check-copies", "--out", tmp_path / "a.nrrd")
    assert code == 1 and "has no fingerprints of its training scans" in events[-1].message
    assert "ctdiffusion fingerprint" in events[-1].remedy
    assert not (tmp_path / "a.nrrd").exists()
    code, events = command(capfd, "generate", "--model", plain, "--out", tmp_path / "a.nrrd")
    assert code == 0 and not any(isinstance(event, Warned) for event in events)


def test_the_command_that_adds_them(plain, tmp_path, capfd):
    for seed in (0, 1, 2, 20):
        write_volume(phantom(seed), tmp_path / "scans" / f"p{seed}.nii.gz")
    out = tmp_path / "new.safetensors"
    words = ("fingerprint", plain, tmp_path / "scans", "--hold-out", "p20", "--out", out)
    code, events = command(capfd, *words)
    assert code == 0, events[-1]
    assert events[-1].details["patients"] == 3 and events[-1].details["calibrated"]
    assert read_header(out).card["fingerprints"]["patients"] == 3
    code, events = command(capfd, *words)
    assert code == 1 and "exists already" in events[-1].message
    code, events = command(capfd, "fingerprint", plain, "--out", tmp_path / "x.safetensors")
    assert code == 2
    code, events = command(capfd, "fingerprint", out, "--remove", "--out", tmp_path / "x.safetensors")
    assert code == 0 and (tmp_path / "x.safetensors").read_bytes() == plain.read_bytes()
