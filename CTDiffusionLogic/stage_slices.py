"""From slabs to slices: what a denoiser is told about a slab, and detail as it becomes final."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from CTDiffusionLogic.block_run import BlockTask, make_blocks
from CTDiffusionLogic.denoiser.coarse import from_residual, to_residual
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.denoiser.intensity import hu_to_intensity, intensity_to_hu
from CTDiffusionLogic.generation_request import Settings
from CTDiffusionLogic.sampling import slice_generators
from CTDiffusionLogic.slab_plan import Block
from CTDiffusionLogic.stage_run import StageRun

#: Gives the coarse images of slices on the stage's matrix, intensities (N, size, size).
Coarse = Callable[[Sequence[int]], Tensor]


def slab_conditions(
    positions: Sequence[int],
    mask: Sequence[float],
    settings: Settings,
    known: Tensor,
    *,
    pixel_mm: float,
    coarse: Tensor | None = None,
) -> SlabConditions:
    """What a denoiser is told about a slab, a batch of one on the CPU.

    Args:
        positions: Slice numbers.
        mask: 1.0 where a slice is known.
        settings: Of the volume.
        known: (K, H, W) in the stage's space; anything where nothing is known.
        pixel_mm: Edge of the stage's pixels.
        coarse: (K, H, W) upsampled anatomy; None for the anatomy stage.
    """
    places = torch.tensor(positions, dtype=torch.float64)
    middle = float(places.mean())
    body_mm = settings.body_mm + (middle - (settings.slices - 1) / 2) * settings.spacing_mm
    return SlabConditions(
        known=known[None],
        mask=torch.tensor([mask]),
        offsets_mm=((places - middle) * settings.spacing_mm).float()[None],
        body_mm=torch.tensor([body_mm]),
        pixel_mm=torch.tensor([pixel_mm]),
        label=torch.tensor([settings.label]),
        body_box=None if coarse is not None else torch.tensor([settings.body_box], dtype=torch.float32),
        coarse=None if coarse is None else coarse[None],
        coarse_noise=None if coarse is None else torch.tensor([settings.coarse_noise]),
    )


class BlockOfVolume:
    """A block of the detail or fine stage of a volume: what the denoiser is told of it, and its slices.

    Args:
        run: The stage.
        block: Of the volume's plan.
        settings: Of the volume.
        coarse_of: Of the volume.
        numbered_from: Added to slice numbers where noise depends on them.
    """

    def __init__(
        self, run: StageRun, block: Block, settings: Settings, coarse_of: Coarse, *, numbered_from: int = 0
    ) -> None:
        self.run, self.block, self.settings, self.numbered_from = run, block, settings, numbered_from
        self.covered = range(block.first, block.stop)
        self.coarse = coarse_of(self.covered)
        self.scale = run.denoiser.config.residual_scale

    def task(self, before: Mapping[int, Tensor]) -> BlockTask:
        """What is to be made; ``before`` are slices that the block before has kept."""
        given = self.settings.known
        known = torch.zeros_like(self.coarse)
        for place, position in enumerate(self.covered):
            if position in given:
                real = torch.from_numpy(hu_to_intensity(given[position]))
                known[place] = to_residual(real, self.coarse[place], self.scale)
            elif position in before:
                known[place] = before[position]
        known, coarse = known.to(self.run.device), self.coarse.to(self.run.device)

        @cache  # a window comes again at other noise levels
        def told(start: int) -> SlabConditions:
            window = range(start, start + self.block.slices)
            part = slice(start - self.block.first, start - self.block.first + self.block.slices)
            mask = [float(position in given or position in before) for position in window]
            return slab_conditions(
                window, mask, self.settings, known[part], pixel_mm=self.settings.pixel_mm, coarse=coarse[part]
            ).to(self.run.device)

        positions = [position + self.numbered_from for position in self.block.new]
        return BlockTask(self.block, slice_generators(self.run.seed, self.run.name, positions), told)

    def kept(self, images: Tensor) -> dict[int, Tensor]:
        """Of what was made, the slices that the next block is told, in the stage's space."""
        return {p: image.clone() for p, image in zip(self.block.new, images, strict=True) if p in self.block.kept}

    def hu(self, images: Tensor) -> dict[int, NDArray[np.int16]]:
        """HU of the new slices by their numbers, given what was made of them."""
        places = [position - self.block.first for position in self.block.new]
        hu = intensity_to_hu(from_residual(images, self.coarse[places], self.scale))
        return dict(zip(self.block.new, hu, strict=True))


def final_slices(
    run: StageRun, blocks: Sequence[Block], settings: Settings, coarse_of: Coarse
) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Make the slices of a detail or fine stage.

    Args:
        run: The stage.
        blocks: Of the volume's plan.
        settings: Of the volume; its known slices are final from the start.
        coarse_of: Of the volume.

    Yields:
        Slices as they become final, from the feet up: number of the first, HU (n, size, size).
    """
    final: dict[int, NDArray[np.int16]] = dict(settings.known)
    before: Mapping[int, Tensor] = {}
    first, count = 0, settings.slices
    for block in blocks:
        part = BlockOfVolume(run, block, settings, coarse_of)
        (images,) = make_blocks(run, [part.task(before)])
        before = part.kept(images)
        final |= part.hu(images)
        # What is given is final from the start, so that what is final grows in pieces.
        stop = next((p for p in range(first, count) if p not in final), count)
        if stop > first:
            yield first, np.stack([final.pop(p) for p in range(first, stop)])
            first = stop
    if first < count:  # nothing was to be made
        yield first, np.stack([final.pop(p) for p in range(first, count)])
