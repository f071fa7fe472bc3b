"""Measure how real the images of models of one training are, and draw the curve.

MODEL are model files of one training, saved at different steps (copies of RUN/model.safetensors, say). Each makes the
same few short volumes, which are compared with the scans of the training (--run: patients that were held out, and
those learnt from) or with scans that the models never saw (--real). --out receives fidelity.jsonl and fidelity.png,
like those a training writes by itself; models that are in the file already are not measured again. All generate in
the same way, in the same number of steps. --into-card writes the figures into a model's card:
weights stay, the file's digest changes, since it covers the card.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from CTDiffusionLogic.cli.arguments import add_cancel_argument, add_device_arguments
from CTDiffusionLogic.cli.cancel import CancelSwitch
from CTDiffusionLogic.cli.console import Console
from CTDiffusionLogic.cli.events import Finished, Metric, Progress, Started
from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.models import find_model
from CTDiffusionLogic.training.options import DEFAULT_EXTRACTOR

SUMMARY = "measure how real images became over a training"

_COLUMNS = (
    *("step", "epoch", "frechet", "frechet_low", "frechet_high", "frechet_floor", "frechet_training"),
    *("kid", "kid_floor", "seconds"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL and what they are compared with."""
    add = parser.add_argument
    add("models", metavar="MODEL", nargs="+", type=Path, help="model files of one training")
    against = parser.add_mutually_exclusive_group(required=True)
    against.add_argument("--run", type=Path, metavar="DIR", help="folder of the training")
    against.add_argument("--real", nargs="+", type=Path, metavar="DATA", help="scans that the models never saw")
    add("--out", required=True, type=Path, metavar="DIR", help="folder for fidelity.jsonl and fidelity.png")
    add(
        "--into-card",
        metavar="MODEL",
        help="write the figures into the card of this model file: one of the models, or a copy of one's weights",
    )
    add(
        "--sampling-of",
        type=Path,
        metavar="MODEL",
        help="all generate as the card of this model says, but for the number of steps (default: the newest MODEL)",
    )
    add(
        "--extractor",
        default=DEFAULT_EXTRACTOR,
        metavar="NAME",
        help="feature extractor: a name, or name:weights-file (default: %(default)s)",
    )
    add_device_arguments(parser)
    add_cancel_argument(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Measure and draw.

    Raises:
        CTDiffusionError: As :func:`CTDiffusionLogic.training.fidelity_curve.measure_curve` says.
    """
    from CTDiffusionLogic import __version__

    began = time.monotonic()
    for path in (*args.models, *(args.real or ()), *filter(None, (args.run, args.sampling_of))):
        if not path.exists():
            raise InputError(f"{path} does not exist.", remedy="Check the path.")
    card_of = find_model(args.into_card) if args.into_card else None
    with CancelSwitch(args.cancel_file) as is_cancelled:
        from CTDiffusionLogic.bundle import read_header
        from CTDiffusionLogic.card_figures import FIDELITY, card_entry, line_of_weights, write_figures
        from CTDiffusionLogic.device import choose_device, set_threads
        from CTDiffusionLogic.fidelity.extractors import get_extractor
        from CTDiffusionLogic.training.fidelity_curve import measure_curve

        set_threads(args.threads)
        is_cancelled.check()
        console.emit(Started(args.command, __version__, {"out": args.out.absolute()}))

        def on_event(name: str, facts: dict[str, Any]) -> None:
            if name == "progress":
                console.emit(Progress(facts["done"], facts["of"], facts["eta_s"], facts["phase"]))
            else:
                console.emit(Metric(name, {key: facts[key] for key in ("file", *_COLUMNS) if key in facts}))

        lines = measure_curve(
            args.models,
            args.out,
            run=args.run,
            real=args.real or (),
            sampling_of=args.sampling_of,
            extractor=get_extractor(args.extractor),
            device=choose_device(args.device),
            on_event=on_event,
            is_cancelled=is_cancelled,
        )
    for row in ({}, *lines):
        console.say(_row(row))
    details: dict[str, Any] = {"models": len(lines), "seconds": round(time.monotonic() - began, 2)}
    outputs = [str(args.out / "fidelity.jsonl"), str(args.out / "fidelity.png")]
    if card_of is not None:
        by_digest = {line["model_sha256"]: line for line in lines}
        measured = [(path, by_digest[read_header(path).sha256]) for path in args.models]
        sha256 = write_figures(card_of, FIDELITY, card_entry(line_of_weights(measured, card_of)))
        console.say(f"The card of {card_of} has the figures; its digest is now {sha256[:12]}.")
        details["into_card"] = {"file": str(card_of), "sha256": sha256}
        outputs.append(str(card_of))
    console.emit(Finished(tuple(outputs), details))


def _row(facts: dict[str, Any]) -> str:
    """A line of the table; its heading without ``facts``."""
    if not facts:
        return " ".join(f"{name.removeprefix('frechet_'):>9}" for name in _COLUMNS)
    values = (facts.get(name) for name in _COLUMNS)
    return " ".join(f"{'':>9}" if value is None else f"{value:>9.5g}" for value in values)
