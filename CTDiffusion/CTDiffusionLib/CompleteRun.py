"""One completion of a real scan in the scene."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from .CompleteRequest import EXTEND, FILL, CompleteRequest, scanFile
from .ExportSource import ExportSource
from .Job import JobRequest
from .SceneScans import inWords, writeScan
from .VolumeRun import GRACE_S, VolumeRun
from .Worker import Worker

KIND = "complete"
_SCAN = re.compile(r"\b(scan)\.nrrd\b")
#: The worker's word on the slices that show a patient, which it counts from 1.
_REAL = re.compile(r"^Slices (\S+) of the result ")


class CompleteRun(VolumeRun):
    """Completes a scan into its scene; see VolumeRun. Goes on if the scan is removed: it has all it needs.

    :param worker: runs it.
    :param request: what to do; with a seed.
    :param scan: the scan, where it lies in the world: there the result lies, too, under no transform.
    :param scene: a vtkMRMLScene; when it is closed, the run ends.
    :param reference: the scan's volume node.
    :param volumesLogic: see SlicerHost.volumesLogicOrDefault.
    :raises JobBusyError: if another completion is running.
    :raises CTDiffusionLogic.errors.CTDiffusionError: if this scan cannot be completed so.
    """

    def __init__(
        self,
        worker: Worker,
        request: CompleteRequest,
        scan: ExportSource,
        *,
        scene: Any,
        reference: Any,
        volumesLogic: Any = None,
    ) -> None:
        from CTDiffusionLogic.slice_ranges import format_slices

        planned = request.completion(scan)
        self.request = request
        self._scanName = scan.name
        real = format_slices(number + 1 for number in planned.real)
        self._origin = {"completion": planned.how, "real_slices": real}
        scans = [scan]

        def prepare(folder: Path) -> None:
            writeScan(scans.pop(), scanFile(folder))  # it holds voxels

        super().__init__(
            worker,
            JobRequest(KIND, request.words, prepare, GRACE_S),
            scene=scene,
            count=1,
            seed=request.generation.seed or 0,
            reference=reference,
            volumesLogic=volumesLogic,
        )

    def name(self, volume: int) -> str:
        """Return what the result is called. Not after the scan: names of scans may be names of people."""
        how = {EXTEND: "extended", FILL: "filled"}.get(self.request.how, "thin slices")
        mark = "SYNTHETIC, PARTLY REAL:" if self._origin["real_slices"] else "SYNTHETIC"
        return f"{mark} {how}, {super().name(volume).removeprefix('SYNTHETIC ')}"

    def facts(self, volume: int) -> dict[str, Any]:
        """Return what is known of the result's origin while it is in work; also which slices are real, from 1."""
        return {**super().facts(volume), **self._origin}

    def inWords(self, text: str) -> str:
        """Name the scan as the scene does, and count slices from 0."""
        from CTDiffusionLogic.slice_ranges import format_slices, parse_slices

        if found := _REAL.match(text):
            numbers = format_slices(number - 1 for number in parse_slices(found.group(1)))
            first = _("Slices {numbers} of the result (counted from 0) ").format(numbers=numbers)
            text = first + text[found.end() :]
        return inWords(text, {"scan": self._scanName}, self.job.folder, _SCAN)
