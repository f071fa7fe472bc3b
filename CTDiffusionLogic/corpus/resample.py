"""A scan on the model's in-plane grid: oriented, centred on the body, properly anti-aliased.

Slices stay where they were acquired: gaps along z are a condition of the model, not something to
resample away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch.nn import functional

from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import AIR_HU, CTVolume, to_hu_int16

#: Lower edge of "body" in HU: above lung and air, below fat.
BODY_HU = -300
_CHUNK = 16


@dataclass(frozen=True)
class BodyBox:
    """In-plane bounding box of the body over all slices, in mm from the outer edge of the first pixel."""

    top: float
    bottom: float
    left: float
    right: float

    @property
    def side(self) -> float:
        """Longer edge, mm."""
        return max(self.bottom - self.top, self.right - self.left)

    @property
    def centre(self) -> tuple[float, float]:
        """Row and column of the centre, mm."""
        return (self.top + self.bottom) / 2, (self.left + self.right) / 2


@dataclass(frozen=True)
class GridSlices:
    """Slices on the model's grid.

    Args:
        hu: int16 (slices, size, size); rows run to the back, columns to the patient's left, slices to the head.
        pixel_mm: In-plane pixel size.
        gap_mm: Distance of neighbouring slices.
        body_box: Edges of the body (front, back, right, left) as parts of the grid's side.
        window_mm: Edges of the grid (front, back, right, left) in the scan, from the outer edge of its first pixel.
    """

    hu: NDArray[np.int16]
    pixel_mm: float
    gap_mm: float
    body_box: tuple[float, float, float, float]
    window_mm: tuple[float, float, float, float]


def orient(volume: CTVolume) -> CTVolume:
    """Flip and permute axes so that columns run left, rows to the back, slices to the head (nearest axes)."""
    image = sitk.GetImageFromArray(volume.hu)
    image.SetSpacing(volume.geometry.spacing)
    image.SetOrigin(volume.geometry.origin)
    image.SetDirection(volume.geometry.direction.ravel().tolist())
    image = sitk.DICOMOrient(image, "LPS")
    geometry = Geometry(image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (3, 3)))
    return CTVolume(sitk.GetArrayFromImage(image), geometry, volume.metadata)


def find_body(oriented: CTVolume) -> BodyBox:
    """Bounding box of the largest connected body; the whole slice if there is none.

    Tables are opened away where thin; where one touches the body its wings are cut by leaving out
    half a percent of the body's mass on each side.
    """
    from scipy import ndimage  # here: generation imports this file and seldom comes here

    step = max(1, round(4.0 / oriented.spacing[0]))
    mask = oriented.hu[:, ::step, ::step] > BODY_HU
    cross = ndimage.generate_binary_structure(3, 1) & np.array([0, 1, 0], dtype=bool)[:, None, None]
    mask = ndimage.binary_opening(mask, structure=cross, iterations=2)
    labels, count = ndimage.label(mask)
    rows, columns = oriented.shape[1:]
    dx, dy, _ = oriented.spacing
    if not count:
        return BodyBox(0.0, rows * dy, 0.0, columns * dx)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    top, bottom = _central_range(largest.sum(axis=(0, 2)))
    left, right = _central_range(largest.sum(axis=(0, 1)))
    return BodyBox(top * step * dy, min(rows, bottom * step) * dy, left * step * dx, min(columns, right * step) * dx)


def _central_range(mass: NDArray, *, tail: float = 0.005) -> tuple[int, int]:
    """First and last + 1 index that hold all of ``mass`` but a ``tail`` at each end."""
    share = np.cumsum(mass) / mass.sum()
    return int(np.searchsorted(share, tail)), int(np.searchsorted(share, 1 - tail)) + 1


def to_grid(oriented: CTVolume, *, size: int, fov_mm: float, body: BodyBox | None = None) -> GridSlices:
    """Cut a square field of view and resample it to ``size`` x ``size`` pixels.

    A scan with a larger field of view is cut to ``fov_mm`` around the body; a smaller one keeps its
    own (so the pixel size differs: the model is told). Beyond the scan there is air.

    Args:
        oriented: A volume from :func:`orient`.
        size: Pixels per side.
        fov_mm: Largest field of view.
        body: From :func:`find_body`; found here if not given.
    """
    body = find_body(oriented) if body is None else body
    dx, dy, dz = oriented.spacing
    slices, rows, columns = oriented.shape
    height, width = rows * dy, columns * dx
    side = min(fov_mm, max(height, width))
    # Around the body where the scan is larger than the view, else around the scan's own middle.
    middle_row = _clamped_centre(body.centre[0], side, height)
    middle_column = _clamped_centre(body.centre[1], side, width)
    row0, row1 = round((middle_row - side / 2) / dy), round((middle_row + side / 2) / dy)
    col0, col1 = round((middle_column - side / 2) / dx), round((middle_column + side / 2) / dx)
    inside = np.s_[:, max(row0, 0) : min(row1, rows), max(col0, 0) : min(col1, columns)]
    pad = (max(-col0, 0), max(col1 - columns, 0), max(-row0, 0), max(row1 - rows, 0))
    result = np.empty((slices, size, size), dtype=np.int16)
    for start in range(0, slices, _CHUNK):
        chunk = torch.from_numpy(np.ascontiguousarray(oriented.hu[start : start + _CHUNK][inside], dtype=np.float32))
        chunk = functional.pad(chunk[:, None], pad, value=float(AIR_HU))
        chunk = functional.interpolate(chunk, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        result[start : start + _CHUNK] = to_hu_int16(chunk[:, 0].numpy())
    top, left = row0 * dy, col0 * dx
    box = ((body.top - top) / side, (body.bottom - top) / side, (body.left - left) / side, (body.right - left) / side)
    return GridSlices(result, side / size, dz, box, (top, row1 * dy, left, col1 * dx))


def _clamped_centre(centre: float, side: float, extent: float) -> float:
    """Centre of a view of length ``side`` that stays inside ``extent`` if it can."""
    if side >= extent:
        return extent / 2
    return min(max(centre, side / 2), extent - side / 2)
