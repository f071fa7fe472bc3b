"""Blocks of slices through a sampler: at every noise level in other windows, so that no border of a window stays.

A denoiser sees K slices at once. The slices of a block share one run of the sampler, whose estimate at each level is
put together from windows of K (:meth:`CTDiffusionLogic.slab_plan.Block.windows`); where windows overlap, a slice
counts more the nearer it lies to a window's middle. Slices of the block before are known to windows that cover them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.memory import is_out_of_memory
from CTDiffusionLogic.sampling import draw_slices
from CTDiffusionLogic.slab_plan import Block
from CTDiffusionLogic.stage_run import StageRun


@dataclass(frozen=True, eq=False)
class BlockTask:
    """A block to be made.

    Args:
        block: Which.
        generators: Of the noise of each of its new slices.
        told: What the denoiser is told about the window that begins at a slice: a batch of one, on its device. All
            its slices but new ones are known.
    """

    block: Block
    generators: Sequence[torch.Generator]
    told: Callable[[int], SlabConditions]


@torch.inference_mode()
def make_blocks(run: StageRun, tasks: Sequence[BlockTask]) -> list[Tensor]:
    """Make blocks that are independent of each other; all their windows share batches.

    When memory runs out the batch is halved, for good, and the windows that were lost are seen again.

    Args:
        run: The stage, on its device.
        tasks: At least one.

    Returns:
        Of each task its new slices (N, H, W) on the CPU, in the stage's space.

    Raises:
        Cancelled: If the meter's owner asked for it.
        ResourceError: If memory does not even suffice for one window.
        CTDiffusionError: If the denoiser gives values that are not numbers.
    """
    new = [(n, position) for n, task in enumerate(tasks) for position in task.block.new]
    rows = {key: row for row, key in enumerate(new)}

    def noise() -> Tensor:
        return torch.cat([draw_slices([t.generators], (run.size, run.size))[0] for t in tasks]).to(run.device)

    unseen = torch.zeros(run.size, run.size, device=run.device)  # of a known slice the noise does not matter
    number = 0

    def model(x: Tensor, t: float) -> Tensor:
        nonlocal number

        def image(n: int, position: int) -> Tensor:
            row = rows.get((n, position))
            return unseen if row is None else x[row]

        total, share = torch.zeros_like(x), torch.zeros(len(x), 1, 1, device=run.device)
        windows = [(n, task, start) for n, task in enumerate(tasks) for start in task.block.windows(number)]
        for (n, task, start), estimate in zip(windows, _estimates(run, windows, image, t), strict=True):
            for place in range(task.block.slices):
                if (row := rows.get((n, start + place))) is not None:
                    weight = min(place + 1, task.block.slices - place)
                    total[row] += weight * estimate[place]
                    share[row] += weight
        number += 1
        return total / share

    made = run.sampler.run_of(run.stage)(model, noise(), run.times(), noise=noise, callback=None).float().cpu()
    run.require_numbers(made)
    return list(made.split([len(task.block.new) for task in tasks]))


def _estimates(
    run: StageRun, windows: Sequence[tuple[int, BlockTask, int]], image: Callable[[int, int], Tensor], t: float
) -> list[Tensor]:
    """Estimates (K, H, W) of windows, as many at once as memory allows."""
    estimates: list[Tensor] = []
    while len(estimates) < len(windows):
        now = windows[len(estimates) : len(estimates) + run.batch]
        run.meter.start()
        try:
            slabs = [[image(n, start + place) for place in range(task.block.slices)] for n, task, start in now]
            conditions = SlabConditions.cat([task.told(start) for _, task, start in now])
            levels = torch.full((len(now),), t, device=run.device)
            estimates += list(run.denoiser(torch.stack([torch.stack(slab) for slab in slabs]), levels, conditions))
            run.passed(len(now))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            run.halve(len(now))
        # Outside of the handler: inside it the traceback still holds the tensors of the failed pass.
        if run.device.type == "cuda" and len(estimates) < len(windows):
            torch.cuda.empty_cache()
    return estimates
