"""A volume node as it is exported: voxels, place in the patient, origin; and as a file for the worker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import slicer.util
import vtk
from slicer.i18n import tr as _

from . import Provenance
from .DerivedVolumes import isDerived
from .SceneVolumes import ijkToRAS
from .SyntheticFile import recogniseFile

if TYPE_CHECKING:
    from CTDiffusionLogic.geometry import Geometry
    from CTDiffusionLogic.volume import CTVolume

#: Facts that mean something in the scene only.
_SCENE_FACTS = ("ReferenceNodeID",)


@dataclass(frozen=True)
class ExportSource:
    """What is exported of a volume. Made in the main thread, used in any; needs the scene no more.

    :param name: of the node.
    :param values: the node's own voxels (slices, rows, columns), not a copy.
    :param geometry: where they lie in the patient, the node's transform included.
    :param metadata: what made the volume, by the keys that the library has for it: "model", "seed"...
    :param warning: what the user should know before the volume is used; may be empty.
    """

    name: str
    values: Any
    geometry: Geometry
    metadata: dict[str, str]
    warning: str = ""

    @property
    def description(self) -> str:
        """The name without the word that every export puts before it."""
        return withoutMark(self.name)

    @property
    def fileName(self) -> str:
        """The name as part of a path on every system: letters, digits, underscores, and dashes for all else."""
        return re.sub(r"[^\w]+", "-", self.name).strip("-")[:80] or "volume"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return self.values.shape

    def volume(self) -> CTVolume:
        """Return a copy for the library."""
        from CTDiffusionLogic.volume import CTVolume

        return CTVolume(np.stack([_asHU(plane, self.name) for plane in self.values]), self.geometry, self.metadata)

    def writeTo(self, path: Path) -> None:
        """Write an NRRD for the worker: not compressed and without ITK, both of which would hold Python's lock
        (and so Slicer) for seconds.

        :raises OSError: if there is no space.
        :raises ValueError: if there are voxels that are no numbers.
        """
        slices, rows, columns = self.shape
        axes = (self.geometry.direction * np.array(self.geometry.spacing)).T
        header = {
            "type": "short",
            "dimension": "3",
            "space": "left-posterior-superior",
            "sizes": f"{columns} {rows} {slices}",
            "space directions": " ".join(_vector(axis) for axis in axes),
            "kinds": "domain domain domain",
            "endian": "little",
            "encoding": "raw",
            "space origin": _vector(self.geometry.origin),
        }
        lines = ["NRRD0005", *(f"{key}: {value}" for key, value in header.items())]
        lines += [f'{Provenance.PREFIX}{key}:="{quote(value)}"' for key, value in self.metadata.items()]
        with path.open("wb") as file:
            file.write("\n".join([*lines, "", ""]).encode("ascii"))
            for plane in self.values:
                file.write(np.ascontiguousarray(_asHU(plane, self.name), dtype="<i2").data)


def exportSource(node: Any) -> ExportSource:
    """Return what is exported of a volume node.

    :param node: a scalar volume node.
    :raises CTDiffusionLogic.errors.InputError: if it is not synthetic, computed from a real scan, empty, still being
        made, or lies on a grid that files cannot have.
    """
    from CTDiffusionLogic.errors import InputError
    from CTDiffusionLogic.geometry import Geometry

    name = node.GetName()
    if not recogniseFile(node):
        raise InputError(
            _("{name} is not marked as synthetic; a real scan is never exported as synthetic.").format(name=name),
            remedy=_("Choose a volume that CT Diffusion has made, or export it with Slicer's own DICOM export."),
        )
    if isDerived(node):
        raise InputError(
            _("{name} was computed from a real scan; it may show parts of it.").format(name=name),
            remedy=_("Export the synthetic volume that it was computed from."),
        )
    if node.GetImageData() is None or node.GetImageData().GetNumberOfPoints() == 0:
        raise InputError(_("The volume {name} is empty.").format(name=name), remedy=_("Choose another one."))
    facts = Provenance.provenance(node)
    if facts.get("Complete") == "no" and "FinalSlices" not in facts:
        raise InputError(
            _("{name} is still being made.").format(name=name), remedy=_("Wait for the end of the generation.")
        )
    try:
        geometry = Geometry.from_ijk_to_ras(_worldMatrix(node) @ ijkToRAS(node))
    except ValueError as error:
        raise InputError(
            _("The volume {name} has a geometry that files cannot have: {error}.").format(name=name, error=error),
            remedy=_("Harden its transform, or resample it to right angles."),
        ) from error
    warning = ""
    if facts.get("Complete") == "no":
        warning = _("{name} is not complete: only its slices {slices} are final.").format(
            name=name, slices=facts["FinalSlices"]
        )
    if Provenance.isPartlyReal(node):
        real = _("{name} is partly real: handle its files as you handle the scan.").format(name=name)
        warning = f"{warning} {real}".strip()
    return ExportSource(name, slicer.util.arrayFromVolume(node), geometry, metadataOf(node), warning)


def withoutMark(text: str) -> str:
    """Return ``text`` without a "SYNTHETIC" or "SYNTHETIC, PARTLY REAL:" at its begin."""
    return re.sub(r"^\s*SYNTHETIC\b(, PARTLY REAL\b)?[\s:_-]*", "", text, flags=re.IGNORECASE)


def metadataOf(node: Any) -> dict[str, str]:
    """Return what made a volume, by the library's keys: the attribute ``CTDiffusion.ModelName`` is "model_name"."""
    facts = {key: value for key, value in Provenance.provenance(node).items() if key not in _SCENE_FACTS}
    return {re.sub(r"(?<=[^_A-Z])(?=[A-Z])", "_", key).lower(): value for key, value in facts.items()}


def _worldMatrix(node: Any) -> Any:
    """4 x 4 matrix from the node's own space to the world.

    :raises ValueError: if the node has a transform that bends space.
    """
    transform = node.GetParentTransformNode()
    matrix = vtk.vtkMatrix4x4()
    if transform is not None:
        if not transform.IsTransformToWorldLinear():
            raise ValueError(_("its transform bends space"))
        transform.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _asHU(plane: Any, name: str) -> Any:
    """One slice as int16; other types are rounded and cut off as everywhere in the library."""
    from CTDiffusionLogic.volume import to_hu_int16

    source = _("The volume {name}").format(name=name)
    return plane if plane.dtype == np.int16 else to_hu_int16(plane, source=source)


def _vector(values: Any) -> str:
    return "({})".format(",".join(repr(float(value)) for value in values))
