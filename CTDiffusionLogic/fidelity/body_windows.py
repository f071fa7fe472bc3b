"""Short pieces of a body, each described by a few numbers that do not change when the piece is shifted or flipped.

A volume is cut along the body into windows of 40 mm. In each window the body is found, shifted to the middle and
scaled to the same area; what lies outside of it (table, arms beside the trunk, air) counts as air. The window's HU,
at 64 x 64 pixels and three components along z, go through a discrete cosine transform, of which the
:data:`NUMBERS` coarsest coefficients are kept **without their signs**:

- a flip of any axis only changes signs of coefficients (basis functions are even or odd), so it changes nothing here;
- a shift or a change of size in the plane is taken out with the body; a shift along z by the windows being many;
- noise, a kernel or a slight blur hardly reach coefficients this coarse (half a wave is 90 mm and more in an adult).

What they do see is the individual: outline, place and size of lungs, heart, liver, spine. Measured on the windows of
15 torso scans of 13 patients (see ``Testing/library/fidelity/test_copies.py``).

A volume of 64 slices of 256 x 256 takes a fraction of a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.corpus.resample import BODY_HU
from CTDiffusionLogic.errors import InputError

#: Slices are averaged to planes this thick; so many planes are a window. The step of windows is one plane.
PLANE_MM, PLANES_PER_WINDOW = 5.0, 8
WINDOW_MM = PLANE_MM * PLANES_PER_WINDOW
#: Coefficients kept of each window.
NUMBERS = 48

#: In-plane pixels are averaged to about this size before anything else.
_PIXEL_MM = 6.0
#: Pixels per side of a window's picture, and half of its side in radii of a circle with the body's area.
_GRID, _REACH = 64, 1.5
#: HU below and above count as these limits; one unit of the description is so many HU.
_HU_RANGE, _UNIT_HU = (-1000.0, 400.0), 700.0
#: Components along z: mean, slope, curvature.
_ALONG_Z = 3
#: A window with less body than this (mm2 on average) describes nobody.
_LEAST_BODY_MM2 = 3000.0
#: Neighbours in the plane.
_CROSS = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], dtype=bool)


@dataclass(frozen=True, eq=False)
class BodyWindows:
    """The windows of one volume, from the feet up.

    Args:
        numbers: float32 (windows, NUMBERS), not negative.
        centres_mm: float32 (windows,): the windows' middles, in mm from the lower face of the first slice.
        places_mm: float32 (windows, 3): the body's centre (row, column) and the radius of a circle with its area.
    """

    numbers: NDArray[np.float32]
    centres_mm: NDArray[np.float32]
    places_mm: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.numbers)


def describe_windows(hu: NDArray[np.int16], spacing_mm: tuple[float, float, float]) -> BodyWindows:
    """Describe all windows of a volume.

    Args:
        hu: (slices, rows, columns) in HU; the axes' senses do not matter.
        spacing_mm: Distance of slices, rows, columns.

    Returns:
        One window per 5 mm along the body; none where there is no body.

    Raises:
        InputError: If the volume is shorter than a window.
    """
    length = len(hu) * spacing_mm[0]
    if length < WINDOW_MM:
        raise InputError(
            f"The volume is {length:.0f} mm long; the search for copies needs {WINDOW_MM:.0f} mm.",
            remedy="Give a longer volume.",
        )
    from scipy import fft, ndimage  # here: generate imports this file, and a few slices are no window

    pictures, bodies, starts = _coarse(hu, spacing_mm)
    margins_mm = [
        (n * mm - int(n * mm / _PIXEL_MM) * _PIXEL_MM) / 2 for n, mm in zip(hu.shape[1:], spacing_mm[1:], strict=True)
    ]
    along_z = fft.dct(np.eye(PLANES_PER_WINDOW), axis=0, norm="ortho")[:_ALONG_Z].astype(np.float32)
    reach = ((np.arange(_GRID) + 0.5) / _GRID * 2 - 1) * _REACH
    numbers, centres, places = [], [], []
    for first in range(len(pictures) - PLANES_PER_WINDOW + 1):
        window = np.s_[first : first + PLANES_PER_WINDOW]
        # One pixel more on all sides: pixels that are partly body keep their HU, and count for as much as they are.
        core = _largest(bodies[window])
        rim = ndimage.binary_dilation(core, structure=_CROSS) & ~core
        part = np.clip((pictures[window] - _HU_RANGE[0]) / -_HU_RANGE[0], 0, 1)
        row, column, radius = _place((core + rim * part).mean(axis=0))
        if np.pi * (radius * _PIXEL_MM) ** 2 < _LEAST_BODY_MM2:
            continue
        picture = np.where(core | rim, pictures[window], _HU_RANGE[0]) / _UNIT_HU
        components = np.tensordot(along_z, picture, axes=1)
        where = np.meshgrid(row + reach * radius, column + reach * radius, indexing="ij")
        sampled = np.stack([ndimage.map_coordinates(c, where, order=1, mode="nearest") for c in components])
        numbers.append(np.abs(fft.dctn(sampled, axes=(1, 2), norm="ortho")[_KEPT]))
        centres.append(starts[first] + WINDOW_MM / 2)
        middle = [(place + 0.5) * _PIXEL_MM + margin for place, margin in zip((row, column), margins_mm, strict=True)]
        places.append((*middle, radius * _PIXEL_MM))
    return BodyWindows(
        np.asarray(numbers, np.float32).reshape(-1, NUMBERS),
        np.asarray(centres, np.float32),
        np.asarray(places, np.float32).reshape(-1, 3),
    )


def _coarsest(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Indices (z, row, column) of the ``count`` coarsest coefficients; a step along z counts as two in the plane."""
    orders = np.indices((_ALONG_Z, 12, 12)).reshape(3, -1)
    coarse = np.argsort(np.hypot(2 * orders[0], np.hypot(orders[1], orders[2])), kind="stable")[:count]
    z, row, column = orders[:, np.sort(coarse)]
    return z, row, column


