"""One run of a command for Slicer, mostly of ``ctdiffusion``: a private folder, events as signals, one ending."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from slicer.i18n import tr as _

from .JobEnding import JobEnding, endingOf
from .JobProcess import JobProcess, libraryEnvironment, plainEnvironment, pythonExecutable
from .JobSignal import Signal

if TYPE_CHECKING:
    from CTDiffusionLogic.cli.events import Failed, Finished

#: Lines of the log that are kept.
LOG_LINES = 5000
#: The module that is the command ``ctdiffusion``: it alone knows events.
LIBRARY = "CTDiffusionLogic"
#: So begins every event; what a library has written without a line break may stand before it.
EVENT_START = '{"event": '


class Process(Protocol):
    """What a job needs of a process; see JobProcess."""

    startError: Exception | None
    exitCode: int | None

    def start(self) -> None:
        """Start it; returns at once, as all methods but wait do."""

    def hasEnded(self) -> bool:
        """Whether it and its descendants are gone and all their lines can be read."""

    def readLines(self) -> list[str]:
        """Return the lines that came since the last call."""

    def kill(self) -> None:
        """End it with its descendants."""

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so long; return whether it came."""


class Launch(Protocol):
    """Makes a process, not yet started; JobProcess is one."""

    def __call__(
        self,
        words: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        prepare: Callable[[], None] | None,
    ) -> Process:
        """Make it; ``prepare`` runs before it starts."""


@dataclass(frozen=True)
class JobRequest:
    """What a job is to do.

    :param kind: for example "generate": one job of a kind runs at a time.
    :param words: the command with its arguments, given the job's private folder.
    :param module: what ``python -m`` runs them with, for example pip.
    :param prepare: what must be in that folder first; runs in a thread and may not touch Qt or the scene.
    :param graceS: how long the worker may take to leave when it is asked to, seconds; 0 for commands that cannot
        be asked (without --cancel-file, and all other modules).
    :param onLine: given each line that is no event, first; True: it is not for the log.
    :param ending: says how it ended; called as JobEnding.endingOf.
    """

    kind: str
    words: Callable[[Path], Sequence[str]]
    prepare: Callable[[Path], None] | None = None
    graceS: float = 10.0
    module: str = LIBRARY
    onLine: Callable[[str], bool] | None = None
    ending: Callable[..., JobEnding] = endingOf


class Job:
    """A job; made and driven by a Worker.

    Signals: ``eventReceived`` (an event of CTDiffusionLogic.cli.events), ``ended`` (a JobEnding; after the last
    event, and before the private folder is removed).
    """

    def __init__(self, request: JobRequest, *, launch: Launch = JobProcess, temporaryFolder: str | None = None):
        self.request = request
        self.eventReceived = Signal()
        self.ended = Signal()
        self.ending: JobEnding | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="CTDiffusion-", dir=temporaryFolder))
        self._sentinel = self.folder / "cancel"
        self._stopReason = ""
        self._killAt: float | None = None
        self._last: Finished | Failed | None = None
        self._log: list[str] = []
        self._output: list[str] = []
        self._isPolling = False
        isOurs = request.module == LIBRARY
        words = [*request.words(self.folder), *(["--events", "json"] if isOurs else [])]
        if isOurs and request.graceS > 0:
            words += ["--cancel-file", str(self._sentinel)]
        prepare = request.prepare
        try:
            self._process = launch(
                [pythonExecutable(), "-u", "-m", request.module, *words],
                environment=libraryEnvironment() if isOurs else plainEnvironment(),
                folder=self.folder,
                prepare=(lambda: prepare(self.folder)) if prepare is not None else None,
            )
            self._log.append(" ".join(["ctdiffusion" if isOurs else request.module, *words]))
            self._process.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    @property
    def isRunning(self) -> bool:
        """Whether ``ended`` is still to come."""
        return self.ending is None

    @property
    def isStopping(self) -> bool:
        """Whether it has been asked to stop and has not ended yet."""
        return self.isRunning and bool(self._stopReason)

    @property
    def log(self) -> str:
        """Command, events and output of the worker, for error reports."""
        return "\n".join(self._log)

    def cancel(self, reason: str = "") -> None:
        """Ask the worker to stop; after its grace period it is killed. Returns at once.

        :param reason: what the ending says.
        """
        if not self.isRunning or self._stopReason:
            return
        self._stopReason = reason or _("Cancelled.")
        self._killAt = time.monotonic() + self.request.graceS
        try:
            self._sentinel.touch()
        except OSError:  # the disk is full, or the folder gone
            self._killAt = 0.0

    def kill(self, reason: str = "") -> None:
        """End the worker with its whole process tree, now; ``ended`` follows with the next ``poll``.

        :param reason: what the ending says.
        """
        if self.isRunning:
            self._stopReason = self._stopReason or reason or _("Cancelled.")
            self._process.kill()

    def poll(self) -> None:
        """Take in what has come from the worker since the last call. Quick; called by the Worker's timer."""
        if not self.isRunning or self._isPolling:  # an observer may let Qt handle timers
            return
        self._isPolling = True
        try:
            if self._killAt is not None and time.monotonic() >= self._killAt:
                self._process.kill()
            hasEnded = self._process.hasEnded()  # before reading: the last line must not be missed
            for line in self._process.readLines():
                self._takeIn(line)
            if hasEnded:
                self._end()
        finally:
            self._isPolling = False

    def endNow(self, seconds: float, reason: str = "") -> None:
        """Kill, wait for at most ``seconds``, and clean up: for the exit of Slicer, when no timer runs any more."""
        self.kill(reason)
        self._process.wait(seconds)
        self.poll()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _takeIn(self, line: str) -> None:
        from CTDiffusionLogic.cli.events import Failed, Finished, Progress, Slices, parse_line

        place = line.find(EVENT_START)
        event = parse_line(line[place:]) if place >= 0 else None
        said = line if event is None else line[:place]
        if event is None and self.request.onLine is not None and self.request.onLine(line):
            return
        if said.strip():
            self._output.append(said)
        if not isinstance(event, Progress | Slices):  # they would bury the rest
            self._log.append(line)
        del self._log[1:-LOG_LINES], self._output[:-LOG_LINES]
        if isinstance(event, Finished | Failed):
            self._last = event
        if event is not None:
            self.eventReceived.emit(event)

    def _end(self) -> None:
        self.ending = self.request.ending(
            self._last,
            self._process.exitCode,
            stopReason=self._stopReason,
            startError=self._process.startError,
            output=self._output,
        )
        self._log.append(f"[exit code {self._process.exitCode}] {self.ending.kind} {self.ending.text}".rstrip())
        try:
            self.ended.emit(self.ending)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            if self.folder.exists():
                logging.warning("CTDiffusion: %s could not be removed.", self.folder)
