"""Choices of the training recipe, each measured on the same data, network and number of slabs in one run.

    python Testing/benchmarks/training_choices.py --run RUN [--steps 600] [--variants edm flow ...]

RUN is the folder of a training (its plan and cache are used; hold at least one patient out). Each variant trains a
small anatomy network from the same seed. Printed: the error of the clean estimate on held-out slabs at fixed noise
levels (root mean square, in intensities), which means the same for every variant, and the time per step.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel

from CTDiffusionLogic.allocator import keep_freed_memory
from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.corpus.stream import SlabStream
from CTDiffusionLogic.denoiser.network import DenoiserConfig, SlabDenoiser
from CTDiffusionLogic.noise import SlabLoss
from CTDiffusionLogic.training.options import PRESETS
from CTDiffusionLogic.training.schedule import learning_rate

LEVELS = (0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9)
BATCH = 12

#: Changes to the shipped recipe of the anatomy stage: of the network's configuration and of the loss.
VARIANTS: dict[str, tuple[dict, dict]] = {
    "x0 (shipped)": ({}, {}),
    "x0, without skip": ({"skip_sigma": 0.0}, {"sigma_floor": 0.3}),
    "edm": ({"parametrization": "edm"}, {"sigma_floor": 0.0}),
    "flow": ({"parametrization": "flow"}, {"sigma_floor": 0.0}),
    "x0, levels of EDM (-1.2)": ({}, {"mean": -1.2, "std": 1.2}),
    "x0, 4x unshuffle": ({"unshuffle": 4}, {}),
    "x0, no attention": ({"attention": False}, {}),
}


def train_variant(
    plan: CorpusPlan, cache: Path, config: DenoiserConfig, loss: SlabLoss, *, steps: int, seed: int
) -> tuple[SlabDenoiser, float]:
    """Train one variant; returns the network with averaged weights and the seconds per step."""
    torch.manual_seed(seed)
    network = SlabDenoiser(config)
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    average = EMAModel(network.parameters(), decay=0.9995, use_ema_warmup=True, power=0.75)
    stream = SlabStream(plan, cache, stage="anatomy", batch=BATCH, slices=config.slices, seed=seed)
    began = time.monotonic()
    for step, (x0, conditions) in enumerate(stream.batches(iter(range(steps)))):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=1e-3, warmup_steps=50, decay_steps=steps)
        generator = torch.Generator().manual_seed(1000 * seed + step)
        levels = loss.draw_levels(BATCH, generator)
        noise = torch.randn(x0.shape, generator=generator)
        value = loss(network, x0, noise, levels, conditions).mean()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.step(network.parameters())
    seconds = (time.monotonic() - began) / steps
    average.copy_to(network.parameters())
    return network.eval(), seconds


@torch.no_grad()
def held_out_errors(network: SlabDenoiser, stream: SlabStream, *, batches: int = 6) -> list[float]:
    """Root mean square error of the clean estimate on unknown slices at each of LEVELS."""
    errors = []
    for level in LEVELS:
        generator = torch.Generator().manual_seed(7)
        squares, count = 0.0, 0.0
        for number in range(batches):
            x0, conditions = stream.batch(number)
            x_t = (1 - level) * x0 + level * torch.randn(x0.shape, generator=generator)
            estimate = network(x_t, torch.full((len(x0),), level), conditions)
            unknown = 1 - conditions.mask
            squares += float((((estimate - x0) ** 2).mean(dim=(2, 3)) * unknown).sum())
            count += float(unknown.sum())
        errors.append((squares / count) ** 0.5)
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    args = parser.parse_args()
    keep_freed_memory()
    plan, cache = CorpusPlan.load(args.run / "plan.json"), args.run / "cache"
    held_out = SlabStream(plan, cache, stage="anatomy", batch=BATCH, slices=8, split="held-out")
    shipped = PRESETS["standard"].anatomy
    base = DenoiserConfig(
        stage="anatomy",
        channels=(24, 40, 64),
        layers=1,
        sigma_data=plan.sigma_data["anatomy"],
        skip_sigma=shipped.skip_sigma,
    )
    print(f"{torch.get_num_threads()} threads, {args.steps} steps of {BATCH} slabs, {args.seeds} seed(s)")
    print(f"{'variant':<28}" + "".join(f"  t={level:<5}" for level in LEVELS) + "   s/step")
    for name in args.variants:
        changes, loss_changes = VARIANTS[name]
        config = replace(base, **changes)
        loss = SlabLoss(
            **{"mean": shipped.level_mean, "std": shipped.level_std, "sigma_floor": shipped.sigma_floor}
            | loss_changes,
            sigma_data=config.sigma_data,
        )
        rows, pace = [], []
        for seed in range(args.seeds):
            network, seconds = train_variant(plan, cache, config, loss, steps=args.steps, seed=seed)
            rows.append(held_out_errors(network, held_out))
            pace.append(seconds)
        means = [sum(column) / len(column) for column in zip(*rows, strict=True)]
        print(f"{name:<28}" + "".join(f"  {m:.4f} " for m in means) + f"   {min(pace):.2f}", flush=True)


if __name__ == "__main__":
    main()
