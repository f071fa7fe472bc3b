"""Denoiser passes against fidelity: how few steps of each stage suffice, and where more buy nothing (the knee).

    python Testing/benchmarks/sampling_cost.py [--model MODEL] [--run RUN | --real SCANS...] [--sampler NAME]

Short volumes at fixed places along the body are made with different numbers of steps, of one stage at a time while the
other has the model's own. For each: passes over a slab (a step guided without a guide takes two, a guide's own are not
counted), seconds, the Fréchet distance to real stretches at the same places (mean of three planes, as trainings
measure it; floor: real scans of other patients), and, where the stage's sampler draws no noise on the way, the
distance to the same volumes with many steps of that stage (root mean square of HU where there is body). RUN is the
folder of the model's training; --real names scans that it never saw. Without either there are no Fréchet distances.

The knee of a stage: the fewest steps whose Fréchet distance lies within 5 % of the best in its sweep. A model may have
more: Fréchet distances do not see whether the widest patterns keep their strength and the finest their place, and the
tests with an exact denoiser (Testing/library/test_sampling.py) ask for both at the shipped steps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_tools import Goal, get_model, machine, number, table, tell_goals

from CTDiffusionLogic.allocator import keep_freed_memory
from CTDiffusionLogic.bundle import load_model
from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.fidelity.extractors import get_extractor
from CTDiffusionLogic.fidelity.volumes import to_lab_volume
from CTDiffusionLogic.generation import GenerationModel
from CTDiffusionLogic.guidance import passes_at
from CTDiffusionLogic.models import find_model
from CTDiffusionLogic.sampling import DEFAULT_SAMPLER, SAMPLERS
from CTDiffusionLogic.training.fidelity_meter import FidelityMeter, MeterOptions
from CTDiffusionLogic.training.fidelity_scans import scans_of_files, scans_of_run
from CTDiffusionLogic.training.fidelity_volumes import ShortVolumes, make_short_volumes
from CTDiffusionLogic.volume import CTVolume

#: What a Fréchet distance may be above the best of its sweep to count as good.
KNEE = 1.05
#: Where the volume of many steps has less, there is no body.
BODY_HU = -500
ANATOMY, DETAIL = (6, 10, 16, 28, 40, 60), (3, 5, 7, 10, 16)
#: Samplers that draw noise at every step, so that no two numbers of steps make the same volume.
NOISY = {"anatomy": ("sde", "ddpm"), "detail": ("ddpm",)}


@dataclass(frozen=True)
class Row:
    """One setting, measured.

    Args:
        sweep: "anatomy" or "detail": whose steps are varied.
        steps, detail_steps: Of the two stages.
        passes: Over a slab, (anatomy, detail).
        seconds: For all volumes.
        distance_hu: To the volumes of many steps; None where they are others.
        figures: As the meter gives them; {} without real scans.
    """

    sweep: str
    steps: int
    detail_steps: int
    passes: tuple[int, int]
    seconds: float
    distance_hu: float | None
    figures: dict[str, Any]

    @property
    def varied(self) -> int:
        return self.steps if self.sweep == "anatomy" else self.detail_steps


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    args = parse(words)
    path = None if args.preset else find_model(args.model)
    model = get_model(path, args.preset or "standard", args.device, image_size=args.image_size)
    if args.device == "cpu":
        keep_freed_memory()
    sampling, own = how(args, model)
    model = replace(model, card={**model.card, "sampling": sampling})
    meter = make_meter(args, model, path, sampling)
    wanted = meter.wanted if meter else places(args, model)
    print(
        f"{machine(args.device)}\n\nmodel: {path.name if path else f'random weights, preset {args.preset}'}; ", end=""
    )
    print(f"{len(wanted.places_mm)} volumes of {wanted.slices} slices, {wanted.spacing_mm:g} mm apart; ", end="")
    print(f"sampler {sampling['sampler']}, guidance {sampling.get('guidance', 1)}", flush=True)
    many = {"anatomy": (args.reference[0], own[1]), "detail": (own[0], args.reference[1])}
    steps = {"anatomy": [(n, own[1]) for n in sorted({*args.anatomy, own[0]})]}
    steps["detail"] = [(own[0], n) for n in sorted({*args.detail, own[1]})]
    known: dict[tuple[int, int], Row] = {}
    rows: list[Row] = []
    for sweep, settings in steps.items():
        reference = [] if sampling["sampler"] in NOISY[sweep] else make(model, wanted, *many[sweep])[0]
        for setting in settings:
            known[setting] = row = measure(model, wanted, sweep, setting, reference, meter, known.get(setting))
            rows.append(row)
    print()
    print(table_of(rows, own))
    if meter:
        facts = rows[0].figures
        floor = number(facts.get("frechet_floor"))
        low, high = number(facts.get("frechet_floor_low")), number(facts.get("frechet_floor_high"))
        print(f"\nFréchet distance against {meter.against} scans, features {facts['extractor']}; ", end="")
        print(f"real scans of other patients reach {floor} ({low} to {high}).")
    tell_goals(knees(rows, own, with_frechet=meter is not None), args.facts)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model file (default: the bundled one)")
    parser.add_argument("--preset", help="random weights of this architecture instead")
    parser.add_argument("--image-size", type=int, default=256, help="of random weights")
    real = parser.add_mutually_exclusive_group()
    real.add_argument("--run", type=Path, help="folder of the model's training")
    real.add_argument("--real", type=Path, nargs="+", help="scans that the model was not trained on")
    parser.add_argument("--anatomy", type=int, nargs="*", default=list(ANATOMY), help="steps of the anatomy stage")
    parser.add_argument("--detail", type=int, nargs="*", default=list(DETAIL), help="steps of the detail stage")
    parser.add_argument("--reference", type=int, nargs=2, default=[100, 30], help="many steps")
    parser.add_argument("--volumes", type=int, default=6)
    parser.add_argument("--slices", type=int, default=14, help="of a volume")
    parser.add_argument("--sampler", choices=sorted(SAMPLERS), help="(default: the model's)")
    parser.add_argument("--guidance", type=float, help="(default: the model's)")
    parser.add_argument("--extractor", default="ctfeatures")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--facts", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def how(args: argparse.Namespace, model: GenerationModel) -> tuple[dict[str, Any], tuple[int, int]]:
    """How the volumes are sampled, as a card says it, and the steps that are usual with it."""
    sampling = {"sampler": DEFAULT_SAMPLER, **model.card.get("sampling", {})}
    if args.guidance is not None:
        sampling["guidance"] = args.guidance
    if args.sampler not in (None, sampling["sampler"]):  # a card's steps are meant for its own sampler
        sampling = {k: v for k, v in sampling.items() if not k.endswith("_steps")} | {"sampler": args.sampler}
    usual = SAMPLERS[sampling["sampler"]]
    steps = sampling.get("anatomy_steps", usual.anatomy_steps), sampling.get("detail_steps", usual.detail_steps)
    return sampling, (int(steps[0]), int(steps[1]))


def make_meter(
    args: argparse.Namespace, model: GenerationModel, path: Path | None, sampling: dict[str, Any]
) -> FidelityMeter | None:
    """What measures Fréchet distances; None without real scans."""
    plan = model.card["plan"]
    if args.run:
        scans = scans_of_run(CorpusPlan.load(args.run / "plan.json"), args.run / "cache")
    elif args.real and path:
        scans = scans_of_files(args.real, load_model(path))
    else:
        return None
    low, high = (float(v) for v in plan["body_mm_range"])
    return FidelityMeter(
        scans,
        get_extractor(args.extractor),
        sampling=sampling,
        body_range_mm=(low, high),
        pixel_mm=float(plan["fov_mm"]) / int(plan["image_size"]),
        options=MeterOptions(volumes=args.volumes, slices=args.slices),
    )


def places(args: argparse.Namespace, model: GenerationModel) -> ShortVolumes:
    """Volumes spread over the body positions the model knows."""
    low, high = (float(v) for v in model.card["plan"]["body_mm_range"])
    half = min(args.slices * 6.0, high - low) / 2
    middles = np.linspace(low + half, high - half, args.volumes + 2)[1:-1]
    return ShortVolumes(
        places_mm=tuple(float(m) for m in middles), slices=args.slices, spacing_mm=6.0, steps=1, detail_steps=1
    )


def make(model: GenerationModel, wanted: ShortVolumes, steps: int, detail_steps: int) -> tuple[list[CTVolume], float]:
    """The volumes with so many steps, and the seconds they took."""
    began = time.perf_counter()
    volumes = make_short_volumes(model, replace(wanted, steps=steps, detail_steps=detail_steps))
    return volumes, time.perf_counter() - began


def measure(
    model: GenerationModel,
    wanted: ShortVolumes,
    sweep: str,
    steps: tuple[int, int],
    reference: Sequence[CTVolume],
    meter: FidelityMeter | None,
    known: Row | None,
) -> Row:
    """Make the volumes and measure them; the figures of ``known``, which is of the same steps, are taken over."""
    if known is not None and not reference:
        return replace(known, sweep=sweep, distance_hu=None)
    volumes, seconds = make(model, wanted, *steps)
    distance = distance_hu(volumes, reference) if reference else None
    if known is not None:
        return replace(known, sweep=sweep, distance_hu=distance)
    figures = meter.compare([to_lab_volume(v, id=f"synthetic {n}") for n, v in enumerate(volumes)]) if meter else {}
    passes = count_passes(model.card["sampling"], *steps, has_guide=model.guide is not None)
    return Row(sweep, *steps, passes, seconds, distance, figures)


def count_passes(
    sampling: dict[str, Any], steps: int, detail_steps: int, *, has_guide: bool = False
) -> tuple[int, int]:
    """Passes over a slab, anatomy and detail; not a guide's."""
    sampler, guidance = SAMPLERS[sampling["sampler"]], float(sampling.get("guidance", 1.0))
    levels = sampler.levels("anatomy", steps, sigma_min=sampling.get("anatomy_sigma_min"))
    anatomy = len(levels) if has_guide else sum(passes_at(t, guidance) for t in levels)
    return anatomy, len(sampler.levels("detail", detail_steps, sigma_max=sampling.get("detail_sigma_max")))


