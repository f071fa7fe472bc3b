"""Measure how real synthetic volumes are: for the panel, for other modules and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from . import EvaluateLayout
from .EvaluateData import REAL, SYNTHETIC, measuredVolume
from .EvaluateFolders import newReportFolder, reportsFolder
from .EvaluatePlots import EvaluatePlots
from .EvaluateReport import EvaluateReport
from .EvaluateRequest import EvaluateRequest, extractorWord
from .EvaluateRun import EvaluateRun
from .RunResult import OnProgress, resultOf
from .SlicerHost import sceneOrDefault
from .Worker import Worker, sharedWorker


class EvaluateLogic:
    """Starts evaluations and shows what they found.

    :param worker: runs them; by default Slicer's only one.
    :param scene: a vtkMRMLScene; by default the application's.
    """

    def __init__(self, worker: Worker | None = None, *, scene: Any = None) -> None:
        self.worker = worker if worker is not None else sharedWorker()
        self._scene = scene

    def start(
        self, request: EvaluateRequest, *, real: Sequence[Any] = (), synthetic: Sequence[Any] = ()
    ) -> EvaluateRun:
        """Start an evaluation; it goes on in the background.

        :param request: what to measure, and where the report goes.
        :param real: volume nodes that are real scans.
        :param synthetic: volume nodes that are synthetic.
        :raises JobBusyError: if another evaluation is running.
        :raises CTDiffusionLogic.errors.InputError: if a group has no volumes, or one of them cannot be used.
        """
        from CTDiffusionLogic.errors import InputError

        for nodes, paths, text in (
            (real, request.real, _("There are no real scans to measure against.")),
            (synthetic, request.synthetic, _("There are no synthetic volumes to measure.")),
        ):
            if not (nodes or paths):
                raise InputError(text, remedy=_("Choose volumes of the scene, folders or files."))
        volumes = {
            group: [measuredVolume(node, group, allowPhantoms=request.allowPhantoms) for node in nodes]
            for group, nodes in ((REAL, real), (SYNTHETIC, synthetic))
        }
        return EvaluateRun(self.worker, request, scene=sceneOrDefault(self._scene), volumes=volumes)

    def evaluate(
        self,
        real: Sequence[Any] | Any,
        synthetic: Sequence[Any] | Any,
        *,
        folder: str | Path | None = None,
        waitForCompletion: bool = True,
        onProgress: OnProgress | None = None,
        **options: Any,
    ) -> Any:
        """Measure how real synthetic volumes are, beside real scans.

        Example::

            report = logic.evaluate([scan, "/data/scans"], synthetic)
            print(report.summary())
            print(*[(one.title, one.synthetic.value, one.floor.value) for one in report.figures], sep="\\n")
            logic.showReport(report)                                         # table and plots; report.page is a file
            run = logic.evaluate(scans, volumes, waitForCompletion=False)    # run.cancel(), run.report, run.ended

        :param real: volume nodes, files and folders with real scans: one, or several.
        :param synthetic: the same of synthetic volumes.
        :param folder: for the report, new or empty; by default a new one beside the last.
        :param waitForCompletion: wait, while Slicer goes on handling its events; else return at once.
        :param onProgress: told of progress, in the main thread.
        :param options: other fields of EvaluateRequest: training, heldOut, extractors, imagesPerVolume, device...
        :return: the EvaluateReport; the EvaluateRun, if it is not waited for.
        :raises CTDiffusionLogic.errors.CTDiffusionError: if it fails (Cancelled, if it was cancelled).
        :raises JobBusyError: if another evaluation is running.
        """
        realNodes, realPaths = _apart(real)
        syntheticNodes, syntheticPaths = _apart(synthetic)
        for name in ("training", "heldOut", "independent"):
            options[name] = _apart(options.get(name, ()))[1]
        if isinstance(options.get("extractors"), str):
            options["extractors"] = (options["extractors"],)
        request = EvaluateRequest(
            folder=Path(folder) if folder is not None else newReportFolder(reportsFolder()),
            real=realPaths,
            synthetic=syntheticPaths,
            **options,
        )
        run = self.start(request, real=realNodes, synthetic=syntheticNodes)
        return resultOf(
            self.worker, run, lambda: run.report, waitForCompletion=waitForCompletion, onProgress=onProgress
        )

    def showReport(self, report: EvaluateReport | str | Path) -> EvaluateReport:
        """Put a report's key figures and plots into the scene, and show them in views of their own.

        :param report: a report, or its folder, or its report.json; of the command ``ctdiffusion evaluate`` as well.
        :return: the report.
        :raises CTDiffusionLogic.errors.InputError: if it cannot be read.
        """
        found = report if isinstance(report, EvaluateReport) else EvaluateReport.read(report)
        scene = sceneOrDefault(self._scene)
        plots = EvaluatePlots(found, scene=scene)
        plots.update()
        EvaluateLayout.showReport(plots.table(), plots.charts(), scene=scene)
        return found


def requestOf(parameters: Any, folder: Path) -> EvaluateRequest:
    """Return the request that an EvaluateParameters stands for.

    :param folder: for the report.
    """

    def folders(path: str) -> tuple[Path, ...]:
        return (Path(path.strip()),) if path.strip() else ()

    return EvaluateRequest(
        folder=folder,
        real=tuple(Path(path) for path in parameters.evaluationRealPaths),
        synthetic=tuple(Path(path) for path in parameters.evaluationSyntheticPaths),
        training=folders(parameters.evaluationTraining),
        heldOut=folders(parameters.evaluationHeldOut),
        independent=folders(parameters.evaluationIndependent),
        extractors=(extractorWord(parameters.evaluationExtractor, parameters.evaluationWeights.strip()),),
        imagesPerVolume=parameters.evaluationImages,
        device=parameters.evaluationDevice,
        seed=parameters.evaluationSeed,
        allowPhantoms=parameters.evaluationPhantoms,
    )


def _apart(chosen: Sequence[Any] | Any) -> tuple[list[Any], tuple[Path, ...]]:
    """Nodes and paths of what a script gave: one, or several."""
    several = list(chosen) if isinstance(chosen, list | tuple) else [chosen]
    paths = tuple(Path(one) for one in several if isinstance(one, str | Path))
    return [one for one in several if not isinstance(one, str | Path)], paths
