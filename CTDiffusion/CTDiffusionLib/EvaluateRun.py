"""One evaluation for Slicer: goes on whatever happens to the scene, and puts its figures and plots into it."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from . import EvaluateData
from .EvaluateData import REAL, SYNTHETIC
from .EvaluatePlots import EvaluatePlots
from .EvaluateReport import EvaluateReport
from .EvaluateRequest import EvaluateRequest
from .Job import Job, JobRequest
from .JobEnding import JobEnding
from .JobSignal import Signal
from .SceneScans import SceneScan
from .Worker import Worker

if TYPE_CHECKING:
    from CTDiffusionLogic.cli.events import Event

KIND = "evaluate"
#: The worker asks between volumes and between sections whether to stop; nothing is lost by killing it.
GRACE_S = 5.0
#: Where the job has volumes of the scene, in its folder.
_VOLUMES = "volumes"


class EvaluateRun:
    """Measures volumes. Goes on when the scene is closed: it has all it needs.

    Signals: ``progressed`` (an event Progress), ``warned`` (a sentence), ``ended`` (a JobEnding).

    :param worker: runs it.
    :param request: what to measure, and where the report goes.
    :param scene: a vtkMRMLScene that gets table and plots.
    :param volumes: volumes of the scene by group (REAL, SYNTHETIC).
    :raises JobBusyError: if another evaluation is running.
    """

    def __init__(
        self,
        worker: Worker,
        request: EvaluateRequest,
        *,
        scene: Any,
        volumes: Mapping[str, Sequence[SceneScan]],
    ) -> None:
        self.request = request
        self.progressed = Signal()
        self.warned = Signal()
        self.ended = Signal()
        #: How it ended; None while it runs.
        self.ending: JobEnding | None = None
        #: What it found; None before it has finished.
        self.report: EvaluateReport | None = None
        self._scene = scene
        self._names = {
            EvaluateData.fileName(group, number): volume.source.name
            for group, chosen in volumes.items()
            for number, volume in enumerate(chosen, start=1)
        }
        kept = {group: list(chosen) for group, chosen in volumes.items() if chosen}
        groups = tuple(kept)

        def words(folder: Path) -> list[str]:
            places = {group: [folder / _VOLUMES / group] if group in groups else [] for group in (REAL, SYNTHETIC)}
            return request.words(places[REAL], places[SYNTHETIC])

        def prepare(folder: Path) -> None:
            for group, chosen in kept.items():
                EvaluateData.writeVolumes(chosen, group, folder / _VOLUMES / group)
            kept.clear()  # they hold voxels

        self.job: Job = worker.start(JobRequest(KIND, words, prepare, GRACE_S))
        self.job.eventReceived.connect(self._onEvent)
        self.job.ended.connect(self._onEnded)

    @property
    def isRunning(self) -> bool:
        """Whether ``ended`` is still to come."""
        return self.ending is None

    @property
    def log(self) -> str:
        """Command, events and output of the worker, for error reports."""
        return self.inWords(self.job.log)

    def cancel(self) -> None:
        """Stop, soon; returns at once. Nothing is written then."""
        self.job.cancel()

    def inWords(self, text: str) -> str:
        """Replace the job's files in ``text`` by the names of the volumes that are in them."""
        for group in (REAL, SYNTHETIC):
            text = EvaluateData.inWords(text, self._names, self.job.folder / _VOLUMES / group)
        return text

    def _onEvent(self, event: Event) -> None:
        from CTDiffusionLogic.cli.events import Progress, Warned

        if isinstance(event, Progress):
            self.progressed.emit(replace(event, phase=self.inWords(event.phase)))
        elif isinstance(event, Warned):
            self.warned.emit(self.inWords(event.message))

    def _onEnded(self, ending: JobEnding) -> None:
        if ending.kind == "finished":
            try:
                self.report = EvaluateReport.read(self.request.folder)
                if not (self._scene.IsClosing() or self._scene.IsBatchProcessing()):  # else when it is asked for
                    EvaluatePlots(self.report, scene=self._scene).update()
            except Exception as error:  # never "finished" without figures
                logging.exception("CTDiffusion: the report could not be taken over.")
                message = _("The report was written, but could not be shown: {error}").format(error=error)
                ending = JobEnding("failed", message, _("See Slicer's log."), "no-result")
        self.ending = self._inPanelWords(ending)
        self.ended.emit(self.ending)

    def _inPanelWords(self, ending: JobEnding) -> JobEnding:
        """The same in words that fit an evaluation and its panel."""
        message, remedy = (inPanelWords(self.inWords(text)) for text in (ending.message, ending.remedy))
        if ending.kind == "cancelled":
            message = _("{reason} Nothing was written.").format(reason=message.partition(";")[0].rstrip(".") + ".")
        elif ending.code == "killed":
            remedy = _("Close other programs, measure fewer images of each volume, or choose another device.")
        return replace(ending, message=message, remedy=remedy)


def inPanelWords(text: str) -> str:
    """Replace the command's options in its words by what they are called in the panel."""
    for pattern, words in {
        r"Give real scans with --real and generated volumes with --synthetic\.": _(
            "Choose real scans and synthetic volumes."
        ),
        r"--allow-phantoms lets it in": _("Advanced has an option that lets it in"),
        r"Name a new folder, or empty this one first\.": _("Choose another folder."),
    }.items():
        text = re.sub(pattern, words, text)
    return text
