"""Train a model on real CT scans.

DATA are files and folders of DICOM, NIfTI, NRRD or MHA, searched recursively, or one file of `ctdiffusion pack`.
Scans that cannot be used are left out, with the reason. The folder of --run receives checkpoints, metrics.jsonl,
samples and, from the first checkpoint on, model.safetensors for `ctdiffusion generate`. Now and then it measures how
far generated images are from real ones (fidelity.jsonl, fidelity.png) and keeps the best model
(model-best.safetensors): of those whose bodies are whole, or least torn, the nearest. Ctrl-C, --max-minutes and
--epochs end with a checkpoint and a model; --resume goes on from there, and after a crash from the newest checkpoint.
With DATA and --resume, one command line serves for every piece of a training: it begins where nothing is there yet,
and goes on where something is.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from CTDiffusionLogic.cli.arguments import add_cancel_argument, add_device_arguments, number, whole_number
from CTDiffusionLogic.cli.cancel import CancelSwitch
from CTDiffusionLogic.cli.console import Console
from CTDiffusionLogic.cli.events import Finished, Metric, Progress, Started, Warned
from CTDiffusionLogic.errors import Cancelled, InputError, UsageError
from CTDiffusionLogic.models import find_model
from CTDiffusionLogic.training.options import LEARNING, PRESETS, TrainOptions

SUMMARY = "train a model on real CT scans"

#: Checked against the library's defaults, which this file does not repeat.
_DEFAULTS = TrainOptions(data=(), run=Path())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add DATA and the options of a training."""
    add = parser.add_argument
    add("data", metavar="DATA", nargs="*", type=Path, help="files and folders with CT scans")
    add("--run", required=True, metavar="DIR", type=Path, help="folder of the training")
    add("--resume", action="store_true", help="go on with --run; where it is empty, begin with DATA")
    add("--max-minutes", type=number(0.01, 1e6, "minutes"), metavar="M", help="stop after M minutes, preparation too")
    add("--epochs", type=whole_number(1, 10**9), metavar="N", help="stop after N epochs in all")
    add(
        "--preset",
        choices=tuple(PRESETS),
        default=_DEFAULTS.preset,
        help="size of the networks: tiny proves the pipeline, large wants a GPU; fine trains a fine model, for "
        "generate --matrix (default: %(default)s)",
    )
    add(
        "--image-size",
        type=whole_number(16, 2048),
        default=0,
        metavar="PIXELS",
        help=f"rows and columns of the images the model makes (default: {_DEFAULTS.image_size}, of a fine model "
        f"{PRESETS['fine'].image_size})",
    )
    add("--seed", type=whole_number(0, 2**63 - 1), default=_DEFAULTS.seed, help="of everything random (default: 0)")
    add("--init", metavar="MODEL", help="start from this model's weights (fine-tuning): a file or a bundled name")
    add(
        "--only",
        choices=tuple(LEARNING),
        default="",
        help="this stage alone learns, and the rest of the model stays as it is; with --init or --resume",
    )
    add("--index", type=Path, metavar="CSV", help="columns file, patient, region; default: INDEX.csv beside the data")
    add("--hold-out", action="append", default=[], metavar="PATIENT", help="do not train on this patient; repeatable")
    add("--use-labels", action="store_true", help="learn the index's regions as classes")
    add(
        "--cooldown",
        type=number(0.0, 0.99, "a share of the training"),
        default=_DEFAULTS.cooldown,
        metavar="SHARE",
        help="share of the training over whose end the learning rate falls almost to nothing; 0 where it goes on with "
        "--resume anyway (default: %(default)g)",
    )
    add(
        "--checkpoint-minutes",
        type=number(0.01, 1e6, "minutes"),
        default=_DEFAULTS.checkpoint_minutes,
        metavar="M",
        help="time between checkpoints (default: %(default)g)",
    )
    add(
        "--loader-threads",
        type=whole_number(0, 64),
        default=_DEFAULTS.loader_threads,
        metavar="N",
        help="threads that prepare batches, per stage (default: as many as feed a GPU; none beside a CPU that trains)",
    )
    add(
        "--fidelity-every",
        type=_epochs_or_word,
        default=_DEFAULTS.fidelity_every,
        metavar="EPOCHS",
        help="epochs between measurements of how real the images are; auto: as often as 5 %% of the time allows; "
        "off: never (default: auto)",
    )
    add(
        "--fidelity-extractor",
        default=_DEFAULTS.fidelity_extractor,
        metavar="NAME",
        help="feature extractor of these measurements: a name, or name:weights-file (default: %(default)s)",
    )
    add("--name", default="", help="the model's name in its card (default: the name of --run)")
    add("--note", default="", help="what the card says about the data's origin and licence")
    add_device_arguments(parser)
    add_cancel_argument(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Train until the budget is used up.

    Raises:
        Cancelled: If the user stopped it; checkpoint and model are saved.
        CTDiffusionError: As :func:`CTDiffusionLogic.training.run.train` says.
    """
    from CTDiffusionLogic import __version__

    began = time.monotonic()
    options = _options(args)
    options.check()
    with CancelSwitch(args.cancel_file) as is_cancelled:
        from CTDiffusionLogic.device import set_threads
        from CTDiffusionLogic.training.run import train

        set_threads(args.threads)
        is_cancelled.check()
        console.emit(Started(args.command, __version__, {"run": options.run.absolute()}))
        reporter = Reporter(console, is_cancelled)
        result = train(options, on_event=reporter, is_cancelled=is_cancelled, began=began)
    for path, reason in reporter.skipped:
        console.say(f"Left out: {path}: {reason}")
    if result.reason == "cancelled":
        raise Cancelled(
            f"Stopped at step {result.steps}; checkpoint and model are saved in {options.run}.",
            remedy="Add --resume to go on.",
        )
    details = {
        "steps": result.steps,
        "epochs": round(result.epochs, 3),
        "reason": result.reason,
        "skipped": [{"path": path, "reason": reason} for path, reason in reporter.skipped],
        "seconds": round(time.monotonic() - began, 2),
    }
    console.emit(Finished((str(result.model),), details))


def _options(args: argparse.Namespace) -> TrainOptions:
    if not args.data and not args.resume:
        raise UsageError("No DATA were given.", remedy="Name files or folders of CT scans.")
    for path in args.data:  # the library says so too, but only once torch is imported
        if not path.exists():
            raise InputError(f"{path} does not exist.", remedy="Check the path.")
    names = ("run", "image_size", "preset", "max_minutes", "epochs", "device", "resume", "index", "use_labels", "seed")
    more = (
        "cooldown",
        "checkpoint_minutes",
        "loader_threads",
        "fidelity_every",
        "fidelity_extractor",
        "name",
        "note",
        "only",
    )
    return TrainOptions(
        data=tuple(args.data),
        hold_out=tuple(args.hold_out),
        init=find_model(args.init) if args.init else None,
        **{name: getattr(args, name) for name in (*names, *more)},
    )


def _epochs_or_word(text: str) -> int | str:
    """An argparse type: a number of epochs, "auto" or "off"."""
    return text if text in ("auto", "off") else whole_number(1, 10**9)(text)


class Reporter:
    """Turns what the training tells into events; stops it during the preparation, which asks nobody else."""

    def __init__(self, console: Console, is_cancelled: Callable[[], bool]) -> None:
        self._console = console
        self._is_cancelled = is_cancelled
        self.skipped: list[tuple[str, str]] = []

    def __call__(self, name: str, facts: dict[str, Any]) -> None:
        """Pass on one report of :func:`CTDiffusionLogic.training.run.train`."""
        if name == "progress":
            eta = facts.get("eta_s")
            known = eta is not None and math.isfinite(eta)
            self._console.emit(Progress(facts["done"], facts["of"], eta if known else None, facts.get("phase", "")))
            if facts.get("phase") != "training" and self._is_cancelled():
                raise Cancelled("Cancelled while the scans were being prepared.")
        elif name == "skipped":
            self.skipped.append((str(facts["path"]), str(facts["reason"])))
            self._console.emit(Warned(f"Left out {facts['path']}: {facts['reason']}"))
        elif name == "warning":
            self._console.emit(Warned(facts["message"]))
        else:
            self._console.emit(Metric("training" if name == "metric" else name, facts))
