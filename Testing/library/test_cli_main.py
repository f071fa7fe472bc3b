"""The command's outer shape: help and wrong use at once and without torch, one line for each failure."""

from __future__ import annotations

import subprocess
import sys

import pytest

from CTDiffusionLogic import __version__
from CTDiffusionLogic.cli import info
from CTDiffusionLogic.cli.events import Failed, parse_line
from CTDiffusionLogic.cli.main import COMMANDS, main

WRONG_USE = [
    ([], "required: COMMAND"),
    (["generat"], "'generat'"),
    (["generate"], "--out"),
    (["generate", "--out", "a.nrrd", "--slices", "0"], "from 1 to 1000, got 0"),
    (["generate", "--out", "a.nrrd", "--slices", "100000"], "from 1 to 1000, got 100000"),
    (["generate", "--out", "a.nrrd", "--slices", "many"], "'many'"),
    (["generate", "--out", "a.nrrd", "--count", "0"], "--count"),
    (["generate", "--out", "a.nrrd", "--spacing-mm", "-3"], "--spacing-mm"),
    (["generate", "--out", "a.nrrd", "--spacing-mm", "nan"], "--spacing-mm"),
    (["generate", "--out", "a.nrrd", "--seed", "-1"], "--seed"),
    (["generate", "--out", "a.nrrd", "--steps", "0"], "--steps"),
    (["generate", "--out", "a.nrrd", "--sampler", "magic"], "'magic'"),
    (["generate", "--out", "a.nrrd", "--device", "gpu"], "Unknown device 'gpu'"),
    (["generate", "--out", "a.nrrd", "--threads", "0"], "--threads"),
    (["generate", "--out", "a.nrrd", "--slice", "3"], "--slice"),
    (["train", "scans"], "--run"),
    (["train", "--run", "x"], "No DATA"),
    (["train", "scans", "--run", "x", "--epochs", "0"], "--epochs"),
    (["train", "scans", "--run", "x", "--max-minutes", "-1"], "--max-minutes"),
    (["train", "scans", "--run", "x", "--preset", "huge"], "'huge'"),
    (["train", ".", "--run", "x", "--image-size", "100"], "multiple of 64, got 100"),
    (["export-dicom", "a.nrrd"], "--out"),
    (["info"], "MODEL|SCAN"),
    (["doctor", "--events", "xml"], "'xml'"),
]


@pytest.mark.parametrize(("words", "shown"), WRONG_USE, ids=[" ".join(w) or "nothing" for w, _ in WRONG_USE])
def test_wrong_use(words, shown, capfd):
    assert main(words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("ctdiffusion: error: ")
    assert shown in err


def test_wrong_use_is_an_event_too(capfd):
    for form in (["--events", "json"], ["--events=json"]):
        assert main(["generate", *form]) == 2
        out, err = capfd.readouterr()
        failure = parse_line(out)
        assert isinstance(failure, Failed)
        assert (failure.code, failure.exit_code) == ("wrong-use", 2)
        assert "--out" in failure.message
        assert "--help" in failure.remedy
        assert err == ""


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help(words, capfd):
    assert main(words) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert __version__ in out or "usage:" in out


def test_help_lists_every_command_with_its_summary(capfd):
    main(["--help"])
    out = capfd.readouterr().out
    for name, module in COMMANDS.items():
        assert name in out
        assert module.SUMMARY in " ".join(out.split())


def test_quick_answers_import_neither_torch_nor_numpy():
    script = """
import sys
from CTDiffusionLogic.cli.main import main
codes = [main([w for w in words.split()]) for words in (
    "--help", "--version", "doctor --version", "generate --help", "train --help", "generate --slices 0",
    "train --run x", "info nothing-there", "generate --out a.nrrd --model nothing-there")]
heavy = {"torch", "numpy", "SimpleITK", "scipy", "diffusers", "pydicom"} & set(sys.modules)
print("RESULT", codes, sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "RESULT [0, 0, 0, 0, 0, 2, 2, 1, 1] []"


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "CTDiffusionLogic", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"ctdiffusion {__version__}\n")


def test_a_bug_is_one_line_and_exit_code_1(monkeypatch, capfd):
    def broken(args, console):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.delenv("CTDIFFUSION_DEBUG", raising=False)
    monkeypatch.setattr(info, "run", broken)
    assert main(["info", "x"]) == 1
    err = capfd.readouterr().err
    assert err.startswith("ctdiffusion: error: unexpected: ZeroDivisionError: division.")
    assert "CTDIFFUSION_DEBUG=1" in err
    assert len(err.splitlines()) == 1
    monkeypatch.setenv("CTDIFFUSION_DEBUG", "1")
    assert main(["info", "x"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_cancelled_is_130(monkeypatch, capfd):
    def stopped(args, console):
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "run", stopped)
    assert main(["info", "x"]) == 130
    assert capfd.readouterr().err == "ctdiffusion: cancelled: Cancelled.\n"
