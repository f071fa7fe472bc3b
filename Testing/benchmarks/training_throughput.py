"""Slabs per second of our training against MONAI's and diffusers' own loops: one network, batch, data, machine, run.

    python Testing/benchmarks/training_throughput.py [--run RUN] [--stage anatomy detail] [--steps 12] [--rounds 2]

"diffusers" and "MONAI" are their examples' loops (:mod:`other_loops`) around the very network of a preset's stage, on
the same slabs, which the same code prepares, in batches of the same size: what differs is the loop. "own network" is
the library's U-Net with as many channels and layers, behind our pixel-unshuffle, in its own memory layout: what a
user of it would have. Each runs in a process of its own, in turns. GFLOP/s: three passes a slab. For all of them slabs
of the detail stage refine averaged scans; in a training the anatomy network estimates what they refine, with a pass
for each: that is "ours, on estimates" (its GFLOP/s are without that pass).

Waiting for data is the part of a step in which the loop stands still for its next batch (goal: less than 5 %); on a
CPU our loop prepares the batch then, too, and "prepared in" is how long that takes. A checkpoint stall is measured in
the whole training command's own loop with frequent checkpoints: the time by which a log interval with a checkpoint is
longer than others (``--stall-minutes``), set against the usual five minutes between them.

RUN is the folder of a training (its plan and cache); without it, two phantoms.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bench_tools import Goal, corpus_of, count_flop, machine, run_again, stage_config, table, tell_goals
from other_loops import (
    WORKERS,
    AsNoisePredictor,
    Folded,
    SlabImages,
    batches,
    diffusers_loop,
    diffusers_network,
    monai_loop,
    monai_network,
)
from torch.utils.flop_counter import FlopCounterMode

from CTDiffusionLogic.corpus.stream import SlabStream
from CTDiffusionLogic.denoiser.network import SlabDenoiser
from CTDiffusionLogic.training.options import PRESETS, WHOLE_PRESETS, TrainOptions

ON_ESTIMATES = "ours, on estimates"
LOOPS = ("ours", "diffusers", "MONAI", "diffusers, own network", "MONAI, own network")
DATA_SHARE = 0.05
#: Of the time between checkpoints.
STALL_SHARE = 0.01


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of a training (plan and cache); read only")
    parser.add_argument("--preset", default="standard", choices=sorted(WHOLE_PRESETS))
    parser.add_argument("--stage", nargs="+", default=["anatomy", "detail"], choices=["anatomy", "detail"])
    parser.add_argument("--loops", nargs="+", default=list(LOOPS), choices=LOOPS)
    parser.add_argument("--batch", type=int, help="slabs a step (default: the preset's)")
    parser.add_argument("--steps", type=int, default=12, help="measured in each round")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before that")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, help="of the others' data loaders (default: their examples')")
    parser.add_argument("--stall-minutes", type=float, default=1.5, help="0: do not measure checkpoints")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--facts", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.measure:
        print(json.dumps(measure(args, args.measure)))
        return
    print(machine(args.device), flush=True)
    goals: list[Goal] = []
    with tempfile.TemporaryDirectory() as temporary:
        corpus_of(args.run, Path(temporary))
        run = args.run or Path(temporary)
        given = ["--run", run, "--preset", args.preset, "--steps", args.steps, "--warm-up", args.warm_up]
        given += ["--device", args.device]
        given += [] if args.batch is None else ["--batch", args.batch]
        given += [] if args.workers is None else ["--workers", args.workers]
        for stage in args.stage:
            goals += tell_stage(args, stage, given)
        if args.stall_minutes > 0:
            goals += tell_stall(
                run_again(__file__, [*given, "--stall-minutes", args.stall_minutes, "--measure", "stall"])
            )
    tell_goals(goals, args.facts)


def tell_stage(args: argparse.Namespace, stage: str, given: Sequence[object]) -> list[Goal]:
    """Print one stage's table; returns the ratios."""
    loops = [*args.loops, ON_ESTIMATES] if stage == "detail" and "ours" in args.loops else args.loops
    found: dict[str, list[dict[str, Any]]] = {loop: [] for loop in loops}
    for _ in range(args.rounds):
        for loop, rounds in found.items():
            rounds.append(run_again(__file__, [*given, "--stage", stage, "--measure", loop]))
    rows = []
    rate = {loop: statistics.median(r["slabs_per_s"] for r in rounds) for loop, rounds in found.items()}
    for loop, rounds in found.items():
        one = rounds[0]
        waits = statistics.median(r["waiting"] for r in rounds)
        spread = " to ".join(f"{f(r['slabs_per_s'] for r in rounds):.1f}" for f in (min, max))
        rows.append(
            (
                loop,
                f"{one['weights'] / 1e6:.2f}",
                f"{one['flop'] / 1e9:.2f}",
                f"{rate[loop]:.1f}",
                spread,
                f"{rate['ours'] / rate[loop]:.2f}" if "ours" in rate else "",
                f"{one['batch'] / rate[loop]:.3f}",
                f"{3 * one['flop'] * rate[loop] / 1e9:.0f}",
                f"{waits:.1%}",
            )
        )
    print(f"\n{stage}: batches of {one['batch']} slabs {one['slices']} x {one['size']} x {one['size']}\n")
    columns = (
        "loop",
        "M weights",
        "GFLOP a pass",
        "slabs/s",
        "range",
        "ours is x",
        "s a step",
        "GFLOP/s",
        "waiting for data",
    )
    print(table(columns, rows), flush=True)
    goals = [
        Goal(f"training, {stage}: ours / {loop}, slabs per second", f"{rate['ours'] / rate[loop]:.2f} x")
        for loop in found
        if not loop.startswith("ours") and "ours" in rate
    ]
    if "ours" in found:
        as_trained = found.get(ON_ESTIMATES, found["ours"])
        waits = statistics.median(r["waiting"] for r in as_trained)
        seconds = as_trained[0]["prepare_s"]
        print(f"\nOne thread prepares a batch in {seconds:.3f} s.", flush=True)
        goals.append(Goal(f"waiting for data, {stage}", f"{waits:.1%} of a step", "under 5 %", waits < DATA_SHARE))
    return goals


