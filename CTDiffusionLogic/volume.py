"""A CT volume: Hounsfield units and where they lie in the patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.geometry import Geometry

#: HU of air; also what stands in for voxels the scanner did not reconstruct.
AIR_HU = -1024
#: Largest HU kept (12-bit CT; metal is cut off here).
MAX_HU = 3071


@dataclass(frozen=True, eq=False)
class CTVolume:
    """A CT scan, real or synthetic.

    Args:
        hu: int16 array of shape (slices, rows, columns), that is (k, j, i), in HU within
            [-1024, 3071].
        geometry: Where the voxels lie; see :class:`Geometry`.
        metadata: Plain facts about the volume (patient, source, provenance); strings only.

    Raises:
        ValueError: If ``hu`` is not a three-dimensional int16 array with at least one voxel.
    """

    hu: NDArray[np.int16]
    geometry: Geometry
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.hu, np.ndarray) or self.hu.ndim != 3 or self.hu.dtype != np.int16 or not self.hu.size:
            seen = f"{getattr(self.hu, 'dtype', type(self.hu))} of shape {getattr(self.hu, 'shape', None)}"
            raise ValueError(f"hu must be a non-empty int16 array (slices, rows, columns), got {seen}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return self.hu.shape

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along i (columns), j (rows), k (slices) in mm."""
        return self.geometry.spacing


def to_hu_int16(values: NDArray, *, source: str = "volume") -> NDArray[np.int16]:
    """Round ``values`` (HU, any real type) to int16 within [-1024, 3071]; padding below becomes air.

    Scanners and exporters mark voxels outside the reconstruction with -2000, -3024 or -32768;
    all of these mean "air".

    Raises:
        ValueError: If there are NaNs or infinities; the message counts them and names ``source``.
    """
    if np.issubdtype(values.dtype, np.floating):
        bad = int(values.size - np.isfinite(values).sum())
        if bad:
            raise ValueError(f"{source} has {bad} voxels that are not numbers (NaN or infinite)")
        values = np.rint(values)
    if values.dtype.itemsize < 2 or values.dtype == np.uint16:  # the limits must fit the type
        values = values.astype(np.int32)
    low = AIR_HU if np.issubdtype(values.dtype, np.signedinteger) or np.issubdtype(values.dtype, np.floating) else 0
    return np.clip(values, low, MAX_HU).astype(np.int16)
