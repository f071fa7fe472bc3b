"""The jobs of this Slicer: one of a kind at a time, driven by a timer, all ended when Slicer exits."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import slicer
from slicer.i18n import tr as _

from .Job import Job, JobRequest, Launch
from .JobProcess import JobProcess

#: Time between two looks at the workers.
INTERVAL_MS = 100
#: How long the exit of Slicer may be held up by workers that were killed, seconds.
EXIT_WAIT_S = 2.0


class JobBusyError(RuntimeError):
    """A job of that kind is running already."""


class Timer(Protocol):
    """Calls a function again and again in the main thread."""

    def start(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` from now on."""

    def stop(self) -> None:
        """Call no more."""


class QtTimer:
    """A Timer on Qt's event loop."""

    def __init__(self) -> None:
        import qt

        self._timer = qt.QTimer()
        self._timer.setInterval(INTERVAL_MS)
        self._callback: Callable[[], None] | None = None
        self._timer.connect("timeout()", self._onTimeout)

    def start(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` every INTERVAL_MS."""
        self._callback = callback
        self._timer.start()

    def stop(self) -> None:
        """Call no more."""
        self._timer.stop()

    def _onTimeout(self) -> None:
        if self._callback is not None:
            self._callback()


class NoTimer:
    """A Timer for where there is no Qt (slicer-core): jobs go on while somebody waits or polls."""

    def start(self, callback: Callable[[], None]) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class Worker:
    """Starts jobs and looks after them.

    Example::

        job = worker.start(JobRequest("doctor", lambda folder: ["doctor"], graceS=0))
        job.eventReceived.connect(print)
        ending = worker.waitFor(job)

    :param timer: drives the jobs; by default Qt's, if there is Qt.
    :param launch: makes the processes.
    :param processEvents: called while waiting; by default Slicer's event loop.
    :param temporaryFolder: where jobs have their folders; by default Slicer's (else the system's).
    """

    def __init__(
        self,
        *,
        timer: Timer | None = None,
        launch: Launch = JobProcess,
        processEvents: Callable[[], Any] | None = None,
        temporaryFolder: str | None = None,
    ) -> None:
        app = getattr(slicer, "app", None)
        self._timer = timer if timer is not None else _defaultTimer()
        self._launch = launch
        self._processEvents = processEvents or getattr(app, "processEvents", None) or (lambda: None)
        self._temporaryFolder = temporaryFolder or getattr(app, "temporaryPath", None)
        self._jobs: dict[str, Job] = {}

    def start(self, request: JobRequest) -> Job:
        """Start a job; it goes on in the background.

        :raises JobBusyError: if one of its kind is running.
        :raises OSError: if there is no interpreter or no place for its folder.
        """
        if self.isRunning(request.kind):
            raise JobBusyError(
                _("One job ({kind}) is running already. Wait for its end, or cancel it.").format(kind=request.kind)
            )
        job = self._jobs[request.kind] = Job(request, launch=self._launch, temporaryFolder=self._temporaryFolder)
        self._timer.start(self.poll)
        return job

    def isRunning(self, kind: str) -> bool:
        """Whether a job of that kind is running."""
        return kind in self._jobs and self._jobs[kind].isRunning

    def poll(self) -> None:
        """Let all jobs take in what has come."""
        for job in list(self._jobs.values()):
            job.poll()
        self._jobs = {kind: job for kind, job in self._jobs.items() if job.isRunning}
        if not self._jobs:
            self._timer.stop()

    def waitFor(self, job: Job) -> Any:
        """Wait for the end of a job, while Slicer handles its events; for scripts.

        :return: the JobEnding.
        """
        while job.isRunning:
            self.poll()
            self._processEvents()
            time.sleep(0.02)
        return job.ending

    def endAll(self, reason: str = "") -> None:
        """Kill all jobs and clean up behind them, now; takes at most EXIT_WAIT_S."""
        jobs = [job for job in self._jobs.values() if job.isRunning]
        for job in jobs:
            job.kill(reason)
        until = time.monotonic() + EXIT_WAIT_S
        for job in jobs:
            job.endNow(max(0.0, until - time.monotonic()), reason)
        self._jobs.clear()
        self._timer.stop()


@lru_cache(maxsize=1)
def sharedWorker() -> Worker:
    """Return the Worker of this Slicer: jobs of a kind exclude each other whoever starts them."""
    worker = Worker()
    app = getattr(slicer, "app", None)
    if app is not None:
        app.connect("aboutToQuit()", lambda: worker.endAll(_("Slicer was closed.")))
    return worker


def _defaultTimer() -> Timer:
    try:
        return QtTimer()
    except ImportError:
        return NoTimer()