def tell_stall(found: dict[str, Any]) -> list[Goal]:
    """Print how long checkpoints stop the loop."""
    share = found["stall_s"] / (60 * found["minutes_between"])
    print(
        f"\nCheckpoints: the loop stands still for {found['stall_s']:.2f} s at each ({found['count']} measured; "
        f"{found['seconds_per_step']:.3f} s a step of both stages)."
    )
    value = f"{found['stall_s']:.2f} s, {share:.2%} of the time"
    return [Goal("checkpoint stall", value, "never stalls (under 1 %)", share < STALL_SHARE)]


def measure(args: argparse.Namespace, what: str) -> dict[str, Any]:
    """One loop, in this process."""
    plan, cache = corpus_of(args.run, args.run)
    preset = PRESETS[args.preset]
    if what == "stall":
        return measure_stall(args)
    stage = args.stage[0]
    if args.batch is not None:
        preset = replace(preset, **{stage: replace(getattr(preset, stage), batch=args.batch)})
    recipe = getattr(preset, stage)
    device = torch.device(args.device)
    torch.manual_seed(0)
    shared = {"slices": preset.slices, "patch": preset.patch}
    facts: dict[str, Any] = {
        "batch": recipe.batch,
        "slices": preset.slices,
        "size": plan.anatomy_size if stage == "anatomy" else preset.patch,
    }
    if what in ("ours", ON_ESTIMATES):
        estimates = what == ON_ESTIMATES
        return facts | measure_ours(args, preset, stage, plan, cache, device, estimates=estimates)
    single = SlabStream(plan, cache, stage=stage, batch=1, seed=1, **shared)
    library = what.split(",")[0]
    network: torch.nn.Module = AsNoisePredictor(SlabDenoiser(stage_config(preset, stage)))
    if "own network" in what:
        attention = (False,) * (len(recipe.channels) - 1) + (recipe.attention,)
        shape = {"images": 4 * preset.slices, "layers": recipe.layers, "attention": attention}
        if library == "MONAI":
            network = Folded(monai_network(recipe.channels, **shape))
        else:
            network = Folded(diffusers_network(recipe.channels, size=facts["size"] // 2, **shape))
    loop = (monai_loop if library == "MONAI" else diffusers_loop)(network, device)
    workers = WORKERS[library] if args.workers is None else args.workers
    stream = batches(SlabImages(single), recipe.batch, workers=workers)
    flop = count(network, torch.zeros(1, preset.slices, facts["size"], facts["size"], device=device))
    found = timed(stream, lambda _, images: loop.step(images), args)
    return facts | found | {"weights": sum(p.numel() for p in network.parameters()), "flop": flop}


def count(network: torch.nn.Module, slab: torch.Tensor) -> int:
    """FLOPs of a pass over one slab."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(slab, torch.zeros(1, dtype=torch.long, device=slab.device))
    return counter.get_total_flops()


def measure_ours(
    args: argparse.Namespace,
    preset: Any,
    stage: Any,
    plan: Any,
    cache: Path,
    device: torch.device,
    *,
    estimates: bool = False,
) -> dict[str, Any]:
    """Our own step and stream, as the training loop uses them."""
    from CTDiffusionLogic.allocator import keep_freed_memory
    from CTDiffusionLogic.training.batches import loader_threads
    from CTDiffusionLogic.training.loop import make_accelerator
    from CTDiffusionLogic.training.stage import StageTrainer

    if device.type == "cpu":
        keep_freed_memory()
    shared = (preset, plan, cache, make_accelerator(device))
    anatomy = StageTrainer("anatomy", *shared, seed=0) if estimates else None
    trainer = StageTrainer(stage, *shared, seed=0, anatomy=anatomy)
    trainer.ready(0)  # opens files
    began = time.perf_counter()
    for number in range(1, 5):
        trainer.ready(number)
    prepare = (time.perf_counter() - began) / 4
    threads = loader_threads(None, device, stages=1)
    stream = trainer.batches(iter(range(1_000_000)), threads=threads)
    every = trainer.recipe.every
    found = timed(stream, lambda number, batch: trainer.train_step(number * every, batch), args)
    stream.close()
    size = plan.anatomy_size if stage == "anatomy" else preset.patch
    weights = sum(p.numel() for p in trainer.network.parameters())
    return found | {"prepare_s": prepare, "weights": weights, "flop": count_flop(trainer.network, size)}


def timed(stream: Iterator[Any], step: Any, args: argparse.Namespace) -> dict[str, float]:
    """Run the warm-up and the measured steps; slabs per second and the share of waiting for data."""
    waited, count = 0.0, 0
    began = time.perf_counter()
    for number in range(args.warm_up + args.steps):
        if number == args.warm_up:
            _wait(args.device)
            waited, count, began = 0.0, 0, time.perf_counter()
        asked = time.perf_counter()
        batch = next(stream)
        waited += time.perf_counter() - asked
        count += len(batch.noise) if hasattr(batch, "noise") else len(batch)
        step(number, batch)
    _wait(args.device)
    seconds = time.perf_counter() - began
    return {"slabs_per_s": count / seconds, "waiting": waited / seconds}


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def measure_stall(args: argparse.Namespace) -> dict[str, Any]:
    """The whole training, with a checkpoint at some lines of its log."""
    from CTDiffusionLogic.training import loop
    from CTDiffusionLogic.training.run import train

    lines: list[tuple[float, int, bool]] = []  # of the log: when, at which step, whether a checkpoint came before it
    saved = False

    def on_event(name: str, facts: dict[str, Any]) -> None:
        nonlocal saved
        if name == "checkpoint":
            saved = True
        elif name == "progress" and facts.get("phase") == "training":
            lines.append((time.perf_counter(), int(facts["done"]), saved))
            saved = False

    with tempfile.TemporaryDirectory() as temporary:
        options = TrainOptions(
            data=(),
            run=Path(temporary) / "run",
            preset=args.preset,
            image_size=corpus_of(args.run, args.run)[0].image_size,
            resume=True,
            max_minutes=args.stall_minutes,
            checkpoint_minutes=args.stall_minutes / 6,
            device=args.device,
            fidelity_every="off",
        )
        begin_run(options, args.run)
        loop.LOG_EVERY = min(loop.LOG_EVERY, max(1, round(2 * args.stall_minutes)))
        train(options, on_event=on_event)
    pairs = list(itertools.pairwise(lines[1:]))  # the first interval warms up
    paces = {
        with_save: [(b[0] - a[0]) / (b[1] - a[1]) for a, b in pairs if b[2] is with_save]
        for with_save in (False, True)
    }
    if not paces[False] or not paces[True]:
        raise SystemExit(f"Too few steps in {args.stall_minutes:g} minutes: give more with --stall-minutes.")
    steps = pairs[0][1][1] - pairs[0][0][1]
    plain = statistics.median(paces[False])
    stalls = [max(0.0, (pace - plain) * steps) for pace in paces[True][1:] or paces[True]]  # the first one takes more
    return {
        "stall_s": statistics.median(stalls),
        "count": len(stalls),
        "seconds_per_step": plain,
        "minutes_between": TrainOptions(data=(), run=Path()).checkpoint_minutes,
    }


def begin_run(options: TrainOptions, source: Path) -> None:
    """A run folder that has been prepared and not trained, with the plan and the cache of another."""
    from safetensors.torch import save_file

    from CTDiffusionLogic.corpus.body_position import BodyPositionNet

    options.run.mkdir(parents=True)
    shutil.copy(source / "plan.json", options.run / "plan.json")
    try:
        (options.run / "cache").symlink_to((source / "cache").resolve(), target_is_directory=True)
    except OSError:  # Windows, for most users
        shutil.copytree(source / "cache", options.run / "cache")
    fixed = {key: getattr(options, key) for key in ("image_size", "preset", "seed", "hold_out", "use_labels")}
    (options.run / "options.json").write_text(json.dumps(fixed | {"command": "benchmark"}), encoding="utf-8")
    save_file({k: v.contiguous() for k, v in BodyPositionNet().state_dict().items()}, options.run / "body.safetensors")


if __name__ == "__main__":
    main()
