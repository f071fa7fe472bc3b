"""Give a model fingerprints of its training scans, so that `ctdiffusion generate` can warn of copies.

Models trained by this version have them already. DATA must hold all scans the model was trained on; name the patients
it was not trained on with --hold-out, they tell how close other people come. The weights stay as they are; no image
and no name is stored, but who has a scan can find out whether it was trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from CTDiffusionLogic.cli.arguments import add_cancel_argument
from CTDiffusionLogic.cli.cancel import CancelSwitch
from CTDiffusionLogic.cli.console import Console
from CTDiffusionLogic.cli.events import Finished, Progress, Started, Warned
from CTDiffusionLogic.errors import InputError, OutputError, UsageError
from CTDiffusionLogic.models import find_model

SUMMARY = "give a model fingerprints of its training scans, to warn of copies"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL, DATA and the options."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a model file or a bundled name")
    add("data", metavar="DATA", nargs="*", type=Path, help="files and folders with the scans it was trained on")
    add("--out", required=True, type=Path, metavar="FILE", help="the new model file (.safetensors)")
    add("--hold-out", action="append", default=[], metavar="PATIENT", help="not trained on; repeatable")
    add("--index", type=Path, metavar="CSV", help="columns file, patient, region; default: INDEX.csv beside the data")
    add("--remove", action="store_true", help="instead, write the model without fingerprints")
    add("--overwrite", action="store_true", help="replace FILE if it exists")
    add_cancel_argument(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Read the scans and write the model.

    Raises:
        Cancelled: If the user stopped it; nothing is written.
        CTDiffusionError: If the model, the scans or the output cannot be used.
    """
    from CTDiffusionLogic import __version__

    model = find_model(args.model)
    if bool(args.data) == args.remove:
        raise UsageError(
            "Give the scans the model was trained on, or --remove, and not both.",
            remedy="See: ctdiffusion fingerprint --help.",
        )
    if args.out.exists() and not args.overwrite:
        raise OutputError(f"{args.out} exists already.", remedy="Name another file or add --overwrite.")
    console.emit(Started(args.command, __version__, {"model": model}))
    if args.remove:
        from CTDiffusionLogic.fidelity.fingerprints import remove_fingerprints

        remove_fingerprints(model, args.out)
        console.emit(Finished((str(args.out),)))
        return
    from CTDiffusionLogic.corpus.resample import orient
    from CTDiffusionLogic.corpus.split import held_out_patients
    from CTDiffusionLogic.fidelity.fingerprints import ScanWindows, add_fingerprints, describe_scan
    from CTDiffusionLogic.scan_search import find_scans

    search = find_scans(args.data, index=args.index)
    held_out = held_out_patients([s.patient for s in search.found], fraction=0.0, named=tuple(args.hold_out))
    described: dict[bool, list[ScanWindows]] = {True: [], False: []}
    with CancelSwitch(args.cancel_file) as is_cancelled:
        for number, scan in enumerate(search.found):
            is_cancelled.check()
            console.emit(Progress(number, len(search.found), None, f"reading {scan.id}"))
            try:
                volume = orient(scan.read())
            except InputError as error:
                console.emit(Warned(f"Left out {scan.path}: {error.message}"))
                continue
            dx, dy, dz = volume.spacing
            windows = describe_scan(volume.hu, (dz, dy, dx), id=scan.id, patient=scan.patient)
            described[scan.patient not in held_out].append(windows)
    fingerprints = add_fingerprints(model, described[True], args.out, held_out=described[False])
    limits = fingerprints.limits
    details = {
        "windows": len(fingerprints.reference.numbers),
        "patients": fingerprints.patients,
        "ratio_limit": round(limits.ratio, 4),
        "calibrated": limits.calibrated,
    }
    if not limits.calibrated:
        console.emit(Warned("Too few real scans tell how close other people come; the limit is the program's own."))
    console.emit(Finished((str(args.out),), details))
