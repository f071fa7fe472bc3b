"""The doctor: finds what is there, and explains what is not, even without torch."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from random_model import write_random_fine_model

from CTDiffusionLogic import __version__, doctor
from CTDiffusionLogic.cli.events import Failed, Finished, Metric, Started, parse_line
from CTDiffusionLogic.cli.main import main
from CTDiffusionLogic.doctor import Check
from CTDiffusionLogic.fidelity import availability
from CTDiffusionLogic.fidelity.extractors import EXTRACTORS
from CTDiffusionLogic.fidelity.extractors.ctfeatures import bundled_weights
from CTDiffusionLogic.requirements import CORE, EVALUATION, TRAINING, constraints, is_enough

ROOT = Path(__file__).parents[2]


def test_this_machine_is_sound(capfd):
    assert main(["doctor", "--generate", "--events", "json"]) == 0
    events = [parse_line(line) for line in capfd.readouterr().out.splitlines()]
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    checks = {e.values["name"]: e.values for e in events if isinstance(e, Metric)}
    assert checks["ctdiffusion"]["text"].startswith(__version__)
    assert checks["torch"]["status"] == "ok"
    assert checks["device cpu"]["status"] == "ok"
    assert "computes 152.835, expected 152.835" in checks["device cpu"]["text"]
    for name in ("python", "memory", "disk (temporary files)", "numpy", "SimpleITK", "pydicom", "diffusers", "monai"):
        assert name in checks
    assert checks["features ctfeatures"]["status"] == "ok"
    assert checks["generation"]["status"] == "ok"
    assert checks["generation"]["text"].startswith("one slice of ")
    assert events[-1].details["checks"] == list(checks.values())


def run_without_packages(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a Python that sees no installed packages at all."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-S", "-m", "CTDiffusionLogic", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")


def test_without_any_package_it_says_what_to_install():
    done = run_without_packages("doctor")
    assert done.returncode == 1
    for requirement in CORE:
        assert f"PROBLEM  {requirement.name}: not installed" in done.stdout
        assert f"python -m pip install {requirement.name}" in done.stdout
    assert "PyTorch extension" in done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "cannot work here" in done.stderr


@pytest.mark.parametrize("words", [["generate", "--out", "x.nrrd"], ["info", __file__], ["train", ".", "--run", "y"]])
def test_other_commands_say_which_package_is_missing(words):
    done = run_without_packages(*words)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "not installed" in done.stderr or "bundled model" in done.stderr


def fake_torch(tmp_path: Path, monkeypatch, code: str) -> None:
    """Put a torch before the real one, as a broken installation would."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def last_checks() -> dict[str, Check]:
    return {check.name: check for check in doctor._check_computing()}


def test_a_torch_that_does_not_import(tmp_path, monkeypatch):
    fake_torch(tmp_path, monkeypatch, "raise ImportError('libcudart.so.13: cannot open shared object file')")
    checks = last_checks()
    assert checks["torch"].status == "problem"
    assert "libcudart.so.13" in checks["torch"].text
    assert "reinstall" in checks["torch"].remedy


@pytest.mark.parametrize(
    ("code", "blamed"),
    [("raise ImportError('half of it')", ["safetensors"]), ("import torch.no_such_part", ["safetensors"])],
)
def test_the_package_to_blame_is_named_and_not_who_imports_it(tmp_path, monkeypatch, code, blamed):
    (tmp_path / "safetensors").mkdir()
    (tmp_path / "safetensors" / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] in ("safetensors", "diffusers")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(doctor, "CORE", [r for r in CORE if r.name in ("torch", "diffusers", "safetensors")])
    assert [check.name for check in doctor._probe_imports()] == blamed


