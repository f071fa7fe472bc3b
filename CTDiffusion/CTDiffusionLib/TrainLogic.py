"""Train models on real scans: for the panel, for other modules and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from . import TrainData, TrainDicom
from .GenerateSettings import GenerateSettings
from .RunResult import OnProgress, resultOf
from .SlicerHost import sceneOrDefault
from .TrainRequest import TrainRequest, canBeResumed, folderProblem, holdsTraining
from .TrainRun import TrainRun
from .Worker import Worker, sharedWorker


class TrainLogic:
    """Starts trainings and remembers the models they make.

    :param worker: runs them; by default Slicer's only one.
    :param settings: where models are remembered; those are offered under Generate.
    :param scene: a vtkMRMLScene; by default the application's.
    """

    def __init__(
        self, worker: Worker | None = None, settings: GenerateSettings | None = None, *, scene: Any = None
    ) -> None:
        self.worker = worker if worker is not None else sharedWorker()
        self.settings = settings if settings is not None else GenerateSettings()
        self._scene = scene

    def start(
        self,
        request: TrainRequest,
        *,
        volumes: Sequence[Any] = (),
        dicomSeries: Sequence[str] = (),
        withAny: bool = False,
    ) -> TrainRun:
        """Start a training, or go on with one (``request.resume``); it goes on in the background.

        :param request: what to train.
        :param volumes: volume nodes to learn from.
        :param dicomSeries: SeriesInstanceUIDs of series in Slicer's DICOM database to learn from.
        :param withAny: whether synthetic volumes, and those that do not look like CT, may be among ``volumes``.
        :raises JobBusyError: if another training is running.
        :raises CTDiffusionLogic.errors.InputError: if there are no scans, or one cannot be used.
        """
        if request.resume:
            request, volumes, dicomSeries = request.resumed(), (), ()
        self._check(request, volumes, dicomSeries, withAny=withAny)
        database = TrainDicom.database() if dicomSeries else None
        run = TrainRun(
            self.worker,
            request,
            scene=sceneOrDefault(self._scene),
            volumes=[TrainData.exportOf(node) for node in volumes],
            series=[TrainDicom.exportOf(database, uid) for uid in dicomSeries],
        )
        run.modelMade.connect(self.settings.rememberModel)
        return run

    def train(
        self,
        runFolder: str | Path,
        *,
        volumes: Sequence[Any] = (),
        folders: Sequence[str | Path] = (),
        dicomSeries: Sequence[str] = (),
        withAny: bool = False,
        waitForCompletion: bool = True,
        onProgress: OnProgress | None = None,
        **options: Any,
    ) -> Any:
        """Train a model on real CT scans.

        Example::

            model = logic.train("/data/my training", folders=["/data/scans"], preset="tiny", maxMinutes=10)
            node = logic.generate(model=model, slices=32)
            run = logic.train("/data/my training", resume=True, maxMinutes=60, waitForCompletion=False)   # run.stop()

        :param runFolder: folder of the training; made if it is not there.
        :param volumes: volume nodes to learn from.
        :param folders: folders with CT scans, searched recursively.
        :param dicomSeries: SeriesInstanceUIDs of series in Slicer's DICOM database.
        :param withAny: whether synthetic volumes, and those that do not look like CT, may be among ``volumes``.
        :param waitForCompletion: wait, while Slicer goes on handling its events; else return at once. Give a limit
            (``maxMinutes`` or ``epochs``) then: without one it never ends by itself.
        :param onProgress: told of progress, in the main thread.
        :param options: other fields of TrainRequest: preset, imageSize, maxMinutes, epochs, device, seed, resume...
        :return: the path of the model; the TrainRun, if it is not waited for.
        :raises CTDiffusionLogic.errors.CTDiffusionError: if it fails (Cancelled, if it was stopped).
        :raises JobBusyError: if another training is running.
        """
        request = TrainRequest(run=Path(runFolder), folders=tuple(map(Path, folders)), **options)
        run = self.start(request, volumes=volumes, dicomSeries=dicomSeries, withAny=withAny)
        return resultOf(
            self.worker, run, lambda: run.model, waitForCompletion=waitForCompletion, onProgress=onProgress
        )

    def _check(
        self, request: TrainRequest, volumes: Sequence[Any], dicomSeries: Sequence[str], *, withAny: bool
    ) -> None:
        from CTDiffusionLogic.errors import InputError

        if request.resume:
            if not canBeResumed(request.run):
                raise InputError(
                    _("{run} holds no training that could go on.").format(run=request.run),
                    remedy=_("Start a new one there, or choose the folder of a training."),
                )
            return
        if not (volumes or dicomSeries or request.folders):
            raise InputError(
                _("There are no scans to learn from."), remedy=_("Choose volumes, folders or DICOM series.")
            )
        if holdsTraining(request.run):
            raise InputError(
                _("{run} holds a training already.").format(run=request.run),
                remedy=_("Resume it, or choose another folder."),
            )
        for folder in request.folders:
            if problem := folderProblem(folder):
                raise InputError(problem, remedy=_("Check the path, or remove it from the list."))
        for node in volumes:
            if not withAny and (why := TrainData.whyNotCT(node)):
                raise InputError(
                    _("The volume {name} cannot be learnt from: {why}.").format(name=node.GetName(), why=why),
                    remedy=_("Choose another one, or allow any volume."),
                )
        if dicomSeries and TrainDicom.database() is None:
            raise InputError(_("There is no open DICOM database."), remedy=_("Open it in the DICOM module."))


def requestOf(parameters: Any, *, resume: bool = False) -> TrainRequest:
    """Return the request that a TrainParameters stands for."""
    return TrainRequest(
        run=Path(parameters.trainingFolder),
        folders=tuple(Path(path) for path in parameters.trainingFolders),
        preset=parameters.trainingPreset,
        imageSize=parameters.trainingImageSize,
        maxMinutes=parameters.trainingMinutes or None,
        epochs=parameters.trainingEpochs or None,
        device=parameters.trainingDevice,
        seed=parameters.trainingSeed,
        note=parameters.trainingNote.strip(),
        resume=resume,
    )
