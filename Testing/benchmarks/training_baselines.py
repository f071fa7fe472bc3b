"""Other libraries' recipes at equal compute: 2D images of the same scans, trained and sampled as their examples do.

Images are axial slices on the grid of the anatomy stage, from the training patients. MONAI's tutorial scales them to
[0, 1] and turns, shifts and zooms half of them a little; diffusers' example scales them to [-1, 1] and mirrors half.
Unless a choice says otherwise the network has the channels and layers of the small anatomy network (neither example
folds pixels into channels, so a pass costs more), and batch, learning rate and sampler are the examples'.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from choice_measures import AnatomyMeter
from other_loops import (
    batches,
    diffusers_loop,
    diffusers_network,
    diffusers_sample,
    monai_loop,
    monai_network,
    monai_sample,
)
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.flop_counter import FlopCounterMode

from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.corpus.prepare import coarse_slices

BATCH = {"MONAI": 128, "diffusers": 16}
#: Images that are sampled at once.
SAMPLED_AT_ONCE = 28


class Slices(Dataset):
    """All training slices as images (1, size, size) in memory, as the tutorial's CacheDataset has them."""

    def __init__(self, plan: CorpusPlan, cache: Path, library: str) -> None:
        parts = [coarse_slices(np.load(cache / f"{s.id}.npy", mmap_mode="r"), plan.anatomy_size) for s in plan.train]
        self.images = torch.from_numpy(np.concatenate(parts))[:, None].clamp(-1, 1)
        self.library = library
        if library == "MONAI":
            from monai.transforms import RandAffine

            self.images = (self.images + 1) / 2
            turn = (-np.pi / 36, np.pi / 36)
            self.change = RandAffine(
                prob=0.5,
                rotate_range=[turn, turn],
                translate_range=[(-1, 1), (-1, 1)],
                scale_range=[(-0.05, 0.05), (-0.05, 0.05)],
                spatial_size=[plan.anatomy_size] * 2,
                padding_mode="zeros",
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Tensor:
        image = self.images[number]
        if self.library == "MONAI":
            return torch.as_tensor(self.change(image)).float()
        return image.flip(-1) if torch.rand(()) < 0.5 else image


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When to stop: ``minutes`` of processor time, ``steps``, or ``tflop`` of arithmetic; what comes first.

    Arithmetic alone is the same beside other work, too, on processors whose cores share what they compute with.
    """

    minutes: float | None = None
    steps: int | None = None
    tflop: float | None = None

    def of_steps(self, flop: int) -> Budget:
        """The same with the arithmetic in steps of ``flop`` for each pass over a batch; training takes three."""
        if self.tflop is None:
            return self
        steps = max(1, round(1e12 * self.tflop / (3 * flop)))
        return replace(self, tflop=None, steps=steps if self.steps is None else min(steps, self.steps))

    def share(self, step: int, began: float) -> float:
        """Part of it that ``step`` steps since ``began`` (time.process_time) have spent."""
        by_steps = 0.0 if self.steps is None else step / self.steps
        return max(by_steps, 0.0 if self.minutes is None else (time.process_time() - began) / (60 * self.minutes))

    def is_spent(self, step: int, began: float) -> bool:
        """Whether ``step`` steps since ``began`` are enough."""
        return self.share(step, began) >= 1


def run_baseline(
    library: str,
    options: Mapping[str, Any],
    plan: CorpusPlan,
    cache: Path,
    budget: Budget,
    meter: AnatomyMeter,
    *,
    channels: Sequence[int],
    layers: int,
    sample_steps: int,
    seed: int,
) -> dict[str, Any]:
    """Train, sample and measure one recipe; returns the facts of its row."""
    torch.manual_seed(seed)
    data = Slices(plan, cache, library)
    size, batch = plan.anatomy_size, min(int(options.get("batch", BATCH[library])), len(data))
    shape = {
        "channels": options.get("channels", channels),
        "layers": options.get("layers", layers),
        "attention": options.get("attention"),
    }
    rate = options.get("learning_rate")
    device = torch.device("cpu")
    network = monai_network(**shape) if library == "MONAI" else diffusers_network(size=size, **shape)
    flop = _flop(network, size, library)
    budget = budget.of_steps(flop * batch)
    if library == "MONAI":
        loop = monai_loop(network, device, learning_rate=rate)
    else:
        planned = budget.steps or round(60 * (budget.minutes or 1) / _seconds_a_step(network, batch, size))
        loop = diffusers_loop(
            network, device, call=lambda n, x, t: n(x, t, return_dict=False)[0], learning_rate=rate, steps=planned
        )
    stream = batches(data, batch, workers=0)
    step, losses, began = 0, [], time.process_time()
    while not budget.is_spent(step, began):
        losses.append(loop.step(next(stream)))
        step += 1
    seconds = time.process_time() - began
    loop.averaged()
    began = time.monotonic()
    sample = monai_sample if library == "MONAI" else diffusers_sample
    parts = [
        sample(network, min(SAMPLED_AT_ONCE, meter.images - first), size, steps=sample_steps, seed=seed * 1000 + first)
        for first in range(0, meter.images, SAMPLED_AT_ONCE)
    ]
    images = torch.cat(parts)
    sampled = time.monotonic() - began
    figures = meter.of_images(2 * images - 1 if library == "MONAI" else images)
    return {
        "done_steps": step,
        "slices_seen": step * batch,
        "seconds": seconds,
        "gflop_a_slice": flop / 1e9,
        "tflop": 3 * flop * step * batch / 1e12,
        "weights": sum(p.numel() for p in network.parameters()),
        "loss": float(np.mean(losses[-50:])) if losses else None,
        "nfe": sample_steps,
        "sample_s": sampled,
        **figures,
    }


def _flop(network: torch.nn.Module, size: int, library: str) -> int:
    image, times = torch.zeros(1, 1, size, size), torch.zeros(1, dtype=torch.long)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image, times) if library == "MONAI" else network(image, times, return_dict=False)
    return counter.get_total_flops()


def _seconds_a_step(network: torch.nn.Module, batch: int, size: int) -> float:
    """About; for the cosine schedule, which must know its end."""
    images = torch.zeros(batch, 1, size, size)
    began = time.monotonic()
    network(images, torch.zeros(batch, dtype=torch.long), return_dict=False)[0].mean().backward()
    network.zero_grad(set_to_none=True)
    return 1.1 * (time.monotonic() - began)
