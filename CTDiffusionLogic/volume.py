"""A CT volume: Hounsfield units and where they lie in the patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.geometry import Geometry

#: HU of air; also what stands in for voxels the scanner did not reconstruct.
AIR_HU = -1024
#: Largest HU kept (12-bit CT; metal is cut off here).
MAX_HU = 3071


#: Metadata that say where a volume was read from; never written into files, for file names name people.
LOCAL_KEYS = ("source", "patient", "id")


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

    @property
    def portable_metadata(self) -> dict[str, str]:
        """What of the metadata may be written into a file, sorted by key."""
        return {k: str(v) for k, v in sorted(self.metadata.items()) if k not in LOCAL_KEYS}


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


def flip_slices(volume: CTVolume) -> CTVolume:
    """The same volume with its slices in reverse order; every voxel stays where it is in the patient."""
    return _reindexed(volume, (0, 1, 2), (False, False, True))


def to_standard_axes(volume: CTVolume) -> CTVolume:
    """The same volume with axes in the order and sense of an axial CT.

    Axes are permuted and flipped, never resampled: i runs to the patient's left, j to the back, k to the
    head, each as nearly as the grid allows. Oblique grids stay oblique by less than 45 degrees or so.
    """
    direction = volume.geometry.direction
    # The assignment of axes that keeps most of the length along L, P and S.
    order = max(permutations(range(3)), key=lambda p: sum(abs(direction[axis, p[axis]]) for axis in range(3)))
    flips = tuple(bool(direction[axis, order[axis]] < 0) for axis in range(3))
    if order == (0, 1, 2) and not any(flips):
        return volume
    return _reindexed(volume, order, flips)


def _reindexed(volume: CTVolume, order: tuple[int, ...], flips: tuple[bool, ...]) -> CTVolume:
    """New axis n is old axis ``order[n]`` (0: i, 1: j, 2: k), reversed where ``flips[n]``."""
    geometry = volume.geometry
    hu = volume.hu.transpose([2 - order[2 - n] for n in range(3)])  # arrays have k first
    hu = hu[tuple(slice(None, None, -1 if flips[2 - n] else 1) for n in range(3))]
    matrix = geometry.ijk_to_lps
    last = [volume.shape[2 - order[n]] - 1 if flips[n] else 0 for n in range(3)]
    origin = matrix[:3, 3] + sum(matrix[:3, order[n]] * last[n] for n in range(3))
    signs = np.where(flips, -1.0, 1.0)
    moved = Geometry(
        (geometry.spacing[order[0]], geometry.spacing[order[1]], geometry.spacing[order[2]]),
        tuple(origin),
        geometry.direction[:, list(order)] * signs,
    )
    return CTVolume(np.ascontiguousarray(hu), moved, volume.metadata)
