"""From slabs to slices: what a denoiser is told about a slab, and detail as it becomes final."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from CTDiffusionLogic.denoiser.coarse import from_residual, to_residual
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.denoiser.intensity import hu_to_intensity, intensity_to_hu
from CTDiffusionLogic.generation_request import Settings
from CTDiffusionLogic.slab_plan import Slab
from CTDiffusionLogic.stage_run import StageRun, ready_batches


def slab_conditions(
    slab: Slab, settings: Settings, known: Tensor, *, pixel_mm: float, coarse: Tensor | None = None
) -> SlabConditions:
    """What a denoiser is told about a slab, a batch of one on the CPU.

    Args:
        slab: Of the volume's plan.
        settings: Of the volume.
        known: (K, H, W) in the stage's space; anything where nothing is known.
        pixel_mm: Edge of the stage's pixels.
        coarse: (K, H, W) upsampled anatomy; None for the anatomy stage.
    """
    positions = torch.tensor(slab.positions, dtype=torch.float64)
    middle = float(positions.mean())
    body_mm = settings.body_mm + (middle - (settings.slices - 1) / 2) * settings.spacing_mm
    return SlabConditions(
        known=known[None],
        mask=torch.tensor([slab.mask]),
        offsets_mm=((positions - middle) * settings.spacing_mm).float()[None],
        body_mm=torch.tensor([body_mm]),
        pixel_mm=torch.tensor([pixel_mm]),
        label=torch.tensor([settings.label]),
        body_box=None if coarse is not None else torch.tensor([settings.body_box], dtype=torch.float32),
        coarse=None if coarse is None else coarse[None],
        coarse_noise=None if coarse is None else torch.tensor([settings.coarse_noise]),
    )


def final_slices(
    run: StageRun, slabs: Sequence[Slab], settings: Settings, upsampled: Callable[[Slab], Tensor]
) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Make the slices of a detail or fine stage.

    Args:
        run: The stage.
        slabs: Of the volume's plan.
        settings: Of the volume; its known slices are final from the start.
        upsampled: Gives the coarse images of a slab on the stage's matrix, intensities (K, size, size).

    Yields:
        Slices as they become final, from the feet up: number of the first, HU (n, size, size).
    """
    size, count = (run.size, run.size), settings.slices
    scale = run.denoiser.config.residual_scale
    uses = Counter(p for slab in slabs for p in slab.known)
    residuals: dict[int, Tensor] = {}
    final: dict[int, NDArray[np.int16]] = dict(settings.known)
    coarse_of: dict[Slab, Tensor] = {}

    def conditions(slab: Slab) -> SlabConditions:
        coarse = coarse_of[slab]
        known = torch.zeros(len(slab.positions), *size)
        for place, position in enumerate(slab.positions):
            if position in settings.known and position in slab.known:
                real = torch.from_numpy(hu_to_intensity(settings.known[position]))
                known[place] = to_residual(real, coarse[place], scale)
            elif position in slab.known:
                known[place] = residuals[position]
        return slab_conditions(slab, settings, known, pixel_mm=settings.pixel_mm, coarse=coarse)

    first = 0
    for batch in ready_batches(slabs, tuple(settings.known), lambda: run.batch):
        coarse_of = {slab: upsampled(slab) for slab in batch}
        for slab, result in zip(batch, run.make(batch, conditions), strict=True):
            places = [slab.positions.index(p) for p in slab.new]
            hu = intensity_to_hu(from_residual(result[places], coarse_of[slab][places], scale))
            final |= dict(zip(slab.new, hu, strict=True))
            residuals |= {p: result[n].clone() for p, n in zip(slab.new, places, strict=True) if uses[p]}
            uses.subtract(slab.known)
            residuals = {p: r for p, r in residuals.items() if uses[p]}
        # Slabs of higher levels fill gaps, so what is final from the start on grows in pieces.
        stop = next((p for p in range(first, count) if p not in final), count)
        if stop > first:
            yield first, np.stack([final.pop(p) for p in range(first, stop)])
            first = stop
    if first < count:  # nothing was to be made
        yield first, np.stack([final.pop(p) for p in range(first, count)])
