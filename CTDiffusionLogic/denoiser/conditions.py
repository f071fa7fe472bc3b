"""What the denoiser is told about a slab besides the noisy pixels."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class SlabConditions:
    """Conditions of a batch of B slabs of K slices each, H x W pixels; all tensors on one device.

    Args:
        known: (B, K, H, W) clean values of the known slices, in the space the stage works in;
            ignored where ``mask`` is 0.
        mask: (B, K) 1.0 where the slice is known, 0.0 where it is to be made.
        offsets_mm: (B, K) slice positions relative to their mean, in mm, rising towards the head.
        body_mm: (B,) anatomical body position of the slab's centre in mm; NaN where unknown.
        pixel_mm: (B,) in-plane pixel size of this grid in mm.
        label: (B,) int64 class; 0 is "none".
        body_box: (B, 4) edges of the body (front, back, right, left) as parts of the image's side from its upper
            left corner, over the whole volume; NaN where unknown. The anatomy stage only: size and place of the
            patient, so that the network need not guess them.
        coarse: (B, K, H, W) the upsampled anatomy; the detail stage only.
        coarse_noise: (B,) sigma of the noise that ``coarse`` was estimated from, or that it has; detail stage only.
    """

    known: Tensor
    mask: Tensor
    offsets_mm: Tensor
    body_mm: Tensor
    pixel_mm: Tensor
    label: Tensor
    body_box: Tensor | None = None
    coarse: Tensor | None = None
    coarse_noise: Tensor | None = None

    def __len__(self) -> int:
        return self.mask.shape[0]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> SlabConditions:
        """Copy all tensors to ``device``."""
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

    def pinned(self) -> SlabConditions:
        """Copy all tensors to memory that a GPU can fetch from by itself."""
        return self._map(lambda t: t.pin_memory())

    def slice(self, start: int, stop: int) -> SlabConditions:
        """Take slabs ``start`` to ``stop - 1`` of the batch."""
        return self._map(lambda t: t[start:stop])

    def without_body(self) -> SlabConditions:
        """Hide class, body position and body box."""
        return replace(
            self,
            body_mm=torch.full_like(self.body_mm, torch.nan),
            body_box=None if self.body_box is None else torch.full_like(self.body_box, torch.nan),
            label=torch.zeros_like(self.label),
        )

    @staticmethod
    def cat(parts: list[SlabConditions]) -> SlabConditions:
        """Join batches; all must be of one stage (all with ``coarse`` or all without)."""
        names = [f.name for f in fields(SlabConditions)]
        absent = {n for n in names if getattr(parts[0], n) is None}
        joined = {n: torch.cat([getattr(p, n) for p in parts]) for n in names if n not in absent}
        return SlabConditions(**joined)

    def _map(self, function) -> SlabConditions:  # type: ignore[no-untyped-def]
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return SlabConditions(**{n: None if v is None else function(v) for n, v in values.items()})  # type: ignore[arg-type]
