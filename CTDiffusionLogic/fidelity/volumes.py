"""A volume as the laboratory looks at it: oriented, with its body found, and its origin known."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.corpus.resample import BodyBox, find_body, orient
from CTDiffusionLogic.volume import CTVolume


@dataclass(frozen=True, eq=False)
class LabVolume:
    """A CT volume ready to be measured.

    Args:
        id: Short name, unique in its group.
        patient: Whose scan it is; volumes of one patient are never on both sides of a floor. A synthetic volume is
            its own patient.
        hu: int16 (slices, rows, columns), HU in [-1024, 3071]; slices run to the head, rows to the back, columns to
            the patient's left.
        spacing_mm: Distance of slices, rows, columns in mm (the order of the array's axes).
        body: In-plane bounding box of the body in mm from the first pixel's outer edge.
        synthetic: Whether a model made it.
        metadata: The volume's own facts (provenance).
    """

    id: str
    patient: str
    hu: NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    body: BodyBox
    synthetic: bool = False
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Size along slices, rows, columns in mm."""
        z, y, x = (n * d for n, d in zip(self.hu.shape, self.spacing_mm, strict=True))
        return z, y, x


def to_lab_volume(volume: CTVolume, *, id: str, patient: str = "") -> LabVolume:
    """Orient ``volume`` and find its body.

    Args:
        volume: As read.
        id: Short name.
        patient: Whose scan; its own ``id`` when empty.
    """
    standing = orient(volume)
    dx, dy, dz = standing.spacing
    return LabVolume(
        id=id,
        patient=patient or id,
        hu=standing.hu,
        spacing_mm=(dz, dy, dx),
        body=find_body(standing),
        synthetic=volume.metadata.get("synthetic") == "yes",
        metadata=dict(volume.metadata),
    )
