"""Print what samplers cost and how far they are off, with denoisers whose answer is known exactly.

    python Testing/benchmarks/sampler_table.py

Data: Gaussians of several widths, in units of the noise of a pixel (the ratio of the samples' standard
deviation to the truth), and a mixture of two narrow modes with weights 0.3 and 0.7 (error of the first
weight, ratio of the second mode's width). Deterministic samplers start from quantiles of the normal
distribution, so that their figures have no Monte Carlo error; stochastic ones from 40,000 draws (about
0.4 % of a standard deviation).
Takes about a minute on one core. The table in ``CTDiffusionLogic/sampling.py`` is made with it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from CTDiffusionLogic.sampling import (
    REFINING_SIGMA_MAX,
    Model,
    ddpm_times,
    edm_times,
    estimate_times,
    power_times,
    refining_times,
    sample_ancestral,
    sample_heun,
    sample_multistep,
    sample_multistep_sde,
)

STDS = torch.tensor([50.0, 30.0, 14.0, 7.0, 3.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
MEANS = torch.tensor([-0.8, 0.4], dtype=torch.float64)
WIDTH = 0.02

Route = Callable[[Model, Tensor], Tensor]


def gaussians(x: Tensor, t: float) -> Tensor:
    """Exact denoiser of zero-mean Gaussians of the widths STDS, along the last axis."""
    return (1 - t) * STDS**2 / ((1 - t) ** 2 * STDS**2 + t**2) * x


def mixture(x: Tensor, t: float) -> Tensor:
    """Exact denoiser of the mixture."""
    variance = ((1 - t) * WIDTH) ** 2 + t**2
    offset = x[..., None] - (1 - t) * MEANS
    chance = torch.softmax(WEIGHTS.log() - offset**2 / (2 * variance), dim=-1)
    return (chance * (MEANS + (1 - t) * WIDTH**2 / variance * offset)).sum(-1)


def counted(model: Model, passes: list[float]) -> Model:
    """Note the noise level of each call in ``passes``."""

    def call(x: Tensor, t: float) -> Tensor:
        passes.append(t)
        return model(x, t)

    return call


def library(name: str, steps: int, *, own_times: bool = True, **settings: object) -> Route:
    """A scheduler of diffusers on the flow frame; with ``own_times`` at the library's spacing, else at power_times."""
    import diffusers

    def run(model: Model, x: Tensor) -> Tensor:
        scheduler = getattr(diffusers, name)(num_train_timesteps=1000, **settings)
        if own_times:
            scheduler.set_timesteps(steps)
        else:
            scheduler.set_timesteps(sigmas=np.array(power_times(steps)[:-1]))
        shape = x.shape
        for sigma, step in zip(_levels(scheduler), scheduler.timesteps, strict=True):
            flow = (x - model(x, sigma)) / sigma
            x = scheduler.step(flow.reshape(1, 1, -1).float(), step, x.reshape(1, 1, -1).float()).prev_sample
            x = x.double().reshape(shape)
        return x

    return run


def _levels(scheduler: object) -> list[float]:
    """The noise level t of each call, exactly (UniPC rounds its ``timesteps`` to integers)."""
    if scheduler.order == 2:  # type: ignore[attr-defined]
        return [float(s) for s in scheduler.timesteps / 1000]  # type: ignore[attr-defined]
    return [float(s) for s in scheduler.sigmas[:-1]]  # type: ignore[attr-defined]


