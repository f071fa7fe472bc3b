"""Samplers: from pure noise to a clean slab in as few denoiser passes as possible.

All work in the flow-matching frame, ``x_t = (1 - t) x0 + t noise``, on a ``model(x, t)`` that estimates
x0, over falling ``times`` from 1 to 0. Each is one plain function (after k-diffusion's ``sampling.py``).

What they cost, measured with exact denoisers (``Testing/benchmarks/sampler_table.py``): standard deviation of
samples / truth, for Gaussian data of five widths; 0.5 is the data as a whole, 0.02 a noise texture of 10 HU in
intensities, 0.1 the same in the units of the detail stage. The last two columns: a mixture of two narrow modes
(weights 0.3 and 0.7, width 0.02), error of the weight and ratio of the widths.

    sampler, noise levels                          passes   1.0   0.5   0.1  0.05  0.02   weight  width
    diffusers FlowMatchHeun, its own (even)            17  1.00  1.00  1.13  1.54  3.26   -0.002   3.20
    diffusers FlowMatchHeun, its own (even)            51  1.00  1.00  1.02  1.06  1.38   -0.000   1.38
    diffusers DPM-Solver++(2M), its own (even)         16  1.00  1.01  0.82  0.59  0.29   -0.000   0.28
    diffusers UniPC, power_times                       16  1.00  1.01  1.04  1.02  0.88   +0.000   0.90
    diffusers UniPC, power_times                       10  1.01  1.04  1.09  1.02  0.82   -0.001   0.81
    Heun, power_times                                  17  1.01  1.02  1.05  1.08  1.13   -0.001   1.12
    Heun, power_times                                  25  1.00  1.01  1.02  1.03  0.99   -0.000   0.99
    multistep of order 1 (DDIM), power_times           16  0.90  0.91  0.88  0.85  0.76   -0.009   0.87
    multistep of order 2, power_times                  16  1.00  1.00  1.02  1.02  0.99   -0.001   1.00
    multistep of order 2, power_times (detail)         10  1.00  1.01  1.00  0.96  0.86   -0.003   0.83
    multistep of order 3, power_times                  10  0.98  1.00  1.05  1.03  0.93   -0.002   1.05
    ancestral (DDPM), 1,000 linear betas             1000  1.00  0.99  0.96  0.93  0.81   -0.002   0.82
    ancestral (DDPM), 100 of the linear betas         100  0.96  0.94  0.79  0.68  0.55   -0.005   0.54
    ancestral (DDPM), power_times                     100  0.98  0.97  0.95  0.94  0.85   -0.004   0.84

The anatomy of a body is not one number a pixel: its widest patterns, such as the size of the whole, add up over the
pixels of a slab, to many times the noise of one. Such widths are decided far above t = 0.9, where power_times has
one or two levels; edm_times has 12 of its 28 there. The same figures for wide patterns, multistep of order 2,
ordinary and stochastic:

    noise levels, passes       50    30    14     7     3   1.0   0.5   0.1  0.05  0.02
    power_times, 16          0.20  0.32  0.60  0.85  0.97  1.00  1.01  1.02  1.02  0.99
    edm_times, 16            0.81  0.96  1.06  1.09  1.09  1.06  1.03  0.97  0.96  0.89
    edm_times, 28 (anatomy)  0.91  0.98  1.02  1.03  1.03  1.02  1.01  1.01  1.03  1.00
    the same, SDE            0.99  1.01  1.02  1.02  1.04  1.05  1.06  1.01  0.95  0.74
    edm_times, 40, SDE       0.99  1.01  1.01  1.01  1.02  1.02  1.02  1.01  0.96  0.77
    estimate_times, 22       0.91  0.98  1.02  1.03  1.03  1.01  1.00  1.00  1.00  1.00
    estimate_times, 14       0.83  0.96  1.04  1.07  1.06  1.02  0.99  1.00  1.00  1.00
    refining_times, 12       0.33  0.52  0.83  1.02  1.08  1.06  1.02  0.97  0.97  0.90
    power_times, 10 (detail) 0.13  0.19  0.39  0.66  0.92  1.00  1.01  1.00  0.96  0.86

An estimate is the network's at a sigma of 0.4, beside the exact one at that sigma: with nothing to be resolved below,
22 passes are as near as 28 that go to the end.

The stochastic equation (SDE) is for networks early in training: what a network gets wrong at one level, fresh noise
gives it the chance to mend at the next. Halfway through the training of the bundled model, whose bodies the ordinary
equation left ragged and open, it closed and smoothed them, at the price of small structure (compared by eye). At the
end the ordinary one draws closed bodies too, and ribs: Frechet distance to held-out patients 68 against 88 to 114 of
the stochastic one (``ctdiffusion fidelity-curve``, five settings of the last noise level).

Detail has the anatomy to go by and is made in many more pixels. Where it refines averaged images (a fine model),
power_times serves it at a third of the passes; where it refines estimates, ribs and edges are still to be decided, and
refining_times keeps their strength.

Why not the library's: at its own, even noise levels a texture of 0.02 comes out three times too loud (Heun) or
at a third (2M), and only UniPC takes ours. UniPC with them is nearly as good at 16 passes but not at 10, where it
misses the 3 % at 0.5. None takes our noise, drawn slice by slice so that a volume does not depend on its batches.
The noise levels matter more than the order of the method: the noise of CT is decided below t = 0.1.

With real networks (``Testing/benchmarks/sampler_on_model.py``; two torso models early in training, one that
estimates x0 and one preconditioned as in EDM) the order is the same. Root mean square distance at 10 passes from the
same noise's result of 200 passes, in units of the stage, anatomy and detail: order 2 0.07 to 0.08 and 0.014 to 0.03;
order 3 the same and 0.017 to 0.04; Heun (11 passes) 0.10 and 0.03 to 0.06; order 1 0.10 and 0.07 to 0.10. The
finest texture comes out within 2 % with order 2, 9 % too loud with even levels, 15 % too quiet with order 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

#: Estimates x0 from x_t and t (a Python float, the same for the whole batch).
Model = Callable[[Tensor, float], Tensor]

#: Steps at which the exact-denoiser test holds; a model's card may name its own.
ANATOMY_STEPS = 28
#: The same where its last estimate is handed over at a sigma of 0.4: below it there is nothing to be done.
ESTIMATE_STEPS, ESTIMATE_SIGMA_MAX = 22, 100.8
#: With fresh noise at every step; what it forgets costs passes.
SDE_STEPS = 40
#: The detail stage knows the anatomy: less is left to decide, so fewer steps do.
DETAIL_STEPS = 10
#: The same where it refines estimates, and the sigma at which it begins.
REFINING_STEPS, REFINING_SIGMA_MAX = 12, 15.0
#: Steps of the seed's sampler.
DDPM_STEPS = 1000


class Pass(NamedTuple):
    """What a callback is told after each pass: which of how many, at which noise level, and the estimate of x0."""

    number: int
    total: int
    t: float
    denoised: Tensor


Callback = Callable[[Pass], None]
NoiseSource = Callable[[], Tensor]


def power_times(steps: int, *, power: float = 2.0, t_min: float = 0.01) -> list[float]:
    """``steps + 1`` noise levels from 1 to ``t_min``, evenly spaced in ``t ** (1 / power)``, then 0.

    Dense where fine texture is decided (EDM's spacing, Karras et al. 2022, eq. 5, applied to t). A power of 3
    and smaller levels keep still finer texture, but left real networks twice as far from the 150-pass result.

    Raises:
        ValueError: If ``steps`` is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    return [*(float(u**power) for u in np.linspace(1.0, t_min ** (1 / power), steps)), 0.0]


def edm_times(
    steps: int, *, sigma_min: float = 0.015, sigma_max: float = 120.0, reach: float = 3.6, rho: float = 7.0
) -> list[float]:
    """``steps + 1`` noise levels: 1, then EDM's spacing (Karras et al. 2022, eq. 5) in sigma = t / (1 - t), then 0.

    For data with patterns much wider than a pixel's noise; see the table above. The highest sigma is ``reach`` times
    the number of steps, at most ``sigma_max``: fewer steps that reached as far would be too long for a method of order
    2.

    Raises:
        ValueError: If ``steps`` is less than 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    highest = min(reach * steps, sigma_max)
    sigma = np.linspace(highest ** (1 / rho), sigma_min ** (1 / rho), max(steps - 1, 1)) ** rho
    return [1.0, *(float(v) for v in (sigma / (1 + sigma))[: steps - 1]), 0.0]


def estimate_times(steps: int, *, sigma_min: float) -> list[float]:
    """:func:`edm_times` for anatomy whose last estimate, at ``sigma_min``, is what is made (see the table above)."""
    return edm_times(steps, sigma_min=sigma_min, sigma_max=ESTIMATE_SIGMA_MAX, reach=4.6)


def refining_times(steps: int, *, sigma_max: float) -> list[float]:
    """:func:`edm_times` for a detail stage that refines estimates, not averages: what these have lost is made anew,
    bones and edges of several pixels, which :func:`power_times` would leave too faint (see the table above).
    """
    return edm_times(steps, sigma_max=sigma_max, reach=1.25, rho=9.0)


def ddpm_times(steps: int = DDPM_STEPS) -> list[float]:
    """The noise levels of the ancestral sampler.

    With 1,000 steps those of DDPM (Ho et al. 2020): linear betas from 1e-4 to 0.02; sigma = t / (1 - t)
    is their noise-to-signal ratio. With fewer, :func:`power_times`: dropping levels of the linear betas
    leaves Gaussian data at 0.94 of its standard deviation at 100 steps, power_times at 0.97.
    """
    if steps != DDPM_STEPS:
        return power_times(steps)
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, steps))
    sigma = np.sqrt((1 - kept) / kept)
    return [*(sigma / (1 + sigma))[::-1].tolist(), 0.0]


def sample_multistep(
    model: Model, x: Tensor, times: Sequence[float], *, order: int = 2, callback: Callback | None = None
) -> Tensor:
    """Integrate the flow exactly for an x0 estimate that is a polynomial in t through the last passes.

    An exponential Adams-Bashforth method: tAB-DEIS (Zhang & Chen 2023) with x0 extrapolated instead of the
    noise, in the flow frame: ``x_s = (s/t) x_t + s * integral of x0(u) / u^2 over u from s to t``. One pass a step.

    Args:
        model: Estimates x0.
        x: Noise at ``times[0]``, any shape.
        times: Falling noise levels that end in 0.
        order: Passes that are used together; 1 is Euler's method (DDIM).
        callback: Told of each pass; may raise to stop.
    """
    estimates: list[Tensor] = []
    levels: list[float] = []
    for index, (t, s) in enumerate(pairwise(times)):
        estimates = [model(x, t), *estimates][:order]
        levels = [t, *levels][:order]
        x = (s / t) * x
        for weight, estimate in zip(_multistep_weights(levels, s), estimates, strict=True):
            x = x + weight * estimate
        if callback:
            callback(Pass(index, len(times) - 1, t, estimates[0]))
    return x


def _multistep_weights(levels: Sequence[float], s: float) -> list[float]:
    """Weights w with ``sum w_i levels_i^j = s * integral of u^(j - 2) over [s, t]`` for j < len(levels)."""
    t = levels[0]
    moments = [1 - s / t, s * np.log(t / s) if s else 0.0, s * (t - s), s * (t**2 - s**2) / 2]
    if s == 0:
        moments = [1.0, 0.0, 0.0, 0.0]  # the limit: x0 extrapolated to t = 0
    powers = np.vander(levels, increasing=True).T
    return np.linalg.solve(powers, moments[: len(levels)]).tolist()


def sample_heun(model: Model, x: Tensor, times: Sequence[float], *, callback: Callback | None = None) -> Tensor:
    """Heun's second-order method on dx/dt = (x - x0) / t; the last step, to 0, is Euler's. Two passes a step."""
    total = 2 * (len(times) - 1) - 1
    for index, (t, s) in enumerate(pairwise(times)):
        denoised = model(x, t)
        if callback:
            callback(Pass(2 * index, total, t, denoised))
        slope = (x - denoised) / t
        ahead = x + (s - t) * slope
        if s > 0:
            denoised = model(ahead, s)
            if callback:
                callback(Pass(2 * index + 1, total, s, denoised))
            ahead = x + (s - t) * (slope + (ahead - denoised) / s) / 2
        x = ahead
    return x


def sample_multistep_sde(
    model: Model, x: Tensor, times: Sequence[float], *, noise: NoiseSource, callback: Callback | None = None
) -> Tensor:
    """Solve the diffusion's stochastic equation: DPM-Solver++(2M) SDE (Lu et al. 2022), x0 extrapolated linearly.

    Each step takes noise away and adds fresh noise, so that what an imperfect network got wrong at one level can be
    mended at the next; an ordinary equation carries it to the end (Karras et al. 2022, section 4).

    Args:
        model: Estimates x0.
        x: Noise at ``times[0]``, any shape.
        times: Falling noise levels that end in 0.
        noise: Gives standard normal noise of the shape of ``x`` at each call.
        callback: Told of each pass; may raise to stop.
    """
    before: tuple[Tensor, float] | None = None  # the last estimate, and how far its step went in ln(sigma)
    for index, (t, s) in enumerate(pairwise(times)):
        denoised = model(x, t)
        if s == 0:
            x = denoised
        else:
            ratio = s * (1 - t) / (t * (1 - s))  # of the two sigma = t / (1 - t)
            step = -math.log(ratio) if ratio > 0 else math.inf
            ahead = denoised
            if before is not None and before[1] < math.inf:
                ahead = denoised + (denoised - before[0]) * (step / (2 * before[1]))
            keep = (s / t) * ratio  # 0 from pure noise: the first step draws it anew
            x = keep * x + (1 - s) * (1 - ratio**2) * ahead + s * (1 - ratio**2) ** 0.5 * noise()
            before = denoised, step
        if callback:
            callback(Pass(index, len(times) - 1, t, denoised))
    return x


def sample_ancestral(
    model: Model, x: Tensor, times: Sequence[float], *, noise: NoiseSource, callback: Callback | None = None
) -> Tensor:
    """DDPM's stochastic sampler (Ho et al. 2020) for any falling ``times``: draws from q(x_s | x_t, x0).

    Args:
        model: Estimates x0.
        x: Noise at ``times[0]``.
        times: Falling noise levels that end in 0.
        noise: Gives standard normal noise of the shape of ``x`` at each call.
        callback: Told of each pass; may raise to stop.
    """
    for index, (t, s) in enumerate(pairwise(times)):
        denoised = model(x, t)
        if s == 0:
            x = denoised
        else:
            ratio = (s * (1 - t) / (t * (1 - s))) ** 2  # of the two variances sigma^2, sigma = t / (1 - t)
            keep = (s / t) ** 2 * (1 - t) / (1 - s)
            x = keep * x + (1 - s) * (1 - ratio) * denoised + s * (1 - ratio) ** 0.5 * noise()
        if callback:
            callback(Pass(index, len(times) - 1, t, denoised))
    return x


class Run(Protocol):
    """Runs one sampler; ``noise`` is only used by stochastic ones."""

    def __call__(  # noqa: D102
        self, model: Model, x: Tensor, times: Sequence[float], *, noise: NoiseSource, callback: Callback | None
    ) -> Tensor: ...


@dataclass(frozen=True)
class Sampler:
    """A sampler under the name that requests use.

    Args:
        run: The function that makes anatomy.
        anatomy_times, detail_times: Noise levels for a number of steps.
        passes: Denoiser passes for a number of steps.
        anatomy_steps, detail_steps: Where neither the request nor the model's card says.
        detail_run: The function that makes detail; None: the same.
    """

    run: Run
    anatomy_times: Callable[[int], list[float]]
    detail_times: Callable[[int], list[float]]
    passes: Callable[[int], int]
    anatomy_steps: int
    detail_steps: int
    detail_run: Run | None = None

    def run_of(self, stage: str) -> Run:
        """The function of a stage, "anatomy" or "detail"."""
        return self.detail_run if stage == "detail" and self.detail_run is not None else self.run

    def times(
        self, stage: str, steps: int, *, sigma_min: float | None = None, sigma_max: float | None = None
    ) -> list[float]:
        """Noise levels of a stage, "anatomy" or "detail", for a number of steps.

        Args:
            stage, steps: Of the stage.
            sigma_min: Of anatomy, for a sampler with :func:`edm_times`: as in :func:`estimate_times`.
            sigma_max: Where detail begins, by :func:`refining_times`; None: by the sampler's own levels.
        """
        if stage == "detail" and self.detail_times is power_times and sigma_max is not None:
            return refining_times(steps, sigma_max=sigma_max)
        if stage == "anatomy" and self.anatomy_times is edm_times and sigma_min is not None:
            return estimate_times(steps, sigma_min=sigma_min)
        return self.anatomy_times(steps) if stage == "anatomy" else self.detail_times(steps)

    def levels(
        self, stage: str, steps: int, *, sigma_min: float | None = None, sigma_max: float | None = None
    ) -> list[float]:
        """Noise level of each denoiser pass, in the order of the passes; options as of :meth:`times`."""
        times = self.times(stage, steps, sigma_min=sigma_min, sigma_max=sigma_max)[:-1]
        return [t for n, t in enumerate(times) for _ in range(1 if n == 0 else self.passes(2) - 1)]


def _without_noise(function: Callable[..., Tensor]) -> Run:
    def run(
        model: Model, x: Tensor, times: Sequence[float], *, noise: NoiseSource, callback: Callback | None
    ) -> Tensor:
        del noise
        return function(model, x, times, callback=callback)

    return run


SAMPLERS: dict[str, Sampler] = {
    "sde": Sampler(
        sample_multistep_sde,
        edm_times,
        power_times,
        lambda steps: steps,
        SDE_STEPS,
        DETAIL_STEPS,
        detail_run=_without_noise(sample_multistep),
    ),
    "multistep": Sampler(
        _without_noise(sample_multistep), edm_times, power_times, lambda steps: steps, ANATOMY_STEPS, DETAIL_STEPS
    ),
    "heun": Sampler(_without_noise(sample_heun), edm_times, power_times, lambda steps: 2 * steps - 1, 20, 10),
    "ddpm": Sampler(sample_ancestral, ddpm_times, ddpm_times, lambda steps: steps, DDPM_STEPS, DDPM_STEPS),
}
DEFAULT_SAMPLER = "multistep"


def slice_generators(seed: int, stage: str, positions: Sequence[int]) -> list[torch.Generator]:
    """One generator per slice, so that its noise depends on seed, stage and position, not on how slabs were batched.

    Args:
        seed: Any integer; negative ones count from 2**64 down.
        stage: "anatomy", "detail" or "fine".
        positions: Slice numbers; may be negative (slices made only to fill a slab).
    """
    generators = []
    for position in positions:
        entropy = [seed % 2**64, *stage.encode(), position % 2**32]
        state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
        generators.append(torch.Generator().manual_seed(int(state)))
    return generators


def draw_slices(generators: Sequence[Sequence[torch.Generator]], size: tuple[int, int]) -> Tensor:
    """Standard normal noise for a batch of slabs, (B, K, H, W), drawn on the CPU slice by slice."""
    return torch.stack([torch.stack([torch.randn(size, generator=g) for g in slab]) for slab in generators])
