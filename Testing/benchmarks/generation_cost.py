"""What a volume costs: our route against the seed's, and how the cost grows with the number of slices.

    python Testing/benchmarks/generation_cost.py [--model MODEL] [--slices 16 32 64 128 256]

Both routes use the same detail network, matrix, machine and run:

- **ours**: anatomy of all slices on the coarse grid, then their detail, eight slices a pass, with the model's
  sampler and steps. Measured as a whole, in a process of its own for each number of slices.
- **the seed's** (Stephens Txurio et al. 2023): a 2D DDPM, slice by slice: every slice takes 1,000 passes of the
  detail network at the full matrix, of whose eight slices one is used and nothing is known (no anatomy: zeros).
  A few passes of its own sampler are measured and multiplied. That the network has eight slices as channels
  instead of one costs the seed's route next to nothing; the table shows by how much.

Without --model: random weights in the architecture of the preset "standard", the bundled model's. FLOPs are
counted by torch (a multiplication and an addition are two) for one pass and multiplied by the passes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from bench_tools import Goal, count_flop, get_model, machine, nothing_known, peak_memory, run_again, tell_goals

from CTDiffusionLogic.denoiser.network import SlabDenoiser
from CTDiffusionLogic.device import format_bytes
from CTDiffusionLogic.generation import GenerationRequest, generate
from CTDiffusionLogic.guidance import GUIDED_FROM, GUIDED_TO
from CTDiffusionLogic.sampling import DDPM_STEPS, SAMPLERS, Pass, ddpm_times, sample_ancestral
from CTDiffusionLogic.slab_plan import detail_passes, plan_volume
from CTDiffusionLogic.training.options import WHOLE_PRESETS


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a model file; without it, random weights")
    parser.add_argument(
        "--preset", default="standard", choices=sorted(WHOLE_PRESETS), help="architecture of random weights"
    )
    parser.add_argument("--slices", type=int, nargs="+", default=[16, 32, 64, 128, 256], metavar="N")
    parser.add_argument("--compare", type=int, default=64, metavar="N", help="slices of the volume both routes make")
    parser.add_argument("--spacing-mm", type=float, default=3.0, help="distance of slices")
    parser.add_argument("--seed-passes", type=int, default=20, help="passes of the seed's route that are measured")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--facts", type=Path, help=argparse.SUPPRESS)  # where bench.py looks for the figures
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # in a process of its own: "seed" or slices
    args = parser.parse_args(words)
    given = list(sys.argv[1:] if words is None else words)
    if args.measure:
        measured = measure_seed(args) if args.measure == "seed" else measure_ours(args, int(args.measure))
        print(json.dumps({**measured, "peak_bytes": peak_memory(args.device)}))
        return
    print(machine(args.device))
    print(f"model: {args.model or f'random weights, preset {args.preset}'}; {args.spacing_mm:g} mm between slices\n")
    rows = {args.compare: in_own_process(given, args.compare)}
    goals = compare_routes(args.compare, rows[args.compare], in_own_process(given, "seed"))
    print(f"\n{'slices':>6} {'seconds':>8} {'a slice':>8} {'passes':>7} {'TFLOP':>7}  peak memory")
    for slices in args.slices:
        row = rows.get(slices) or in_own_process(given, slices)
        print(
            f"{slices:6} {row['seconds']:8.1f} {row['seconds'] / slices:8.3f} {row['passes']:7} "
            f"{row['flop'] / 1e12:7.2f}  {format_bytes(row['peak_bytes'])}"
        )
    print("\npasses: one slab of eight slices once through a denoiser, both stages.")
    tell_goals(goals, args.facts)


def compare_routes(slices: int, ours: dict, seed: dict) -> list[Goal]:
    """Print both routes for one volume; returns their ratios."""
    passes = DDPM_STEPS * slices
    seconds, flop = passes * seed["seconds_per_pass"], passes * seed["flop_per_pass"]
    print(f"{slices} slices {seed['matrix']} x {seed['matrix']}:")
    print(f"{'':28}{'passes':>8} {'seconds':>9} {'TFLOP':>9}  peak memory")
    print(
        f"{'ours, ' + ours['how']:28}{ours['passes']:8} {ours['seconds']:9.1f} {ours['flop'] / 1e12:9.2f}  "
        f"{format_bytes(ours['peak_bytes'])}"
    )
    print(
        f"{'the seed, slice by slice':28}{passes:8} {seconds:9.0f} {flop / 1e12:9.1f}  "
        f"{format_bytes(seed['peak_bytes'])}"
    )
    print(f"{'ratio':28}{passes / ours['passes']:8.0f} {seconds / ours['seconds']:9.0f} {flop / ours['flop']:9.0f}")
    print(
        f"The seed's seconds are {seed['seconds_per_pass']:.3f} s a pass, the mean of {seed['measured']} passes, "
        f"times {passes}.\nWith one slice as channel instead of eight a pass would have "
        f"{seed['flop_one_slice'] / 1e9:.2f} instead of {seed['flop_per_pass'] / 1e9:.2f} GFLOP."
    )
    what = f"the seed's route / ours, {slices} slices of {seed['matrix']} x {seed['matrix']}"
    return [
        Goal(f"{what}: seconds", f"{seconds / ours['seconds']:.0f} x"),
        Goal(f"{what}: FLOPs", f"{flop / ours['flop']:.0f} x"),
    ]


def in_own_process(given: Sequence[str], what: int | str) -> dict:
    """Run this program again to measure one thing: peaks of memory do not mix."""
    return run_again(__file__, [*given, "--measure", what])


def measure_ours(args: argparse.Namespace, slices: int) -> dict:
    """Generate one volume."""
    model = get_model(args.model, args.preset, args.device)
    generate(model, GenerationRequest(slices=1, steps=1, detail_steps=1))  # warm up
    began = time.perf_counter()
    volume = generate(model, GenerationRequest(slices=slices, spacing_mm=args.spacing_mm))
    seconds = time.perf_counter() - began
    plan, facts = model.card["plan"], volume.metadata
    slabs = plan_volume(
        slices,
        args.spacing_mm,
        slices=model.anatomy.config.slices,
        anatomy_gap_mm=plan["anatomy_gap_mm"],
        max_gap_mm=plan["max_gap_mm"],
    )
    sampler = SAMPLERS[facts["sampler"]]
    levels = sampler.times("anatomy", int(facts["steps"]))[:-1]
    is_guided, guide = float(facts["guidance"]) != 1, model.guide
    twice = sum(t >= GUIDED_FROM for t in levels) / len(levels) if is_guided and guide is None else 0.0
    anatomy = len(slabs.anatomy) * round(sampler.passes(len(levels)) * (1 + twice))
    detail = detail_passes(slabs.detail, sampler.passes(int(facts["detail_steps"])))
    flop = anatomy * count_flop(model.anatomy, plan["anatomy_size"])
    flop += detail * count_flop(model.detail, plan["image_size"])
    if is_guided and guide is not None:
        passes = sampler.passes(len(levels)) / len(levels) * sum(t <= GUIDED_TO for t in levels)
        flop += round(sum(not slab.known for slab in slabs.anatomy) * passes) * count_flop(guide, plan["anatomy_size"])
    how = f"{facts['sampler']} {facts['steps']} + {facts['detail_steps']}"
    return {"seconds": seconds, "passes": anatomy + detail, "flop": flop, "how": how}


def measure_seed(args: argparse.Namespace) -> dict:
    """Some passes of the seed's route: one slab a pass, DDPM's noise levels and noise."""
    model = get_model(args.model, args.preset, args.device)
    size, config = int(model.card["plan"]["image_size"]), model.detail.config
    told = nothing_known(config, size).to(args.device)
    clock: list[float] = []

    def tick(_: Pass) -> None:
        if args.device.startswith("cuda"):
            torch.cuda.synchronize()
        clock.append(time.perf_counter())

    x = torch.randn(1, config.slices, size, size, device=args.device)
    times = ddpm_times()[: args.seed_passes + 2]
    with torch.inference_mode():
        sample_ancestral(
            lambda x, t: model.detail(x, torch.full((1,), t, device=x.device), told),
            x,
            times,
            noise=lambda: torch.randn(x.shape).to(x.device),
            callback=tick,
        )
    one = SlabDenoiser(replace(config, slices=1)).eval()
    return {
        "seconds_per_pass": (clock[-1] - clock[0]) / (len(clock) - 1),
        "measured": len(clock) - 1,
        "flop_per_pass": count_flop(model.detail, size),
        "flop_one_slice": count_flop(one, size),
        "matrix": size,
    }


if __name__ == "__main__":
    main()
