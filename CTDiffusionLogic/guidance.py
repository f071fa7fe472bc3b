"""Classifier-free guidance: away from what the denoiser would make of any body, towards this body and place.

After Ho & Salimans 2022, "Classifier-free diffusion guidance", limited to the high noise levels, where the outline and
the organs are decided (Kynkaanniemi et al. 2024, "Applying guidance in a limited interval").
"""

from __future__ import annotations

import torch
from torch import Tensor

from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.noise import Denoiser

#: Guidance acts from this noise level t up (sigma = 1): below it the outline is decided already.
GUIDED_FROM = 0.5


def passes_at(t: float, strength: float) -> int:
    """Denoiser passes that :func:`guided_estimate` takes at a noise level."""
    return 1 if strength == 1 or t < GUIDED_FROM else 2


def guided_estimate(
    denoiser: Denoiser, x_t: Tensor, t: float, conditions: SlabConditions, *, strength: float
) -> Tensor:
    """Estimate x0; with a second pass, which is not told class, body position and body box, where guidance acts.

    Args:
        denoiser: Trained with these conditions hidden now and then (``dropout`` of the slab stream).
        x_t: (B, K, H, W) noisy slabs.
        t: Their noise level.
        conditions: Of the slabs.
        strength: 1 for no guidance and no second pass; 2 doubles the difference that the conditions make.
    """
    levels = torch.full((len(x_t),), t, device=x_t.device)
    told = denoiser(x_t, levels, conditions)
    if passes_at(t, strength) == 1:
        return told
    untold = denoiser(x_t, levels, conditions.without_body())
    return torch.lerp(untold, told, strength)
