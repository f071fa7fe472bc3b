"""All figures of speed in one run: `make bench`, or

    python Testing/benchmarks/bench.py [--run RUN] [--parts ...] [--out build/bench]

Each part is a benchmark of its own, run as a process, one after the other; about 20 minutes on two idle cores. What
they print goes to ``OUT/<part>.md`` and, with a summary of all figures and goals first, to ``OUT/bench.md``.

RUN is the folder of the bundled model's training (plan and cache; only read). Without it the training loops see
phantoms, and Fréchet distances are measured to the held-out patients that the model's card names, if their scans
lie in the folder CTDIFFUSION_DATA (default ../shared/ct); else they are left out. The ablations of the training
recipe take hours and are not run here: what :mod:`training_choices` has collected in ``OUT/choices.jsonl`` is printed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_tools import BUILD, REPOSITORY, Goal, goal_table, machine

from CTDiffusionLogic.bundle import read_header
from CTDiffusionLogic.models import find_model

HERE = Path(__file__).resolve().parent
#: The bundled model may not be larger.
LARGEST_MODEL = 16_000_000


@dataclass(frozen=True)
class Part:
    """One benchmark.

    Args:
        title: Heading of its output.
        script: File beside this one.
        words: Its arguments.
        quick: Its arguments where only the machinery is tried.
        takes: Which of "run", "real", "model", "facts" it understands.
        is_text: Its output is no Markdown.
    """

    title: str
    script: str
    words: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    takes: tuple[str, ...] = ("facts",)
    is_text: bool = False


PARTS: dict[str, Part] = {
    "cold-start": Part("From the command to the first slice", "cold_start.py", takes=("model", "facts")),
    "arithmetic": Part(
        "The arithmetic of sampling",
        "arithmetic.py",
        quick=("--slices", "2", "--steps", "1", "--detail-steps", "1", "--gemm-size", "128"),
        takes=("model", "facts"),
    ),
    "sampling": Part(
        "Denoiser passes against fidelity",
        "sampling_cost.py",
        quick=("--volumes", "1", "--slices", "2", "--anatomy", "--detail", "--reference", "2", "2"),
        takes=("model", "run", "real", "facts"),
    ),
    "training": Part(
        "Training loops",
        "training_throughput.py",
        quick=("--preset", "tiny", "--steps", "1", "--warm-up", "1", "--rounds", "1", "--stall-minutes", "0"),
        takes=("run", "facts"),
    ),
    "seed": Part(
        "A volume, beside the seed's route",
        "generation_cost.py",
        words=("--slices", "16", "64", "--seed-passes", "10"),
        takes=("model", "facts"),
        is_text=True,
    ),
    "choices": Part("Choices of the training recipe", "training_choices.py", takes=("choices",)),
}


def main(words: Sequence[str] | None = None) -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model file (default: the bundled one)")
    parser.add_argument("--run", type=Path, help="folder of the model's training")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--out", type=Path, default=BUILD)
    parser.add_argument("--quick", action="store_true", help="only try that the parts work; the figures mean nothing")
    args = parser.parse_args(words)
    args.out.mkdir(parents=True, exist_ok=True)
    model = find_model(args.model)
    real = [] if args.run else held_out_scans(model)
    print(f"{machine()}\n", flush=True)
    sections, goals, failed = [], [size_goal(model)], []
    for name in args.parts:
        part, began = PARTS[name], time.monotonic()
        facts = args.out / f"{name}.json"
        facts.unlink(missing_ok=True)
        print(f"## {part.title}\n", flush=True)
        text, code = run_part(part, arguments(part, args, model, real, facts))
        if code:
            failed.append(name)
        minutes = (time.monotonic() - began) / 60
        if facts.exists():
            goals += [Goal(**entry) for entry in json.loads(facts.read_text(encoding="utf-8"))]
        body = f"```\n{text.strip()}\n```" if part.is_text else text.strip()
        command = f"`python Testing/benchmarks/{part.script}`, {minutes:.1f} minutes"
        sections.append(f"## {part.title}\n\n{body}\n\n{command}\n")
        (args.out / f"{name}.md").write_text(sections[-1], encoding="utf-8")
        print(f"\n({minutes:.1f} minutes)\n", flush=True)
    summary = goal_table(goals)
    print(f"## All figures\n\n{summary}", flush=True)
    whole = f"{machine()}\n\n## All figures\n\n{summary}\n\n" + "\n".join(sections)
    (args.out / "bench.md").write_text(whole, encoding="utf-8")
    print(f"\nAll of it is in {args.out / 'bench.md'}.")
    if failed:
        raise SystemExit(f"FAILED: {', '.join(failed)}")


def arguments(
    part: Part, args: argparse.Namespace, model: Path, real: Sequence[Path], facts: Path
) -> list[str | Path]:
    """The arguments of a part."""
    words: list[str | Path] = list(part.quick if args.quick and part.quick else part.words)
    if "model" in part.takes:
        words += ["--model", model]
    if "run" in part.takes and args.run:
        words += ["--run", args.run]
    if "real" in part.takes and real:
        words += ["--real", *real]
    if "facts" in part.takes:
        words += ["--facts", facts]
    if "choices" in part.takes:
        words += ["--table", args.out / "choices.jsonl"]
    return words


def run_part(part: Part, words: Sequence[str | Path]) -> tuple[str, int]:
    """Run a part, print what it prints; returns that and its exit code."""
    command = [sys.executable, str(HERE / part.script), *map(str, words)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            print(line, end="", flush=True)
    return "".join(lines), process.returncode


def size_goal(model: Path) -> Goal:
    """The model file's size, which a repository has to carry."""
    size = model.stat().st_size
    return Goal(f"model file {model.name}", f"{size / 1e6:.2f} MB", "at most 16 MB", size <= LARGEST_MODEL)


def held_out_scans(model: Path) -> list[Path]:
    """Scans of the patients that the model's own command held out, where they are at hand."""
    folder = Path(os.environ.get("CTDIFFUSION_DATA") or REPOSITORY.parent / "shared" / "ct")
    command = str(read_header(model).card.get("training", {}).get("command", ""))
    patients = set(re.findall(r"--hold-out[ =](\S+)", command))
    index = folder / "INDEX.csv"
    if not patients or not index.exists():
        return []
    with index.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("patient") in patients]
    return [path for row in rows if (path := folder / row["file"]).exists()]


if __name__ == "__main__":
    main()
