"""Samplers against denoisers whose answer is known exactly."""

from __future__ import annotations

import itertools
import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from CTDiffusionLogic.sampling import (
    ANATOMY_STEPS,
    DEFAULT_SAMPLER,
    DETAIL_STEPS,
    ESTIMATE_STEPS,
    REFINING_SIGMA_MAX,
    REFINING_STEPS,
    SAMPLERS,
    SDE_STEPS,
    Pass,
    ddpm_times,
    draw_slices,
    edm_times,
    power_times,
    refining_times,
    sample_ancestral,
    sample_heun,
    sample_multistep,
    sample_multistep_sde,
    slice_generators,
)

REFINING = refining_times(REFINING_STEPS, sigma_max=REFINING_SIGMA_MAX)


def gaussian(std, mean=0.0):
    """The exact denoiser of data N(mean, std^2)."""

    def model(x, t):
        return mean + (1 - t) * std**2 / ((1 - t) ** 2 * std**2 + t**2) * (x - (1 - t) * mean)

    return model


def mixture(weights, means, stds):
    """The exact denoiser of a mixture of Gaussians, for x of shape (n,)."""
    w, mu, std = (torch.tensor(v, dtype=torch.float64) for v in (weights, means, stds))

    def model(x, t):
        variance = ((1 - t) * std) ** 2 + t**2
        offset = x[:, None] - (1 - t) * mu
        chance = torch.softmax(w.log() - variance.log() / 2 - offset**2 / (2 * variance), dim=1)
        return (chance * (mu + (1 - t) * std**2 / variance * offset)).sum(1)

    return model


def quantiles(count=100_001):
    """Evenly spread standard normal values: no Monte Carlo error."""
    return torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)


def exact_deviation(name, stage, std):
    """Standard deviation of samples of N(0, std^2), without Monte Carlo error.

    A linear denoiser makes a sample a weighted sum of all the noise that was drawn: each draw gets an axis of its own.
    """
    sampler = SAMPLERS[name]
    steps = getattr(sampler, f"{stage}_steps")
    axes = iter(torch.eye(steps + 1, dtype=torch.float64))
    weights = sampler.run_of(stage)(
        gaussian(std), next(axes), sampler.times(stage, steps), noise=lambda: next(axes), callback=None
    )
    return float(weights.norm())


@pytest.mark.parametrize("stage", ["anatomy", "detail"])
@pytest.mark.parametrize("name", ["sde", "multistep", "heun"])
def test_gaussian_keeps_its_standard_deviation_at_the_shipped_steps(name, stage):
    assert abs(exact_deviation(name, stage, 0.5) / 0.5 - 1) < 0.03


@pytest.mark.parametrize("name", ["sde", "multistep", "heun"])
@pytest.mark.parametrize("std", [30.0, 14.0, 7.0, 3.0])
def test_wide_patterns_of_anatomy_keep_their_standard_deviation(name, std):
    # The size of a body adds up over a slab's pixels: a pattern 14 times as wide as the noise is nothing unusual.
    assert abs(exact_deviation(name, "anatomy", std) / std - 1) < 0.035


@pytest.mark.parametrize("name", ["sde", "multistep", "heun"])
@pytest.mark.parametrize("std", [30.0, 14.0, 7.0, 3.0, 1.0, 0.5, 0.2])
def test_anatomy_that_is_handed_over_as_an_estimate_is_as_wide_as_the_exact_one(name, std):
    estimates = []

    def model(x, t):
        estimates.append(gaussian(std)(x, t))
        return estimates[-1]

    sampler = SAMPLERS[name]
    steps = ESTIMATE_STEPS if name == DEFAULT_SAMPLER else sampler.anatomy_steps
    times = sampler.times("anatomy", steps, sigma_min=0.4)
    axes = iter(torch.eye(steps + 1, dtype=torch.float64))
    sampler.run_of("anatomy")(model, next(axes), times, noise=lambda: next(axes), callback=None)
    sigma = times[-2] / (1 - times[-2])
    assert sigma == pytest.approx(0.4)
    exact = std**2 / math.hypot(std, sigma)
    assert abs(float(estimates[-1].norm()) / exact - 1) < 0.03


