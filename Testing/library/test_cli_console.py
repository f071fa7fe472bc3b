"""Text for people, JSON for programs, clean stops and one line for every failure."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import signal
import subprocess
import sys

import pytest

from CTDiffusionLogic.cli.cancel import CancelSwitch
from CTDiffusionLogic.cli.console import JsonConsole, TextConsole, open_console
from CTDiffusionLogic.cli.events import Failed, Finished, Metric, Progress, Warned, parse_line
from CTDiffusionLogic.cli.failures import failure_of
from CTDiffusionLogic.errors import Cancelled, InputError, UsageError


def show(*events, tty: bool = False) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    err.isatty = lambda: tty
    console = TextConsole(out, err)
    for event in events:
        console.emit(event)
    return out.getvalue(), err.getvalue()


def test_results_go_to_stdout_and_the_rest_to_stderr():
    out, err = show(
        Progress(0, 4, None, "anatomy"),
        Metric("loss", {"train": 0.123456, "step": 20}),
        Warned("Odd."),
        Finished(("/a/b.nrrd",), {"seconds": 75.2}),
    )
    assert out == "/a/b.nrrd\n"
    assert err.splitlines() == [
        "anatomy: 0 of 4 (0 %)",
        "loss: train 0.1235, step 20",
        "warning: Odd.",
        "Done in 1 min 15 s.",
    ]


def test_a_log_gets_few_progress_lines_and_always_the_last():
    _, err = show(*(Progress(n, 500, 500 - n, "detail") for n in range(501)))
    assert err.splitlines() == ["detail: 0 of 500 (0 %), 8 min 20 s left", "detail: 500 of 500 (100 %)"]


def test_progress_without_a_known_end():
    _, err = show(Progress(20, None, None, "training"))
    assert err == "training: 20\n"


def test_a_terminal_gets_one_line_that_is_overwritten():
    _, err = show(Progress(0, 2, 3700, "a"), Progress(2, 2, 0, "a"), Warned("Odd."), tty=True)
    assert err == "\r\x1b[2Ka: 0 of 2 (0 %), 1 h 1 min left\r\x1b[2Ka: 2 of 2 (100 %)\nwarning: Odd.\n"


def test_a_failure_is_one_line():
    _, err = show(Failed("bad-input", "It is\nbroken.", "Get  another.", 1))
    assert err == "ctdiffusion: error: It is broken. Get another.\n"
    _, err = show(Failed("cancelled", "Cancelled.", "", 130))
    assert err == "ctdiffusion: cancelled: Cancelled.\n"


def test_json_console_stops_the_command_when_nobody_reads():
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        console = JsonConsole(stream)
        console.emit(Warned("x"))
        os.close(read)
        with pytest.raises(Cancelled, match="gone away"):
            console.emit(Warned("y"))
        stream.close = lambda: None  # closing would try to flush once more


def test_stdout_carries_events_only_even_against_c_code():
    script = """
import os, sys, logging
from CTDiffusionLogic.cli.console import open_console
from CTDiffusionLogic.cli.events import Warned
with open_console(json=True) as console:
    print("from Python")
    os.write(1, b"from C\\n")
    logging.getLogger("CTDiffusionLogic.x").warning("from the library")
    console.say("text")
    console.emit(Warned("last"))
print("after")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [parse_line(line) for line in lines[:2]] == [Warned("from the library"), Warned("last")]
    assert lines[2:] == ["after"]
    assert sorted(done.stderr.splitlines()) == ["from C", "from Python"]


def test_log_warnings_become_warnings(capsys):
    logger = logging.getLogger("CTDiffusionLogic.something")
    with open_console(json=False):
        logger.warning("The GPU is %s.", "tired")
        logger.info("not shown")
    logger.warning("not shown either")
    assert capsys.readouterr().err.splitlines()[0] == "warning: The GPU is tired."


@pytest.mark.parametrize(
    ("error", "code", "exit_code", "words"),
    [
        (InputError("No.", remedy="Do."), "bad-input", 1, "No."),
        (UsageError("No."), "wrong-use", 2, "No."),
        (Cancelled(), "cancelled", 130, "Cancelled"),
        (KeyboardInterrupt(), "cancelled", 130, "Cancelled"),
        (MemoryError(), "no-resource", 1, "Memory ran out"),
        (RuntimeError("CUDA out of memory. Tried to\nallocate"), "no-resource", 1, "CUDA out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), "no-resource", 1, "Memory"),
        (ModuleNotFoundError("No module named 'torch.x'", name="torch.x"), "no-resource", 1, "package torch is not"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "cannot-write", 1, "disk is full"),
        (KeyError("k"), "failed", 1, "unexpected: KeyError: 'k'"),
        (AssertionError(), "failed", 1, "unexpected: AssertionError"),
        (OSError(errno.EIO, "Input/output error"), "failed", 1, "unexpected: OSError"),
    ],
)
def test_every_exception_becomes_a_failure(error, code, exit_code, words, monkeypatch):
    monkeypatch.delenv("CTDIFFUSION_DEBUG", raising=False)
    failure = failure_of(error)
    assert (failure.code, failure.exit_code) == (code, exit_code)
    assert words in failure.message
    assert "\n" not in failure.message


def test_tracebacks_only_when_debugging(monkeypatch, capsys):
    monkeypatch.setenv("CTDIFFUSION_DEBUG", "0")
    failure_of(KeyError("k"))
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("CTDIFFUSION_DEBUG", "1")
    failure_of(KeyError("k"))
    assert "KeyError" in capsys.readouterr().err


def test_cancel_by_signal():
    before = signal.getsignal(signal.SIGINT)
    with CancelSwitch() as is_cancelled:
        assert not is_cancelled()
        is_cancelled.check()
        signal.raise_signal(signal.SIGINT)
        assert is_cancelled()
        with pytest.raises(Cancelled):
            is_cancelled.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


def test_cancel_by_file(tmp_path):
    with CancelSwitch(tmp_path / "stop") as is_cancelled:
        assert not is_cancelled()
        (tmp_path / "stop").touch()
        assert is_cancelled()
        (tmp_path / "stop").unlink()
        assert is_cancelled()  # once asked, asked


def test_failed_event_is_json():
    stream = io.StringIO()
    JsonConsole(stream).emit(Failed("x", "m", "r", 2))
    assert json.loads(stream.getvalue()) == {
        "event": "failed",
        "code": "x",
        "message": "m",
        "remedy": "r",
        "exit_code": 2,
    }
