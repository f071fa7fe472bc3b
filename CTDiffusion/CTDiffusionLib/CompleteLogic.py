"""Complete real scans of the scene: for the panel, for other modules and for scripts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .CompleteData import scanToComplete
from .CompleteRequest import SIDES, CompleteRequest
from .CompleteRun import CompleteRun
from .GenerateRequest import GenerateRequest, newSeed
from .RunResult import OnProgress, resultOf
from .SlicerHost import sceneOrDefault
from .Worker import Worker, sharedWorker


class CompleteLogic:
    """Starts completions.

    :param worker: runs them; by default Slicer's only one.
    :param scene: a vtkMRMLScene; by default the application's.
    :param volumesLogic: see SlicerHost.volumesLogicOrDefault.
    """

    def __init__(self, worker: Worker | None = None, *, scene: Any = None, volumesLogic: Any = None) -> None:
        self.worker = worker if worker is not None else sharedWorker()
        self._scene, self._volumesLogic = scene, volumesLogic

    def start(self, volume: Any, request: CompleteRequest) -> CompleteRun:
        """Start a completion; it goes on in the background.

        :param volume: the scan's volume node.
        :param request: what to do with it.
        :raises JobBusyError: if another completion is running.
        :raises CTDiffusionLogic.errors.CTDiffusionError: if this scan cannot be completed so.
        """
        if request.generation.seed is None:
            request = replace(request, generation=replace(request.generation, seed=newSeed()))
        return CompleteRun(
            self.worker,
            request,
            scanToComplete(volume).source,
            scene=sceneOrDefault(self._scene),
            reference=volume,
            volumesLogic=self._volumesLogic,
        )

    def complete(
        self,
        volume: Any,
        *,
        extend: int | None = None,
        towards: str = SIDES[0],
        missing: Iterable[int] = (),
        spacingMm: float | None = None,
        waitForCompletion: bool = True,
        onProgress: OnProgress | None = None,
        **options: Any,
    ) -> Any:
        """Make what a real scan lacks, on the scan's own grid; its own slices stay as they are.

        Example::

            longer = logic.complete(scan, extend=20, towards="feet", seed=7)
            filled = logic.complete(scan, missing=range(40, 44))      # from 0, as arrayFromVolume(scan) has them
            thinner = logic.complete(scan, spacingMm=1.5)             # of a scan with slices 3 mm apart

        :param volume: the scan's volume node. The result lies beside it; it shows the same person, says which slices
            are real (``CTDiffusion.RealSlices``, from 1 as in files), and is to be handled as the scan is.
        :param extend: so many slices are added.
        :param towards: on which side: "head" or "feet".
        :param missing: slices that are made anew, from 0.
        :param spacingMm: the distance of slices afterwards; it must divide the scan's own.
        :param waitForCompletion: wait, while Slicer goes on handling its events; else return at once.
        :param onProgress: told of progress, in the main thread.
        :param options: fields of GenerateRequest: model, seed, steps, detailSteps, sampler, device.
        :return: the volume node; the CompleteRun, if it is not waited for.
        :raises CTDiffusionLogic.errors.CTDiffusionError: if it fails (Cancelled, if it was cancelled).
        :raises JobBusyError: if another completion is running.
        """
        request = CompleteRequest(
            extend=extend,
            towards=towards,
            missing=tuple(int(number) for number in missing),
            spacingMm=spacingMm,
            generation=GenerateRequest(**options),
        )
        run = self.start(volume, request)
        return resultOf(
            self.worker, run, lambda: run.nodes()[0], waitForCompletion=waitForCompletion, onProgress=onProgress
        )
