"""One export: volumes that are written by workers, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from .ExportRequest import ExportRequest
from .ExportSource import ExportSource
from .Job import Job, JobRequest
from .JobEnding import JobEnding
from .JobSignal import Signal
from .Worker import Worker

if TYPE_CHECKING:
    from CTDiffusionLogic.cli.events import Event

KIND = "export"
#: The worker asks between two slices whether to stop.
GRACE_S = 5.0


class ExportRun:
    """Writes volumes. Goes on when the scene is closed: it has all it needs.

    Signals: ``progressed`` (share that is done, 0 to 1, and a sentence), ``ended`` (a JobEnding).

    :param worker: runs it.
    :param request: what to write, and where.
    :param sources: the volumes; at least one.
    :raises JobBusyError: if another export is running.
    :raises CTDiffusionLogic.errors.CTDiffusionError: if something is in the way; nothing is written then.
    """

    def __init__(self, worker: Worker, request: ExportRequest, sources: Sequence[ExportSource]) -> None:
        self.progressed = Signal()
        self.ended = Signal()
        #: How it ended; None while it runs.
        self.ending: JobEnding | None = None
        #: Files and folders that are whole by now.
        self.written: list[Path] = []
        #: What the user should know of the volumes.
        self.warnings = [source.warning for source in sources if source.warning]
        self._worker, self._request, self._sources = worker, request, list(sources)
        self._outputs = request.outputs(sources)
        self._logs: list[str] = []
        self.job = self._start()

    @property
    def isRunning(self) -> bool:
        """Whether ``ended`` is still to come."""
        return self.ending is None

    @property
    def log(self) -> str:
        """Commands, events and output of the workers."""
        return "\n".join([*self._logs, self.job.log] if self.isRunning else self._logs)

    def cancel(self) -> None:
        """Stop, soon; returns at once. What is whole by then stays, nothing else."""
        self.job.cancel()

    def _start(self) -> Job:
        """Write the first volume that is not written yet."""
        number = len(self.written)
        source, output = self._sources[number], self._outputs[number]
        job = self._worker.start(
            JobRequest(
                KIND,
                lambda folder: self._request.words(folder / "volume.nrrd", source, output),
                lambda folder: source.writeTo(folder / "volume.nrrd"),
                GRACE_S,
            )
        )
        job.eventReceived.connect(self._onEvent)
        job.ended.connect(self._onEnded)
        return job

    def _onEvent(self, event: Event) -> None:
        from CTDiffusionLogic.cli.events import Progress, Warned

        if isinstance(event, Warned):
            self.warnings.append(event.message)
        number, of = len(self.written), len(self._sources)
        share = event.done / event.of if isinstance(event, Progress) and event.of else 0.0
        sentence = _("Writing {name}...").format(name=self._outputs[number].name)
        if of > 1:
            sentence = _("Writing {name} ({number} of {of})...").format(
                name=self._outputs[number].name, number=number + 1, of=of
            )
        self.progressed.emit((number + share) / of, sentence)

    def _onEnded(self, ending: JobEnding) -> None:
        self._logs.append(self.job.log)
        if ending.kind == "finished":
            self.written.append(self._outputs[len(self.written)])
            if len(self.written) < len(self._sources):
                try:
                    self.job = self._start()
                    return
                except Exception as error:  # no space for its folder, or another export was faster
                    ending = JobEnding("failed", _("The export stopped: {error}").format(error=error), code="no-start")
        self.ending = ending
        self._sources.clear()  # they hold voxels
        self.ended.emit(ending)