def routes() -> Iterator[tuple[str, str, Route, bool]]:
    """Name, spacing, sampler, and whether it draws noise."""
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    for steps in (6, 9, 13, 26):
        yield "diffusers FlowMatchHeun", "its own", library("FlowMatchHeunDiscreteScheduler", steps), False
    for steps in (10, 16, 50):
        yield "diffusers DPM-Solver++(2M)", "its own", library("DPMSolverMultistepScheduler", steps, **flow), False
    for steps in (8, 10, 16):
        name = "UniPCMultistepScheduler"
        yield "diffusers UniPC", "power_times", library(name, steps, own_times=False, **flow), False
    for steps in (5, 9, 13, 26):
        yield "Heun", "power_times", lambda m, x, n=steps: sample_heun(m, x, power_times(n)), False
    for steps in (10, 16, 20, 28, 32):
        yield "multistep, order 2", "edm_times", lambda m, x, n=steps: sample_multistep(m, x, edm_times(n)), False
    for steps in (10, 12, 14):
        times = refining_times(steps, sigma_max=REFINING_SIGMA_MAX)
        yield "multistep, order 2", "refining_times", lambda m, x, v=times: sample_multistep(m, x, v), False
    for steps in (28, 40, 60):
        yield "multistep SDE", "edm_times", _stochastic(sample_multistep_sde, edm_times(steps)), True
    for steps in (12, 16, 20):
        yield "Heun", "edm_times", lambda m, x, n=steps: sample_heun(m, x, edm_times(n)), False
    for order in (1, 2, 3):
        for steps in (6, 8, 10, 12, 16, 24, 50):
            run = lambda m, x, n=steps, o=order: sample_multistep(m, x, power_times(n), order=o)  # noqa: E731
            yield f"multistep, order {order}", "power_times", run, False
    for steps in (16, 50):
        even = [1 - i / steps for i in range(steps + 1)]
        yield "multistep, order 2", "even", lambda m, x, v=even: sample_multistep(m, x, v), False
    for steps in (1000, 250, 100, 50):
        yield "ancestral (DDPM)", "linear betas", _stochastic(sample_ancestral, linear_beta_times(steps)), True
    for steps in (250, 100, 50):
        yield "ancestral (DDPM)", "power_times", _stochastic(sample_ancestral, power_times(steps)), True


def linear_beta_times(steps: int) -> list[float]:
    """DDPM's 1,000 levels, of which ``steps`` are kept."""
    levels = ddpm_times(1000)[:-1]
    return [levels[round(i * 999 / (steps - 1))] for i in range(steps)] + [0.0]


def _stochastic(sampler: Callable[..., torch.Tensor], times: list[float]) -> Route:
    generator = torch.Generator().manual_seed(0)

    def run(model: Model, x: Tensor) -> Tensor:
        draw = lambda: torch.randn(x.shape, dtype=x.dtype, generator=generator)  # noqa: E731
        return sampler(model, x, times, noise=draw)

    return run


def handed_over(times: list[float]) -> Tensor:
    """Width of the last estimate over that of the exact estimate at its noise level, for each of STDS."""
    estimates: list[Tensor] = []

    def model(x: Tensor, t: float) -> Tensor:
        estimates.append(gaussians(x, t))
        return estimates[-1]

    sample_multistep(model, torch.ones_like(STDS), times)
    sigma = times[-2] / (1 - times[-2])
    return estimates[-1] * (STDS**2 + sigma**2).sqrt() / STDS**2


def main() -> None:
    """Print the table."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    columns = " ".join(f"{float(s):5.2f}" for s in STDS)
    print(f"{'sampler':28}{'times':15}passes  std: {columns}   weight  width")
    quantile = torch.special.ndtri((torch.arange(100_001, dtype=torch.float64) + 0.5) / 100_001)
    for name, spacing, route, random in routes():
        passes: list[float] = []
        start = torch.randn(40_000, len(STDS), dtype=torch.float64) if random else torch.ones(1, len(STDS)).double()
        made = route(counted(gaussians, passes), start)
        ratios = (made.std(0) if random else made[0].abs()) / STDS
        made = route(mixture, torch.randn(40_000, dtype=torch.float64) if random else quantile)
        first = (made[:, None] - MEANS).abs().argmin(1) == 0
        row = " ".join(f"{float(r):5.2f}" for r in ratios)
        weight, width = float(first.double().mean()) - 0.3, float(made[~first].std()) / WIDTH
        print(f"{name:28}{spacing:15}{len(passes):6}       {row}  {weight:+7.3f} {width:6.2f}")
    print("\nThe last estimate, at a sigma of 0.4, over the exact one:")
    for steps in (14, 18, 22, 28):
        row = " ".join(f"{float(r):5.2f}" for r in handed_over(estimate_times(steps, sigma_min=0.4)))
        print(f"{'multistep, order 2':28}{'estimate_times':15}{steps:6}       {row}")


if __name__ == "__main__":
    main()