_KEPT = _coarsest(NUMBERS)


def _coarse(
    hu: NDArray[np.int16], spacing_mm: tuple[float, float, float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.floating]]:
    """The volume on planes of 5 mm and pixels of 6 mm: clipped HU, whether there is body, where the planes begin."""
    from scipy import ndimage

    low, high = _HU_RANGE
    (along, starts), (down, _), (across, _) = (
        _averaging(count, gap, size)
        for count, gap, size in zip(hu.shape, spacing_mm, (PLANE_MM, _PIXEL_MM, _PIXEL_MM), strict=True)
    )
    small = np.stack([down @ np.clip(plane, low, high).astype(np.float32) @ across.T for plane in hu])
    small = np.tensordot(along, small, axes=1)
    # As find_body: thin tables are opened away. Here the shape is needed, lungs included.
    body = [
        ndimage.binary_fill_holes(ndimage.binary_opening(plane > BODY_HU, structure=_CROSS[0], iterations=2))
        for plane in small
    ]
    return small, np.stack(body), starts


def _averaging(count: int, gap_mm: float, size_mm: float) -> tuple[NDArray[np.float32], NDArray[np.floating]]:
    """Weights (cells, count) that average ``count`` samples to cells of ``size_mm``; and where the cells begin, mm."""
    length = count * gap_mm
    cells = max(1, int(length / size_mm + 1e-6))
    lower = np.arange(count) * gap_mm
    starts = np.arange(cells) * size_mm + (length - cells * size_mm) / 2
    shared = np.minimum(lower + gap_mm, starts[:, None] + size_mm) - np.maximum(lower, starts[:, None])
    shared = np.clip(shared, 0, None)
    return (shared / shared.sum(axis=1, keepdims=True)).astype(np.float32), starts


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected piece: of this window alone, so that what lies beyond it changes nothing."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])) if count else mask


def _place(body: NDArray[np.float32]) -> tuple[float, float, float]:
    """Centre (row, column) in pixels, and the radius in pixels of a circle with the same area."""
    total = float(body.sum())
    if total == 0:
        return 0.0, 0.0, 0.0
    row = float(body.sum(axis=1) @ np.arange(body.shape[0])) / total
    column = float(body.sum(axis=0) @ np.arange(body.shape[1])) / total
    return row, column, float(np.sqrt(total / np.pi))
