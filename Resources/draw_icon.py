"""Draw the icon: an axial CT slice of a chest that emerges from noise.

    python Resources/draw_icon.py

Writes the catalogue icon (this folder) and the module icon (CTDiffusion/Resources/Icons), 128 x 128 pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIZE, _OVERSAMPLING = 128, 8
_BLOCK = 4  # pixels of the icon in one grain of noise
_REPOSITORY = Path(__file__).resolve().parents[1]

_TOP, _BOTTOM = np.array([18, 34, 58]), np.array([8, 14, 26])  # the plate, from above to below
_FAT, _MUSCLE, _BONE, _LUNG, _HEART = 0.46, 0.68, 1.0, 0.10, 0.80

Field = NDArray[np.float64]


def draw() -> Image.Image:
    """The icon as RGBA."""
    side = _SIZE * _OVERSAMPLING
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side * 2 - 1
    slice_, body = _chest(x / 1.13, y / 1.13)
    grains = np.random.default_rng(4).normal(size=(_SIZE // _BLOCK, _SIZE // _BLOCK))
    noise = np.kron(grains, np.ones((_BLOCK * _OVERSAMPLING,) * 2))
    amount = np.clip((0.05 - x) / 0.85, 0, 1) ** 0.8  # pure noise at the left, none from the middle on
    grey = np.clip((1 - amount) * slice_ + amount * (0.42 + 0.30 * noise), 0, 1)
    disc = np.clip((0.92 - np.hypot(x, y)) * side / 6, 0, 1)  # the field of view of a scanner
    visible = (disc * np.maximum(body, 0.85 * amount))[..., None]
    shade = np.stack([grey * 0.93, grey * 0.97, grey], axis=-1) * 255
    plate = _TOP + (_BOTTOM - _TOP) * ((y + 1) / 2)[..., None]
    rgb = plate * (1 - visible) + shade * visible
    ring = np.exp(-(((np.hypot(x, y) - 0.92) / 0.016) ** 2))[..., None]
    rgb = rgb * (1 - ring) + np.array([88, 166, 255]) * ring
    alpha = _rounded_square(x, y) * 255
    picture = Image.fromarray(np.dstack([rgb, alpha]).round().astype(np.uint8), "RGBA")
    return picture.resize((_SIZE, _SIZE), Image.Resampling.LANCZOS)


def _chest(x: Field, y: Field) -> tuple[Field, Field]:
    """Grey levels of the slice, and where the body is (0 to 1)."""
    body = _ellipse(x, y, 0, 0.02, 0.76, 0.54)
    grey = np.full_like(x, _FAT)
    for shape, value in (
        (_ellipse(x, y, 0, 0.02, 0.71, 0.49), _MUSCLE),
        (_ellipse(x, y, 0, 0.02, 0.655, 0.435), _BONE * 0.88),  # the cage, cut by what lies inside
        (_ellipse(x, y, 0, 0.02, 0.61, 0.39), _MUSCLE),
        (_ellipse(x, y, -0.335, 0.03, 0.255, 0.335), _LUNG),
        (_ellipse(x, y, 0.345, 0.05, 0.245, 0.325), _LUNG),
        (_ellipse(x, y, 0.085, -0.09, 0.225, 0.20), _HEART),
        (_ellipse(x, y, 0.13, 0.245, 0.065, 0.065), _HEART),  # aorta
        (_ellipse(x, y, 0, 0.33, 0.115, 0.10), _BONE),  # vertebra
        (_ellipse(x, y, 0, 0.445, 0.032, 0.075), _BONE),  # its spinous process
        (_ellipse(x, y, 0, 0.40, 0.045, 0.036), 0.45),  # spinal canal
    ):
        grey = grey * (1 - shape) + value * shape
    for side, angle in ((s, a) for s in (-1, 1) for a in (-55, -20, 16, 50)):  # branching vessels
        grey = np.maximum(grey, 0.62 * _vessel(x, y, side * 0.20, 0.02, np.radians(angle), side))
    return grey, body


def _ellipse(x: Field, y: Field, cx: float, cy: float, a: float, b: float) -> Field:
    distance = (1 - np.hypot((x - cx) / a, (y - cy) / b)) * min(a, b)
    return np.clip(distance * 80 + 0.5, 0, 1)


def _vessel(x: Field, y: Field, cx: float, cy: float, angle: float, side: int) -> Field:
    along = (x - cx) * side * np.cos(angle) + (y - cy) * np.sin(angle)
    across = -(x - cx) * side * np.sin(angle) + (y - cy) * np.cos(angle)
    width = 0.024 * np.clip(1 - along / 0.26, 0, 1)
    return np.clip((width - np.abs(across)) * 160, 0, 1) * (along > 0)


def _rounded_square(x: Field, y: Field, radius: float = 0.30) -> Field:
    corner = np.hypot(np.maximum(np.abs(x) - (1 - radius), 0), np.maximum(np.abs(y) - (1 - radius), 0))
    return np.clip((radius - corner) * 250 + 0.5, 0, 1)


if __name__ == "__main__":
    icon = draw()
    for folder in (_REPOSITORY / "Resources", _REPOSITORY / "CTDiffusion" / "Resources" / "Icons"):
        icon.save(folder / "CTDiffusion.png", optimize=True)
