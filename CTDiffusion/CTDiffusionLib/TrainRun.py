"""One training for Slicer: goes on whatever happens to the scene, and keeps its plots in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from . import TrainData, TrainDicom, TrainLayout
from .Job import Job, JobRequest
from .JobEnding import JobEnding
from .JobSignal import Signal
from .SceneScans import SceneScan
from .TrainMetrics import FRECHET, LOSS, TrainMetrics
from .TrainPlots import TrainPlots
from .TrainRequest import TrainRequest, holdsTraining, modelOf
from .Worker import Worker

if TYPE_CHECKING:
    from CTDiffusionLogic.cli.events import Event, Metric

KIND = "train"
#: A worker that is asked to stop writes a checkpoint, the model and a sample sheet: minutes, with large networks.
GRACE_S = 600.0
#: Between two updates of the plots: tables are filled anew, and Slicer draws.
PLOT_INTERVAL_S = 1.0
#: Where the job has volumes and series, in its folder.
_SCANS = "scans"
#: So begins the worker's word on a scan that it could not use.
LEFT_OUT = "Left out "
#: Reasons why scans were left out that are told one by one.
MAX_REASONS = 5


class TrainRun:
    """Trains in the background. The scene may be closed meanwhile: plots are made anew in the next one.

    Signals: ``progressed`` (an event Progress), ``summaryChanged`` (nothing), ``plotsChanged`` (whether there is a new
    chart), ``sampleMade`` (path of a PNG file), ``modelMade`` (path of the model, at every checkpoint),
    ``stopProgressed`` (what a worker that was asked to stop still does, for people), ``ended`` (a JobEnding).

    :param worker: runs it.
    :param request: what to train.
    :param scene: a vtkMRMLScene that gets the plots.
    :param volumes: volumes of the scene to learn from.
    :param series: series of the DICOM database to learn from.
    :raises JobBusyError: if another training is running.
    """

    def __init__(
        self,
        worker: Worker,
        request: TrainRequest,
        *,
        scene: Any,
        volumes: Sequence[SceneScan] = (),
        series: Sequence[TrainDicom.SeriesExport] = (),
    ) -> None:
        self.request = request
        #: How it ended; None while it runs.
        self.ending: JobEnding | None = None
        self.metrics = TrainMetrics.ofRun(request.run) if request.resume else TrainMetrics()
        self.progressed = Signal()
        self.summaryChanged = Signal()
        self.plotsChanged = Signal()
        self.sampleMade = Signal()
        self.modelMade = Signal()
        self.stopProgressed = Signal()
        self.ended = Signal()
        #: Optimiser steps so far; for the user.
        self.step = 0
        #: The step of the newest checkpoint that this worker has told of, or None.
        self.savedStep: int | None = None
        self._isKilled = False
        self.plots = TrainPlots(request.run, scene=scene)
        self._scene = scene
        self._corpus: Mapping[str, Any] = {}
        self._skipped: list[str] = []
        self._warnings: list[str] = []
        self._hasModel = False
        self._lastPlot = 0.0
        stems = [(TrainData.VOLUME_STEM, [one.source.name for one in volumes])]
        stems += [(TrainData.SERIES_STEM, [one.label for one in series])]
        self._names = {f"{stem}-{n:03d}": name for stem, names in stems for n, name in enumerate(names, start=1)}
        self.job: Job = worker.start(
            JobRequest(
                KIND,
                lambda folder: request.words([folder / _SCANS] if volumes or series else []),
                _writer(volumes, series) if volumes or series else None,
                GRACE_S,
            )
        )
        self.job.eventReceived.connect(self._onEvent)
        self.job.ended.connect(self._onEnded)
        self._userLayout: int | None = None
        self._tags = [
            scene.AddObserver(scene.StartCloseEvent, self._onSceneCloses),
            scene.AddObserver(scene.EndCloseEvent, self._onSceneClosed),
        ]

    @property
    def isRunning(self) -> bool:
        """Whether ``ended`` is still to come."""
        return self.ending is None

    @property
    def model(self) -> Path | None:
        """The model that this training has made so far, or None."""
        return modelOf(self.request.run) if self._hasModel else None

    @property
    def kept(self) -> str:
        """What stays if the worker is ended now, for people."""
        if self.savedStep is not None:
            return _("The checkpoint of step {step} is kept.").format(step=self.savedStep)
        if holdsTraining(self.request.run):
            return _("The checkpoint that it began with is kept.")
        return _("There is no checkpoint yet: nothing is kept.")

    @property
    def log(self) -> str:
        """Command, events and output of the worker, for error reports."""
        return self.inWords(self.job.log)

    @property
    def summary(self) -> str:
        """What it learns from, and what was left out and why; empty while that is not known."""
        lines = []
        if corpus := self._corpus:
            lines.append(
                _("Learns from {scans} scans of {patients} patients ({slices} slices).").format(
                    **{key: corpus.get(key, "?") for key in ("scans", "patients", "slices")}
                )
            )
            if held := corpus.get("held_out_scans"):
                lines[-1] += _(" {n} held out, to test with.").format(n=held)
        lines += [_("Warning: {text}").format(text=text) for text in self._warnings]
        if self._skipped:
            lines.append(_("{n} left out:").format(n=len(self._skipped)))
            lines += [f"  {reason}" for reason in self._skipped[:MAX_REASONS]]
            if len(self._skipped) > MAX_REASONS:
                lines.append(_("  and more: see the log."))
        return "\n".join(lines)

    def stop(self) -> None:
        """Ask the worker to stop with a checkpoint and a model; returns at once."""
        self.job.cancel(_("Stopped."))
        isPreparing = not (self.step or self.request.resume)
        self._tellStop(
            _("the scan that is being read") if isPreparing else _("the checkpoint, the model and a sheet of samples")
        )

    def kill(self) -> None:
        """End the worker now: what it learnt since the last checkpoint is lost; that checkpoint stays."""
        self._isKilled = True
        self.job.kill(_("Stopped at once."))

    def updatePlots(self) -> None:
        """Make the plots hold all that is known, now; not while a scene is being closed or loaded."""
        if self.metrics.groups() and not self._scene.IsBatchProcessing() and not self._scene.IsClosing():
            self._lastPlot = time.monotonic()
            self.plotsChanged.emit(self.plots.update(self.metrics))

    def inWords(self, text: str) -> str:
        """Replace the job's files in ``text`` by the names of the volumes and series that are in them."""
        return TrainData.inWords(text, self._names, self.job.folder / _SCANS) if self._names else text

    def _onSceneCloses(self, *_arguments: Any) -> None:
        self._userLayout = TrainLayout.userLayout(self._scene)

    def _onSceneClosed(self, *_arguments: Any) -> None:
        """Make the plots anew, and show them if they were shown: the layout is another one by now."""
        self.updatePlots()
        loss = self.plots.chart(LOSS)
        if self._userLayout is not None and loss is not None:
            frechet = self.plots.chart(FRECHET)
            TrainLayout.showCharts(loss, frechet, scene=self._scene, userLayout=self._userLayout)

    def _onEvent(self, event: Event) -> None:
        from CTDiffusionLogic.cli.events import Metric, Progress, Warned

        match event:
            case Progress():
                if event.phase == "training":
                    self.step = event.done
                self.progressed.emit(replace(event, phase=self.inWords(event.phase)))
            case Warned():
                # Scans that were left out are listed by themselves; all else is told as it is.
                reason = event.message.removeprefix(LEFT_OUT)
                told = self._warnings if reason == event.message else self._skipped
                if (text := self.inWords(reason)) not in told:
                    told.append(text)
                self.summaryChanged.emit()
            case Metric():
                self._onMetric(event)

    def _onMetric(self, event: Metric) -> None:
        values = event.values
        match event.name:
            case "corpus":
                self._corpus = values
                self.summaryChanged.emit()
            case "sample":
                self.sampleMade.emit(Path(str(values.get("path", ""))))
                self._tellStop(_("the end of the worker"))
            case "checkpoint":
                self._hasModel = True
                self.step = self.savedStep = int(values.get("step", self.step))
                self._tellModel()
                self._tellStop(_("a sheet of samples; checkpoint and model are saved"))
            case name:
                isNew = self.metrics.take(values, isFidelity=name.startswith("fid"))
                if isNew and time.monotonic() - self._lastPlot >= PLOT_INTERVAL_S:
                    self.updatePlots()

    def _tellStop(self, waitsFor: str) -> None:
        if self.job.isStopping and not self._isKilled:
            text = _("Stopping: waits for {what}. Stop now ends it at once. {kept}")
            self.stopProgressed.emit(text.format(what=waitsFor, kept=self.kept))

    def _tellModel(self) -> None:
        if (model := self.model) is not None:
            self.modelMade.emit(model)

    def _onEnded(self, ending: JobEnding) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._hasModel = self._hasModel or ending.kind == "finished"
        self.updatePlots()
        self._tellModel()
        self.ending = self._inPanelWords(ending)
        self.ended.emit(self.ending)

    def _inPanelWords(self, ending: JobEnding) -> JobEnding:
        """The same in words that fit a training and its panel."""
        message, remedy = self.inWords(ending.message), self.inWords(ending.remedy)
        for option, words in _optionsInThePanel().items():
            remedy = remedy.replace(option, words)
        isUnsaved = self._isKilled or (ending.kind == "cancelled" and self.step and self.savedStep != self.step)
        if ending.kind == "cancelled" and isUnsaved:  # at once, or it took longer than it may
            message = f"{_('Stopped at once.')} {self.kept}"
            remedy = _("Resume goes on from there.") if holdsTraining(self.request.run) else ""
        elif ending.kind == "cancelled" and self.model is not None:
            message = _("{reason} {steps} steps are learnt; the model is in {run}.").format(
                reason=message, steps=self.step, run=self.request.run
            )
            remedy = _("Resume goes on from there.")
        elif ending.code == "killed":
            remedy = _("Close other programs, choose a smaller preset or image size, or another device.")
        if ending.kind == "failed" and self._hasModel:
            remedy += _(" Resume goes on from the last checkpoint.")
        return replace(ending, message=message, remedy=remedy)


def _optionsInThePanel() -> dict[str, str]:
    """The command's options in its advice, and what they are called here."""
    return {
        "Add --resume to go on with it, or name another --run.": _("Resume it, or choose another folder."),
        "Start it without --resume.": _("Click Train."),
        "Resume with the same options, or start a new --run.": _("Choose another folder for a new training."),
        "Add --resume to go on.": _("Resume goes on from there."),
        "Give files or folders of DICOM, NIfTI, NRRD or MHA.": _(
            "Choose volumes, or folders that hold CT scans as DICOM, NIfTI, NRRD or MHA."
        ),
        "Use the preset and image size they were trained with.": _("Choose another folder for a new training."),
    }


def _writer(volumes: Sequence[SceneScan], series: Sequence[TrainDicom.SeriesExport]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        if volumes:
            TrainData.writeVolumes(volumes, folder / _SCANS)
        if series:
            TrainDicom.linkSeries(series, folder / _SCANS)

    return write
