"""What an evaluation costs: seconds for each room, with as many volumes as a small study has.

    python Testing/benchmarks/fidelity_cost.py [--volumes 64] [--slices 64] [--size 128] [--threads 2]

Half of the volumes stand for real scans (phantoms of that many patients), half for synthetic ones (phantoms with more
noise, blurred along z, whose organs sit elsewhere). They are written to a temporary folder, then the command runs in a
process of its own, as a user's would. Every second real scan counts as training, so that the search for copies runs,
too; the others are held out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from scipy import ndimage

from CTDiffusionLogic.device import describe_device, format_bytes
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.volume import to_hu_int16
from CTDiffusionLogic.volume_io import write_volume

REPOSITORY = Path(__file__).resolve().parents[2]
#: The field of view that holds the phantom, mm.
FIELD_MM = 410.0
#: The evaluation shall take less.
LIMIT_S = 300.0


def main() -> None:
    """Write the volumes, evaluate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--volumes", type=int, default=64, help="real and synthetic ones together")
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--size", type=int, default=128, help="rows and columns")
    parser.add_argument("--spacing-mm", type=float, default=3.0, help="distance of slices")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--extractor", nargs="+", default=["ctfeatures"])
    parser.add_argument("--no-training", action="store_true", help="without the search for copies")
    parser.add_argument("--keep", type=Path, help="put volumes and report here instead of a temporary folder")
    args = parser.parse_args()
    print(f"{describe_device('cpu')}, {args.threads} threads used, {platform.platform()}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        began = time.monotonic()
        write_groups(folder, args)
        print(f"{args.volumes} volumes of {args.slices} x {args.size} x {args.size}", end="")
        print(f", written in {time.monotonic() - began:.0f} s\n")
        print_costs(*evaluate(folder, args), volumes=args.volumes)


def write_groups(folder: Path, args: argparse.Namespace) -> None:
    """Write real/ and synthetic/."""
    half = args.volumes // 2
    for number in range(half):
        draw(folder / "real" / f"real{number:03d}.nrrd", args, seed=number, made=False)
        draw(folder / "synthetic" / f"made{number:03d}.nrrd", args, seed=10_000 + number, made=True)


def draw(path: Path, args: argparse.Namespace, *, seed: int, made: bool) -> None:
    """Write a phantom; a synthetic one is noisier, and blurred along z."""
    pixel = FIELD_MM / args.size
    volume = torso_phantom(slices=args.slices, size=args.size, spacing_mm=(pixel, pixel, args.spacing_mm), seed=seed)
    metadata = {"synthetic": "yes"} if made else {}
    hu = volume.hu
    if made:
        rng = np.random.default_rng(seed)
        blurred = ndimage.gaussian_filter1d(hu.astype(np.float32), 0.7, axis=0)
        hu = to_hu_int16(blurred + rng.normal(0, 15, hu.shape).astype(np.float32))
    write_volume(replace(volume, hu=hu, metadata=metadata), path)


def evaluate(folder: Path, args: argparse.Namespace) -> tuple[dict[str, float], float, int]:
    """Run the command; return seconds by room, of the whole process, and its peak memory in bytes."""
    words = [sys.executable, "-m", "CTDiffusionLogic", "evaluate", "--events", "json", "--device", "cpu"]
    words += ["--threads", str(args.threads), "--extractor", *args.extractor, "--out", str(folder / "report")]
    words += ["--real", str(folder / "real"), "--synthetic", str(folder / "synthetic")]
    if not args.no_training:  # every second real scan was trained on, the others are held out
        words += ["--training", *map(str, sorted((folder / "real").iterdir())[::2])]
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "PYTHONPATH": str(REPOSITORY)}
    began = time.monotonic()
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(f"The evaluation failed: {done.stdout.splitlines()[-1:]}")
    report = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    return report["seconds"], seconds, peak_memory_of_children()


def peak_memory_of_children() -> int:
    """Bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


def print_costs(rooms: dict[str, float], seconds: float, memory: int, *, volumes: int) -> None:
    """A table of rooms, and whether the limit holds."""
    print(f"{'room':<12} {'seconds':>8} {'a volume':>9}")
    parts = {name: value for name, value in rooms.items() if name != "all"}
    for name, value in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"{name:<12} {value:8.1f} {value / volumes:9.3f}")
    print(f"{'process':<12} {seconds:8.1f} {seconds / volumes:9.3f}")
    print(f"peak memory {format_bytes(memory) if memory else 'unknown'}")
    if volumes >= 64:
        print(f"{'less' if seconds < LIMIT_S else 'MORE'} than {LIMIT_S:.0f} s")


if __name__ == "__main__":
    main()
