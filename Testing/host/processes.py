"""Processes as Slicer 5.12 starts them: slicer-core 5.11 starts them too, but cannot yet hand their lines on."""

from __future__ import annotations

import inspect
import logging
import queue
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer.util

#: How often lines are handed on, as in Slicer 5.12, ms.
POLL_MS = 100

_original = slicer.util.launchConsoleProcess


def launchConsoleProcess(
    args: list[str],
    useStartupEnvironment: bool = True,
    updateEnvironment: dict[str, str] | None = None,
    cwd: str | None = None,
    blocking: bool = True,
    logCallback: Callable[[str], None] | None = None,
    completedCallback: Callable[[int], None] | None = None,
) -> Any:
    """Start a process with slicer-core's function; with ``blocking=False`` hand its lines to the callbacks.

    As in Slicer 5.12: a thread reads, a timer hands on, and completion is reported after the last line.
    """
    process = _original(args, useStartupEnvironment, updateEnvironment, cwd)
    if blocking:
        return process
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line.rstrip())
        process.wait()
        lines.put(None)

    def handOn() -> None:
        import qt

        while not lines.empty():
            line = lines.get()
            if line is not None:
                (logCallback or print)(line)
            elif completedCallback is not None:
                completedCallback(process.returncode)
                return
            else:
                if process.returncode != 0:
                    logging.error("Process failed with return code %s: %s", process.returncode, args)
                return
        qt.QTimer.singleShot(POLL_MS, handOn)

    import qt

    threading.Thread(target=read, daemon=True).start()
    qt.QTimer.singleShot(POLL_MS, handOn)
    return process


def executePythonModule(
    module: str,
    args: list[str],
    blocking: bool = True,
    logCallback: Callable[[str], None] | None = None,
    completedCallback: Callable[[int], None] | None = None,
) -> None:
    """Run ``PythonSlicer -m module args``."""
    command = [shutil.which("PythonSlicer") or "PythonSlicer", "-m", module, *args]
    if blocking:
        slicer.util.logProcessOutput(slicer.util.launchConsoleProcess(command, useStartupEnvironment=False))
    else:
        slicer.util.launchConsoleProcess(
            command,
            useStartupEnvironment=False,
            blocking=False,
            logCallback=logCallback,
            completedCallback=completedCallback,
        )


def additions() -> dict[str, Any]:
    """Return what slicer.util lacks compared with Slicer 5.12; nothing once slicer-core has it."""
    if "blocking" in inspect.signature(_original).parameters:
        return {}
    return {"launchConsoleProcess": launchConsoleProcess, "executePythonModule": executePythonModule}


def writePythonSlicer(folder: Path) -> None:
    """Write a PythonSlicer that, like Slicer's launcher, runs Python as a child: to kill it does not end Python."""
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        (folder / "PythonSlicer.bat").write_text(f'@"{sys.executable}" %*\n')
        return
    launcher = folder / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n')
    launcher.chmod(0o755)
