"""Where a volume lies in the patient: spacing, origin and direction, in LPS and in RAS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Turns LPS points into RAS points and back (DICOM, ITK and files use LPS; Slicer uses RAS).
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Geometry:
    """Grid of voxel centres in patient space, in LPS (x to the left, y to the back, z to the head).

    Args:
        spacing: Distance of voxel centres along i, j, k in mm; all positive.
        origin: LPS position of the centre of voxel (0, 0, 0) in mm.
        direction: 3 x 3; column n is the unit LPS vector of axis n (i, j, k). Orthonormal to 1e-3.

    Raises:
        ValueError: If a value is not finite, a spacing is not positive or the direction is not
            orthonormal; the message carries the value.
    """

    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: NDArray[np.float64] = None  # type: ignore[assignment]  # identity, set below

    def __post_init__(self) -> None:
        spacing = _triple("spacing", self.spacing)
        if min(spacing) <= 0:
            raise ValueError(f"spacing must be positive in mm, got {spacing}")
        direction = np.eye(3) if self.direction is None else np.array(self.direction, dtype=np.float64)
        if direction.shape != (3, 3) or not np.isfinite(direction).all():
            raise ValueError(f"direction must be a finite 3 x 3 matrix, got {self.direction!r}")
        if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3:
            raise ValueError(f"direction must be orthonormal, got {direction.tolist()}")
        direction.setflags(write=False)
        object.__setattr__(self, "spacing", spacing)
        object.__setattr__(self, "origin", _triple("origin", self.origin))
        object.__setattr__(self, "direction", direction)

    @classmethod
    def from_ijk_to_lps(cls, matrix: ArrayLike) -> Geometry:
        """Build from a 4 x 4 matrix that maps voxel indices (i, j, k) to LPS mm."""
        matrix = np.asarray(matrix, dtype=np.float64)
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        if (spacing <= 0).any():
            raise ValueError(f"matrix has an axis of length zero: {matrix.tolist()}")
        return cls(tuple(spacing), tuple(matrix[:3, 3]), matrix[:3, :3] / spacing)

    @classmethod
    def from_ijk_to_ras(cls, matrix: ArrayLike) -> Geometry:
        """Build from a 4 x 4 matrix that maps voxel indices (i, j, k) to RAS mm, as Slicer has it."""
        return cls.from_ijk_to_lps(LPS_TO_RAS @ np.asarray(matrix, dtype=np.float64))

    @property
    def ijk_to_lps(self) -> NDArray[np.float64]:
        """4 x 4 matrix from voxel indices (i, j, k) to LPS mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction * np.array(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def ijk_to_ras(self) -> NDArray[np.float64]:
        """4 x 4 matrix from voxel indices (i, j, k) to RAS mm."""
        return LPS_TO_RAS @ self.ijk_to_lps

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit LPS vector from slice k to slice k + 1."""
        return np.array(self.direction[:, 2])

    def is_close(self, other: Geometry, *, atol_mm: float = 1e-4) -> bool:
        """Whether the two grids agree, axis vectors and origin, to ``atol_mm``."""
        return bool(np.allclose(self.ijk_to_lps, other.ijk_to_lps, rtol=0, atol=atol_mm))


def _triple(name: str, values: Any) -> tuple[float, float, float]:
    triple = tuple(float(v) for v in values)
    if len(triple) != 3 or not np.isfinite(triple).all():
        raise ValueError(f"{name} must be three finite numbers, got {values!r}")
    return triple
