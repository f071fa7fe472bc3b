"""The demo's key figures: `ctdiffusion evaluate` on the demo's volume, its verdicts in a few lines."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from demo_scene import RealVolume

from CTDiffusionLogic.errors import ResourceError
from CTDiffusionLogic.volume_io import write_volume


def key_figures(synthetic: Path, real: RealVolume, others: Sequence[Path], folder: Path) -> list[str]:
    """Evaluate ``synthetic`` beside real scans; return a line for each room of the laboratory.

    Args:
        synthetic: The generated volume.
        real: What it was compared with in the pictures.
        others: Further real scans, for the floors; may be empty.
        folder: Where the report goes; a report of an earlier demo there is replaced.

    Raises:
        ResourceError: If the evaluation fails, with its last line.
    """
    if (folder / "report.json").is_file():
        shutil.rmtree(folder)
    with tempfile.TemporaryDirectory() as temporary:
        scan = Path(temporary) / "real.nrrd"
        write_volume(real.volume, scan)
        words = ["--real", str(scan), *map(str, others), "--synthetic", str(synthetic), "--out", str(folder)]
        if real.is_phantom:
            words.append("--allow-phantoms")
        finished = subprocess.run(
            [sys.executable, "-m", "CTDiffusionLogic", "evaluate", *words],
            cwd=Path(__file__).resolve().parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
    if finished.returncode != 0 or not (folder / "report.json").is_file():
        last = (finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"])[-1]
        raise ResourceError(f"The evaluation failed: {last}", remedy="The volume and the pictures are there.")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return [f"{section['title']}: {section['verdict']}" for section in report["sections"]]
