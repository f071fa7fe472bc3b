"""Batches for the trainer, made ahead of time by a few threads.

Batch number n depends on the seed and n alone: a resumed training sees what an uninterrupted one
would have seen, and several processes share the work by taking different numbers. Threads suffice
(numpy and torch release the interpreter) and, unlike worker processes, start everywhere alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from CTDiffusionLogic.corpus.plan import CorpusPlan, ScanPlan
from CTDiffusionLogic.corpus.slabs import COARSE_NOISE, Slab, anatomy_slab, detail_slab
from CTDiffusionLogic.denoiser.conditions import SlabConditions

#: Scans whose pixels are coarser than the grid's by more than this teach no detail.
DETAIL_MAX_COARSENESS = 1.3
#: So many scans stay open: opening one takes as long as an eighth of a slab does.
_OPEN_SCANS = 16
_STAGE_NUMBER = {"anatomy": 1, "detail": 2}

Made = TypeVar("Made")


class SlabStream:
    """Training slabs of one stage.

    Args:
        plan: The corpus plan.
        cache: Folder of the cached slices; they are memory-mapped.
        stage: "anatomy" or "detail".
        batch: Slabs per batch.
        slices: K.
        patch: Pixels per side of a detail patch.
        coarse_noise: Largest standard deviation of the noise on the anatomy of detail slabs, in intensities.
        seed: Of everything drawn here.
        dropout: Share of slabs whose class, body position and body box are hidden together, so that generation can
            be guided by them; each is hidden alone half as often, because each can be unknown.
        split: "train" or "held-out".
    """

    def __init__(
        self,
        plan: CorpusPlan,
        cache: Path,
        *,
        stage: Literal["anatomy", "detail"],
        batch: int,
        slices: int,
        patch: int = 64,
        coarse_noise: float = COARSE_NOISE,
        seed: int = 0,
        dropout: float = 0.1,
        split: Literal["train", "held-out"] = "train",
    ) -> None:
        self.plan, self.cache, self.stage = plan, cache, stage
        self.batch_size, self.slices, self.patch, self.seed = batch, slices, patch, seed
        self.dropout, self.coarse_noise = dropout, coarse_noise
        scans = plan.train if split == "train" else plan.held_out
        if stage == "detail":
            grid_mm = plan.fov_mm / plan.image_size
            fine = [s for s in scans if s.native_pixel_mm <= DETAIL_MAX_COARSENESS * max(grid_mm, s.pixel_mm)]
            scans = fine or scans  # a corpus of coarse scans only: better their detail than none
        self.scans = scans
        extent = np.array([s.slices * s.gap_mm for s in scans])
        self.chance = np.sqrt(extent) / np.sqrt(extent).sum()
        self._split_number = 0 if split == "train" else 1
        self._open = lru_cache(_OPEN_SCANS)(self._map)

    def batch(self, number: int) -> tuple[Tensor, SlabConditions]:
        """Make batch ``number``: clean slabs (B, K, H, W) and their conditions, on the CPU."""
        rng, scans = self.draw(number)
        return collate([self._slab(scan, rng) for scan in scans], self.draw_hidden(rng))

    def draw(self, number: int) -> tuple[np.random.Generator, list[ScanPlan]]:
        """The randomness of batch ``number``, and the scans it is cut from."""
        rng = np.random.default_rng([self.seed, _STAGE_NUMBER[self.stage], self._split_number, number])
        chosen = rng.choice(len(self.scans), size=self.batch_size, p=self.chance)
        return rng, [self.scans[i] for i in chosen]

    def draw_hidden(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """What is hidden of each slab of a batch; see :func:`collate`."""
        count = self.batch_size
        return (rng.random((3, count)) < self.dropout / 2) | (rng.random(count) < self.dropout)

    def slices_of(self, scan: ScanPlan) -> NDArray[np.int16]:
        """The cached slices of a scan, HU (n, size, size)."""
        return self._open(scan.id)

    def batches(
        self, numbers: Iterator[int], *, threads: int = 1, ahead: int = 4
    ) -> Generator[tuple[Tensor, SlabConditions], None, None]:
        """Yield the batches with these numbers in order; see :func:`made_ahead`."""
        return made_ahead(self.batch, numbers, threads=threads, ahead=ahead)

    def _map(self, scan_id: str) -> NDArray[np.int16]:
        """The cached slices of a scan, mapped into memory; a plain array, since slices of numpy's memmap cost more."""
        return np.asarray(np.load(self.cache / f"{scan_id}.npy", mmap_mode="r"))

    def _slab(self, scan: ScanPlan, rng: np.random.Generator) -> Slab:
        hu = self.slices_of(scan)
        if self.stage == "anatomy":
            return anatomy_slab(hu, scan, self.plan, rng, slices=self.slices)
        shape = {"slices": self.slices, "patch": self.patch}
        return detail_slab(hu, scan, self.plan, rng, **shape, coarse_noise=self.coarse_noise)


def made_ahead(
    make: Callable[[int], Made],
    numbers: Iterator[int],
    *,
    threads: int = 1,
    ahead: int = 4,
    at_start: Callable[[], None] | None = None,
) -> Generator[Made, None, None]:
    """Yield what ``make`` gives for these numbers, in order, up to ``ahead`` of it made in advance.

    Without ``threads`` each is made when it is asked for. Where the processor itself trains, that is the faster
    way: a thread beside takes a core from one of the threads that compute, and all of them wait for that one (on
    two cores 10 to 20 % of a step; Testing/benchmarks/training_throughput.py).

    Args:
        make: Called in the threads.
        numbers: Of what is made.
        threads: How many.
        ahead: Finished ones wait in memory.
        at_start: Called first in each thread.
    """
    if threads == 0:
        yield from (make(number) for number in numbers)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="slabs", initializer=at_start) as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for number in numbers:
                waiting.append(pool.submit(make, number))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def collate(slabs: list[Slab], hidden: NDArray[np.bool_] | None = None) -> tuple[Tensor, SlabConditions]:
    """Join slabs of one stage to a batch.

    Args:
        slabs: At least one.
        hidden: (3, B) whose body position, class and body box are not told; None: all are.
    """
    hide_body, hide_label, hide_box = np.zeros((3, len(slabs)), dtype=bool) if hidden is None else hidden

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32)

    x0 = torch.from_numpy(np.stack([s.x0 for s in slabs]))
    has_coarse = slabs[0].coarse is not None
    boxes = [s.body_box for s in slabs if s.body_box is not None]
    conditions = SlabConditions(
        known=torch.from_numpy(np.stack([s.known for s in slabs])),
        mask=torch.from_numpy(np.stack([s.mask for s in slabs])),
        offsets_mm=torch.from_numpy(np.stack([s.offsets_mm for s in slabs])),
        body_mm=torch.where(torch.from_numpy(hide_body), torch.nan, column([s.body_mm for s in slabs])),
        pixel_mm=column([s.pixel_mm for s in slabs]),
        label=torch.tensor([0 if h else s.label for s, h in zip(slabs, hide_label, strict=True)]),
        body_box=torch.tensor(boxes).masked_fill(torch.from_numpy(hide_box)[:, None], torch.nan) if boxes else None,
        coarse=torch.from_numpy(np.stack([s.coarse for s in slabs if s.coarse is not None])) if has_coarse else None,
        coarse_noise=column([s.coarse_noise for s in slabs]) if has_coarse else None,
    )
    return x0, conditions
