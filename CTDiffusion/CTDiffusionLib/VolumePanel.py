"""What the panels share that make volumes: a run's slices and warnings in words, and the volume it has made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from slicer.i18n import tr as _

from .JobEnding import JobEnding
from .JobSignal import Signal
from .RunPanel import RunPanel, progressText
from .VolumeRun import VolumeRun


class VolumePanel(RunPanel):
    """Base of the panels that make volumes.

    Signal: ``volumeMade`` (a volume node that is complete).

    :param ui: the widgets by name (slicer.util.childWidgetVariables).
    :param prefix: see RunPanel.
    """

    def __init__(self, ui: Any, prefix: str) -> None:
        super().__init__(ui, prefix)
        self.volumeMade = Signal()
        self._slicesText = ""
        self._warnings: list[str] = []

    def start(self, make: Callable[[], VolumeRun]) -> None:
        """Start what ``make`` starts and follow it, or say why it could not be started."""
        self._warnings, self._slicesText = [], ""
        try:
            run = make()
        except Exception as error:
            self.say(_("The generation could not be started: {error}").format(error=error))
            return
        self.follow(run)
        self.showWork(_("Loading the model..."))
        self.onParametersModified()

    def slots(self, run: VolumeRun) -> Sequence[tuple[Signal, Any]]:
        """Return the signals of a run that the panel follows."""
        return (
            (run.progressed, self._onProgress),
            (run.slicesArrived, self._onSlices),
            (run.warned, self._onWarning),
            (run.ended, self._onEnded),
        )

    def say(self, text: str) -> None:
        """Tell the user, with what the worker has warned of."""
        super().say("\n".join([text, *self._warnings]))

    def _onProgress(self, event: Any) -> None:
        self.showProgress(event.done, event.of)
        if self._run is not None and not self._run.job.isStopping:
            self.say(progressText(event, phaseText(event.phase), self._slicesText))

    def _onSlices(self, done: int, of: int) -> None:
        self._slicesText = _("{done} of {of} slices").format(done=done, of=of)

    def _onWarning(self, sentence: str) -> None:
        self._warnings.append(sentence)

    def _onEnded(self, ending: JobEnding) -> None:
        run = self._run
        self.showEnd(run.job.log if run is not None else "")
        nodes = run.nodes() if run is not None else []
        names = ", ".join(node.GetName() for node in nodes)
        if ending.kind == "finished":
            self.say(_("Done: {names}.").format(names=names))
        elif ending.kind == "cancelled":
            self.say(ending.text + (_(" Kept: {names}.").format(names=names) if nodes else ""))
        else:
            self.say(_("Failed: {text}").format(text=ending.text))
        self.onParametersModified()
        if ending.kind == "finished" and nodes:
            self.volumeMade.emit(nodes[-1])


def phaseText(phase: str) -> str:
    """Return what the worker is about, for people.

    :param phase: as the worker names it: "anatomy", "volume 1 of 2, fine".
    """
    before, comma, stage = phase.rpartition(", ")
    return before + comma + (_("larger matrix") if stage == "fine" else stage)
