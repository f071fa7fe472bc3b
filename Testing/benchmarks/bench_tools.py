"""What the benchmarks share: the machine's name, tables, goals, models and data to run on."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from CTDiffusionLogic.bundle import load_model, save_model
from CTDiffusionLogic.corpus.plan import CorpusPlan, ScanPlan
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.denoiser.intensity import KNOTS
from CTDiffusionLogic.denoiser.network import DenoiserConfig, SlabDenoiser
from CTDiffusionLogic.device import describe_device, format_bytes, memory
from CTDiffusionLogic.generation import GenerationModel
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.training.options import PRESETS, Preset

REPOSITORY = Path(__file__).resolve().parents[2]
#: Where the benchmarks leave their output.
BUILD = REPOSITORY / "build" / "bench"


@dataclass(frozen=True)
class Goal:
    """One figure and what it should be.

    Args:
        what: In words.
        value: Measured, with its unit.
        goal: In words; "" where there is none.
        met: Whether it holds; None where there is no goal.
    """

    what: str
    value: str
    goal: str = ""
    met: bool | None = None


def machine(device: str = "cpu") -> str:
    """The machine in one line: processor, cores, threads in use, memory, versions."""
    total = memory("cpu")[0]
    parts = [
        processor_name(),
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads used",
        format_bytes(total) if total else "",
        "" if device == "cpu" else describe_device(device),
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()} {platform.release()}",
    ]
    return "; ".join(part for part in parts if part)


def processor_name() -> str:
    """Model of the CPU, as the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} ({platform.machine()})"
    return platform.processor() or platform.machine()


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table that can be read as it is: the first column to the left, the others to the right."""
    cells = [[str(c) for c in columns], *([str(c) for c in row] for row in rows)]
    widths = [max(3, *(len(row[n]) for row in cells)) for n in range(len(columns))]
    dashes = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    padded = (
        (c.ljust(w) if n == 0 else c.rjust(w) for n, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in (cells[0], dashes, *cells[1:])
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def number(value: float | None, digits: int = 3) -> str:
    """``value`` with ``digits`` figures, plain; "" for None and what is not a number."""
    if value is None or not math.isfinite(value):
        return ""
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}"


def tell_goals(goals: Sequence[Goal], facts: Path | None) -> None:
    """Print figures beside their goals, and write them as JSON where :mod:`bench` asks for it."""
    print("\n" + goal_table(goals), flush=True)
    if facts is not None:
        facts.parent.mkdir(parents=True, exist_ok=True)
        facts.write_text(json.dumps([asdict(goal) for goal in goals], indent=1), encoding="utf-8")


def goal_table(goals: Sequence[Goal]) -> str:
    """The figures as Markdown."""
    words = {True: "met", False: "MISSED", None: ""}
    return table(("figure", "measured", "goal", ""), [(g.what, g.value, g.goal, words[g.met]) for g in goals])


def run_again(script: str, words: Sequence[object], *, timeout: float | None = None) -> dict[str, Any]:
    """Run a benchmark in a process of its own, so that allocator, threads and memory do not mix.

    Returns:
        The JSON object in its last line.
    """
    command = [sys.executable, script, *map(str, words)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_memory(device: str = "cpu") -> int:
    """Largest memory this process has had: the GPU's on CUDA, else resident; 0 where the system does not say."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def stage_config(preset: Preset, stage: str) -> DenoiserConfig:
    """The network of a preset's stage: of the configuration what the preset has, the rest by default."""
    recipe = getattr(preset, stage)
    own = {f.name: getattr(recipe, f.name) for f in fields(DenoiserConfig) if hasattr(recipe, f.name)}
    scale = 0.24 if stage == "detail" else 1.0
    return DenoiserConfig(**own, stage=stage, slices=preset.slices, residual_scale=scale)  # type: ignore[arg-type]


def random_model(preset_name: str, device: str = "cpu", *, image_size: int = 256) -> GenerationModel:
    """Random weights in a preset's architecture: what they make is noise, at the cost of the real thing."""
    preset = PRESETS[preset_name]
    torch.manual_seed(0)
    anatomy, detail = (
        SlabDenoiser(stage_config(preset, stage)).eval().requires_grad_(False).to(device)
        for stage in ("anatomy", "detail")
    )
    card = {"plan": random_plan(preset, image_size), "sampling": {}}
    return GenerationModel(anatomy, detail, card, "random", "0" * 64, torch.device(device))


