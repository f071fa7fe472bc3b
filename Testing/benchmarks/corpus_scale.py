"""What a large corpus costs: seconds and memory of its plan, and of its slabs, against small ones.

    python Testing/benchmarks/corpus_scale.py [--scans 100 1000 10000]

The index is simulated: each scan is a small, plain CT that is made when it is read, so that the figures are those of
the corpus and not of reading files (a real scan takes about a second, twice). Everything else is what a training
does. Two processes for each number of scans:

- **prepare**: scans to plan, cache and body positions;
- **start**: what a resumed training does before its first step, then slabs from all over the corpus, the scans that
  its fidelity is measured against, and the card of its model.

Memory is the most that the process held beyond what it had after its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.corpus.prepare import PrepareOptions, prepare
from CTDiffusionLogic.corpus.stream import SlabStream
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.scan_search import ScanRef
from CTDiffusionLogic.training.fidelity_scans import scans_of_run
from CTDiffusionLogic.volume import CTVolume

#: Grid of a simulated scan and of its slices in the cache.
SLICES, SIZE, CACHED = 16, 32, 64
BATCHES, BATCH = 50, 8


@dataclass(frozen=True)
class SimulatedScan(ScanRef):
    """A scan that is made when it is read."""

    def read(self) -> CTVolume:
        """An elliptic body of water in air, a little different for every scan."""
        rng = np.random.default_rng([*self.id.encode()])
        y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
        body = (x / rng.uniform(0.6, 0.9)) ** 2 + (y / rng.uniform(0.4, 0.7)) ** 2 < 1
        noise = rng.integers(-20, 20, size=(SLICES, SIZE, SIZE))
        hu = np.where(body, noise, -1000).astype(np.int16)
        return CTVolume(hu, Geometry((12.0, 12.0, 5.0)), {"id": self.id, "patient": self.patient})


def simulated_index(count: int) -> list[SimulatedScan]:
    """As many scans, two of each patient."""
    return [
        SimulatedScan(f"scan{n:05d}", Path(f"scan{n:05d}.nii.gz"), ".nii.gz", f"patient{n // 2:05d}")
        for n in range(count)
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--scans", type=int, nargs="+", default=[100, 1000, 10_000], metavar="N")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # in a process of its own: what, scans, folder
    args = parser.parse_args()
    if args.measure:
        what, scans, folder = args.measure
        print(json.dumps(MEASURES[what](int(scans), Path(folder))))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print("          prepare              start")
    print("  scans        s  memory MB    plan s  plan MB  slabs/s  memory MB  open files  card kB")
    for count in args.scans:
        with tempfile.TemporaryDirectory() as folder:
            one, two = (_in_own_process(what, count, folder) for what in MEASURES)
        print(
            f"{count:7d}  {one['seconds']:7.1f}  {one['memory_mb']:9.0f}  {two['plan_s']:8.2f}  "
            f"{two['plan_mb']:7.2f}  {two['slabs_per_s']:7.1f}  {two['memory_mb']:9.0f}  {two['open_files']:10d}  "
            f"{two['card_kb']:7.1f}",
            flush=True,
        )


def _in_own_process(what: str, count: int, folder: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", what, str(count), folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _prepare(count: int, folder: Path) -> dict[str, float]:
    before, began = _peak_mb(), time.perf_counter()
    prepare(simulated_index(count), [], folder, PrepareOptions(image_size=CACHED, anatomy_size=32))
    return {"seconds": time.perf_counter() - began, "memory_mb": _peak_mb() - before}


def _start(count: int, folder: Path) -> dict[str, float]:
    before, began = _peak_mb(), time.perf_counter()
    plan = CorpusPlan.load(folder / "plan.json")
    cache = folder / "cache"
    assert all((cache / f"{scan.id}.npy").exists() for scan in plan.scans) and len(plan.scans) == count
    plan_s = time.perf_counter() - began
    began = time.perf_counter()
    for stage in ("anatomy", "detail"):
        stream = SlabStream(plan, cache, stage=stage, batch=BATCH, slices=8, patch=32)  # type: ignore[arg-type]
        for _ in stream.batches(iter(range(BATCHES))):
            pass
    slabs_per_s = 2 * BATCHES * BATCH / (time.perf_counter() - began)
    scans = scans_of_run(plan, cache)
    files = Path("/proc/self/fd")
    return {
        "plan_s": plan_s,
        "plan_mb": (folder / "plan.json").stat().st_size / 1e6,
        "slabs_per_s": slabs_per_s,
        "memory_mb": _peak_mb() - before,
        "open_files": len(list(files.iterdir())) if files.exists() and scans else 0,
        "card_kb": len(json.dumps(plan.card())) / 1e3,
    }


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # Linux's ru_maxrss counts what the parent held when it started this process
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1024)


MEASURES: dict[str, Callable[[int, Path], dict[str, float]]] = {"prepare": _prepare, "start": _start}

if __name__ == "__main__":
    main()
