"""From the model's grid onto the grid of another volume: its matrix, spacing, origin and direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import AIR_HU, to_hu_int16


@dataclass(frozen=True, eq=False)
class LikeGrid:
    """A volume's grid as the model sees it: slices to the head, rows to the back, columns to the left.

    The axes of the volume that are nearest to these are permuted and flipped; what remains of an oblique
    direction is kept: the anatomy follows the grid.

    Args:
        shape: (slices, rows, columns) of the volume, as it is stored.
        geometry: Its geometry.
    """

    shape: tuple[int, int, int]
    geometry: Geometry

    @property
    def axes(self) -> tuple[int, int, int]:
        """Array axes of the volume (0: slices) that run most nearly along head, back and left."""
        from scipy.optimize import linear_sum_assignment  # here: a quarter of a second that few volumes need

        weights = np.abs(self.geometry.direction[::-1])  # rows: head, back, left; columns: axes i, j, k
        _, columns = linear_sum_assignment(-weights)
        return tuple(2 - int(c) for c in columns)  # type: ignore[return-value]

    @property
    def flips(self) -> tuple[int, ...]:
        """Of the three axes head, back, left those along which the volume runs the other way."""
        return tuple(n for n, axis in enumerate(self.axes) if self.geometry.direction[2 - n, 2 - axis] < 0)

    @property
    def slices(self) -> int:
        """Slices from the feet to the head."""
        return self.shape[self.axes[0]]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distances along head, back and left."""
        return tuple(self.geometry.spacing[2 - axis] for axis in self.axes)  # type: ignore[return-value]

    @property
    def slicewise(self) -> bool:
        """Whether the volume's own slices are the model's, in the same order or the reverse one."""
        return self.axes[0] == 0

    def resample(self, hu: NDArray[np.int16], pixel_mm: float) -> NDArray[np.int16]:
        """Bring slices (n, size, size) of the model's grid onto this grid's rows and columns, centre on centre."""
        rows, columns = self.shape[self.axes[1]], self.shape[self.axes[2]]
        return resample_slices(hu, (rows, columns), self.spacing_mm[1:], (pixel_mm, pixel_mm))

    def place(self, number: int) -> int:
        """Slice of the volume that is slice ``number`` from the feet; only if :attr:`slicewise`."""
        return self.shape[0] - 1 - number if 0 in self.flips else number

    def store(self, hu: NDArray[np.int16]) -> NDArray[np.int16]:
        """Arrange (n, rows, columns) from the model's order into the volume's own; n is all, if not slicewise."""
        flipped = np.flip(hu, self.flips)
        return np.ascontiguousarray(np.transpose(flipped, np.argsort(self.axes)))


def resample_slices(
    hu: NDArray[np.int16],
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    pixel_mm: tuple[float, float],
    *,
    shift_mm: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.int16]:
    """Bring slices onto another matrix.

    Cubic B-splines, since linear ones blur every other pixel's noise; pixels larger than the given ones are
    smoothed first. Beyond the given slices there is air.

    Args:
        hu: (n, height, width).
        shape: Rows and columns of the result.
        spacing_mm: Their distances, along a column and along a row.
        pixel_mm: Those of ``hu``.
        shift_mm: Where the middle of ``hu`` lies, seen from the middle of the result.

    Returns:
        (n, rows, columns).
    """
    (rows, columns), (dy, dx), (py, px) = shape, spacing_mm, pixel_mm
    height, width = hu.shape[1:]
    result = np.empty((len(hu), rows, columns), dtype=np.int16)
    target = sitk.Image(columns, rows, sitk.sitkFloat32)
    target.SetSpacing((dx, dy))
    target.SetOrigin((-(columns - 1) / 2 * dx - shift_mm[1], -(rows - 1) / 2 * dy - shift_mm[0]))
    # A Gaussian of half the larger pixel, less what the smaller one has already.
    sigma = [0.5 * max(d**2 - p**2, 0.0) ** 0.5 for d, p in ((dx, px), (dy, py))]
    for number, pixels in enumerate(hu):
        image = sitk.GetImageFromArray(pixels.astype(np.float32))
        image.SetSpacing((px, py))
        image.SetOrigin((-(width - 1) / 2 * px, -(height - 1) / 2 * py))
        if max(s / p for s, p in zip(sigma, (px, py), strict=True)) > 0.1:
            image = sitk.SmoothingRecursiveGaussian(
                image, [max(s, 0.05 * p) for s, p in zip(sigma, (px, py), strict=True)]
            )
        image = sitk.Resample(image, target, sitk.Transform(), sitk.sitkBSpline3, float(AIR_HU))
        result[number] = to_hu_int16(sitk.GetArrayViewFromImage(image))
    return result
