"""Train the network of features that Fréchet distances use, on real CT scans, without labels.

DATA are files and folders of DICOM, NIfTI, NRRD or MHA, searched recursively. Scans that cannot be used are left out,
with the reason. The one file it writes goes to `ctdiffusion evaluate` as an extractor. The bundled network is made by
the same command; a network of your own suits bodies, scanners or regions it has never seen. Figures of two networks
do not compare. Ctrl-C ends without a file.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

from CTDiffusionLogic.cli.arguments import add_cancel_argument, number, whole_number
from CTDiffusionLogic.cli.cancel import CancelSwitch
from CTDiffusionLogic.cli.console import Console
from CTDiffusionLogic.cli.events import Finished, Metric, Progress, Started, Warned
from CTDiffusionLogic.errors import InputError, UsageError

SUMMARY = "train the features that measure realism"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add DATA and the options of the training."""
    add = parser.add_argument
    add("data", metavar="DATA", nargs="+", type=Path, help="files and folders with real CT scans")
    add("--out", required=True, metavar="FILE", type=Path, help="the file to write (.safetensors)")
    add(
        "--max-minutes",
        type=number(0.01, 1e6, "minutes"),
        metavar="M",
        help="stop after M minutes, reading too (default: 20, or no limit with --steps)",
    )
    add("--steps", type=whole_number(1, 10**9), metavar="N", help="stop after N steps: gives the same network again")
    add("--seed", type=whole_number(0, 2**63 - 1), default=0, help="of everything random (default: 0)")
    add("--hold-out", action="append", default=[], metavar="PATIENT", help="do not train on this patient; repeatable")
    add("--note", default="", help="what the file says about the data's origin and licence")
    add("--threads", type=whole_number(1, 1024), metavar="N", help="CPU threads (default: all cores)")
    add_cancel_argument(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Train and write the file.

    Raises:
        Cancelled: If the user stopped it; nothing is written.
        CTDiffusionError: As :func:`CTDiffusionLogic.fidelity.feature_training.train_features` says.
    """
    from CTDiffusionLogic import __version__

    began = time.monotonic()
    if args.out.suffix != ".safetensors":
        raise UsageError(f"--out {args.out} does not end in .safetensors.", remedy="Choose a name that does.")
    for path in args.data:  # the library says so too, but only once torch is imported
        if not path.exists():
            raise InputError(f"{path} does not exist.", remedy="Check the path.")
    with CancelSwitch(args.cancel_file) as is_cancelled:
        from CTDiffusionLogic.device import set_threads
        from CTDiffusionLogic.fidelity.feature_training import FeatureTrainingOptions, train_features
        from CTDiffusionLogic.training.export import command_line

        set_threads(args.threads)
        is_cancelled.check()
        console.emit(Started(args.command, __version__, {"out": args.out.absolute()}))
        skipped: list[dict[str, str]] = []

        def report(name: str, facts: dict[str, Any]) -> None:
            if name == "progress":
                left = facts.get("eta_s")
                known = left if left is not None and math.isfinite(left) else None
                console.emit(Progress(facts["done"], facts["of"], known, facts["phase"]))
            elif name == "skipped":
                skipped.append({"path": str(facts["path"]), "reason": str(facts["reason"])})
                console.emit(Warned(f"Left out {facts['path']}: {facts['reason']}"))
            else:
                console.emit(Metric("training", facts))

        result = train_features(
            FeatureTrainingOptions(
                data=tuple(args.data),
                out=args.out,
                max_minutes=args.max_minutes or (None if args.steps else 20.0),
                steps=args.steps,
                seed=args.seed,
                hold_out=tuple(args.hold_out),
                note=args.note,
                command=command_line(),
            ),
            on_event=report,
            is_cancelled=is_cancelled,
        )
    details = {
        "sha256": result.sha256,
        "steps": result.steps,
        "scans": result.scans,
        "patients": result.patients,
        "skipped": skipped,
        "seconds": round(time.monotonic() - began, 2),
    }
    console.emit(Finished((str(result.path),), details))