@pytest.mark.parametrize("std", [1.0, 0.5, 0.2, 0.1, 0.05, 0.02])
def test_fine_texture_survives_at_the_shipped_steps(std):
    x = torch.ones(1, dtype=torch.float64)
    assert abs(float(sample_multistep(gaussian(std), x, edm_times(ANATOMY_STEPS))) / std - 1) < 0.03
    if std >= 0.05:  # detail comes in units of its residual: 10 HU of noise are 0.08
        assert abs(float(sample_multistep(gaussian(std), x, power_times(DETAIL_STEPS))) / std - 1) < 0.045
        assert abs(float(sample_multistep(gaussian(std), x, REFINING)) / std - 1) < (0.06 if std == 1.0 else 0.045)


def test_a_detail_stage_that_refines_estimates_keeps_what_is_wider_than_a_pixel():
    """Ribs and edges: left to the levels for averaged images, they would be faint."""
    x = torch.ones(1, dtype=torch.float64)
    assert abs(float(sample_multistep(gaussian(0.5), x, REFINING)) / 0.5 - 1) < 0.03
    for std, lost in ((3.0, 0.92), (7.0, 0.66), (14.0, 0.39)):
        assert float(sample_multistep(gaussian(std), x, power_times(DETAIL_STEPS))) / std == pytest.approx(
            lost, abs=0.01
        )
        assert abs(float(sample_multistep(gaussian(std), x, REFINING)) / std - 1) < (0.18 if std == 14.0 else 0.085)
    for name in ("multistep", "sde", "heun"):
        assert SAMPLERS[name].times("detail", REFINING_STEPS, sigma_max=REFINING_SIGMA_MAX) == REFINING
        assert SAMPLERS[name].times("detail", 10) == power_times(10), "a fine model's"
    assert SAMPLERS["ddpm"].times("detail", 50, sigma_max=REFINING_SIGMA_MAX) == ddpm_times(50)


@pytest.mark.parametrize(
    ("times", "width", "weight_error", "mean_error"),
    [
        (edm_times(ANATOMY_STEPS), 0.02, 0.002, 0.01),
        (power_times(DETAIL_STEPS), 0.05, 0.005, 0.01),
        (REFINING, 0.05, 0.005, 0.012),
    ],
    ids=["anatomy", "detail", "detail that refines estimates"],
)
def test_mixture_keeps_weights_and_widths(times, width, weight_error, mean_error):
    weights, means = [0.3, 0.7], [-0.8, 0.4]
    samples = sample_multistep(mixture(weights, means, [width, width]), quantiles(), times)
    mode = (samples[:, None] - torch.tensor(means)).abs().argmin(1)
    for k in range(2):
        part = samples[mode == k]
        assert abs(len(part) / len(samples) - weights[k]) < weight_error
        assert abs(float(part.mean()) - means[k]) < mean_error
        assert abs(float(part.std()) / width - 1) < 0.09


def test_correlated_gaussian_keeps_its_covariance():
    # A spectrum like an image's: from 1.0 down to 0.02 over 8 directions, in a rotated basis.
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    stds = torch.logspace(0, math.log10(0.02), 8, dtype=torch.float64)
    covariance = rotation @ torch.diag(stds**2) @ rotation.T

    def model(x, t):
        inner = (1 - t) ** 2 * covariance + t**2 * torch.eye(8, dtype=torch.float64)
        return x @ torch.linalg.solve(inner, (1 - t) * covariance)

    gain = sample_multistep(model, torch.eye(8, dtype=torch.float64), edm_times(ANATOMY_STEPS))
    made = gain.T @ gain
    assert torch.linalg.norm(made - covariance) / torch.linalg.norm(covariance) < 0.05, (
        "twice the error of a deviation"
    )
    ratio = (rotation.T @ made @ rotation).diagonal().sqrt() / stds
    assert (ratio - 1).abs().max() < 0.035


