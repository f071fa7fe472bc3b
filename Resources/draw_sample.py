"""Draw the thumbnail of the sample data: a coronal slice of the procedural torso phantom.

    python Resources/draw_sample.py

Writes CTDiffusion/Resources/Icons/CTTorsoPhantom.png, 192 x 192 pixels; takes some seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from CTDiffusionLogic.phantom import torso_phantom

_SIZE = 192
_PIXEL_MM = 2.25
_WINDOW, _LEVEL = 700.0, 40.0


def draw() -> Image.Image:
    """The thumbnail in grey, feet down, as Slicer shows a coronal slice."""
    volume = torso_phantom(slices=_SIZE // 2, spacing_mm=(_PIXEL_MM, _PIXEL_MM, 2 * _PIXEL_MM), size=_SIZE)
    plane = volume.hu[::-1, round(0.47 * _SIZE)].astype(np.float64)
    grey = np.clip((plane - _LEVEL) / _WINDOW + 0.5, 0, 1) * 255
    return Image.fromarray(grey.astype(np.uint8)).resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)


if __name__ == "__main__":
    target = Path(__file__).resolve().parents[1] / "CTDiffusion" / "Resources" / "Icons" / "CTTorsoPhantom.png"
    draw().save(target, optimize=True)
    print(target)
