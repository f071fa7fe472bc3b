"""Fingerprints of a training's own scans, taken once and kept in its run folder.

Every model file that a training writes has them (:mod:`CTDiffusionLogic.fidelity.fingerprints`). They take about
0.3 s a scan: with thousands of scans a checkpoint would stand still for an hour if it had to take them. So they are
taken before the first step, and a training that is resumed reads them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from CTDiffusionLogic.atomic import atomic_file
from CTDiffusionLogic.corpus.plan import CorpusPlan, ScanPlan
from CTDiffusionLogic.corpus.prepare import PreparedCorpus
from CTDiffusionLogic.fidelity.fingerprints import VERSION, corpus_fingerprints, to_card, to_tensors

#: In a run folder.
FILE = "fingerprints.safetensors"
_FORMAT = "ctdiffusion-fingerprints"


@dataclass(frozen=True, eq=False)
class ModelFingerprints:
    """What a model file gets.

    Args:
        tensors: By their names in the model file; none where no training scan is 40 mm long.
        entry: Of the card; None where there are no tensors.
    """

    tensors: dict[str, Tensor]
    entry: dict[str, Any] | None


def fingerprints_of_run(
    corpus: PreparedCorpus, run: Path, *, on_progress: Callable[[int, int], None] | None = None
) -> ModelFingerprints:
    """Read the fingerprints that ``run`` keeps; where it has none of these scans, take them and keep them.

    Args:
        corpus: Whose cached slices they are taken of.
        run: The run folder.
        on_progress: Told of each scan before it is looked at: how many were, and of how many.

    Raises:
        OutputError: If they cannot be written.
    """
    path, stamp = run / FILE, _stamp(corpus.plan)
    kept = _read(path, stamp)
    if kept is not None:
        return kept
    seen = 0

    def read(scan: ScanPlan) -> NDArray[np.int16]:
        nonlocal seen
        if on_progress is not None:
            on_progress(seen, len(corpus.plan.scans))
        seen += 1
        return np.load(corpus.cache / f"{scan.id}.npy", mmap_mode="r")

    taken = corpus_fingerprints(corpus.plan.scans, read)
    made = ModelFingerprints({}, None) if taken is None else ModelFingerprints(to_tensors(taken), to_card(taken))
    with atomic_file(path) as temporary:
        save_file(made.tensors, temporary, {"format": _FORMAT, "stamp": stamp, "entry": json.dumps(made.entry)})
    return made


def forget_fingerprints(run: Path) -> None:
    """Remove what ``run`` keeps: its scans are about to be prepared anew."""
    (run / FILE).unlink(missing_ok=True)


def _read(path: Path, stamp: str) -> ModelFingerprints | None:
    """What the file has; None where it is missing, damaged, or of other scans."""
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            if (meta.get("format"), meta.get("stamp")) != (_FORMAT, stamp):
                return None
            return ModelFingerprints(
                {name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118
                json.loads(meta["entry"]),
            )
    except (OSError, SafetensorError, ValueError, KeyError):
        return None


def _stamp(plan: CorpusPlan) -> str:
    """What the fingerprints depend on: all that the plan says of its scans, and what the numbers mean."""
    facts = {"version": VERSION, "image_size": plan.image_size, "scans": [asdict(scan) for scan in plan.scans]}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
