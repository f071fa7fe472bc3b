"""The doctor: finds what is there, and explains what is not, even without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from CTDiffusionLogic import __version__, doctor
from CTDiffusionLogic.cli.events import Failed, Finished, Metric, Started, parse_line
from CTDiffusionLogic.cli.main import main
from CTDiffusionLogic.doctor import Check

ROOT = Path(__file__).parents[2]


def test_this_machine_is_sound(capfd):
    assert main(["doctor", "--events", "json"]) == 0
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
    assert events[-1].details["checks"] == list(checks.values())


def run_without_packages(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a Python that sees no installed packages at all."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-S", "-m", "CTDiffusionLogic", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")


def test_without_any_package_it_says_what_to_install():
    done = run_without_packages("doctor")
    assert done.returncode == 1
    for package in doctor.REQUIRED:
        assert f"PROBLEM  {package}: not installed" in done.stdout
        assert f"python -m pip install {package}" in done.stdout
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


def test_a_torch_that_crashes_the_process(tmp_path, monkeypatch):
    fake_torch(tmp_path, monkeypatch, "import os; os.abort()")
    checks = last_checks()
    assert checks["computing"].status == "problem"
    assert "ended with code -6" in checks["computing"].text


def test_a_broken_bundled_model_is_a_problem(tmp_path, monkeypatch, capfd):
    path = tmp_path / "torso.safetensors"
    path.write_bytes(b"half a download")
    monkeypatch.setattr(doctor, "bundled_models", lambda: {"torso": path})
    monkeypatch.setattr(doctor, "_check_computing", lambda: iter(()))
    assert main(["doctor", "--events", "json"]) == 1
    last = parse_line(capfd.readouterr().out.splitlines()[-1])
    assert isinstance(last, Failed)
    assert "model torso" in last.message
    assert "Install CTDiffusion again" in last.remedy


def test_little_memory_and_disk_are_noted(monkeypatch):
    monkeypatch.setattr(doctor, "memory", lambda device: (4 * 2**30, 2**30))
    monkeypatch.setattr(doctor, "ENOUGH_DISK", 2**70)
    assert doctor._check_memory() == Check(
        "memory", "note", "1.0 GB free of 4.0 GB", "Generating needs up to 3 GB; close other programs."
    )
    assert {check.status for check in doctor._check_disk()} == {"note"}
