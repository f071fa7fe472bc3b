"""Volumes that a worker makes, in the scene: nodes that fill up while their slices are made."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from slicer.i18n import tr as _

from . import Provenance, SceneVolumes, SyntheticFile
from .Job import Job, JobRequest
from .JobEnding import JobEnding
from .JobSignal import Signal
from .Worker import Worker

if TYPE_CHECKING:
    from CTDiffusionLogic.cli.events import Event, Progress, Slices

#: Time between two questions whether to stop is a pass over a few slabs; nothing is lost by killing the worker.
GRACE_S = 5.0


class VolumeRun:
    """Makes volumes into a scene. Holds node IDs, never nodes: the user may remove them at any time.

    Signals: ``progressed`` (an event Progress), ``slicesArrived`` (slices final so far, of how many, over all
    volumes), ``volumeAdded`` (a node), ``warned`` (a sentence), ``ended`` (a JobEnding).

    :param worker: runs it.
    :param job: makes them with ``ctdiffusion generate``.
    :param scene: a vtkMRMLScene; when it is closed, the run ends.
    :param count: how many volumes there will be.
    :param seed: of the first one; the others follow.
    :param reference: a volume node to put the result beside, or None.
    :param keepPartial: whether a volume that is not complete stays when the run fails or is cancelled.
    :param volumesLogic: see SlicerHost.volumesLogicOrDefault.
    :raises JobBusyError: if another job of its kind is running.
    """

    def __init__(
        self,
        worker: Worker,
        job: JobRequest,
        *,
        scene: Any,
        count: int,
        seed: int,
        reference: Any = None,
        keepPartial: bool = False,
        volumesLogic: Any = None,
    ) -> None:
        self.keepPartial = keepPartial
        #: What the worker said when it began: model, device, shape...; see CTDiffusionLogic.cli.events.
        self.details: dict[str, Any] = {}
        #: Seconds that the passes took so far, their share of the whole (0 to 1).
        self.worked = (0.0, 0.0)
        #: How it ended; None while it runs.
        self.ending: JobEnding | None = None
        self.progressed = Signal()
        self.slicesArrived = Signal()
        self.volumeAdded = Signal()
        self.warned = Signal()
        self.ended = Signal()
        self._scene, self._volumesLogic = scene, volumesLogic
        self._count, self._seed = count, seed
        self._referenceID = reference.GetID() if reference is not None else None
        self._nodeIDs: dict[int, str] = {}  # by volume number, from 1
        self._final: dict[int, np.ndarray] = {}  # which slices have come
        self._firstProgress: tuple[float, int] | None = None
        self.job: Job = worker.start(job)
        self.job.eventReceived.connect(self._onEvent)
        self.job.ended.connect(self._onEnded)
        self._closeTag = scene.AddObserver(scene.StartCloseEvent, self._onSceneCloses)

    def name(self, volume: int) -> str:
        """Return what a volume is called; not yet unique in the scene.

        :param volume: its number, from 1.
        """
        return f"SYNTHETIC {self.details.get('model', '')} seed {self._seed + volume - 1}"

    def facts(self, volume: int) -> dict[str, Any]:
        """Return what is known of a volume's origin while it is in work; the finished file says more.

        :param volume: its number, from 1.
        """
        keys = ("model", "model_sha256", "fine_model", "fine_model_sha256", "version", "device")
        known = {key: self.details.get(key) for key in keys}
        return {**known, "seed": self._seed + volume - 1, "complete": "no"}

    def place(self, node: Any) -> None:
        """Do what a new node needs beside being put beside its reference."""

    def inWords(self, text: str) -> str:
        """Return the worker's words as people read them in the panel."""
        return text

    @property
    def isRunning(self) -> bool:
        """Whether ``ended`` is still to come."""
        return self.ending is None

    def nodes(self) -> list[Any]:
        """Return the volumes made so far that are in the scene, the last one perhaps not complete."""
        return [node for volume in sorted(self._nodeIDs) if (node := self._node(volume)) is not None]

    def cancel(self, *, keepPartial: bool | None = None) -> None:
        """Stop, soon; returns at once. Volumes that are complete stay.

        :param keepPartial: whether the volume in work stays with what is final of it; None for as at the start.
        """
        if keepPartial is not None:
            self.keepPartial = keepPartial
        self.job.cancel()

    def _onSceneCloses(self, *_arguments: Any) -> None:
        self._forgetScene()
        self.job.kill(_("The scene was closed."))

    def _forgetScene(self) -> None:
        if self._closeTag is not None:
            self._scene.RemoveObserver(self._closeTag)
            self._closeTag = None
        self._nodeIDs.clear()  # they will be given anew

    def _onEvent(self, event: Event) -> None:
        from CTDiffusionLogic.cli.events import Progress, Slices, Started, Warned

        if self._closeTag is None:
            return
        match event:
            case Started():
                self.details = {**event.details, "version": event.version}
            case Progress():
                self._measure(event)
                self.progressed.emit(event)
            case Slices():
                self._onSlices(event)
            case Warned():
                self.warned.emit(self.inWords(event.message))

    def _measure(self, event: Progress) -> None:
        now = time.monotonic()
        if self._firstProgress is None:
            self._firstProgress = now, event.done
        elif event.of:
            began, done = self._firstProgress
            self.worked = now - began, (event.done - done) / event.of

    def _onSlices(self, event: Slices) -> None:
        path = Path(event.path)
        hu = np.load(path, allow_pickle=False)
        path.unlink(missing_ok=True)
        if event.volume not in self._final:
            self._final[event.volume] = np.zeros(self.details["shape"][0], dtype=bool)
            self._insert(event.volume)
        node = self._node(event.volume)
        if node is not None:  # else the user has removed it: it comes again, whole, at the end
            SceneVolumes.updateSlices(node, event.first, hu)
        self._final[event.volume][event.first : event.first + event.count] = True
        of = self.details["shape"][0] * self._count
        self.slicesArrived.emit(int(sum(final.sum() for final in self._final.values())), of)

    def _insert(self, volume: int) -> None:
        from CTDiffusionLogic.geometry import LPS_TO_RAS

        node = SceneVolumes.insertEmptySyntheticVolume(
            tuple(self.details["shape"]),
            LPS_TO_RAS @ np.asarray(self.details["ijk_to_lps"]),
            self.name(volume),
            metadata=self.facts(volume),
            reference=self.nodeByID(self._referenceID),
            scene=self._scene,
            volumesLogic=self._volumesLogic,
        )
        self._add(volume, node)

    def _add(self, volume: int, node: Any) -> None:
        self._nodeIDs[volume] = node.GetID()
        self.place(node)
        self.volumeAdded.emit(node)

    def _onEnded(self, ending: JobEnding) -> None:
        if self._closeTag is not None:
            self._scene.RemoveObserver(self._closeTag)
            try:
                for volume, output in enumerate(self._outputs(ending), start=1):
                    self._settle(volume, Path(output))
            except Exception as error:  # a disk that fails, a scene that refuses: never "finished" then
                logging.exception("CTDiffusion: the result could not be taken over.")
                message = _("The volume was made, but could not be put into the scene: {error}").format(error=error)
                ending = JobEnding("failed", message, _("See Slicer's log."), "no-result")
        self.ending = replace(ending, message=self.inWords(ending.message), remedy=self.inWords(ending.remedy))
        self.ended.emit(self.ending)

    def _outputs(self, ending: JobEnding) -> list[str]:
        return list(ending.finished.outputs if ending.finished is not None else self.details.get("outputs", ()))

    def _settle(self, volume: int, output: Path) -> None:
        """Complete a volume whose file was written; keep or remove another one that has begun."""
        node, final = self._node(volume), self._final.get(volume)
        if output.is_file():
            if node is None or final is None or not final.all():
                self._add(volume, self._load(volume, output, node))
            else:
                Provenance.setProvenance(
                    node,
                    {**SyntheticFile.headerFacts(output), "complete": "yes"},
                    reference=Provenance.referenceVolume(node),
                )
        elif node is not None and final is not None and self.keepPartial:
            node.SetName(f"{node.GetName()} (partial)")
            Provenance.setProvenance(
                node, {"final_slices": rangesText(final)}, reference=Provenance.referenceVolume(node)
            )
        elif node is not None:
            self._scene.RemoveNode(node)
            del self._nodeIDs[volume]

    def _load(self, volume: int, output: Path, unfinished: Any) -> Any:
        if unfinished is not None:
            self._scene.RemoveNode(unfinished)
        node = SyntheticFile.loadSyntheticVolume(
            output,
            reference=self.nodeByID(self._referenceID),
            scene=self._scene,
            volumesLogic=self._volumesLogic,
        )
        node.SetName(self._scene.GenerateUniqueName(self.name(volume)))
        node.SetAttribute(Provenance.attributeName("complete"), "yes")
        return node

    def _node(self, volume: int) -> Any:
        return self.nodeByID(self._nodeIDs.get(volume))

    def nodeByID(self, nodeID: str | None) -> Any:
        """Return a node of the scene, or None."""
        return self._scene.GetNodeByID(nodeID) if nodeID else None


def rangesText(flags: Any) -> str:
    """Return the places of true values as text: "0-7, 14".

    :param flags: one-dimensional array of bool.
    """
    runs = []
    for isTrue, group in groupby(enumerate(flags), key=lambda pair: bool(pair[1])):
        places = [place for place, _flag in group]
        if isTrue:
            runs.append(str(places[0]) if len(places) == 1 else f"{places[0]}-{places[-1]}")
    return ", ".join(runs)
