"""Print how far few passes are from many, for a real model: the samplers' error where no exact answer is known.

    python Testing/benchmarks/sampler_on_model.py MODEL [--passes 8 10 16]

For both stages, slabs about which nothing is known (detail: the middle of one, given its own anatomy) are made from
the same noise with few passes and, as reference, with 200. Printed: the root mean square distance in the stage's
units, and the ratios of the standard deviations of the pixels and of their finest diagonal texture. Takes some
minutes on a CPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor

from CTDiffusionLogic.bundle import load_denoisers, load_model
from CTDiffusionLogic.denoiser.coarse import upsample
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.sampling import Model, power_times, sample_heun, sample_multistep

REFERENCE = power_times(200, t_min=0.002)
#: Pixels per side of the detail that is made.
PATCH = 128


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--passes", type=int, nargs="+", default=[8, 10, 16])
    args = parser.parse_args()
    file = load_model(args.model)
    anatomy, detail = load_denoisers(file)
    plan, k = file.card["plan"], anatomy.config.slices
    low, high = plan["body_mm_range"]
    generator = torch.Generator().manual_seed(1)
    size = plan["anatomy_size"]
    body = [low + part * (high - low) for part in (0.25, 0.55, 0.85)]
    told = conditions(torch.zeros(3, k, size, size), body, gap_mm=24.0, pixel_mm=plan["fov_mm"] / size)
    with torch.inference_mode():
        model: Model = lambda x, t: anatomy(x, torch.full((len(x),), t), told)  # noqa: E731
        made = study("anatomy", model, torch.randn(3, k, size, size, generator=generator), args.passes)
        full = plan["image_size"]
        first = (full - PATCH) // 2
        coarse = upsample(made[1], (full, full))[None, :, first : first + PATCH, first : first + PATCH].contiguous()
        told_detail = conditions(torch.zeros_like(coarse), body[1:2], gap_mm=3.0, pixel_mm=plan["pixel_mm"])
        told_detail = SlabConditions(**{**vars(told_detail), "coarse": coarse, "coarse_noise": torch.zeros(1)})
        model = lambda x, t: detail(x, torch.full((len(x),), t), told_detail)  # noqa: E731
        study("detail", model, torch.randn(coarse.shape, generator=generator), args.passes)


def study(stage: str, model: Model, noise: Tensor, counts: list[int]) -> Tensor:
    """Print one stage's table; returns the reference."""
    reference = sample_multistep(model, noise, REFERENCE)
    print(f"\n{stage:38}passes  distance  std  texture")
    for count in counts:
        for name, run in routes(count):
            made = run(model, noise)
            distance = float((made - reference).square().mean().sqrt())
            ratios = float(made.std() / reference.std()), float(texture(made) / texture(reference))
            print(f"{name:38}{count:6} {distance:9.4f} {ratios[0]:5.2f} {ratios[1]:8.2f}", flush=True)
    return reference


def routes(count: int) -> Iterator[tuple[str, Callable[[Model, Tensor], Tensor]]]:
    """Samplers and noise levels that take about ``count`` passes."""
    for order in (1, 2, 3):
        yield f"multistep, order {order}", lambda m, x, o=order: sample_multistep(m, x, power_times(count), order=o)
    cubic = power_times(count, power=3.0, t_min=0.005)
    yield "multistep, order 2, power 3 to 0.005", lambda m, x: sample_multistep(m, x, cubic)
    even = [1 - n / count for n in range(count + 1)]
    yield "multistep, order 2, even levels", lambda m, x: sample_multistep(m, x, even)
    yield f"Heun ({2 * (count // 2) + 1} passes)", lambda m, x: sample_heun(m, x, power_times(count // 2 + 1))


def texture(slabs: Tensor) -> Tensor:
    """Standard deviation of the second mixed difference."""
    return slabs.diff(dim=-1).diff(dim=-2).std()


def conditions(nothing: Tensor, body_mm: list[float], *, gap_mm: float, pixel_mm: float) -> SlabConditions:
    """Slabs about which nothing is known but where they are."""
    slabs, k = nothing.shape[:2]
    return SlabConditions(
        known=nothing,
        mask=torch.zeros(slabs, k),
        offsets_mm=(gap_mm * (torch.arange(float(k)) - (k - 1) / 2)).expand(slabs, -1),
        body_mm=torch.tensor(body_mm),
        pixel_mm=torch.full((slabs,), pixel_mm),
        label=torch.zeros(slabs, dtype=torch.int64),
    )


if __name__ == "__main__":
    main()
