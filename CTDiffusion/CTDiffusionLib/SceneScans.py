"""Volumes of the scene as scans for a worker: which there are, whose they are, where they lie; and as its files.

They are taken hold of in the main thread and written in another one. The files' names are numbers: names of nodes may
be names of people.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
import slicer.util
from slicer.i18n import tr as _

from .ExportSource import ExportSource, metadataOf
from .SlicerHost import nodesByClass, sceneOrDefault
from .SyntheticFile import recogniseFile
from .VolumeGrids import ijkToWorld

if TYPE_CHECKING:
    from CTDiffusionLogic.geometry import Geometry


@dataclass(frozen=True)
class SceneScan:
    """A volume of the scene that a worker gets.

    :param source: name, voxels, place and origin; needs the scene no more.
    :param patient: volumes with the same text are of one patient.
    """

    source: ExportSource
    patient: str


def sceneVolumes(scene: Any = None) -> list[Any]:
    """Return the scalar volumes of the scene, without label maps and the like, and without hidden ones."""
    found = nodesByClass(sceneOrDefault(scene), "vtkMRMLScalarVolumeNode")
    visible = [node for node in found if not node.GetHideFromEditors()]
    return [node for node in visible if node.GetClassName() == "vtkMRMLScalarVolumeNode"]


def sceneScan(node: Any) -> SceneScan:
    """Take hold of a volume, where transforms above it have moved it to; copies nothing.

    :param node: a scalar volume node with voxels. One that is synthetic keeps what it says about its origin.
    :raises CTDiffusionLogic.errors.InputError: if its grid cannot be used, or a transform above it bends space.
    """
    facts = metadataOf(node) if recogniseFile(node) else {}
    geometry = worldGeometry(node)
    return SceneScan(ExportSource(node.GetName(), slicer.util.arrayFromVolume(node), geometry, facts), patientOf(node))


def worldGeometry(node: Any) -> Geometry:
    """Return where a volume's voxels lie, transforms included.

    :raises CTDiffusionLogic.errors.InputError: see sceneScan.
    """
    from CTDiffusionLogic.errors import InputError
    from CTDiffusionLogic.geometry import Geometry

    try:
        matrix = ijkToWorld(node)
    except ValueError as error:
        raise InputError(str(error), remedy=_("Or choose another volume.")) from error
    try:
        return Geometry.from_ijk_to_ras(matrix)
    except ValueError as error:
        raise InputError(
            _("The volume {name} has a geometry that cannot be used: {error}.").format(
                name=node.GetName(), error=error
            ),
            remedy=_("Resample it to right angles, undo a transform that shears it, or choose another one."),
        ) from error


def patientOf(node: Any) -> str:
    """Something that volumes of one patient share, from the subject hierarchy; else the volume's own ID."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    patient = hierarchy.GetItemAncestorAtLevel(item, "Patient") if item else 0
    return f"patient {patient}" if patient else node.GetID()


def writeScans(scans: Sequence[SceneScan], files: Sequence[Path], *, withNames: bool = False) -> None:
    """Write volumes as NRRD files with an index of their patients; from any thread.

    :param scans: the volumes.
    :param files: where each goes, all in one folder, which is made.
    :param withNames: whether the files' names, without ending, are the scans' names for the library.
    :raises CTDiffusionLogic.errors.InputError: if a volume holds what is no number.
    :raises CTDiffusionLogic.errors.OutputError: if the disk is full, for example.
    """
    from CTDiffusionLogic.atomic import failures_named

    folder = files[0].parent
    patients = list(dict.fromkeys(scan.patient for scan in scans))
    with failures_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "INDEX.csv").open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow(("file", "patient", "region", *(["id"] if withNames else [])))
            for scan, file in zip(scans, files, strict=True):
                row = (file.name, f"scene-{patients.index(scan.patient) + 1}", "")
                table.writerow((*row, *([file.stem] if withNames else [])))
        for scan, file in zip(scans, files, strict=True):
            writeScan(scan.source, file)


def writeScan(source: ExportSource, file: Path) -> None:
    """Write one volume as an NRRD file; from any thread.

    :raises CTDiffusionLogic.errors.InputError: if it holds what is no number.
    :raises OSError: if there is no space.
    """
    from CTDiffusionLogic.errors import InputError

    try:
        source.writeTo(file)
    except ValueError as error:
        raise InputError(f"{error}.", remedy=_("Remove what is not a number, or choose another one.")) from error


def inWords(text: str, names: Mapping[str, str], folder: Path, pattern: re.Pattern[str]) -> str:
    """Replace files of the job's folder in the worker's words by what the user knows them as.

    :param names: for example {"volume-001": "CT chest"}.
    :param folder: where the files are.
    :param pattern: finds a file; its first group is the key in ``names``.
    """
    text = text.replace(f"{folder}{os.sep}", "")
    return pattern.sub(lambda found: names.get(found.group(1), found.group(0)), text)
