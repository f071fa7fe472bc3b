"""Choices of the training recipe, each trained as much on the same data: what matters, and by how much.

    python Testing/benchmarks/training_choices.py --run RUN --tflop 10 [--questions ...] [--choices ...] [--seeds 1]
    python Testing/benchmarks/training_choices.py --table build/bench/choices.jsonl

RUN is the folder of a training (its plan and cache are used, and only read; hold at least one patient out). Each
choice (:mod:`choices`; ``--list`` names them) trains a small anatomy network, or with ``--network shipped`` the
shipped one, from the same seed with the same arithmetic (or for ``--minutes`` of processor time); other libraries'
recipes (:mod:`training_baselines`) train 2D images of the same scans with as much. Every result is appended to
``--out`` at once, and what is there already is not trained again: a table can be made in pieces, each with
``--total-minutes``. A choice that is interrupted is lost.

The table: steps and TFLOP of training (three passes a slab), GFLOP of a pass for each slice that it makes, the error
of the clean estimate on held-out slabs at three noise levels (root mean square, in intensities; means the same for all
but other slab lengths), and the Fréchet distance to held-out patients of anatomy made with it (64 x 64, mean of three
planes), as a whole and of axial images.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bench_tools import BUILD, count_flop, machine, number, stage_config, table
from choice_measures import LEVELS, AnatomyMeter, held_out_errors
from choices import CHOICES, EMA_DECAYS, QUESTIONS, SHIPPED, Choice, RuledLoss, data_as
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from training_baselines import Budget, run_baseline

from CTDiffusionLogic.allocator import keep_freed_memory
from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.corpus.stream import SlabStream
from CTDiffusionLogic.denoiser.network import DenoiserConfig, SlabDenoiser
from CTDiffusionLogic.sampling import ANATOMY_STEPS
from CTDiffusionLogic.training.muon import make_optimizers
from CTDiffusionLogic.training.options import PRESETS, TrainOptions
from CTDiffusionLogic.training.schedule import Cooldown, learning_rate

BATCH = 12
EMA_DECAY = PRESETS["standard"].ema_decay
COOLDOWN = TrainOptions.cooldown
#: The shipped network's shape at a sixth of its FLOPs.
SMALL: dict[str, Any] = {"channels": (24, 40), "layers": 1, "refiner_channels": 16, "refiner_blocks": 2}
#: Noise levels of the table.
SHOWN = (0.1, 0.5, 0.9)
#: Lines of equal values here belong into one table.
SETTINGS = ("network", "at_most_tflop", "minutes", "steps", "volumes")


def main(words: Sequence[str] | None = None) -> None:
    """Train, measure, print."""
    args = parse(words)
    if args.list:
        print("\n".join(f"{question}: {', '.join(_of_question(question))}" for question in QUESTIONS))
        return
    if args.table:
        print(tables(read_lines(args.table)))
        return
    keep_freed_memory()
    plan, cache = CorpusPlan.load(args.run / "plan.json"), args.run / "cache"
    wanted = args.choices or [name for question in args.questions for name in _of_question(question)]
    if any(CHOICES[name].trained for name in wanted) and SHIPPED not in wanted:
        wanted = [SHIPPED, *wanted]
    print(machine(), flush=True)
    meter, began = None, time.monotonic()
    for name, seed in itertools.product(wanted, range(args.seeds)):
        line = {"choice": name, "seed": seed, **settings(args)}
        if any(line.items() <= old.items() for old in read_lines(args.out)):
            continue
        if time.monotonic() - began > 60 * args.total_minutes:
            print(f"The time is over before {name!r}.", flush=True)
            break
        meter = meter or AnatomyMeter(plan, cache, volumes=args.volumes, slices=args.slices, steps=args.sample_steps)
        facts = run_choice(CHOICES[name], args, plan, cache, meter, seed=seed)
        line |= {"question": CHOICES[name].question, "machine": machine(), **facts}
        append(args.out, line)
        print(f"{name}, seed {seed}: {summary(line)}", flush=True)
    print("\n" + tables(read_lines(args.out)))


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of a training")
    parser.add_argument(
        "--tflop",
        dest="at_most_tflop",
        type=float,
        metavar="TFLOP",
        help="of training for each choice (default: 10, where nothing is said)",
    )
    parser.add_argument("--minutes", type=float, help="of processor time of training, at most")
    parser.add_argument("--steps", type=int, help="of training, at most")
    parser.add_argument("--total-minutes", type=float, default=float("inf"), help="begin no choice after as many")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--questions", nargs="+", default=list(QUESTIONS), choices=QUESTIONS)
    parser.add_argument("--choices", nargs="+", choices=list(CHOICES), help="these alone")
    parser.add_argument("--network", default="small", choices=["small", "shipped"])
    parser.add_argument("--error-batches", type=int, default=6, help="of held-out slabs, at each noise level")
    parser.add_argument("--volumes", type=int, default=6, help="made for the Fréchet distance")
    parser.add_argument("--slices", type=int, default=14, help="of each")
    parser.add_argument("--sample-steps", type=int, default=ANATOMY_STEPS, help="of our sampler")
    parser.add_argument("--baseline-steps", type=int, default=1000, help="of the other libraries' samplers")
    parser.add_argument("--out", type=Path, default=BUILD / "choices.jsonl", help="JSON lines; added to")
    parser.add_argument("--table", type=Path, metavar="FILE", help="only print the tables of such a file")
    parser.add_argument("--list", action="store_true", help="only name the choices")
    args = parser.parse_args(words)
    if not args.run and not args.table and not args.list:
        parser.error("Name the folder of a training with --run.")
    if args.at_most_tflop is None and args.minutes is None and args.steps is None:
        args.at_most_tflop = 10.0
    return args


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What lines must share to stand in one table."""
    return {key: getattr(args, key) for key in SETTINGS}


