"""The outline of the body: how large, in how many pieces, with how many holes, and how it moves along z."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from CTDiffusionLogic.fidelity.body_grid import BodyGrid, steps_around

#: Distance of the slices whose outlines are compared.
STEP_MM = 6.0
#: Smaller pieces and holes are noise.
LEAST_PIECE_MM2, LEAST_HOLE_MM2 = 100.0, 50.0


@dataclass(frozen=True, eq=False)
class OutlineMeasures:
    """The outline of one volume's body.

    Args:
        area_cm2: Of each slice, holes included.
        circumference_mm: Of each slice.
        pieces: Mean number per slice of pieces of tissue (body, arms, table) of at least 1 cm².
        holes: Mean number per slice of air spaces inside the body (lungs, bowel gas) of at least 0.5 cm².
        movement_mm: How far the outline moves between slices 6 mm apart, mean over its length; None where slices are
            too far apart.
        circle_ratio: Length of the outline over that of a circle of the same area, mean over the slices with a body:
            about 1.03 for torsos, 2 where the outline is torn.
        roughness_mm: How much the circumference departs from the mean of its neighbours 6 mm above and below.
    """

    area_cm2: NDArray[np.float64]
    circumference_mm: NDArray[np.float64]
    pieces: float
    holes: float
    circle_ratio: float
    movement_mm: float | None
    roughness_mm: float | None


def measure_outline(grid: BodyGrid) -> OutlineMeasures | None:
    """Measure the outline; None where there is no body."""
    if not grid.found:
        return None
    gap, dy, dx = grid.spacing_mm
    pixel = dy * dx
    filled = grid.body
    length = circumference(filled, dy, dx)
    air = filled & ~grid.tissue
    movement = roughness = 0.0
    steps = steps_around(STEP_MM, gap, len(filled), pairs=4)
    for step, weight in steps:
        changed = (filled[step:] ^ filled[:-step]).sum(axis=(1, 2)) * pixel
        lengths = (length[step:] + length[:-step]) / 2
        movement += weight * float(changed.sum() / max(lengths.sum(), 1e-9))
        bends = np.abs(length[2 * step :] + length[: -2 * step] - 2 * length[step:-step]) / 2
        roughness += weight * float(bends.mean()) if len(bends) else 0.0
    area = filled.sum(axis=(1, 2)) * pixel
    there = area > 0
    return OutlineMeasures(
        area_cm2=area / 100,
        circumference_mm=length,
        pieces=_count(grid.tissue, LEAST_PIECE_MM2 / pixel),
        holes=_count(air, LEAST_HOLE_MM2 / pixel),
        circle_ratio=float((length[there] / (2 * np.sqrt(np.pi * area[there]))).mean()),
        movement_mm=movement if steps else None,
        roughness_mm=roughness if steps else None,
    )


def circumference(masks: NDArray[np.bool_], dy: float, dx: float) -> NDArray[np.float64]:
    """Length of the outlines in each slice of (slices, rows, columns), in mm.

    Counts the pixel edges that an outline crosses; on average over directions they are 4/pi as long as the outline
    (Cauchy-Crofton). The image's own edges do not count.
    """
    across = np.diff(masks, axis=2).sum(axis=(1, 2)) * dy
    down = np.diff(masks, axis=1).sum(axis=(1, 2)) * dx
    return np.pi / 4 * (across + down)


def _count(masks: NDArray[np.bool_], least: float) -> float:
    """Mean number per slice of connected pieces of at least ``least`` pixels."""
    found = 0
    for plane in masks:
        labels, _ = ndimage.label(plane)
        found += int((np.bincount(labels.ravel())[1:] >= least).sum())
    return found / len(masks)
