"""The images that readers see: slices or volumes in standard orientation, without a trace of where they came from.

Real and synthetic volumes often differ in pixel size and field of view, and readers would learn that instead of
looking. So all images can be brought to one grid: the coarsest pixels and the smallest field of all volumes, centred
on the body. Positions are dropped: every image lies around the origin.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.volume import AIR_HU, CTVolume, to_hu_int16, to_standard_axes

#: Lower edge of "body" in HU, above lung and air.
_BODY_HU = -300


@dataclass(frozen=True, eq=False)
class ReaderImage:
    """What is shown.

    Args:
        hu: int16 (slices, rows, columns) in HU; slices run to the head, rows to the back, columns to the patient's
            left.
        spacing_mm: Distance of slices, rows, columns.
        centre_mm: Middle of the body from the outer edge of the first row and column.
    """

    hu: NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    centre_mm: tuple[float, float]

    @property
    def ijk_to_ras(self) -> NDArray[np.float64]:
        """4 x 4 matrix from (column, row, slice) indices to RAS mm; the middle of the image is the origin."""
        dz, dy, dx = self.spacing_mm
        matrix = np.diag([-dx, -dy, dz, 1.0])
        last = np.array(self.hu.shape[::-1]) - 1
        matrix[:3, 3] = -matrix[:3, :3] @ last / 2
        return matrix


def stand(volume: CTVolume) -> ReaderImage:
    """A whole volume as an image, on its own grid."""
    standing = to_standard_axes(volume)
    dx, dy, dz = standing.spacing
    body = standing.hu[:, ::4, ::4] > _BODY_HU
    middles = []
    for axis, spacing in ((1, dy), (2, dx)):
        mass = body.sum(axis=tuple(other for other in range(3) if other != axis)).astype(float)
        places = (4 * np.arange(len(mass)) + 0.5) * spacing
        extent = standing.hu.shape[axis] * spacing
        middles.append(float((mass * places).sum() / mass.sum()) if mass.sum() else extent / 2)
    return ReaderImage(standing.hu, (dz, dy, dx), (middles[0], middles[1]))


def cut_slice(image: ReaderImage, height: float) -> ReaderImage:
    """One slice.

    Args:
        image: From ``stand``.
        height: 0 the lowest slice, 1 the highest.
    """
    index = round(height * (len(image.hu) - 1))
    return ReaderImage(image.hu[index : index + 1].copy(), image.spacing_mm, image.centre_mm)


def common_grid(images: Iterable[ReaderImage]) -> tuple[float, float]:
    """Pixel size and edge of a square field, in mm, that every image can be brought to.

    Args:
        images: Of every volume one, or more; at least one in all.

    Returns:
        The coarsest pixels, and the smallest field.
    """
    pixels, sides = [], []
    for image in images:
        _, dy, dx = image.spacing_mm
        _, rows, columns = image.hu.shape
        pixels.append(max(dy, dx))
        sides.append(min(rows * dy, columns * dx))
    return max(pixels), min(sides)


def to_common_grid(image: ReaderImage, pixel_mm: float, side_mm: float) -> ReaderImage:
    """Cut a square around the body and bring it to square pixels; slices stay where they are.

    Finer pixels are smoothed first (a Gaussian that makes up for the difference of both pixels' widths), so that
    nothing is aliased. An image that has the pixel size already is cut only.

    Args:
        image: A slice or a volume.
        pixel_mm, side_mm: From ``common_grid``.
    """
    from scipy import ndimage  # here: it takes a while, and the Slicer process starts with this file

    dz, dy, dx = image.spacing_mm
    count = max(1, round(side_mm / pixel_mm))
    places = []  # of the new pixels' centres, in pixels of the image
    for middle, step, pixels in zip(image.centre_mm, (dy, dx), image.hu.shape[1:], strict=True):
        extent, side = pixels * step, count * pixel_mm
        start = (extent - side) / 2 if side >= extent else min(max(middle - side / 2, 0.0), extent - side)
        if np.isclose(step, pixel_mm, rtol=1e-3):
            start = step * round(start / step)  # no interpolation
        places.append((start + pixel_mm * (np.arange(count) + 0.5)) / step - 0.5)
    sigmas = [0.0 if np.isclose(step, pixel_mm, rtol=1e-3) else _sigma(pixel_mm / step) for step in (dy, dx)]
    rows, columns = np.meshgrid(*places, indexing="ij")
    made = np.empty((len(image.hu), count, count), np.int16)
    for number, pixels_of_slice in enumerate(image.hu):
        smooth = ndimage.gaussian_filter(pixels_of_slice.astype(np.float32), sigmas, mode="nearest")
        values = ndimage.map_coordinates(smooth, (rows, columns), order=1, mode="grid-constant", cval=AIR_HU)
        made[number] = to_hu_int16(values)
    middle = count * pixel_mm / 2
    return ReaderImage(made, (dz, pixel_mm, pixel_mm), (middle, middle))


def _sigma(factor: float) -> float:
    """Width in pixels of the Gaussian whose variance is the difference of both pixels' (boxes of 1 and ``factor``)."""
    return float(np.sqrt(max(factor**2 - 1, 0.0) / 12))
