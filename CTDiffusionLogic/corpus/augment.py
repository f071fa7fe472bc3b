"""Small, plausible changes to training slices: few patients must stand for many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.volume import AIR_HU, MAX_HU


@dataclass(frozen=True)
class Crop:
    """A window of the image that is resized to the anatomy grid; it may reach beyond the image (air).

    Args:
        top, left, height, width: In pixels of the cached image.
        pixel_factor: What the resizing does to the pixel size the network is told.
    """

    top: int
    left: int
    height: int
    width: int
    pixel_factor: float

    def cut(self, hu: NDArray[np.int16], positions: NDArray[np.int64]) -> NDArray[np.int16]:
        """Cut the window out of the slices at ``positions``: (len(positions), height, width)."""
        rows, columns = hu.shape[1:]
        bottom, right = self.top + self.height, self.left + self.width
        result = np.full((len(positions), self.height, self.width), AIR_HU, dtype=np.int16)
        source = np.s_[max(self.top, 0) : min(bottom, rows), max(self.left, 0) : min(right, columns)]
        inside = np.s_[
            :,
            max(-self.top, 0) : self.height - max(bottom - rows, 0),
            max(-self.left, 0) : self.width - max(right - columns, 0),
        ]
        result[inside] = hu[positions][:, source[0], source[1]]
        return result


def crop_box(box: tuple[float, float, float, float], crop: Crop, size: int) -> tuple[float, float, float, float]:
    """Edges (top, bottom, left, right) of ``box``, parts of an image of ``size`` pixels, as parts of the crop."""
    top, bottom, left, right = (edge * size for edge in box)
    return (
        (top - crop.top) / crop.height,
        (bottom - crop.top) / crop.height,
        (left - crop.left) / crop.width,
        (right - crop.left) / crop.width,
    )


def draw_crop(size: int, rng: np.random.Generator) -> Crop:
    """Draw a zoom of -18 to +22 %, up to 7 % of stretch and shifts of up to 10 %.

    Half of the zooms are told as another pixel size (the same body, another field of view); the
    others are not (a larger or smaller body). Smooth deformations and turns on top of it were tried, too: generated
    bodies became lopsided.
    """
    zoom = float(rng.uniform(0.82, 1.22))
    stretch = float(rng.uniform(0.93, 1.07))
    height, width = round(size * zoom * stretch), round(size * zoom / stretch)
    shift = rng.uniform(-0.10, 0.10, size=2) * size
    told = zoom if rng.random() < 0.5 else 1.0
    return Crop(round((size - height) / 2 + shift[0]), round((size - width) / 2 + shift[1]), height, width, told)


def draw_height(rng: np.random.Generator) -> float:
    """Draw how much taller a body is taken to be than it is: distances along z, of -7 to +7 %."""
    return float(rng.uniform(0.93, 1.07))


def jitter_hu(hu: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.int16]:
    """Scale HU by up to 2 % and shift them by up to 8: calibration and contrast differ between scanners."""
    changed = hu * np.float32(rng.uniform(0.98, 1.02)) + np.float32(rng.uniform(-8, 8))
    return np.clip(np.rint(changed), AIR_HU, MAX_HU).astype(np.int16)
