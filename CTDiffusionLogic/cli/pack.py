"""Pack scans into one small file that another machine can train from.

For a machine with the scans and no GPU, and another one with a GPU and no scans. DATA are files and folders of DICOM,
NIfTI, NRRD or MHA, searched recursively; --run takes the scans of a training instead, as it has prepared them. The
other machine trains with `ctdiffusion train FILE.ctpack --run DIR`.

Names of patients, files and folders stay here; the pack has numbers in their place. It still holds images of
patients: keep it and send it as you would the scans. HU are rounded (--hu-step), far below the noise of CT; with
--hu-step 0 a training goes exactly as it would from the scans.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CTDiffusionLogic.atomic import working_folder
from CTDiffusionLogic.cli.arguments import add_cancel_argument, whole_number
from CTDiffusionLogic.cli.cancel import CancelSwitch
from CTDiffusionLogic.cli.console import Console
from CTDiffusionLogic.cli.events import Finished, Started, Warned
from CTDiffusionLogic.cli.train import Reporter
from CTDiffusionLogic.corpus.pack_options import MAX_HU_STEP, PackOptions, require_pack_name
from CTDiffusionLogic.errors import InputError, OutputError, UsageError
from CTDiffusionLogic.training.options import PRESETS, TrainOptions

if TYPE_CHECKING:
    from CTDiffusionLogic.corpus.prepare import PreparedCorpus

SUMMARY = "pack scans into one file that another machine can train from"
#: The libraries' defaults, which this file does not repeat.
_PACKING, _TRAINING = PackOptions(), TrainOptions(data=(), run=Path())
#: Of the folder beside the output that has what is not finished.
_PREFIX = ".ctpack-"
#: What a preparation is asked for; a training has been prepared already.
_PREPARATION = ("preset", "image_size", "seed", "index", "hold_out", "use_labels")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add DATA, --out and the options of a preparation."""
    add = parser.add_argument
    add("data", metavar="DATA", nargs="*", type=Path, help="files and folders with CT scans")
    add("--out", required=True, metavar="FILE", type=Path, help="the file to write (.ctpack)")
    add("--run", metavar="DIR", type=Path, help="instead of DATA: the folder of a training")
    add(
        "--hu-step",
        type=whole_number(0, MAX_HU_STEP),
        default=_PACKING.hu_step,
        metavar="HU",
        help="round HU to multiples of this; 0: to none, in a larger file (default: %(default)s)",
    )
    add("--preset", choices=tuple(PRESETS), help=f"what will be trained (default: {_TRAINING.preset})")
    add(
        "--image-size",
        type=whole_number(16, 2048),
        metavar="PIXELS",
        help=f"rows and columns of the images the model will make (default: {_TRAINING.image_size})",
    )
    add("--seed", type=whole_number(0, 2**63 - 1), help=f"of the patients to hold out (default: {_TRAINING.seed})")
    add("--index", type=Path, metavar="CSV", help="columns file, patient, region; default: INDEX.csv beside the data")
    add("--hold-out", action="append", metavar="PATIENT", help="do not train on this patient; repeatable")
    add("--use-labels", action="store_true", default=None, help="learn the index's regions as classes")
    add("--overwrite", action="store_true", help="replace FILE if it exists")
    add("--threads", type=whole_number(1, 1024), metavar="N", help="CPU threads (default: all cores)")
    add_cancel_argument(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Prepare the scans, or take those of a training, and write the pack.

    Raises:
        Cancelled: If the user stopped it; nothing is written.
        CTDiffusionError: If the scans, the run folder or the output cannot be used.
    """
    from CTDiffusionLogic import __version__

    began = time.monotonic()
    preparation = _check(args)
    with CancelSwitch(args.cancel_file) as is_cancelled:
        from CTDiffusionLogic.corpus.pack import write_pack
        from CTDiffusionLogic.device import set_threads

        set_threads(args.threads)
        is_cancelled.check()
        console.emit(Started(args.command, __version__, {"out": args.out.absolute()}))
        reporter = Reporter(console, is_cancelled)
        with working_folder(args.out.parent, prefix=_PREFIX) as work:
            corpus = _corpus(args, preparation, work, reporter)
            sha256 = write_pack(
                args.out,
                corpus,
                PackOptions(hu_step=args.hu_step),
                within=work,
                on_progress=lambda done, of: reporter("progress", {"done": done, "of": of, "phase": "packing"}),
            )
    patients = len({scan.patient for scan in corpus.plan.scans})
    console.emit(
        Warned(f"{args.out} has no names in it, but images of {patients} patients: keep it as you would the scans.")
    )
    for path, reason in reporter.skipped:
        console.say(f"Left out: {path}: {reason}")
    details = {
        "sha256": sha256,
        "bytes": args.out.stat().st_size,
        "scans": len(corpus.plan.scans),
        "patients": patients,
        "slices": sum(scan.slices for scan in corpus.plan.scans),
        "image_size": corpus.plan.image_size,
        "hu_step": args.hu_step,
        "skipped": [{"path": path, "reason": reason} for path, reason in reporter.skipped],
        "seconds": round(time.monotonic() - began, 2),
    }
    console.emit(Finished((str(args.out),), details))


def _check(args: argparse.Namespace) -> dict[str, Any]:
    """Refuse at once what could only fail later; returns what was asked of the preparation."""
    preparation = {name: getattr(args, name) for name in _PREPARATION if getattr(args, name) is not None}
    require_pack_name(args.out)
    if bool(args.data) == bool(args.run):
        raise UsageError(
            "Give DATA or --run, one of the two.", remedy="Name files or folders of CT scans, or a training's folder."
        )
    if args.run and preparation:
        option = f"--{next(iter(preparation)).replace('_', '-')}"
        raise UsageError(f"{option} does not go with --run, whose scans are prepared.", remedy="Give DATA instead.")
    for path in (*args.data, *([args.run] if args.run else [])):  # the library would say so once torch is imported
        if not path.exists():
            raise InputError(f"{path} does not exist.", remedy="Check the path.")
    if args.out.exists() and not args.overwrite:
        raise OutputError(f"{args.out} exists already.", remedy="Name another file or add --overwrite.")
    if "hold_out" in preparation:
        preparation["hold_out"] = tuple(preparation["hold_out"])
    TrainOptions(data=tuple(args.data), run=Path(), **preparation).check()
    return preparation


def _corpus(args: argparse.Namespace, preparation: dict[str, Any], work: Path, report: Reporter) -> PreparedCorpus:
    """The prepared scans: of a training, or in the working folder."""
    from CTDiffusionLogic.training.run_folder import begin_run, is_begun, open_run

    if args.run:
        if not is_begun(args.run):
            raise InputError(f"{args.run} holds no training.", remedy="Name a folder that `ctdiffusion train` made.")
        return open_run(args.run)
    options = TrainOptions(data=tuple(args.data), run=work, **preparation)
    corpus = begin_run(options, options.check(), report)
    for path, reason in corpus.plan.skipped:
        report("skipped", {"path": path, "reason": reason})
    return corpus
