"""Patches for a detail stage that refines what the anatomy network makes, not what a scan was averaged to.

Generated anatomy is an estimate: where the network cannot tell yet, it is the mean of what is possible, so that ribs
are one bright arc. A detail stage that has only learnt from averaged scans draws that arc in detail. So a patch comes
with the slab of anatomy around it, clean; the training adds noise to that slab, has the anatomy network estimate it,
and cuts the estimate to the patch (:mod:`CTDiffusionLogic.training.batches`). What the estimate has lost, detail
learns to make.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from CTDiffusionLogic.corpus.plan import CorpusPlan, ScanPlan
from CTDiffusionLogic.corpus.slabs import (
    DETAIL_MAX_GAP_MM,
    Slab,
    corrupt_known,
    draw_detail_mask,
    draw_patch,
    draw_step,
    intensity_table,
    with_faults,
)
from CTDiffusionLogic.corpus.stream import SlabStream, collate
from CTDiffusionLogic.denoiser.coarse import downsample, interpolate_along_z, to_residual, upsample
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.volume import AIR_HU

#: Share of slabs of anatomy of which every second slice is known, as where the slab plan halves a gap.
_HALVED = 0.4
#: Standard deviation of the noise on those, intensities: generated ones have faults.
_KNOWN_NOISE = 0.03


@dataclass(frozen=True)
class Patch:
    """One example.

    Args:
        detail: Its ``x0`` and ``known`` are intensities (K, patch, patch) without and with faults.
        around: The slab of anatomy that holds what ``detail`` lies in: ``x0`` are clean intensities (K, h, w).
        between: (K, K) weights: row i has those of the slices of ``around`` in slice i of the patch.
        row, column: Of the patch's upper left corner, in pixels of the image.
        is_mirrored: Whether right and left are to be exchanged.
    """

    detail: Slab
    around: Slab
    between: NDArray[np.float32]
    row: int
    column: int
    is_mirrored: bool


@dataclass(frozen=True)
class Patches:
    """A batch of :class:`Patch`; tensors on one device.

    Args:
        images: (B, K, patch, patch) intensities.
        told: Of the patches, without ``coarse``; ``known`` are intensities.
        around: (B, K, h, w) clean anatomy.
        told_around: Of the slabs of anatomy.
        between: (B, K, K).
        corners: Row and column of each.
        mirrored: Which are.
    """

    images: Tensor
    told: SlabConditions
    around: Tensor
    told_around: SlabConditions
    between: Tensor
    corners: tuple[tuple[int, int], ...]
    mirrored: tuple[bool, ...]

    def to(self, device: torch.device) -> Patches:
        """Copy all tensors to ``device``, without waiting where the memory is pinned."""
        return self._map(lambda part: part.to(device, non_blocking=True))

    def pinned(self) -> Patches:
        """Copy all tensors to memory that a GPU can fetch from by itself."""
        return self._map(lambda part: part.pinned() if isinstance(part, SlabConditions) else part.pin_memory())

    def _map(self, function) -> Patches:  # type: ignore[no-untyped-def]
        names = ("images", "told", "around", "told_around", "between")
        return replace(self, **{name: function(getattr(self, name)) for name in names})

    def refining(
        self, estimate: Tensor, sigma: Tensor, *, image_size: int, scale: float
    ) -> tuple[Tensor, SlabConditions]:
        """What the detail stage learns from, given estimates of the anatomy.

        Args:
            estimate: (B, K, h, w) of ``around``.
            sigma: (B,) noise that they were made from; the detail stage is told.
            image_size: Pixels per side of the whole image.
            scale: The detail stage's unit of residual.

        Returns:
            Clean residuals (B, K, patch, patch) and their conditions, as :meth:`SlabStream.batch` gives them.
        """
        along_z = torch.einsum("bij,bjhw->bihw", self.between, estimate)
        whole = upsample(along_z.flatten(0, 1), (image_size, image_size)).unflatten(0, along_z.shape[:2])
        height, width = self.images.shape[-2:]
        cut = [slab[:, r : r + height, c : c + width] for slab, (r, c) in zip(whole, self.corners, strict=True)]

        def turned(slabs: Tensor) -> Tensor:
            return torch.stack([s.flip(-1) if flip else s for s, flip in zip(slabs, self.mirrored, strict=True)])

        coarse = turned(torch.stack(cut))
        told = replace(
            self.told,
            known=to_residual(turned(self.told.known), coarse, scale),
            coarse=coarse,
            coarse_noise=sigma,
        )
        return to_residual(turned(self.images), coarse, scale), told


class PatchStream(SlabStream):
    """Patches of the detail stage, drawn as :class:`SlabStream` draws slabs; options as there."""

    def patches(self, number: int) -> Patches:
        """Make batch ``number``, on the CPU."""
        rng, scans = self.draw(number)
        made = [
            draw_example(self.slices_of(s), s, self.plan, rng, slices=self.slices, patch=self.patch) for s in scans
        ]
        images, told = collate([p.detail for p in made], self.draw_hidden(rng))
        around, told_around = collate([p.around for p in made])
        return Patches(
            images,
            told,
            around,
            told_around,
            torch.from_numpy(np.stack([p.between for p in made])),
            tuple((p.row, p.column) for p in made),
            tuple(p.is_mirrored for p in made),
        )


def draw_example(
    hu: NDArray[np.int16], scan: ScanPlan, plan: CorpusPlan, rng: np.random.Generator, *, slices: int, patch: int
) -> Patch:
    """Cut a patch, and the slab of anatomy around it, out of a scan's cached slices (n, size, size)."""
    size, coarse_size = plan.image_size, plan.anatomy_size
    step = draw_step(len(hu), scan.gap_mm, DETAIL_MAX_GAP_MM, rng, slices=slices, power=1.5)
    start = int(rng.integers(len(hu) - (slices - 1) * step))
    positions = start + step * np.arange(slices)
    grid = _grid(max(1, round(plan.anatomy_gap_mm / (step * scan.gap_mm))), slices, rng)
    row, column = draw_patch(hu[positions[slices // 2]], scan, patch, size // coarse_size, rng)
    table = intensity_table(rng)
    images = np.take(table, hu[positions, row : row + patch, column : column + patch] - np.int16(AIR_HU), mode="clip")
    # Beyond the scan's ends its end slices stand in.
    sources, inverse = np.unique(np.clip(start + step * grid, 0, len(hu) - 1), return_inverse=True)
    whole = torch.from_numpy(np.take(table, hu[sources] - np.int16(AIR_HU), mode="clip"))
    around = downsample(whole, (coarse_size, coarse_size))[inverse].numpy()
    weights = interpolate_along_z(
        torch.eye(slices)[:, None], torch.from_numpy(grid).float(), torch.arange(slices).float()
    )
    known, mask = draw_detail_mask(rng, slices), np.zeros(slices, dtype=np.float32)
    if rng.random() < _HALVED:
        mask[int(rng.integers(2)) :: 2] = 1
    detail = Slab(
        x0=images,
        known=corrupt_known(images, known, rng),
        mask=known,
        offsets_mm=((positions - positions.mean()) * scan.gap_mm).astype(np.float32),
        body_mm=scan.body_mm + positions.mean() * scan.gap_mm,
        pixel_mm=scan.pixel_mm,
        label=scan.label,
    )
    return Patch(
        detail=detail,
        around=Slab(
            x0=around,
            known=with_faults(around, mask, _KNOWN_NOISE, rng),
            mask=mask,
            offsets_mm=((grid - grid.mean()) * step * scan.gap_mm).astype(np.float32),
            body_mm=scan.body_mm + (start + step * grid.mean()) * scan.gap_mm,
            pixel_mm=scan.pixel_mm * size / coarse_size,
            body_box=scan.body_box,
            label=scan.label,
        ),
        between=weights[:, 0].numpy(),
        row=row,
        column=column,
        is_mirrored=bool(rng.random() < 0.5),  # a patch and its mirror image are equally good texture
    )


def _grid(every: int, slices: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """K places of the anatomy grid, in units of the patch's slices, that bracket 0 to K - 1, in a random phase."""
    first = -int(rng.integers(every))
    needed = -(-(slices - 1 - first) // every) + 1
    return first + every * (np.arange(slices) - int(rng.integers(slices - needed + 1)))
