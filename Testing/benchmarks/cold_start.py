"""From the command to the first slice and to the whole volume: what a user waits for, imports and all.

    python Testing/benchmarks/cold_start.py [--model MODEL] [--sizes 256 128] [--slices 64]

Each row is one `ctdiffusion generate` in a process of its own, timed from its start to its first slice that is final
(as programs like the Slicer module get it) and to its end. The bundled model makes 256 x 256; other sizes take random
weights in its architecture, which cost the same. Two sorts of request: one slab, where the first slice should
be there within 8 s on two cores, and a whole volume (64 slices: 45 s at 256 x 256, 20 s at 128 x 128). The first row
is `ctdiffusion --help`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench_tools import REPOSITORY, Goal, machine, number, table, tell_goals, write_random_model

from CTDiffusionLogic.bundle import read_header
from CTDiffusionLogic.cli.events import Failed, Slices, parse_line
from CTDiffusionLogic.models import find_model
from CTDiffusionLogic.training.options import WHOLE_PRESETS

FIRST_SLICE_S = 8.0
#: Seconds for 64 slices, by pixels per side.
VOLUME_S = {256: 45.0, 128: 20.0}


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model file (default: the bundled one)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 128], help="pixels per side")
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--preset", default="standard", choices=sorted(WHOLE_PRESETS), help="of random weights")
    parser.add_argument("--steps", type=int, help="of both stages (default: the model's)")
    parser.add_argument("--facts", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows: list[tuple[object, ...]] = [("--help", "", "", f"{_seconds(['--help']):.1f}")]
        goals = []
        for size in args.sizes:
            model = model_of(args, size, folder)
            steps = [] if args.steps is None else ["--steps", args.steps, "--detail-steps", args.steps]
            for slices in dict.fromkeys((8, args.slices)):
                first, whole = generate(model, slices, steps, folder)
                rows.append((f"{slices} slices of {size} x {size}", model.stem, number(first), f"{whole:.1f}"))
                if slices == 8:
                    what = f"first slice of {slices}, {size} x {size}, cold"
                    goals.append(Goal(what, f"{first:.1f} s", f"under {FIRST_SLICE_S:.0f} s", first < FIRST_SLICE_S))
                if slices == 64 and size in VOLUME_S:
                    what, limit = f"{slices} slices of {size} x {size}, cold", VOLUME_S[size]
                    goals.append(Goal(what, f"{whole:.1f} s", f"under {limit:.0f} s", whole < limit))
    print("\n" + table(("command", "model", "first slice, s", "all, s"), rows))
    tell_goals(goals, args.facts)


def model_of(args: argparse.Namespace, size: int, folder: Path) -> Path:
    """The model file for this size: the named or bundled one where it fits, else random weights."""
    path = find_model(args.model)
    if args.steps is None and read_header(path).card["plan"]["image_size"] == size:
        return path
    return write_random_model(folder / f"random{size}.safetensors", args.preset, image_size=size)


def generate(model: Path, slices: int, steps: Sequence[object], folder: Path) -> tuple[float, float]:
    """Seconds to the first slice and to the end of one command."""
    preview = folder / f"preview-{model.stem}-{slices}"
    preview.mkdir()
    words = ["generate", "--model", model, "--slices", slices, "--spacing-mm", "3", "--seed", "7", *steps]
    words += ["--events", "json", "--preview-dir", preview, "--overwrite", "--out", folder / "volume.nrrd"]
    first = None
    began = time.perf_counter()
    with _start(words) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = parse_line(line)
            if isinstance(event, Slices) and first is None:
                first = time.perf_counter() - began
            elif isinstance(event, Failed):
                raise SystemExit(f"{event.message} {event.remedy}")
    whole = time.perf_counter() - began
    if process.returncode or first is None:
        raise SystemExit(f"The command ended with {process.returncode} and made no slices.")
    return first, whole


def _seconds(words: Sequence[object]) -> float:
    began = time.perf_counter()
    with _start(words) as process:
        process.communicate()
    return time.perf_counter() - began


def _start(words: Sequence[object]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "CTDiffusionLogic", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)


if __name__ == "__main__":
    main()