def distance_hu(volumes: Sequence[CTVolume], reference: Sequence[CTVolume]) -> float:
    """Root mean square of the difference in HU, where the reference shows body."""
    squares, count = 0.0, 0
    for volume, other in zip(volumes, reference, strict=True):
        body = other.hu > BODY_HU
        difference = volume.hu[body].astype(np.float64) - other.hu[body]
        squares, count = squares + float((difference**2).sum()), count + int(body.sum())
    return (squares / max(1, count)) ** 0.5


def table_of(rows: Sequence[Row], own: tuple[int, int]) -> str:
    """Both sweeps as Markdown; the model's own steps are marked."""
    columns = ("varied", "steps", "passes a slab", "s", "from many steps, HU")
    columns += ("Fréchet", "95 %", "axial", "coronal", "sagittal")
    lines = []
    for row in rows:
        facts = row.figures
        low, high = number(facts.get("frechet_low")), number(facts.get("frechet_high"))
        mark = " (the model's)" if (row.steps, row.detail_steps) == own else ""
        lines.append(
            (
                f"{row.sweep}{mark}",
                f"{row.steps} + {row.detail_steps}",
                f"{row.passes[0]} + {row.passes[1]}",
                f"{row.seconds:.1f}",
                number(row.distance_hu),
                number(facts.get("frechet")),
                f"{low} to {high}" if low else "",
                *(number(facts.get(f"frechet_{plane}")) for plane in ("axial", "coronal", "sagittal")),
            )
        )
    return table(columns, lines)


def knees(rows: Sequence[Row], own: tuple[int, int], *, with_frechet: bool) -> list[Goal]:
    """The knee of each stage, beside the model's own steps."""
    goals = []
    for sweep, shipped in (("anatomy", own[0]), ("detail", own[1])):
        swept = [row for row in rows if row.sweep == sweep]
        if with_frechet and all("frechet" in row.figures for row in swept):
            best = min(row.figures["frechet"] for row in swept)
            knee = min(row.varied for row in swept if row.figures["frechet"] <= KNEE * best)
            goals.append(Goal(f"knee of {sweep}", f"{knee} steps", f"at most the model's {shipped}", knee <= shipped))
        else:
            row = next(row for row in swept if row.varied == shipped)
            distance = "not measured" if row.distance_hu is None else f"{row.distance_hu:.0f} HU"
            goals.append(Goal(f"{sweep}, {shipped} steps, from many steps", distance))
    return goals


if __name__ == "__main__":
    main()
