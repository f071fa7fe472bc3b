"""Curves of HU: how often each value occurs in the body, and the values along a line."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer.util

from .VolumeGrids import huArray, ijkToWorld

#: Lower edge of "body" in HU, above lung and air and below fat, as in the library's own search for the body.
BODY_HU = -300
#: Range and bin width of the histogram, HU; whole bins fit.
LOWEST_HU, HIGHEST_HU, BIN_HU = -1024, 1500, 4
#: Edges in mm of what is opened away before the body is searched: couch, sheets, cables.
_OPENING_MM = 6.0
#: The histogram looks at about so many voxels, on a regular grid: enough for curves that do not change with more.
_ENOUGH_VOXELS = 4_000_000


def bodyMask(hu: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Return where the body is: shape of ``hu``, bool.

    The rule: voxels above BODY_HU, opened in each slice by about 6 mm (which takes the couch away where it is thin),
    of these the largest connected part, with its holes filled slice by slice, so that lungs and bowel gas belong to
    the body and the air around it does not. All of the volume where nothing is above BODY_HU.

    :param hu: int16 (slices, rows, columns).
    :param spacing: mm along slices, rows, columns.
    """
    from scipy import ndimage  # here: not when Slicer starts

    iterations = max(1, round(_OPENING_MM / 2 / max(spacing[1], spacing[2])))
    cross = ndimage.generate_binary_structure(2, 1)[None]
    solid = ndimage.binary_opening(hu > BODY_HU, structure=cross, iterations=iterations)
    labels, count = ndimage.label(solid)
    if not count:
        return np.ones(hu.shape, dtype=bool)
    body = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    for plane in body:
        ndimage.binary_fill_holes(plane, output=plane)
    return body


def histogram(node: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return middle of each bin in HU, and density: the share of the body's voxels per HU.

    Air outside the body is left out (see bodyMask). Values outside of the bins count as voxels but are in no bin.

    :param node: scalar volume node.
    """
    hu = huArray(node)
    step = max(1, int(np.ceil((hu.size / _ENOUGH_VOXELS) ** (1 / 3))))
    hu = hu[::step, ::step, ::step]
    spacing = np.linalg.norm(ijkToWorld(node)[:3, :3], axis=0)[::-1] * step
    inside = hu[bodyMask(hu, tuple(spacing))]
    counts, edges = np.histogram(inside, bins=np.arange(LOWEST_HU, HIGHEST_HU + BIN_HU, BIN_HU))
    return (edges[:-1] + edges[1:]) / 2, counts / max(1, inside.size) / BIN_HU


def profile(node: Any, start: np.ndarray, end: np.ndarray, *, samples: int) -> np.ndarray:
    """Return HU along a line, linearly interpolated; NaN where the volume has no voxels.

    :param node: scalar volume node.
    :param start: first point, RAS mm of the world.
    :param end: last point.
    :param samples: number of points, both ends included.
    """
    from scipy import ndimage

    points = np.linspace(np.append(start, 1.0), np.append(end, 1.0), samples)
    ijk = points @ np.linalg.inv(ijkToWorld(node)).T
    hu = slicer.util.arrayFromVolume(node)  # of any type: this is done while the line is being dragged
    inside = (ijk[:, :3] >= -0.5).all(axis=1) & (ijk[:, :3] <= np.array(hu.shape[::-1]) - 0.5).all(axis=1)
    values = ndimage.map_coordinates(hu, ijk[:, 2::-1].T, output=np.float64, order=1, mode="nearest")
    return np.where(inside, values, np.nan)


def finestSpacing(node: Any) -> float:
    """Return the shortest edge of a volume's voxels, mm."""
    return float(np.linalg.norm(ijkToWorld(node)[:3, :3], axis=0).min())