@pytest.mark.parametrize(("steps", "tolerance"), [(1000, 0.03), (100, 0.03), (50, 0.08)])
def test_ancestral_sampler_keeps_the_standard_deviation(steps, tolerance):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(40_000, generator=generator)
    made = sample_ancestral(
        gaussian(0.5), x, ddpm_times(steps), noise=lambda: torch.randn(x.shape, generator=generator)
    )
    assert abs(float(made.std()) / 0.5 - 1) < tolerance


def test_ancestral_sampler_keeps_the_weights_of_a_mixture():
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(20_000, dtype=torch.float64, generator=generator)
    made = sample_ancestral(
        mixture([0.3, 0.7], [-0.8, 0.4], [0.05, 0.05]),
        x,
        ddpm_times(200),
        noise=lambda: torch.randn(x.shape, dtype=x.dtype, generator=generator),
    )
    assert abs(float((made < -0.2).double().mean()) - 0.3) < 0.012  # 3.7 standard errors of 20,000 draws


def test_the_stochastic_multistep_sampler_keeps_weights_and_widths_of_a_mixture():
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(20_000, dtype=torch.float64, generator=generator)
    made = sample_multistep_sde(
        mixture([0.3, 0.7], [-0.8, 0.4], [0.1, 0.1]),
        x,
        edm_times(SDE_STEPS),
        noise=lambda: torch.randn(x.shape, dtype=x.dtype, generator=generator),
    )
    assert abs(float((made < -0.2).double().mean()) - 0.3) < 0.012  # 3.7 standard errors of 20,000 draws
    for mode, mean in ((made[made < -0.2], -0.8), (made[made >= -0.2], 0.4)):
        assert abs(float(mode.mean()) - mean) < 0.01
        assert abs(float(mode.std()) / 0.1 - 1) < 0.04


def test_the_stochastic_multistep_sampler_forgets_what_it_began_with():
    # Fresh noise at every step is what mends a network's errors; an ordinary equation keeps its start for ever.
    def run(start):
        generator = torch.Generator().manual_seed(1)
        x = torch.full((4,), start, dtype=torch.float64)
        draw = lambda: torch.randn(4, dtype=torch.float64, generator=generator)  # noqa: E731
        return sample_multistep_sde(gaussian(0.5), x, edm_times(SDE_STEPS), noise=draw)

    assert torch.allclose(run(-2.0), run(2.0), atol=1e-6)


def test_one_step_of_the_ancestral_sampler_is_ddpm_s_posterior():
    # Ho et al. 2020, eq. 7, in the variance-preserving frame, against the flow frame's formula.
    t, s, x0, x_t, n = 0.6, 0.35, 0.3, -0.2, 1.7
    kept_t, kept_s = ((1 - v) ** 2 / ((1 - v) ** 2 + v**2) for v in (t, s))
    alpha = kept_t / kept_s
    vp_t = x_t / math.hypot(1 - t, t)
    mean = math.sqrt(kept_s) * (1 - alpha) / (1 - kept_t) * x0
    mean += math.sqrt(alpha) * (1 - kept_s) / (1 - kept_t) * vp_t
    std = math.sqrt((1 - kept_s) / (1 - kept_t) * (1 - alpha))
    wanted = (mean + std * n) * math.hypot(1 - s, s)

    seen = []

    def model(x, level):
        seen.append(float(x))
        return torch.tensor([x0], dtype=torch.float64)

    x = torch.tensor([x_t], dtype=torch.float64)
    sample_ancestral(model, x, [t, s, 0.0], noise=lambda: torch.tensor([n], dtype=torch.float64))
    assert seen[1] == pytest.approx(wanted, rel=1e-12)


