"""Volumes of the scene for an evaluation: checked in the main thread, written for the worker in another one.

The files' names are numbers: names of nodes may be names of people, and the report repeats those of files.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from slicer.i18n import tr as _

from . import Provenance
from .DerivedVolumes import isDerived
from .ExportSource import ExportSource, metadataOf
from .SyntheticFile import recogniseFile
from .VolumeGrids import hasVoxels, ijkToWorld

#: Groups by name, as ``ctdiffusion evaluate`` calls them.
REAL, SYNTHETIC = "real", "synthetic"
GROUPS = (REAL, SYNTHETIC)


@dataclass(frozen=True)
class MeasuredVolume:
    """A volume of the scene that will be measured.

    :param source: name, voxels, place and origin; needs the scene no more.
    :param patient: volumes with the same text are of one patient.
    """

    source: ExportSource
    patient: str


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


def measuredVolume(node: Any, group: str, *, allowPhantoms: bool = False) -> MeasuredVolume:
    """Take hold of a volume, where transforms above it have moved it to; copies nothing.

    :param node: a scalar volume node.
    :param group: REAL or SYNTHETIC.
    :param allowPhantoms: see whyNotMeasured.
    :raises CTDiffusionLogic.errors.InputError: if it cannot be measured in that group.
    """
    from CTDiffusionLogic.errors import InputError
    from CTDiffusionLogic.geometry import Geometry

    name = node.GetName()
    if why := whyNotMeasured(node, group, allowPhantoms=allowPhantoms):
        raise InputError(
            _("The volume {name} cannot be measured as a {group} one: {why}.").format(name=name, group=group, why=why),
            remedy=_("Choose another one."),
        )
    try:
        geometry = Geometry.from_ijk_to_ras(ijkToWorld(node))
    except ValueError as error:
        raise InputError(
            _("The volume {name} has a geometry that cannot be used: {error}").format(name=name, error=error),
            remedy=_("Harden its transform, resample it to right angles, or choose another one."),
        ) from error
    facts = metadataOf(node) if Provenance.isSynthetic(node) else {}
    return MeasuredVolume(ExportSource(name, slicer.util.arrayFromVolume(node), geometry, facts), _patientOf(node))


def fileName(group: str, number: int) -> str:
    """Name, without ending, of the volume of that number, from 1: its name in the report as well."""
    return f"scene-{group}-{number:03d}"


def writeVolumes(volumes: Sequence[MeasuredVolume], group: str, folder: Path) -> None:
    """Write the volumes of a group as NRRD files with an index of names and patients; from any thread.

    :param folder: is made.
    :raises CTDiffusionLogic.errors.InputError: if a volume holds what is no number.
    :raises CTDiffusionLogic.errors.OutputError: if the disk is full, for example.
    """
    from CTDiffusionLogic.atomic import failures_named
    from CTDiffusionLogic.errors import InputError

    patients = list(dict.fromkeys(volume.patient for volume in volumes))
    with failures_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "INDEX.csv").open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow(("file", "patient", "region", "id"))
            for number, volume in enumerate(volumes, start=1):
                name = fileName(group, number)
                table.writerow((f"{name}.nrrd", f"scene {patients.index(volume.patient) + 1}", "", name))
        for number, volume in enumerate(volumes, start=1):
            try:
                volume.source.writeTo(folder / f"{fileName(group, number)}.nrrd")
            except ValueError as error:
                raise InputError(
                    _("The volume {name} cannot be measured: {error}.").format(name=volume.source.name, error=error),
                    remedy=_("Remove what is not a number, or choose another one."),
                ) from error


def inWords(text: str, names: Mapping[str, str], folder: Path) -> str:
    """Replace files of the job's folder in the worker's words by what the user knows them as.

    :param names: for example {"scene-real-001": "CT chest"}.
    :param folder: where they are.
    """
    text = text.replace(f"{folder}{os.sep}", "")
    pattern = r"\bscene-(?:real|synthetic)-\d{3}(?:\.nrrd)?"
    return re.sub(pattern, lambda found: names.get(found.group().removesuffix(".nrrd"), found.group()), text)


def _patientOf(node: Any) -> str:
    """Something that volumes of one patient share, from the subject hierarchy; else the volume's own ID."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    patient = hierarchy.GetItemAncestorAtLevel(item, "Patient") if item else 0
    return f"patient {patient}" if patient else node.GetID()
