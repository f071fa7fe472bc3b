"""Export synthetic volumes to files that say what they are: for the panel, for other modules and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from .ExportRequest import ExportRequest
from .ExportRun import ExportRun
from .ExportSource import exportSource
from .RunResult import resultOf
from .Worker import Worker, sharedWorker


class ExportLogic:
    """Starts exports.

    :param worker: runs them; by default Slicer's only one.
    """

    def __init__(self, worker: Worker | None = None) -> None:
        self.worker = worker if worker is not None else sharedWorker()

    def start(self, nodes: Sequence[Any], request: ExportRequest) -> ExportRun:
        """Start an export.

        :param nodes: volume nodes that are marked as synthetic.
        :raises CTDiffusionLogic.errors.CTDiffusionError: if one of them is not, or something is in the way of the
            files; nothing is written then.
        :raises JobBusyError: if another export is running.
        """
        from CTDiffusionLogic.errors import UsageError

        if not nodes:
            raise UsageError(_("There is nothing to export."), remedy=_("Choose a synthetic volume."))
        return ExportRun(self.worker, request, [exportSource(node) for node in nodes])

    def exportVolumes(
        self, nodes: Sequence[Any] | Any, folder: str | Path, *, waitForCompletion: bool = True, **options: Any
    ) -> Any:
        """Write synthetic volumes as DICOM, NRRD or NIfTI, with what made them.

        Example::

            (series,) = logic.exportVolumes(node, "/data/out")
            files = logic.exportVolumes([first, second], "/data/out", fileFormat="NRRD")

        :param nodes: one volume node, or several; marked as synthetic.
        :param folder: gets one file or one DICOM folder for each; nothing is overwritten.
        :param waitForCompletion: wait, while Slicer goes on handling its events; else return at once.
        :param options: the other fields of ExportRequest: fileFormat, patientName, patientIDPrefix, studyDescription.
        :return: the paths; the ExportRun, if it is not waited for.
        :raises CTDiffusionLogic.errors.CTDiffusionError: if it fails.
        :raises JobBusyError: if another export is running.
        """
        chosen = list(nodes) if isinstance(nodes, (list, tuple)) else [nodes]
        run = self.start(chosen, ExportRequest(folder=Path(folder), **options))
        return resultOf(self.worker, run, lambda: run.written, waitForCompletion=waitForCompletion)