def test_pinned_results():
    # Change only with a reason: these numbers are what volumes of a seed consist of.
    x = torch.tensor([1.0, -0.5], dtype=torch.float64)
    model = mixture([0.3, 0.7], [-0.8, 0.4], [0.05, 0.05])
    assert sample_multistep(model, x, power_times(4)).tolist() == pytest.approx(PINNED["multistep"], rel=1e-9)
    assert sample_heun(model, x, power_times(4)).tolist() == pytest.approx(PINNED["heun"], rel=1e-9)


PINNED = {"multistep": [0.45573085112565803, 0.3655150575481453], "heun": [0.4924556121333193, 0.31203944996987343]}


def test_first_order_multistep_is_ddim():
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)
    model, times = gaussian(0.4, mean=0.1), power_times(6)
    made = sample_multistep(model, x, times, order=1)
    for t, s in pairwise(times):
        x0 = model(x, t)
        x = (1 - s) * x0 + s * (x - (1 - t) * x0) / t
    assert torch.allclose(made, x, atol=1e-12)


def test_higher_orders_converge_faster():
    def error(order, steps):
        gain = sample_multistep(gaussian(0.5), torch.ones(1, dtype=torch.float64), power_times(steps), order=order)
        return abs(float(gain) / 0.5 - 1)

    assert error(1, 64) < error(1, 32)
    assert error(2, 32) < error(1, 32) / 4


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_callback_sees_every_pass_and_can_stop(name, steps):
    sampler, seen, calls = SAMPLERS[name], [], []

    def model(x, t):
        calls.append(t)
        return 0.5 * x

    def run(callback):
        x = torch.ones(2, 3)
        return sampler.run_of("anatomy")(
            model, x, sampler.times("anatomy", steps), noise=lambda: torch.zeros(2, 3), callback=callback
        )

    result = run(seen.append)
    assert result.shape == (2, 3)
    assert torch.isfinite(result).all()
    assert [p.number for p in seen] == list(range(sampler.passes(steps)))
    assert {p.total for p in seen} == {sampler.passes(steps)}
    assert [p.t for p in seen] == calls
    assert all(isinstance(p, Pass) and p.denoised.shape == (2, 3) for p in seen)

    def stop(step):
        raise KeyboardInterrupt

    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        run(stop)
    assert len(calls) == 1


def test_times_fall_from_one_to_zero():
    for steps, spacing in itertools.product(
        (1, 2, 3, 10, 28, 1000), (power_times, edm_times, partial(refining_times, sigma_max=15.0))
    ):
        times = spacing(steps)
        assert len(times) == steps + 1
        assert times[0] == 1
        assert times[-1] == 0
        assert (np.diff(times) < 0).all()
    times = ddpm_times()
    assert len(times) == 1001
    assert 0.99 < times[0] < 1
    assert times[-1] == 0
    assert (np.diff(times) < 0).all()
    for spacing in (power_times, edm_times):
        with pytest.raises(ValueError, match="0"):
            spacing(0)


def test_noise_of_a_slice_depends_on_seed_stage_and_position_only():
    def draw(seed, stage, positions):
        return draw_slices([slice_generators(seed, stage, positions)], (4, 4))[0]

    one = draw(7, "detail", [3, -2, 5])
    assert torch.equal(one[0], draw(7, "detail", [9, 3])[1])
    assert torch.equal(one[1], draw(7, "detail", [-2])[0])
    for other in (draw(8, "detail", [3]), draw(7, "anatomy", [3]), draw(7, "detail", [4]), draw(-7, "detail", [3])):
        assert not torch.equal(one[0], other[0])
    many = draw_slices([slice_generators(0, "detail", range(64))], (64, 64))
    assert abs(float(many.mean())) < 0.01
    assert abs(float(many.std()) - 1) < 0.01
    neighbours = (many[:, 1:] * many[:, :-1]).mean()
    assert abs(float(neighbours)) < 0.01
