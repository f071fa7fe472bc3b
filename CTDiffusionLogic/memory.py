"""How many slabs fit into memory at once, and what running out of it looks like."""

from __future__ import annotations

import torch

from CTDiffusionLogic.denoiser.network import DenoiserConfig
from CTDiffusionLogic.device import memory

#: Share of the free memory that a batch may take: the estimate is one, and other programs want some too.
SHARE = 0.5
#: Feature maps of full resolution that a pass holds at its peak; measured on the standard preset (20) and rounded up.
FEATURE_MAPS = 32
#: The same of the convolutions behind the U-Net, where there are any: one block's, and the sum.
REFINER_MAPS = 4
#: Copies of the slab itself: noisy, known, coarse, estimates of two passes, and what arithmetic needs in between.
SLAB_COPIES = 16
#: More slabs at once make a GPU no faster.
LARGEST_BATCH = {"anatomy": 64, "detail": 16}
#: Nor do more than these per thread make a CPU faster; they delay the first slices and cancelling.
PER_THREAD = {"anatomy": 8, "detail": 1}
#: Of images with more pixels per side than this fewer keep a thread busy.
USUAL_SIZE = 256


def slab_bytes(config: DenoiserConfig, size: int) -> int:
    """Memory in bytes that one slab of ``size`` x ``size`` pixels takes in a denoiser pass, about."""
    pixels = size * size
    features = config.channels[0] * pixels // config.unshuffle**2
    refined = REFINER_MAPS * config.refiner_channels * pixels
    return 4 * (FEATURE_MAPS * features + refined + SLAB_COPIES * config.slices * pixels)


def batch_size(config: DenoiserConfig, size: int, device: torch.device | str, *, free: int | None = None) -> int:
    """How many slabs to make at once; at least 1.

    On CPUs a larger batch than what keeps the threads busy gains nothing and delays the first slices. The
    number depends on free memory only where that is short: elsewhere the same request is computed in the
    same way, to the last bit.

    Args:
        config: The denoiser's.
        size: Pixels per side.
        device: Where it runs.
        free: Free memory in bytes, if it is known already.
    """
    device = torch.device(device)
    if free is None:
        free = memory(device)[1]
    largest = LARGEST_BATCH[config.stage]
    if device.type == "cpu":
        share = min(1.0, (USUAL_SIZE / size) ** 2)
        largest = max(1, min(largest, int(share * torch.get_num_threads() * PER_THREAD[config.stage])))
    if free is None:
        return largest
    return max(1, min(largest, int(SHARE * free) // slab_bytes(config, size)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out; CPU and MPS allocators raise a plain RuntimeError."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    words = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")
    return isinstance(error, RuntimeError) and any(w in text for w in words)
