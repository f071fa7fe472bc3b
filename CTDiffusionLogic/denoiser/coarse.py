"""Between the two stages: the anatomy grid, and what the detail stage adds to it.

The anatomy stage sees slices averaged down to its coarse grid; the detail stage sees that anatomy
interpolated back up, and models only the residual, the part the coarse grid cannot hold. Training
and generation use the same functions, so that they cannot drift apart.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def downsample(slices: Tensor, size: tuple[int, int]) -> Tensor:
    """Average (N, H, W) slices down to (N, *size) with an anti-aliasing (triangle) filter."""
    return functional.interpolate(slices[:, None], size=size, mode="bilinear", antialias=True, align_corners=False)[
        :, 0
    ]


def interpolate_along_z(anatomy: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
    """Interpolate coarse slices linearly along z.

    Args:
        anatomy: (N, h, w) coarse slices.
        positions: (N,) their rising positions, in any unit.
        wanted: (M,) positions in the same unit; those outside are held at the end slices.

    Returns:
        (M, h, w).
    """
    if len(positions) == 1:
        return anatomy.expand(len(wanted), -1, -1)
    right = torch.searchsorted(positions.contiguous(), wanted.contiguous()).clamp(1, len(positions) - 1)
    left = right - 1
    weight = ((wanted - positions[left]) / (positions[right] - positions[left])).clamp(0, 1).to(anatomy.dtype)
    return torch.lerp(anatomy[left], anatomy[right], weight[:, None, None])


def upsample(slices: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate (N, h, w) coarse slices bilinearly up to (N, *size)."""
    return functional.interpolate(slices[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def to_residual(slices: Tensor, coarse: Tensor, scale: float) -> Tensor:
    """What the detail stage models: ``(slices - coarse) / scale``, of standard deviation about 0.5."""
    return (slices - coarse) / scale


def from_residual(residual: Tensor, coarse: Tensor, scale: float) -> Tensor:
    """Inverse of :func:`to_residual`."""
    return coarse + residual * scale
