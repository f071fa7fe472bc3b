"""Batches with their noise, ready for the device; how many threads make them.

A fast GPU takes a step in some ten milliseconds. Whatever the processor does for a step must not wait for that step,
nor hold it up: slabs and noise are made ahead, and lie in memory that the GPU fetches by itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from CTDiffusionLogic.corpus.patches import Patches
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.noise import Denoiser

#: Threads per stage, at most: a part of their work is Python, which runs in one thread at a time, and the thread
#: that feeds the GPU needs it, too.
MOST_THREADS = 4


class ReadyBatch(NamedTuple):
    """What one step of a stage learns from.

    Args:
        x0: Clean slabs (B, K, H, W).
        noise: Noise of the same shape.
        t: Noise levels (B,).
        conditions: What the network is told.
    """

    x0: Tensor
    noise: Tensor
    t: Tensor
    conditions: SlabConditions

    def to(self, device: torch.device) -> ReadyBatch:
        """Copy to ``device``, without waiting where the memory is pinned."""
        x0, noise, t = (tensor.to(device, non_blocking=True) for tensor in (self.x0, self.noise, self.t))
        return ReadyBatch(x0, noise, t, self.conditions.to(device, non_blocking=True))

    def pinned(self) -> ReadyBatch:
        """Copy to memory that a GPU can fetch from by itself."""
        x0, noise, t = (tensor.pin_memory() for tensor in (self.x0, self.noise, self.t))
        return ReadyBatch(x0, noise, t, self.conditions.pinned())


@dataclass(frozen=True)
class PatchBatch:
    """What one step of a detail stage learns from, before the anatomy network has estimated what it refines.

    Args:
        patches: Clean.
        noise: On the residuals, (B, K, patch, patch).
        t: Its levels (B,).
        noise_around: On the anatomy, (B, K, h, w).
        sigma: Its level (B,).
    """

    patches: Patches
    noise: Tensor
    t: Tensor
    noise_around: Tensor
    sigma: Tensor

    def to(self, device: torch.device) -> PatchBatch:
        """As :meth:`ReadyBatch.to`."""
        noise, t, around, sigma = (
            tensor.to(device, non_blocking=True) for tensor in (self.noise, self.t, self.noise_around, self.sigma)
        )
        return PatchBatch(self.patches.to(device), noise, t, around, sigma)

    def pinned(self) -> PatchBatch:
        """As :meth:`ReadyBatch.pinned`."""
        noise, t, around, sigma = (
            tensor.pin_memory() for tensor in (self.noise, self.t, self.noise_around, self.sigma)
        )
        return PatchBatch(self.patches.pinned(), noise, t, around, sigma)

    @torch.no_grad()
    def refining(self, anatomy: Denoiser, *, image_size: int, scale: float) -> ReadyBatch:
        """Have the anatomy network estimate what is to be refined.

        Args:
            anatomy: On the batch's device, with the weights that are generated with.
            image_size, scale: See :meth:`~CTDiffusionLogic.corpus.patches.Patches.refining`.
        """
        level = self.sigma / (1 + self.sigma)
        share = level[:, None, None, None]
        x_t = (1 - share) * self.patches.around + share * self.noise_around
        estimate = anatomy(x_t, level, self.patches.told_around).float()
        x0, told = self.patches.refining(estimate, self.sigma, image_size=image_size, scale=scale)
        return ReadyBatch(x0, self.noise, self.t, told)


def loader_threads(asked: int | None, device: torch.device, *, stages: int) -> int:
    """How many threads make the batches of one stage.

    Args:
        asked: By the user; None: none beside the one that trains on the processor, and for a GPU this process's share
            of the cores, less one for the thread that feeds it.
        device: That trains.
        stages: How many stages make batches.
    """
    if asked is not None:
        return asked
    return 0 if device.type == "cpu" else max(1, min(MOST_THREADS, (own_cores() - 1) // stages))


def own_cores() -> int:
    """Cores for this process: those it may use, shared with the others that a launcher has started on this machine."""
    try:
        cores = len(os.sched_getaffinity(0))  # of a machine, what a job was given
    except AttributeError:  # not on Windows and macOS
        cores = os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def compute_alone() -> None:
    """To be run first in a thread that makes batches: torch computes in it alone, for others compute beside it."""
    torch.set_num_threads(1)
