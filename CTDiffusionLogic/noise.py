"""Noise levels, preconditioning and the training loss, in the flow-matching frame.

A noisy slab is ``x_t = (1 - t) x0 + t n`` with n ~ N(0, 1) and t in [0, 1] (rectified flow, Liu et
al. 2022). With sigma = t / (1 - t) this is EDM's ``x0 + sigma n`` scaled by ``1 - t``, so EDM's
preconditioning (Karras et al. 2022, table 1) carries over; both frames share one network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from CTDiffusionLogic.denoiser.conditions import SlabConditions

Parametrization = Literal["x0", "edm", "flow"]


class Factors(NamedTuple):
    """``x0_hat = c_skip * x_t + c_out * F(c_in * x_t)``; each of shape (B, 1, 1, 1)."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor


def precondition(
    t: Tensor, sigma_data: float, parametrization: Parametrization, *, skip_sigma: float = 0.0
) -> Factors:
    """What scales the network F at noise level ``t`` (B,).

    "x0": F is the clean slab itself, less what known slices say of it, in units of ``sigma_data`` (Li & He 2025,
    "Back to basics: let denoising generative models denoise"). A slab folded into channels has more dimensions of
    noise than a small network has features; clean anatomy has few (``Testing/benchmarks/training_choices.py``
    compares the three). Such a network is never right to less than its own error, 0.07 for the first bundled anatomy
    (``Testing/benchmarks/denoiser_error.py``), and so draws no ribs; where the noise sigma = t / (1 - t) is smaller
    than ``skip_sigma``, x_t itself is the better estimate. The two are weighted by their variances: c_skip (1 - t) =
    skip_sigma^2 / (skip_sigma^2 + sigma^2); c_out keeps F's target at unit variance. 0 switches this off.
    "edm": inputs and targets of F have unit variance at every level (Karras et al. 2022, table 1).
    "flow": F is the velocity ``noise - x0`` of flow matching (Lipman et al. 2023); inputs are scaled alike.
    """
    t = t[:, None, None, None]
    s = 1 - t
    variance = (s * sigma_data) ** 2 + t**2
    if parametrization == "x0":
        sigma = t / s.clamp(min=1e-6)
        trust = skip_sigma**2 / (skip_sigma**2 + sigma**2).clamp(min=1e-12)
        c_out = (((1 - trust) * sigma_data) ** 2 + (trust * sigma) ** 2).sqrt()
        return Factors(variance.rsqrt(), trust / s.clamp(min=1e-6), c_out)
    if parametrization == "flow":
        return Factors(c_in=variance.rsqrt(), c_skip=torch.ones_like(t), c_out=-t)
    return Factors(
        c_in=variance.rsqrt(),
        c_skip=s * sigma_data**2 / variance,
        c_out=sigma_data * t * variance.rsqrt(),
    )


class Denoiser(Protocol):
    """Anything that estimates x0 from a noisy slab."""

    def __call__(self, x_t: Tensor, t: Tensor, conditions: SlabConditions) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class SlabLoss:
    """EDM's loss: denoise at a random level, weighted with 1 / sigma_data^2 + 1 / sigma^2 (Karras et al. 2022).

    Args:
        mean, std: ln(sigma) ~ N(mean, std); sigma = t / (1 - t), so t is logit-normal.
        sigma_data: Standard deviation of the clean data.
        sigma_floor: Below it the weight grows no more: a network that estimates x0 itself cannot and need not
            be right to a thousandth (the idea of min-SNR weighting, Hang et al. 2023).
    """

    mean: float
    std: float
    sigma_data: float
    sigma_floor: float = 0.0

    def draw_levels(self, count: int, generator: torch.Generator, *, shift: float = 0.0) -> Tensor:
        """Draw ``count`` noise levels t, stratified over the batch (less variance at the same mean).

        Args:
            count: How many.
            generator: On the CPU.
            shift: Added to the mean of ln(sigma).
        """
        u = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        z = torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4))
        return torch.sigmoid(self.mean + shift + self.std * z)[torch.randperm(count, generator=generator)]

    def __call__(self, denoiser: Denoiser, x0: Tensor, noise: Tensor, t: Tensor, conditions: SlabConditions) -> Tensor:
        """Return the loss of each slab, (B,), averaged over the pixels of its unknown slices."""
        level = t[:, None, None, None]
        x_t = (1 - level) * x0 + level * noise
        estimate = denoiser(x_t, t, conditions)
        error = ((estimate.float() - x0) ** 2).mean(dim=(2, 3))
        unknown = 1 - conditions.mask
        return self.weight(t) * (error * unknown).sum(1) / unknown.sum(1).clamp(min=1)

    def weight(self, t: Tensor) -> Tensor:
        """Weight of the squared error at noise levels ``t``, same shape."""
        sigma = (t / (1 - t)).clamp(min=self.sigma_floor)
        return self.sigma_data**-2 + sigma**-2
