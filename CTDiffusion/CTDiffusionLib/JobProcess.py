"""A worker process with all its descendants: started, read without blocking, ended as a whole.

Why not slicer.util.launchConsoleProcess, of which this is the smallest part that we need (read in Slicer 5.13):
it starts no process group, and its caller gets the process only after it has begun, so PythonSlicer, a launcher, can
be killed but not the Python behind it, nor what that has started. Its reader waits for the end of the output,
which never comes while such a left-over process holds the pipe. Output is decoded as the system's locale says,
and one byte that does not fit drops the lines around it. What its callbacks raise ends its timer for good; without
Qt nobody can wait for the end. Environment, pipes and the hidden window on Windows are as there with
``useStartupEnvironment=False``.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

#: Time the last lines are waited for once the worker has ended, seconds: only where something escaped its group.
LAST_LINES_S = 5.0


def pythonExecutable() -> str:
    """Return Slicer's Python interpreter; outside of Slicer the one that runs.

    :raises FileNotFoundError: if Slicer has none.
    """
    found = shutil.which("PythonSlicer")
    if found is None and "python" in Path(sys.executable).name.lower():
        found = sys.executable
    if found is None:
        raise FileNotFoundError("PythonSlicer is missing from this Slicer.")
    return found


def plainEnvironment() -> dict[str, str]:
    """Return Slicer's environment, in which Python sends its lines at once."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}


def libraryEnvironment() -> dict[str, str]:
    """Return the plain environment in which the worker finds the package CTDiffusionLogic, too."""
    import CTDiffusionLogic

    library = str(Path(str(CTDiffusionLogic.__file__)).resolve().parents[1])
    paths = [library, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**plainEnvironment(), "PYTHONPATH": os.pathsep.join(paths)}


class JobProcess:
    """Runs one command. Threads of our own read and wait; every method returns at once.

    :param words: program and arguments.
    :param environment: of the process.
    :param folder: where it runs.
    :param prepare: run before it starts, in the same thread: what would block Slicer (writing a large file).
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.words = list(words)
        #: What kept the process from starting, if anything did.
        self.startError: Exception | None = None
        #: As subprocess has it: negative for a signal; None until the end, or if it never started.
        self.exitCode: int | None = None
        self._environment, self._folder, self._prepare = dict(environment), folder, prepare
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._isKilled = False
        # A daemon: Slicer must be able to exit whatever happens here.
        self._thread = threading.Thread(target=self._run, name="CTDiffusion job", daemon=True)

    def start(self) -> None:
        """Prepare and start; errors are in ``startError`` at the end."""
        self._thread.start()

    @property
    def processID(self) -> int | None:
        """Of the process, which is its group's number too; None before it has started."""
        return self._process.pid if self._process is not None else None

    def hasEnded(self) -> bool:
        """Whether the process and its descendants are gone; ``readLines`` has everything then."""
        return not self._thread.is_alive()

    def readLines(self) -> list[str]:
        """Return the lines that came since the last call, stdout and stderr in one."""
        lines = []
        with suppress(queue.Empty):
            while True:
                lines.append(self._lines.get_nowait())
        return lines

    def kill(self) -> None:
        """End the process and all its descendants, now."""
        with self._lock:
            self._isKilled = True
            if self._process is not None and self.exitCode is None:
                _killTree(self._process)

    def wait(self, seconds: float) -> bool:
        """Block for at most ``seconds`` until the end; for the exit of Slicer. Return whether it came."""
        self._thread.join(seconds)
        return self.hasEnded()

    def _run(self) -> None:
        try:
            if self._prepare is not None:
                self._prepare()
            with self._lock:
                if self._isKilled:
                    return
                self._process = process = self._popen()
        except Exception as error:
            self.startError = error
            return
        reader = threading.Thread(target=self._read, args=(process.stdout,), name="CTDiffusion output", daemon=True)
        reader.start()
        exitCode = process.wait()
        if os.name == "posix":
            # What the worker leaves behind would go on computing, and hold the pipe. The number is still the
            # group's as long as one of them lives.
            _killTree(process)
        reader.join(LAST_LINES_S)
        with self._lock:
            self.exitCode = exitCode

    def _popen(self) -> subprocess.Popen[bytes]:
        options: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.BELOW_NORMAL_PRIORITY_CLASS}
        process = subprocess.Popen(
            self.words,
            env=self._environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )
        if sys.platform != "win32":
            with suppress(OSError):  # Slicer goes first where both want the same core
                os.setpriority(os.PRIO_PGRP, process.pid, 5)
        return process

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._lines.put(line.decode("utf-8", errors="replace").rstrip())


def _killTree(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":  # finds descendants through their parents, so only while those live
        subprocess.Popen(
            ["taskkill", "/PID", str(process.pid), "/T", "/F"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            creationflags=subprocess.CREATE_NO_WINDOW,
        )
    else:
        with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, for a group of zombies
            os.killpg(process.pid, signal.SIGKILL)