def test_what_a_missing_package_breaks_is_not_called_broken(monkeypatch):
    wanted = [r for r in CORE if r.name in ("diffusers", "safetensors")]
    monkeypatch.setattr(doctor, "CORE", wanted)
    monkeypatch.setattr(doctor, "installed_version", lambda name: None if name == "safetensors" else "1")
    for name in [name for name in sys.modules if name.split(".")[0] in ("safetensors", "diffusers")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert list(doctor._probe_imports()) == []


def test_a_torch_that_crashes_the_process(tmp_path, monkeypatch):
    fake_torch(tmp_path, monkeypatch, "import os; os.abort()")
    checks = last_checks()
    assert checks["computing"].status == "problem"
    assert "ended with code -6" in checks["computing"].text


def test_a_generation_that_fails(monkeypatch):
    def fail():
        raise RuntimeError("the slice is empty")

    monkeypatch.setattr("CTDiffusionLogic.self_test.generate_one_slice", fail)
    check = doctor._probe_generation()
    assert (check.name, check.status) == ("generation", "problem")
    assert "RuntimeError: the slice is empty" in check.text


def test_a_package_that_is_too_old(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", lambda name: "0.9.1" if name == "diffusers" else "99")
    checks = {check.name: check for check in doctor._check_packages()}
    assert checks["diffusers"].status == "problem"
    assert checks["diffusers"].cause == "outdated"
    assert checks["diffusers"].text.startswith("0.9.1 is too old")
    assert 'pip install "diffusers>=0.36"' in checks["diffusers"].remedy
    assert checks["torch"] == Check("torch", "ok", "99")


@pytest.mark.parametrize(
    ("version", "minimum", "expected"),
    [
        ("2.13.0+cpu", "2.6", True),
        ("2.5.1", "2.6", False),
        ("3.0", "3", True),
        ("3", "3.0.0", True),
        ("0.36.0.dev0", "0.36", True),
        ("0.4.10", "0.4.5", True),
        ("unknown", "0.1", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version, minimum, expected):
    assert is_enough(version, minimum) is expected


def test_pip_is_told_the_same_requirements():
    """pyproject.toml, which pip reads, and requirements.py, which 3D Slicer has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(project["dependencies"]) == sorted(map(str, CORE))
    assert sorted(project["optional-dependencies"]["train"]) == sorted(map(str, TRAINING))
    pictures = [requirement for requirement in TRAINING if requirement.name in ("matplotlib", "pillow")]
    assert sorted(project["optional-dependencies"]["evaluate"]) == sorted(map(str, (*EVALUATION, *pictures)))


def test_constraints_name_what_is_installed():
    from importlib.metadata import version

    lines = constraints()
    assert f"torch=={version('torch')}" in lines
    assert f"numpy=={version('numpy')}" in lines
    command = [sys.executable, "-m", "CTDiffusionLogic.requirements"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.stdout.splitlines() == lines


def test_a_broken_bundled_model_is_a_problem(tmp_path, monkeypatch, capfd):
    path = tmp_path / "torso.safetensors"
    path.write_bytes(b"half a download")
    monkeypatch.setattr(doctor, "bundled_models", lambda: {"torso": path})
    monkeypatch.setattr(doctor, "_check_computing", lambda **_: iter(()))
    assert main(["doctor", "--events", "json"]) == 1
    last = parse_line(capfd.readouterr().out.splitlines()[-1])
    assert isinstance(last, Failed)
    assert "model torso" in last.message
    assert "Install CTDiffusion again" in last.remedy


def test_a_bundled_fine_model_says_what_it_makes(tmp_path, monkeypatch):
    path = write_random_fine_model(tmp_path / "fine.safetensors")
    monkeypatch.setattr(doctor, "bundled_models", dict)
    monkeypatch.setattr(doctor, "bundled_fine_model", lambda: {"fine": path})
    none, fine = doctor._check_models()
    assert (none.name, fine.name, fine.status) == ("bundled model", "model fine", "ok")
    assert fine.text.startswith("64 to 128 pixels, sha256 ")
    assert doctor._probe_model("fine", path).status == "ok"


def test_extractors_say_what_is_there_and_what_to_get(tmp_path, monkeypatch):
    monkeypatch.setenv("CTDIFFUSION_WEIGHTS", str(tmp_path))
    there = {"monai": "1.6", "mirp": None, "torch-fidelity": None}
    monkeypatch.setattr(availability, "installed_version", there.get)

    def checks() -> dict[str, Check]:
        return {check.name.removeprefix("features "): check for check in doctor._check_extractors()}

    found = checks()
    assert list(found) == list(EXTRACTORS), "every extractor that --extractor takes, the default first"
    assert found["ctfeatures"] == Check("features ctfeatures", "ok", "monai 1.6; weights come with CTDiffusion")
    for name in ("inception", "radimagenet", "radiomics"):
        assert found[name].status == "note"
    assert "torch-fidelity is not installed; its weights are not on this machine" in found["inception"].text
    assert 'pip install "ctdiffusion[inception]"' in found["inception"].remedy
    assert f"put it at {tmp_path / 'weights-inception-2015-12-05-6726825d.pth'}" in found["inception"].remedy
    assert "pip install" not in found["radimagenet"].remedy
    assert found["radiomics"].remedy == 'Run: python -m pip install "ctdiffusion[radiomics]".'
    (tmp_path / "RadImageNet-ResNet50_notop.pth").touch()
    there["mirp"] = "2.7"
    assert (checks()["radimagenet"].status, checks()["radiomics"].status) == ("ok", "ok")
    there["monai"] = None
    assert checks()["ctfeatures"].remedy == 'Run: python -m pip install "ctdiffusion[evaluate]".'
    monkeypatch.setattr(availability, "BUNDLED_WEIGHTS", tmp_path / "gone")
    assert "Install CTDiffusion again." in checks()["ctfeatures"].remedy


def test_what_extractors_need_is_what_pip_brings():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for needs in availability.NEEDS.values():
        assert any(line.startswith(f"{needs.package}>=") for line in extras[needs.extra])
    assert bundled_weights() == availability.BUNDLED_WEIGHTS


def test_little_memory_and_disk_are_noted(monkeypatch):
    monkeypatch.setattr(doctor, "memory", lambda device: (4 * 2**30, 2**30))
    monkeypatch.setattr(doctor, "ENOUGH_DISK", 2**70)
    assert doctor._check_memory() == Check(
        "memory", "note", "1.0 GB free of 4.0 GB", "Generating needs up to 3 GB; close other programs."
    )
    assert {check.status for check in doctor._check_disk()} == {"note"}
