"""What the feature network is trained on: windows of CT images, and the same with known faults.

A view is a window of an image, moved at will, with some of the faults that a metric of realism must see: blur, noise,
an offset of HU, wrong spacing. Nothing else is changed: no flips (mirrored anatomy is a fault), no change of contrast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

#: Faults in the order of their columns, and the largest of each: standard deviation of a Gaussian in pixels, standard
#: deviation of the noise in HU, offset in HU (either way), binary logarithm of the factor of spacing (either way).
#: They grow with the severity, noise with its square: a few HU more count much where scans have some ten.
FAULTS = ("blur", "noise", "offset", "spacing")
LARGEST = (2.0, 100.0, 100.0, 0.4)
#: Pixels around a window that are cut off after the faults, for blur wraps round at the edges.
_MARGIN = 8
_AIR_HU = -1000.0


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """How windows are drawn.

    Args:
        size: Pixels per side.
        shift: Standard deviation of the distance between windows of one image, pixels.
        coarsest: Windows show the image up to this many times coarser than it was stored.
        untouched: Share of windows with the image's own pixels, or means of 2 x 2, that no interpolation has smoothed;
            such are the images that features are asked for.
        clean: Share of windows without any fault, and of each fault being absent in the others.
    """

    size: int = 64
    shift: float = 8.0
    coarsest: float = 1.8
    untouched: float = 0.6
    clean: float = 0.4


def draw_faults(count: int, generator: np.random.Generator, options: ViewOptions) -> NDArray[np.float32]:
    """Severities (count, 4) in units of LARGEST: blur and noise in [0, 1], offset and spacing in [-1, 1]."""
    severities = generator.uniform(-1.0, 1.0, size=(count, len(FAULTS)))
    severities[:, :2] = np.abs(severities[:, :2])
    severities[generator.random((count, len(FAULTS))) < options.clean] = 0.0
    severities[generator.random(count) < options.clean] = 0.0
    return severities.astype(np.float32)


def draw_views(
    images: Sequence[NDArray[np.int16]],
    severities: Sequence[NDArray[np.float32]],
    generator: np.random.Generator,
    options: ViewOptions,
) -> Tensor:
    """Draw a window of each image for each set of severities; the windows of an image lie near each other.

    Args:
        images: HU, each (H, W), of any sizes.
        severities: One array (len(images), 4) per view.
        generator: Of everything random.
        options: See there.

    Returns:
        (views * images, size, size) in HU, all images of the first view first.
    """
    centres = generator.uniform(0.25, 0.75, size=(len(images), 2)) * [image.shape for image in images]
    scales = options.coarsest ** generator.uniform(0.0, 1.0, size=len(images))
    untouched = generator.random(len(images)) < options.untouched
    scales[untouched] = generator.choice([1.0, 1.0, 2.0], size=int(untouched.sum()))
    views = []
    for severity in severities:
        places = centres + generator.normal(scale=options.shift, size=centres.shape) * scales[:, None]
        factors = scales * 2.0 ** (severity[:, 3] * LARGEST[3])
        side = options.size + 2 * _MARGIN
        cut = [_window(*facts, side) for facts in zip(images, places, factors, strict=True)]
        views.append(add_faults(torch.stack(cut), severity, generator))
    return torch.cat(views)[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def add_faults(windows: Tensor, severities: NDArray[np.float32], generator: np.random.Generator) -> Tensor:
    """Blur, add noise to and offset windows (n, H, W) in HU; the edges wrap round.

    Noise is of any grain between single pixels and a Gaussian of 0.8 pixels, as that of scanners is.
    """
    blur, noise, offset = (torch.from_numpy(severities[:, k]).reshape(-1, 1, 1).float() for k in range(3))
    blur, noise, offset = blur * LARGEST[0], noise.square() * LARGEST[1], offset * LARGEST[2]
    rows, columns = windows.shape[1:]
    squares = torch.fft.fftfreq(rows)[:, None] ** 2 + torch.fft.rfftfreq(columns)[None] ** 2
    blurred = torch.fft.irfft2(torch.fft.rfft2(windows) * _gaussian(squares, blur), s=(rows, columns))
    grain = torch.from_numpy(generator.uniform(0.0, 0.8, size=(len(windows), 1, 1))).float()
    white = torch.from_numpy(generator.standard_normal(windows.shape, dtype=np.float32))
    grains = torch.fft.irfft2(torch.fft.rfft2(white) * _gaussian(squares, grain), s=(rows, columns))
    return blurred + noise * grains / grains.std(dim=(1, 2), keepdim=True) + offset


def _gaussian(squared_frequencies: Tensor, sigma: Tensor) -> Tensor:
    return torch.exp(-2.0 * math.pi**2 * sigma**2 * squared_frequencies)


def _window(image: NDArray[np.int16], centre: NDArray[np.float64], factor: float, side: int) -> Tensor:
    """Window (side, side) around ``centre`` (row, column), each pixel ``factor`` of the image's; air outside."""
    pixels = torch.from_numpy(image.astype(np.float32))[None, None] - _AIR_HU
    if factor >= math.sqrt(2.0):  # against aliasing
        pixels, centre, factor = functional.avg_pool2d(pixels, 2), centre / 2, factor / 2
    if factor == 1.0:  # on the pixels' own grid
        centre = np.round(centre)
    height, width = pixels.shape[2:]
    theta = torch.tensor(
        [
            [factor * side / width, 0.0, 2.0 * centre[1] / width - 1.0],
            [0.0, factor * side / height, 2.0 * centre[0] / height - 1.0],
        ],
        dtype=torch.float32,
    )
    grid = functional.affine_grid(theta[None], [1, 1, side, side], align_corners=False)
    return functional.grid_sample(pixels, grid, align_corners=False)[0, 0] + _AIR_HU
