"""Where along the body a slice lies, learnt from the scans themselves.

Scans cover different extents, so an index into the scan means nothing. A small network looks at one
slice and names a position; it is trained only on pairs of slices of one scan, whose distance in mm
is known (after Yan et al. 2018, "Unsupervised body part regression via spatially self-ordering
convolutional neural networks", with the true distance in place of equidistance). Slices that look
alike in different patients get the same position: a common anatomical axis in mm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

#: The network works in units of 100 mm.
UNIT_MM = 100.0
#: Slices are averaged down to this many pixels per side.
BODY_GRID = 32
_SHIFT = 2
#: So many steps take about half a second.
_REPORT_STEPS = 25


class BodyPositionNet(nn.Module):
    """Position of each slice: (N, 32, 32) intensities and (N,) pixel sizes in mm -> (N,) in units of 100 mm."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for depth in range(3):
            out = width * min(2**depth, 4)
            layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.GroupNorm(4, out), nn.SiLU()]
            channels = out
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, 1)

    def forward(self, slices: Tensor, pixel_mm: Tensor) -> Tensor:
        """See the class."""
        scale = (pixel_mm.log2() - 2.0)[:, None, None].expand_as(slices)
        rows = torch.linspace(-1, 1, slices.shape[1], device=slices.device)[:, None].expand_as(slices)
        return self.head(self.features(torch.stack([slices, scale, rows], dim=1)).mean(dim=(2, 3)))[:, 0]


def fit_body_position(
    scans: Sequence[tuple[NDArray[np.float32], float, float]],
    *,
    seed: int = 0,
    steps: int = 500,
    batch: int = 48,
    on_steps: Callable[[], None] | None = None,
) -> BodyPositionNet:
    """Train a position network.

    Args:
        scans: For each training scan: slices (n, 32, 32) as intensities, their gap in mm, the pixel size in mm.
        seed: Of initialisation and batches.
        steps: Optimiser steps; 500 of 48 pairs take some seconds.
        batch: Pairs per step.
        on_steps: Called every few steps; what it raises ends the training.
    """
    generator = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = BodyPositionNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    # All slices in one padded tensor, so that a shifted batch is one indexing and one cut.
    padded = functional.pad(torch.from_numpy(np.concatenate([s for s, _, _ in scans])), (_SHIFT,) * 4, value=-1.0)
    first = np.cumsum([0, *(len(s) for s, _, _ in scans)])
    count = np.array([len(s) for s, _, _ in scans])
    gap, pixel = np.array([[gap, pixel] for _, gap, pixel in scans]).T
    chance = np.sqrt(count * gap) / np.sqrt(count * gap).sum()
    for step in range(1, steps + 1):
        if on_steps is not None and step % _REPORT_STEPS == 0:
            on_steps()
        scan = generator.choice(len(scans), size=batch, p=chance)
        a, b = generator.integers(count[scan]), generator.integers(count[scan])
        images = torch.cat([_shifted(padded[first[scan] + k], generator) for k in (a, b)])
        pixels = torch.from_numpy(pixel[scan] * generator.uniform(0.9, 1.1, size=batch)).float()
        distance = torch.from_numpy((b - a) * gap[scan] / UNIT_MM).float()
        position = net(images, pixels.repeat(2))
        loss = functional.smooth_l1_loss(position[batch:] - position[:batch], distance, beta=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def scan_position_mm(net: BodyPositionNet, slices: NDArray[np.float32], gap_mm: float, pixel_mm: float) -> float:
    """Anatomical position (mm) of the first of ``slices``: the median vote of all, given their true distances."""
    position = net(torch.from_numpy(np.ascontiguousarray(slices)), torch.full((len(slices),), pixel_mm))
    return float(np.median(position.double().numpy() * UNIT_MM - np.arange(len(slices)) * gap_mm))


def _shifted(padded: Tensor, generator: np.random.Generator) -> Tensor:
    """Shift a batch by up to two pixels, so that the network reads anatomy and not the place of the table."""
    row, column = generator.integers(2 * _SHIFT + 1, size=2)
    size = padded.shape[-1] - 2 * _SHIFT
    return padded[:, row : row + size, column : column + size]
