"""Where given slices lie along the body, and where the body lies in them, so that what is made around them fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from CTDiffusionLogic.corpus.body_position import BODY_GRID, UNIT_MM, BodyPositionNet
from CTDiffusionLogic.corpus.resample import find_body
from CTDiffusionLogic.denoiser.coarse import downsample
from CTDiffusionLogic.denoiser.intensity import hu_to_intensity
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import CTVolume


class SeenBody(NamedTuple):
    """What given slices show.

    Args:
        body_mm: Anatomical body position of the volume's middle.
        body_box: Edges of the body (front, back, right, left) as parts of the image's side.
    """

    body_mm: float
    body_box: tuple[float, float, float, float]


@torch.no_grad()
def see_body(
    net: BodyPositionNet, known: Mapping[int, NDArray[np.int16]], *, slices: int, spacing_mm: float, pixel_mm: float
) -> SeenBody:
    """Read position and extent of the body off given slices.

    Every slice votes for the position of the volume's middle; the median counts.

    Args:
        net: The model's own, which named the positions of its training scans.
        known: HU on the model's grid by slice number; at least one.
        slices, spacing_mm: Of the whole volume.
        pixel_mm: In-plane pixel size.
    """
    numbers = np.array(sorted(known))
    hu = np.stack([known[n] for n in numbers])
    small = downsample(torch.from_numpy(hu_to_intensity(hu)), (BODY_GRID, BODY_GRID))
    side_mm = pixel_mm * hu.shape[-1]
    votes = net(small, torch.full((len(small),), side_mm / BODY_GRID)).double().numpy() * UNIT_MM
    middle = votes - (numbers - (slices - 1) / 2) * spacing_mm
    box = find_body(CTVolume(hu, Geometry((pixel_mm, pixel_mm, spacing_mm))))
    top, bottom, left, right = (edge / side_mm for edge in (box.top, box.bottom, box.left, box.right))
    return SeenBody(float(np.median(middle)), (top, bottom, left, right))
