"""Volumes of the scene for an evaluation: checked in the main thread, written for the worker in another one.

The files' names are numbers: names of nodes may be names of people, and the report repeats those of files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from . import Provenance, SceneScans
from .DerivedVolumes import isDerived
from .SceneScans import SceneScan, sceneScan, writeScans
from .SyntheticFile import recogniseFile
from .VolumeGrids import hasVoxels

#: Groups by name, as ``ctdiffusion evaluate`` calls them.
REAL, SYNTHETIC = "real", "synthetic"
GROUPS = (REAL, SYNTHETIC)
_IN_TEXT = re.compile(r"\b(scene-(?:real|synthetic)-\d{3})(?:\.nrrd)?")


def whyNotMeasured(node: Any, group: str, *, allowPhantoms: bool = False) -> str:
    """Why a volume of the scene cannot be measured in a group, in a few words for people; empty if it can. Quick.

    :param node: a scalar volume node.
    :param group: REAL or SYNTHETIC. What does not say that it is synthetic may be measured as synthetic: volumes of
        other programs do not; the report then says so.
    :param allowPhantoms: whether computed phantoms may stand for real scans.
    """
    if not hasVoxels(node) or node.GetImageData().GetNumberOfScalarComponents() != 1:
        return _("no CT volume")
    if isDerived(node):
        return _("computed from other volumes")
    isSynthetic, facts = recogniseFile(node), Provenance.provenance(node)
    if facts.get("Complete") == "no":
        return _("not complete")
    if group == REAL and facts.get("Phantom") == "yes":
        return "" if allowPhantoms else _("a phantom, not a patient's scan")
    return _("synthetic") if group == REAL and isSynthetic else ""


def measuredVolume(node: Any, group: str, *, allowPhantoms: bool = False) -> SceneScan:
    """Take hold of a volume, where transforms above it have moved it to; copies nothing.

    :param node: a scalar volume node.
    :param group: REAL or SYNTHETIC.
    :param allowPhantoms: see whyNotMeasured.
    :raises CTDiffusionLogic.errors.InputError: if it cannot be measured in that group.
    """
    from CTDiffusionLogic.errors import InputError

    name = node.GetName()
    if why := whyNotMeasured(node, group, allowPhantoms=allowPhantoms):
        raise InputError(
            _("The volume {name} cannot be measured as a {group} one: {why}.").format(name=name, group=group, why=why),
            remedy=_("Choose another one."),
        )
    return sceneScan(node)


def fileName(group: str, number: int) -> str:
    """Name, without ending, of the volume of that number, from 1: its name in the report as well."""
    return f"scene-{group}-{number:03d}"


def writeVolumes(volumes: Sequence[SceneScan], group: str, folder: Path) -> None:
    """Write the volumes of a group with an index of names and patients; see SceneScans.writeScans.

    :param folder: is made.
    """
    files = [folder / f"{fileName(group, number)}.nrrd" for number in range(1, len(volumes) + 1)]
    writeScans(volumes, files, withNames=True)


def inWords(text: str, names: Mapping[str, str], folder: Path) -> str:
    """Replace files of the job's folder in the worker's words by what the user knows them as.

    :param names: for example {"scene-real-001": "CT chest"}.
    :param folder: where they are.
    """
    return SceneScans.inWords(text, names, folder, _IN_TEXT)
