"""Runs an installation: one command after the other in workers, then a test; Slicer is never blocked."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from . import InstallFailure
from .GenerateDevices import DeviceFinder
from .InstallCheck import InstallState, stateOf
from .InstallPlan import CONSTRAINTS, InstallPlan, InstallStep
from .Job import Job, JobRequest
from .JobEnding import JobEnding
from .JobProcess import libraryEnvironment, pythonExecutable
from .JobSignal import Signal
from .Worker import Worker

KIND = "install"
#: Jobs that use what an installation replaces.
_USERS = ("generate", "train", "evaluate")
#: So pip says how far a download is (--progress-bar=raw): "Progress 1000 of 5000".
_PROGRESS = "Progress "


class InstallBusyError(RuntimeError):
    """Something runs that an installation would disturb."""


class InstallLogic:
    """Installs what is missing.

    Signals: ``changed`` (nothing): another step, progress, or the end; ``said`` (a line for the log); ``ended`` (a
    JobEnding: "finished" only if the test after the installation passed).

    Example::

        logic.start(makePlan(["torch", "diffusers"], source="pip"))

    :param worker: runs the commands.
    :param finder: asks the doctor, before and after.
    """

    def __init__(self, worker: Worker, finder: DeviceFinder) -> None:
        self.changed, self.said, self.ended = Signal(), Signal(), Signal()
        #: What is being done, for people; empty while nothing is.
        self.step = ""
        #: Bytes that were downloaded of the present file, and its size; (0, 0) if not known.
        self.progress = (0, 0)
        self.isStopping = False
        self.plan: InstallPlan | None = None
        self._worker, self._finder = worker, finder
        self._steps: list[InstallStep] = []
        self._job: Job | None = None
        self._isTesting = False
        finder.changed.connect(self._onFinderChanged)

    @property
    def isRunning(self) -> bool:
        """Whether an installation, or the test after it, is going on."""
        return bool(self.step)

    @property
    def state(self) -> InstallState:
        """What is installed."""
        return stateOf(self._finder)

    def start(self, plan: InstallPlan) -> None:
        """Start an installation; it goes on in the background.

        :raises InstallBusyError: if it would disturb something, or be disturbed.
        """
        self.requireQuiet()
        self.plan, self._steps, self.isStopping = plan, list(plan.steps), False
        self.step = _("Preparing")
        self._finder.forget(_("Packages are being installed."))
        self._next()

    def cancel(self) -> None:
        """End the command that runs, with all that it has started; ``ended`` follows."""
        if not self.isRunning or self.isStopping:
            return
        self.isStopping = True
        if self._isTesting:
            self._finder.stop()
        elif self._job is not None:
            self._job.kill(_("Cancelled. Press Install to go on."))
        self.changed.emit()

    def check(self) -> None:
        """Look again at what is installed."""
        if not self.isRunning:
            self._finder.ask()

    def cleanup(self) -> None:
        """Listen no more; what runs is ended by who owns the worker."""
        self._finder.changed.disconnect(self._onFinderChanged)
        if self._job is not None:
            self._job.ended.disconnect(self._onStepEnded)

    def requireQuiet(self) -> None:
        """Check that nothing runs that an installation would disturb.

        :raises InstallBusyError: if something does.
        """
        if self.isRunning or self._worker.isRunning(KIND):
            raise InstallBusyError(_("An installation is running already."))
        if any(self._worker.isRunning(kind) for kind in _USERS):
            raise InstallBusyError(_("A generation or a training is running. Wait for its end, or cancel it."))
        packaging: Any = getattr(slicer, "packaging", None)
        isInstalling = getattr(packaging, "isPipInstallInProgress", None)  # since Slicer 5.12
        if isInstalling is not None and isInstalling():
            raise InstallBusyError(_("Another extension is installing packages. Wait until it is done."))

    def _next(self) -> None:
        """Begin the next command, or the test if there is none."""
        self.progress = (0, 0)
        if not self._steps:
            self._test()
            return
        step = self._steps[0]
        self.step = step.title
        request = JobRequest(
            KIND,
            lambda folder: [word.replace(CONSTRAINTS, str(_constraintsIn(folder))) for word in step.words],
            prepare=lambda folder: _writeConstraints(_constraintsIn(folder), except_=step.packages),
            graceS=0,
            module=step.module,
            onLine=self._onLine,
            ending=InstallFailure.endingOf,
        )
        try:
            self._job = self._worker.start(request)
        except Exception as error:
            self._end(InstallFailure.endingOf(None, None, startError=error))
            return
        self.said.emit(self._job.log)
        self._job.ended.connect(self._onStepEnded)
        self.changed.emit()

    def _onLine(self, line: str) -> bool:
        if line.startswith(_PROGRESS):
            words = line.split()
            if len(words) == 4 and words[1].isdecimal() and words[3].isdecimal():
                self.progress = int(words[1]), int(words[3])
                self.changed.emit()
            return True
        if line.strip():
            self.said.emit(line)
        return False

    def _onStepEnded(self, ending: JobEnding) -> None:
        step = self._steps.pop(0)
        if ending.kind == "finished" or (ending.kind == "failed" and step.mayFail):
            self._next()
        else:
            self._end(ending)

    def _test(self) -> None:
        self.step, self._isTesting = _("Testing: a tiny slice is being generated"), True
        self.changed.emit()
        self._finder.ask(withGeneration=True)

    def _onFinderChanged(self) -> None:
        if not self._isTesting or self._finder.isAsking:
            self.changed.emit()
            return
        self._isTesting = False
        self.said.emit(self._finder.log)
        state = self.state
        if self.isStopping:
            ending = JobEnding("cancelled", _("Everything is installed; the test was cancelled."), code="cancelled")
        elif state.kind == "ready":
            ending = JobEnding("finished")
        else:
            remedy = _("Press Repair to install the broken packages again.") if state.broken else ""
            ending = JobEnding("failed", state.text, remedy, "test-failed")
        self._end(ending)

    def _end(self, ending: JobEnding) -> None:
        self.step, self.progress, self.isStopping, self._job = "", (0, 0), False, None
        self.ended.emit(ending)
        if ending.code != "test-failed" and ending.kind != "finished":
            self._finder.ask()  # something may be there by now
        self.changed.emit()


def _constraintsIn(folder: Path) -> Path:
    return folder / "constraints.txt"


def _writeConstraints(path: Path, *, except_: Sequence[str]) -> None:
    """Pin what must not be replaced. Runs in a thread: Python is asked which versions it has."""
    command = [pythonExecutable(), "-m", "CTDiffusionLogic.requirements"]
    done = subprocess.run(
        command, env=libraryEnvironment(), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )
    free = {name.lower() for name in except_}
    lines = [line for line in done.stdout.splitlines() if line.partition("==")[0].lower() not in free]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
