"""Generate synthetic CT volumes into the scene: for the panel, for other modules and for scripts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from . import GenerateEstimate
from .GenerateFine import fineCard
from .GenerateRequest import GenerateRequest, newSeed
from .GenerateRun import GenerateRun
from .GenerateSettings import GenerateSettings
from .RunResult import OnProgress, resultOf
from .SlicerHost import sceneOrDefault
from .Worker import Worker, sharedWorker


class GenerateLogic:
    """Starts generations and remembers how fast they were.

    :param worker: runs them; by default Slicer's only one.
    :param settings: where speeds are remembered.
    :param scene: a vtkMRMLScene; by default the application's.
    :param volumesLogic: see SlicerHost.volumesLogicOrDefault.
    """

    def __init__(
        self,
        worker: Worker | None = None,
        settings: GenerateSettings | None = None,
        *,
        scene: Any = None,
        volumesLogic: Any = None,
    ) -> None:
        self.worker = worker if worker is not None else sharedWorker()
        self.settings = settings if settings is not None else GenerateSettings()
        self._scene, self._volumesLogic = scene, volumesLogic

    def start(
        self,
        request: GenerateRequest,
        *,
        likeVolume: Any = None,
        referenceVolume: Any = None,
        keepPartial: bool = False,
    ) -> GenerateRun:
        """Start a generation; see GenerateRun for the arguments and what it raises."""
        if request.seed is None:
            request = replace(request, seed=newSeed(request.count))
        run = GenerateRun(
            self.worker,
            request,
            scene=sceneOrDefault(self._scene),
            likeVolume=likeVolume,
            referenceVolume=referenceVolume,
            keepPartial=keepPartial,
            volumesLogic=self._volumesLogic,
        )
        run.ended.connect(lambda _ending: self._rememberSpeed(run))
        return run

    def generate(
        self,
        *,
        likeVolume: Any = None,
        referenceVolume: Any = None,
        keepPartial: bool = False,
        waitForCompletion: bool = True,
        onProgress: OnProgress | None = None,
        **options: Any,
    ) -> Any:
        """Generate one or several synthetic volumes into the scene.

        Example::

            node = logic.generate(model="torso", slices=32, spacingMm=3.0, seed=7)
            run = logic.generate(likeVolume=scan, waitForCompletion=False)    # run.cancel(), run.nodes(), run.ended

        :param likeVolume: a volume node whose grid the result gets, and beside which it is put.
        :param referenceVolume: a volume node to put the result beside, if another one.
        :param keepPartial: whether an incomplete volume stays when it fails or is cancelled.
        :param waitForCompletion: wait, while Slicer goes on handling its events; else return at once.
        :param onProgress: told of progress, in the main thread.
        :param options: the fields of GenerateRequest: model, slices, spacingMm, seed, count, steps, matrix (512),
            device...
        :return: the volume node, or the list of them for ``count`` > 1; the GenerateRun, if it is not waited for.
        :raises CTDiffusionLogic.errors.CTDiffusionError: if it fails (Cancelled, if it was cancelled).
        :raises JobBusyError: if another generation is running.
        """
        run = self.start(
            GenerateRequest(**options),
            likeVolume=likeVolume,
            referenceVolume=referenceVolume,
            keepPartial=keepPartial,
        )

        def result() -> Any:
            return run.nodes()[0] if run.request.count == 1 else run.nodes()

        return resultOf(self.worker, run, result, waitForCompletion=waitForCompletion, onProgress=onProgress)

    def _rememberSpeed(self, run: GenerateRun) -> None:
        """From the passes of a run that is done, or was stopped after a fifth of them."""
        seconds, share = run.worked
        if share < 0.2 or seconds < 0.5:
            return
        from CTDiffusionLogic.bundle import read_header
        from CTDiffusionLogic.models import find_model

        request, slices = run.request, run.details["shape"][0]
        ijkToLPS = run.details["ijk_to_lps"]
        spacing = sum(row[2] ** 2 for row in ijkToLPS[:3]) ** 0.5
        model = Path(request.model) if request.model is not None else None
        card = read_header(find_model(model), verify=False).card
        work = GenerateEstimate.workOf(
            card,
            slices=slices,
            spacingMm=spacing,
            steps=request.steps,
            detailSteps=request.detailSteps,
            sampler=request.sampler,
        )
        fine = fineCard(card, request)
        if fine is not None:
            work += GenerateEstimate.fineWork(fine, slices=slices, steps=request.fineSteps)
        work *= request.count
        self.settings.rememberSecondsPerWork(kindOfDevice(run.details.get("device", "")), seconds / (share * work))


def kindOfDevice(text: str) -> str:
    """Return "cpu", "cuda" or "mps" for a device's name or its description by the worker."""
    return next((kind for kind in ("cuda", "mps") if kind in text.lower()), "cpu")
