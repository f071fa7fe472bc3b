"""Scans for a training: volumes of the scene, handed to the worker as files in its private folder."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
from slicer.i18n import tr as _

from .SlicerHost import nodesByClass, sceneOrDefault
from .SyntheticFile import recogniseFile
from .VolumeGrids import ijkToWorld

#: As the library has it (CTDiffusionLogic.image_files, which would import ITK): in a CT something lies below.
AIRLIKE_HU = -200
#: Slices of a slab: shorter scans teach nothing.
MIN_SLICES = 8
#: So are the files and folders of a job called, with a number: names of nodes and series may be names of people.
VOLUME_STEM, SERIES_STEM = "volume", "series"
#: "volume-003.nii", "volume-003-a1b2c3" (the library's name of the scan), "series-001/00007".
_IN_TEXT = re.compile(rf"\b((?:{VOLUME_STEM}|{SERIES_STEM})-\d{{3}})(?:\.nii|-[0-9a-f]{{6}})?\b(?:[/\\]\d+\b)?")


@dataclass(frozen=True)
class VolumeExport:
    """A volume's voxels and what is needed beside them to write it outside of the main thread.

    :param name: of the node, for messages.
    :param voxels: array (slices, rows, columns) that shares the node's memory and keeps it alive.
    :param ijkToRAS: 4 x 4 matrix in mm, transforms included.
    :param patient: volumes with the same text are of one patient, and are never split between learning and testing.
    :param isSynthetic: whether it is marked as synthetic; its file says so too.
    """

    name: str
    voxels: Any
    ijkToRAS: Any
    patient: str
    isSynthetic: bool = False


def sceneVolumes(scene: Any = None) -> list[Any]:
    """Return the scalar volumes of the scene, without label maps and the like, and without hidden ones."""
    found = nodesByClass(sceneOrDefault(scene), "vtkMRMLScalarVolumeNode")
    visible = [node for node in found if not node.GetHideFromEditors()]
    return [node for node in visible if node.GetClassName() == "vtkMRMLScalarVolumeNode"]


def whyNotCT(node: Any) -> str:
    """Why a volume is not offered for training, in a few words for people; empty if it is. Quick.

    :param node: a scalar volume node.
    """
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or 0 in image.GetDimensions():
        return _("empty")
    if image.GetNumberOfScalarComponents() != 1:
        return _("has colours")
    if min(image.GetDimensions()) < MIN_SLICES:
        return _("has fewer than {n} slices").format(n=MIN_SLICES)
    if recogniseFile(node):
        return _("synthetic")
    voxels = slicer.util.arrayFromVolume(node)
    # A few voxels tell; all are asked (VTK remembers the answer) only where they say no.
    if voxels[:: max(1, len(voxels) // 40), ::16, ::16].min() >= AIRLIKE_HU <= image.GetScalarRange()[0]:
        return _("not a CT: no value below {hu} HU").format(hu=AIRLIKE_HU)
    return ""


def canBeExported(node: Any) -> bool:
    """Whether a volume can be used if the user insists."""
    image = node.GetImageData()
    return image is not None and image.GetNumberOfScalarComponents() == 1 and min(image.GetDimensions()) >= MIN_SLICES


def exportOf(node: Any) -> VolumeExport:
    """Take hold of a volume for writeVolumes, where transforms above it have moved it to; copies nothing.

    :param node: a scalar volume node.
    :raises CTDiffusionLogic.errors.InputError: if its grid cannot be used, or a transform above it bends space.
    """
    from CTDiffusionLogic.errors import InputError
    from CTDiffusionLogic.geometry import Geometry

    name = node.GetName()
    if not canBeExported(node):
        raise InputError(
            _("The volume {name} cannot be learnt from: {why}.").format(name=name, why=whyNotCT(node)),
            remedy=_("Choose another one."),
        )
    try:
        matrix = ijkToWorld(node)
    except ValueError as error:
        raise InputError(str(error), remedy=_("Or choose another volume.")) from error
    try:
        Geometry.from_ijk_to_ras(matrix)
    except ValueError as error:
        raise InputError(
            _("The volume {name} has a geometry that cannot be used: {error}.").format(name=name, error=error),
            remedy=_("Resample it to right angles, undo a transform that shears it, or choose another one."),
        ) from error
    return VolumeExport(name, slicer.util.arrayFromVolume(node), matrix, _patientOf(node), recogniseFile(node))


def writeVolumes(exports: Sequence[VolumeExport], folder: Path) -> None:
    """Write volumes as NIfTI files, uncompressed, with an index of their patients; from any thread.

    :param folder: is made.
    :raises CTDiffusionLogic.errors.InputError: if a volume holds what is no number.
    :raises CTDiffusionLogic.errors.OutputError: if the disk is full, for example.
    """
    from CTDiffusionLogic.atomic import failures_named
    from CTDiffusionLogic.errors import InputError
    from CTDiffusionLogic.geometry import Geometry
    from CTDiffusionLogic.volume import CTVolume, to_hu_int16
    from CTDiffusionLogic.volume_io import write_volume

    patients = list(dict.fromkeys(export.patient for export in exports))
    with failures_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "INDEX.csv").open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow(("file", "patient", "region"))
            for number, export in enumerate(exports, start=1):
                file = volumeFile(folder, number).name
                table.writerow((file, f"scene-{patients.index(export.patient) + 1}", ""))
    for number, export in enumerate(exports, start=1):
        try:
            hu = to_hu_int16(np.asarray(export.voxels), source=_("The volume {name}").format(name=export.name))
        except ValueError as error:
            raise InputError(f"{error}.", remedy=_("Remove what is not a number, or choose another one.")) from error
        facts = {"synthetic": "yes"} if export.isSynthetic else {}
        write_volume(CTVolume(hu, Geometry.from_ijk_to_ras(export.ijkToRAS), facts), volumeFile(folder, number))


def volumeFile(folder: Path, number: int) -> Path:
    """Where the volume of that number, from 1, is written."""
    return folder / f"{VOLUME_STEM}-{number:03d}.nii"


def inWords(text: str, names: Mapping[str, str], folder: Path) -> str:
    """Replace files of the job's folder in the worker's words by what the user knows them as.

    :param names: for example {"volume-001": "CT chest"}; by the names that volumeFile and seriesFolder give.
    :param folder: where they are.
    """
    text = text.replace(f"{folder}{os.sep}", "")
    return _IN_TEXT.sub(lambda found: names.get(found.group(1), found.group(0)), text)


def _patientOf(node: Any) -> str:
    """Something that volumes of one patient share, from the subject hierarchy; else the volume's own ID."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    patient = hierarchy.GetItemAncestorAtLevel(item, "Patient") if item else 0
    return f"patient {patient}" if patient else node.GetID()