def run_choice(
    choice: Choice, args: argparse.Namespace, plan: CorpusPlan, cache: Path, meter: AnatomyMeter, *, seed: int
) -> dict[str, Any]:
    """Train (or take trained weights), measure; returns the facts of the row."""
    budget = Budget(minutes=args.minutes, steps=args.steps, tflop=args.at_most_tflop)
    if choice.baseline:
        return run_baseline(
            choice.baseline,
            choice.options,
            plan,
            cache,
            budget,
            meter,
            sample_steps=args.baseline_steps,
            seed=seed,
            channels=SMALL["channels"],
            layers=SMALL["layers"],
        )
    config = config_of(choice, plan, args.network)
    network = SlabDenoiser(config)
    if choice.trained:
        facts = load_average(network, _weights_of(args, seed), float(choice.options.get("ema", EMA_DECAY)))
    else:
        facts = train(network, choice, plan, cache, budget, seed=seed, keep=_weights_of(args, seed))
    network.eval().requires_grad_(False)
    held_out = SlabStream(plan, cache, stage="anatomy", batch=BATCH, slices=config.slices, split="held-out")
    errors = held_out_errors(network, held_out, batches=args.error_batches)
    began = time.monotonic()
    figures = meter.of_network(network, plan=choice.plan, sampling=choice.sampling)
    flop = count_flop(network, plan.anatomy_size)
    slabs = facts["done_steps"] * facts["batch"]
    return {
        **facts,
        "slices_seen": slabs * config.slices,
        "gflop_a_slice": flop / config.slices / 1e9,
        "tflop": 3 * flop * slabs / 1e12,
        "weights": sum(p.numel() for p in network.parameters()),
        "errors": dict(zip(map(str, LEVELS), errors, strict=True)),
        "sample_s": time.monotonic() - began,
        **figures,
    }


def config_of(choice: Choice, plan: CorpusPlan, network: str) -> DenoiserConfig:
    """The network of a choice."""
    config = replace(stage_config(PRESETS["standard"], "anatomy"), sigma_data=plan.sigma_data["anatomy"])
    if network == "small":
        config = replace(config, **SMALL)
    return replace(config, **choice.network)


def train(
    network: SlabDenoiser,
    choice: Choice,
    plan: CorpusPlan,
    cache: Path,
    budget: Budget,
    *,
    seed: int,
    keep: Path,
) -> dict[str, Any]:
    """Train a network as a choice says and leave it with its averaged weights.

    The shipped recipe keeps further averages, and all of them in the file ``keep``.
    """
    torch.manual_seed(seed)
    network.load_state_dict(SlabDenoiser(network.config).state_dict())  # weights of the seed
    recipe, preset = PRESETS["standard"].anatomy, PRESETS["standard"]
    own = {"mean": recipe.level_mean, "std": recipe.level_std, "sigma_floor": recipe.sigma_floor}
    loss = RuledLoss(**{**own, "sigma_data": network.config.sigma_data, **choice.loss})
    first = float(choice.optimiser.get("level_shift", recipe.level_shift))
    batch = int(choice.optimiser.get("batch", BATCH))
    peak = recipe.learning_rate * float(choice.optimiser.get("learning_rate", 1.0))
    cooldown = Cooldown.of_last(
        1000, float(choice.optimiser.get("cooldown", COOLDOWN))
    )  # in thousandths of the budget
    optimizers = optimizers_of(choice, network)
    budget = budget.of_steps(batch * count_flop(network, plan.anatomy_size))
    is_shipped = choice is CHOICES[SHIPPED]
    averages = {
        decay: EMAModel(network.parameters(), decay=decay, use_ema_warmup=True, power=0.75, foreach=True)
        for decay in ((EMA_DECAY, *EMA_DECAYS) if is_shipped else (EMA_DECAY,))
    }
    stream = SlabStream(
        replace(plan, **choice.plan), cache, stage="anatomy", batch=batch, slices=network.config.slices, seed=seed
    )
    step = 0
    with data_as(choice):
        ready = stream.batches(itertools.count(), threads=0)  # as trainings on CPUs do
        next(ready)  # the first one takes what the loop does not: opening files
        began = time.process_time()
        while not budget.is_spent(step, began):
            x0, conditions = next(ready)
            rate = learning_rate(step, peak=peak, warmup_steps=50, decay_steps=preset.decay_steps)
            rate *= cooldown.factor(round(1000 * budget.share(step, began)))
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad(set_to_none=True)
            generator = torch.Generator().manual_seed(1000 * seed + step)
            shift = first * (1 - budget.share(step, began))  # in a few minutes as over the first steps of a training
            levels = loss.draw_levels(batch, generator, shift=shift)
            noise = torch.randn(x0.shape, generator=generator)
            value = loss(network, x0, noise, levels, conditions).mean()
            value.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
            for average in averages.values():
                average.step(network.parameters())
            step += 1
        seconds = time.process_time() - began
        ready.close()
    facts = {"done_steps": step, "seconds": seconds, "batch": batch}
    if is_shipped:
        save_averages(network, averages, facts, keep)
    averages[EMA_DECAY].copy_to(network.parameters())
    return facts


