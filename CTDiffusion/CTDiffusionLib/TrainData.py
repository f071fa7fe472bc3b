"""Scans for a training: volumes of the scene, handed to the worker as files in its private folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import slicer.util
from slicer.i18n import tr as _

from . import SceneScans
from .SceneScans import SceneScan, sceneScan, writeScans
from .SyntheticFile import recogniseFile

#: As the library has it (CTDiffusionLogic.image_files, which would import ITK): in a CT something lies below.
AIRLIKE_HU = -200
#: Slices of a slab: shorter scans teach nothing.
MIN_SLICES = 8
#: So are the files and folders of a job called, with a number: names of nodes and series may be names of people.
VOLUME_STEM, SERIES_STEM = "volume", "series"
#: "volume-003.nrrd", "volume-003-a1b2c3" (the library's name of the scan), "series-001/00007".
_IN_TEXT = re.compile(rf"\b((?:{VOLUME_STEM}|{SERIES_STEM})-\d{{3}})(?:\.nrrd|-[0-9a-f]{{6}})?\b(?:[/\\]\d+\b)?")


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


def exportOf(node: Any) -> SceneScan:
    """Take hold of a volume for writeVolumes, where transforms above it have moved it to; copies nothing.

    :param node: a scalar volume node.
    :raises CTDiffusionLogic.errors.InputError: if its grid cannot be used, or a transform above it bends space.
    """
    from CTDiffusionLogic.errors import InputError

    if not canBeExported(node):
        raise InputError(
            _("The volume {name} cannot be learnt from: {why}.").format(name=node.GetName(), why=whyNotCT(node)),
            remedy=_("Choose another one."),
        )
    return sceneScan(node)


def writeVolumes(exports: Sequence[SceneScan], folder: Path) -> None:
    """Write volumes with an index of their patients; see SceneScans.writeScans.

    :param folder: is made.
    """
    writeScans(exports, [volumeFile(folder, number) for number in range(1, len(exports) + 1)])


def volumeFile(folder: Path, number: int) -> Path:
    """Where the volume of that number, from 1, is written."""
    return folder / f"{VOLUME_STEM}-{number:03d}.nrrd"


def inWords(text: str, names: Mapping[str, str], folder: Path) -> str:
    """Replace files of the job's folder in the worker's words by what the user knows them as.

    :param names: for example {"volume-001": "CT chest"}; by the names that volumeFile and seriesFolder give.
    :param folder: where they are.
    """
    return SceneScans.inWords(text, names, folder, _IN_TEXT)
