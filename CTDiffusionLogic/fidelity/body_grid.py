"""A volume on the grid that structure is measured on: around the body, at a common pixel size, slices untouched.

Differences of slices, spectra and outlines depend on the pixel size: small pixels are noisy. Therefore pixels are
made equally large, by the same kernel in mm, before volumes are compared. Slices stay as they are: interpolated ones
would be smoother than any scan. Where slices of two volumes are not equally far apart, what was *measured* at the
distances on either side is interpolated (:func:`steps_around`), never the voxels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from CTDiffusionLogic.corpus.resample import BODY_HU
from CTDiffusionLogic.fidelity.volumes import LabVolume

#: Pixel size at which structure is compared, unless some data are coarser.
PIXEL_MM = 2.0
#: A piece of tissue belongs to the body if it has this part of the largest one's volume (arms, legs).
LEAST_PART = 0.05
#: The table is thinner than the body: structures up to about twice this are opened away.
OPENING_MM = 4.0
#: Air kept around the body's box.
MARGIN_MM = 20.0
#: A distance that lies below the gap by less than this part of it counts as the gap.
NEAR = 0.1
_CHUNK = 16


@dataclass(frozen=True, eq=False)
class BodyGrid:
    """The part of a volume around the body.

    Args:
        hu: float32 (slices, rows, columns) in HU.
        body: Where the patient is, with lungs, bowel gas and other holes filled; same shape.
        tissue: What is denser than air and lung and not thin: the patient's tissue, and whatever else is in the image.
        spacing_mm: Distance of slices, rows, columns.
        corner_mm: Outer edge of the first pixel, from that of the volume's first pixel: down, right.
        touches: Part of the slices whose body reaches the edge of the image.
        found: Whether there is a body; if not, ``body`` is everything.
    """

    hu: NDArray[np.float32]
    body: NDArray[np.bool_]
    tissue: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    corner_mm: tuple[float, float]
    touches: float
    found: bool


def common_pixel_mm(spacings_mm: Iterable[tuple[float, float, float]], *, least: float = PIXEL_MM) -> float:
    """The pixel size at which all volumes can be compared: that of the coarsest, at least ``least`` mm.

    Args:
        spacings_mm: Distance of slices, rows, columns of each volume.
        least: Finer pixels are not worth their noise.
    """
    return max([least, *(max(rows, columns) for _, rows, columns in spacings_mm)])


def body_grid(volume: LabVolume, *, pixel_mm: float = PIXEL_MM) -> BodyGrid:
    """Cut ``volume`` around its body and average it to pixels of about ``pixel_mm``.

    A volume of larger pixels keeps its own. The kernel is a triangle of ``pixel_mm`` on either side.
    """
    rows = _cut(volume.body.top, volume.body.bottom, volume.hu.shape[1], volume.spacing_mm[1])
    columns = _cut(volume.body.left, volume.body.right, volume.hu.shape[2], volume.spacing_mm[2])
    cut = volume.hu[:, rows, columns]
    gap, dy, dx = volume.spacing_mm
    size = tuple(max(1, round(n * d / max(pixel_mm, d))) for n, d in ((cut.shape[1], dy), (cut.shape[2], dx)))
    hu = np.empty((len(cut), *size), np.float32)
    for start in range(0, len(cut), _CHUNK):
        chunk = torch.from_numpy(cut[start : start + _CHUNK].astype(np.float32))
        if tuple(chunk.shape[1:]) != size:
            chunk = functional.interpolate(chunk[:, None], size=size, mode="bilinear", antialias=True)[:, 0]
        hu[start : start + _CHUNK] = chunk.numpy()
    spacing = (gap, cut.shape[1] * dy / size[0], cut.shape[2] * dx / size[1])
    tissue = _tissue(hu, spacing)
    body = _body(tissue)
    found = bool(body.any())
    if not found:
        body = np.ones_like(tissue)
    edges = (rows.start == 0, rows.stop == volume.hu.shape[1], columns.start == 0, columns.stop == volume.hu.shape[2])
    sides = (body[:, 0], body[:, -1], body[:, :, 0], body[:, :, -1])
    touching = np.any([side.any(axis=1) & edge for side, edge in zip(sides, edges, strict=True)], axis=0)
    corner = (rows.start * dy, columns.start * dx)
    return BodyGrid(hu, body, tissue, spacing, corner, float(touching.mean()) if found else 0.0, found)


def steps_around(distance_mm: float, gap_mm: float, slices: int, *, pairs: int = 2) -> list[tuple[int, float]]:
    """Which numbers of slices lie around a distance, and how much each counts.

    What is measured between slices ``n`` and ``n + step`` for each step, weighted and added up, is the linear
    interpolation of the measure at ``distance_mm``.

    Args:
        distance_mm: Wanted.
        gap_mm: Distance of neighbouring slices.
        slices: How many there are.
        pairs: Fewest pairs of slices that a step must leave.

    Returns:
        (step, weight) with weights that add up to one, or [] where slices are too far apart or too few.
    """
    place = distance_mm / gap_mm
    if place < 1 - NEAR:
        return []
    low = max(1, math.floor(place + 1e-6))
    high_weight = max(0.0, place - low)
    steps = [(low, 1 - high_weight), (low + 1, high_weight)] if high_weight > 1e-3 else [(low, 1.0)]
    return steps if slices - steps[-1][0] >= pairs else []


def _cut(first_mm: float, last_mm: float, count: int, pixel_mm: float) -> slice:
    start = max(0, math.floor((first_mm - MARGIN_MM) / pixel_mm))
    return slice(start, max(start + 1, min(count, math.ceil((last_mm + MARGIN_MM) / pixel_mm))))


def _tissue(hu: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    cross = ndimage.generate_binary_structure(3, 1) & np.array([0, 1, 0], dtype=bool)[:, None, None]
    times = max(1, round(OPENING_MM / max(spacing_mm[1:])))
    # Padded by repetition: a body that the image cuts off is not thin at the edge.
    padded = np.pad(hu > BODY_HU, ((0, 0), (times, times), (times, times)), mode="edge")
    opened = ndimage.binary_opening(padded, structure=cross, iterations=times)
    return opened[:, times:-times, times:-times]


def _body(tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest pieces of ``tissue``, holes filled slice by slice."""
    labels, count = ndimage.label(tissue)
    if not count:
        return np.zeros_like(tissue)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = (sizes >= LEAST_PART * sizes.max())[labels]
    return np.stack([ndimage.binary_fill_holes(plane) for plane in kept])
