"""How alike two slices of a volume are, by the distance between them: |dHU| inside the body, and SSIM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from CTDiffusionLogic.fidelity.body_grid import BodyGrid, steps_around

#: Upper edges of the bins of |dHU|: every 2 HU, the last one holds all that is larger.
STEP_HU, MAX_STEP_HU = 2.0, 1000.0
STEP_BINS = round(MAX_STEP_HU / STEP_HU)
STEP_CENTRES = STEP_HU * (np.arange(STEP_BINS) + 0.5)
#: SSIM is binned as well; below zero it is rare, for images that contradict each other.
SSIM_BINS = 500
SSIM_CENTRES = -1 + 2 * (np.arange(SSIM_BINS) + 0.5) / SSIM_BINS
#: HU window of SSIM: all but dense bone and metal.
WINDOW_HU = (-1000.0, 1000.0)
#: Gaussian weights of SSIM, in pixels (Wang et al. 2004: "Image quality assessment").
KERNEL, SIGMA = 11, 1.5


@dataclass(frozen=True, eq=False)
class PairMeasures:
    """Slices of one volume that lie a certain distance apart.

    Args:
        steps_mm: Distances of the pairs that were measured: those next to the wanted one.
        pairs: How many pairs of slices.
        differences: Distribution of |dHU| inside the body, (STEP_BINS,), adds up to one.
        mean_difference: Its mean in HU.
        ssim: Distribution of the pairs' SSIM, (SSIM_BINS,), adds up to one; None for images under 11 pixels.
        mean_ssim: Its mean.
    """

    steps_mm: tuple[float, ...]
    pairs: int
    differences: NDArray[np.float64]
    mean_difference: float
    ssim: NDArray[np.float64] | None
    mean_ssim: float | None


def measure_pairs(grid: BodyGrid, distances_mm: Sequence[float], *, pairs: int = 16) -> dict[float, PairMeasures]:
    """Compare slices at each distance that the volume has; see :func:`steps_around` for distances between slices.

    Args:
        grid: The volume.
        distances_mm: Wanted.
        pairs: Most pairs of slices per step, spread evenly over the volume.

    Returns:
        By distance; those below the gap of the slices, or too long for the volume, are missing.
    """
    gap, slices = grid.spacing_mm[0], len(grid.hu)
    done: dict[int, PairMeasures] = {}
    found = {}
    for distance in distances_mm:
        steps = steps_around(distance, gap, slices)
        for step, _ in steps:
            if step not in done:
                done[step] = _measure_step(grid, step, pairs)
        if steps:
            found[distance] = _blend([(done[step], weight) for step, weight in steps])
    return found


def _measure_step(grid: BodyGrid, step: int, pairs: int) -> PairMeasures:
    count = len(grid.hu) - step
    first = np.unique(np.linspace(0, count - 1, min(pairs, count)).round().astype(int))
    one, other = grid.hu[first], grid.hu[first + step]
    inside = grid.body[first] & grid.body[first + step]
    either = grid.body[first] | grid.body[first + step]
    steps = np.abs(one - other)[inside if inside.any() else either]
    histogram = np.bincount(np.minimum(steps / STEP_HU, STEP_BINS - 1).astype(int), minlength=STEP_BINS)
    ssim = _ssim(one, other, either)
    return PairMeasures(
        steps_mm=(step * grid.spacing_mm[0],),
        pairs=len(first),
        differences=histogram / histogram.sum(),
        mean_difference=float(steps.mean()),
        ssim=None if ssim is None else np.histogram(ssim, bins=SSIM_BINS, range=(-1, 1))[0] / len(ssim),
        mean_ssim=None if ssim is None else float(ssim.mean()),
    )


def _ssim(one: NDArray[np.float32], other: NDArray[np.float32], body: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """SSIM of each pair of slices, mean over the body; None for images smaller than the kernel."""
    if min(one.shape[1:]) < KERNEL:
        return None
    from monai.metrics.regression import compute_ssim_and_cs  # late: takes seconds to import

    low, high = WINDOW_HU
    images = [torch.from_numpy(np.clip(image, low, high) - low)[:, None] for image in (one, other)]
    values, _ = compute_ssim_and_cs(
        *images, spatial_dims=2, kernel_size=(KERNEL, KERNEL), kernel_sigma=(SIGMA, SIGMA), data_range=high - low
    )
    margin = KERNEL // 2
    counted = body[:, margin : body.shape[1] - margin, margin : body.shape[2] - margin]
    found = [plane[mask].mean() for plane, mask in zip(values[:, 0].numpy(), counted, strict=True) if mask.any()]
    return np.asarray(found, dtype=float) if found else None


def _blend(parts: Sequence[tuple[PairMeasures, float]]) -> PairMeasures:
    """Weighted mean of the measures at two distances."""

    def mean(name: str) -> NDArray[np.float64]:
        return sum((weight * np.asarray(getattr(part, name)) for part, weight in parts), np.zeros(()))

    with_ssim = all(part.ssim is not None for part, _ in parts)
    return PairMeasures(
        steps_mm=tuple(part.steps_mm[0] for part, _ in parts),
        pairs=sum(part.pairs for part, _ in parts),
        differences=mean("differences"),
        mean_difference=float(mean("mean_difference")),
        ssim=mean("ssim") if with_ssim else None,
        mean_ssim=float(mean("mean_ssim")) if with_ssim else None,
    )