def optimizers_of(choice: Choice, network: SlabDenoiser) -> tuple[torch.optim.Optimizer, ...]:
    """The shipped ones, or AdamW for all."""
    if choice.optimiser.get("muon", True):
        return make_optimizers(network, lr=0.0)
    return (torch.optim.AdamW(network.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=0.01, fused=True),)


def save_averages(
    network: SlabDenoiser, averages: Mapping[float, EMAModel], facts: Mapping[str, Any], path: Path
) -> None:
    """Write a network's weights and their averages."""
    names = [name for name, _ in network.named_parameters()]
    tensors = {f"0.0.{n}": p.detach() for n, p in network.named_parameters()}
    for decay, average in averages.items():
        tensors |= {f"{decay}.{n}": p for n, p in zip(names, average.shadow_params, strict=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous().clone() for n, t in tensors.items()}, path)
    path.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")


def load_average(network: SlabDenoiser, path: Path, decay: float) -> dict[str, Any]:
    """Load one average of the weights; returns the facts of their training."""
    if not path.exists():
        raise SystemExit(f"{path} is missing: remove the line of {SHIPPED!r} from the results and run it again.")
    prefix = f"{decay}."
    tensors = {n.removeprefix(prefix): t for n, t in load_file(path).items() if n.startswith(prefix)}
    network.load_state_dict(tensors)
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def _weights_of(args: argparse.Namespace, seed: int) -> Path:
    words = "-".join(f"{key}{value}" for key, value in {**settings(args), "seed": seed}.items())
    return args.out.parent / "choices" / f"{re.sub(r'[^A-Za-z0-9.-]', '', words)}.safetensors"


def _of_question(question: str) -> list[str]:
    return [name for name, choice in CHOICES.items() if choice.question == question]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All results so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Add one result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def summary(line: Mapping[str, Any]) -> str:
    """One result in a few words."""
    frechet = number(line.get("frechet"))
    return f"{line['done_steps']} steps in {line['seconds']:.0f} s, Fréchet distance {frechet or 'not measured'}"


def tables(lines: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a table for each setting, the choices in the order of the file, means over the seeds."""
    if not lines:
        return "No results yet."
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for line in lines:
        found.setdefault(tuple(line.get(key) for key in SETTINGS), []).append(line)
    return "\n\n".join(_one_table(dict(zip(SETTINGS, key, strict=True)), rows) for key, rows in found.items())


def _one_table(setting: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    floor = next((number(line["frechet_floor"]) for line in lines if "frechet_floor" in line), "")
    units = {"at_most_tflop": "TFLOP", "minutes": "minutes of processor time", "steps": "steps"}
    budget = ", ".join(f"at most {setting[key]:g} {unit}" for key, unit in units.items() if setting.get(key))
    head = f"{budget} of training each; {setting['network']} network; "
    head += f"{setting['volumes']} volumes measured; {lines[0]['machine']}"
    head += f"; real scans of other patients reach {floor}" if floor else ""
    columns = ("choice", "question", "seeds", "steps", "TFLOP", "GFLOP a slice")
    columns += (*(f"error, t = {level}" for level in SHOWN), "Fréchet", "axial", "to shipped")
    shipped = [line["frechet"] for line in lines if line["choice"] == SHIPPED and "frechet" in line]
    rows = []
    for name, choice in CHOICES.items():
        own = [line for line in lines if line["choice"] == name]
        if not own:
            continue
        frechet = [line["frechet"] for line in own if "frechet" in line]
        ratio = statistics.mean(frechet) / statistics.mean(shipped) if frechet and shipped else None
        spread = f" ± {statistics.stdev(frechet):.1f}" if len(frechet) > 1 else ""
        rows.append(
            (
                name,
                choice.question,
                len(own),
                round(_mean(own, "done_steps") or 0),
                number(_mean(own, "tflop")),
                number(_mean(own, "gflop_a_slice")),
                *(number(_mean([line.get("errors", {}) for line in own], str(level))) for level in SHOWN),
                number(_mean(own, "frechet")) + spread,
                number(_mean(own, "frechet_axial")),
                f"{ratio:.2f} x" if ratio and name != SHIPPED else "",
            )
        )
    return f"{head}\n\n{table(columns, rows)}"


def _mean(lines: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [float(line[key]) for line in lines if line.get(key) is not None]
    return statistics.mean(values) if values else None


if __name__ == "__main__":
    main()