def random_plan(preset: Preset, image_size: int) -> dict[str, Any]:
    """What a card says of its grid, for random weights."""
    return {
        "image_size": image_size,
        "anatomy_size": preset.anatomy_size,
        "fov_mm": 448.0,
        "pixel_mm": 448.0 / image_size,
        "pixel_mm_range": [1.0, 3.5],
        "anatomy_gap_mm": 6.0,
        "max_gap_mm": 36.0,
        "spacing_mm_range": [1.0, 8.0],
        "body_mm_range": [0.0, 700.0],
        "body_mm_coverage": [3] * 20,
        "hu_knots": [list(knot) for knot in KNOTS],
    }


def write_random_model(path: Path, preset_name: str, *, image_size: int) -> Path:
    """A model file of random weights, for the command."""
    from CTDiffusionLogic.training.export import SAMPLING

    model = random_model(preset_name, image_size=image_size)
    stages = {"anatomy": model.anatomy, "detail": model.detail}
    tensors = {f"{stage}.{name}": t for stage, net in stages.items() for name, t in net.state_dict().items()}
    card = {
        "name": "random",
        "stages": {stage: net.config.to_dict() for stage, net in stages.items()},
        "plan": model.card["plan"],
        "labels": [],
        "sampling": SAMPLING,
        "training": {"patients": 0},
        "limits": ["Random weights: it makes noise."],
    }
    save_model(path, tensors, card)
    return path


def get_model(path: Path | None, preset: str, device: str = "cpu", *, image_size: int = 256) -> GenerationModel:
    """The model file's, or random weights."""
    if path is not None:
        return GenerationModel.from_file(load_model(path), device)
    return random_model(preset, device, image_size=image_size)


def nothing_known(config: DenoiserConfig, size: int, *, slabs: int = 1) -> SlabConditions:
    """Conditions of slabs about which nothing is known."""
    k = config.slices
    images = torch.zeros(slabs, k, size, size)
    detail = config.stage == "detail"
    return SlabConditions(
        known=images,
        mask=torch.zeros(slabs, k),
        offsets_mm=(3.0 * (torch.arange(float(k)) - (k - 1) / 2)).expand(slabs, -1),
        body_mm=torch.full((slabs,), math.nan),
        pixel_mm=torch.full((slabs,), 1.75),
        label=torch.zeros(slabs, dtype=torch.int64),
        coarse=images if detail else None,
        coarse_noise=torch.zeros(slabs) if detail else None,
    )


def count_flop(denoiser: SlabDenoiser, size: int) -> int:
    """FLOPs of one pass over one slab, counted by torch: a multiplication and an addition are two."""
    device = next(denoiser.parameters()).device
    x = torch.zeros(1, denoiser.config.slices, size, size, device=device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        denoiser(x, torch.full((1,), 0.5, device=device), nothing_known(denoiser.config, size).to(device))
    return counter.get_total_flops()


def corpus_of(run: Path | None, folder: Path, *, image_size: int = 256, slices: int = 40) -> tuple[CorpusPlan, Path]:
    """Plan and cache of the training in ``run``; without one, of two phantoms that are drawn into ``folder``."""
    if run is not None:
        return CorpusPlan.load(run / "plan.json"), run / "cache"
    cache = folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    pixel = 448.0 / image_size
    scans = []
    for seed in range(2):
        volume = torso_phantom(slices=slices, size=image_size, spacing_mm=(pixel, pixel, 3.0), seed=seed)
        np.save(cache / f"phantom{seed}.npy", volume.hu)
        edges = (image_size // 6, image_size * 5 // 6)
        scans.append(
            ScanPlan(
                id=f"phantom{seed}",
                patient=f"phantom{seed}",
                label=0,
                split="held-out" if seed else "train",
                slices=slices,
                gap_mm=3.0,
                pixel_mm=pixel,
                native_pixel_mm=pixel,
                body_rows=edges,
                body_columns=edges,
                body_box=(1 / 6, 5 / 6, 1 / 6, 5 / 6),
                body_mm=0.0,
                source="phantom",
                synthetic=True,
            )
        )
    plan = CorpusPlan(
        image_size=image_size,
        anatomy_size=64,
        fov_mm=448.0,
        anatomy_gap_mm=6.0,
        max_gap_mm=36.0,
        labels=(),
        sigma_data={"anatomy": 0.45, "detail": 0.5},
        residual_scale=0.24,
        scans=tuple(scans),
        skipped=(),
    )
    plan.save(folder / "plan.json")
    return plan, cache
