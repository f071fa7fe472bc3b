"""Say how real synthetic volumes are, beside real scans.

DATA are files and folders of DICOM, NIfTI, NRRD or MHA, searched recursively. Every figure stands beside its floor:
what real scans of different patients reach against each other. --out receives report.html (one file, no network
needed), report.json and plots/. With --training, copies of training scans are looked for; with --independent, the
baseline of slices made one by one stands beside the figures of coherence. Everything stays on this machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from CTDiffusionLogic.cli.arguments import add_cancel_argument, add_device_arguments, whole_number
from CTDiffusionLogic.cli.cancel import CancelSwitch
from CTDiffusionLogic.cli.console import Console
from CTDiffusionLogic.cli.events import Finished, Metric, Progress, Started, Warned
from CTDiffusionLogic.errors import InputError, OutputError
from CTDiffusionLogic.models import find_model

SUMMARY = "measure how real synthetic volumes are, beside real scans"

#: For the help and the checks that come before torch is imported; the library has the same (a test compares).
DEFAULT_EXTRACTOR = "ctfeatures"
DEFAULT_IMAGES = 16
GROUPS = ("real", "synthetic", "training", "held_out", "independent")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the groups of volumes and the options of an evaluation."""
    add = parser.add_argument

    def add_data(name: str, text: str, *, required: bool = False) -> None:
        add(name, nargs="+", action="extend", type=Path, default=[], required=required, metavar="DATA", help=text)

    add_data("--real", "real scans, best of patients the model was not trained on", required=True)
    add_data("--synthetic", "generated volumes", required=True)
    add("--out", required=True, type=Path, metavar="DIR", help="a new or empty folder for the report")
    add_data("--training", "scans the model was trained on: are there copies of them?")
    add_data("--held-out", "scans the model never saw (default: those of --real whose patients are not in --training)")
    add_data("--independent", "volumes whose slices the same model made one by one: the baseline of coherence")
    add(
        "--extractor",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME_OR_FILE",
        help="what makes features: ctfeatures, radiomics, inception:FILE, radimagenet:FILE, or a file of "
        "ctdiffusion train-features; several are reported side by side (default: ctfeatures)",
    )
    add(
        "--images-per-volume",
        type=whole_number(1, 1000),
        default=DEFAULT_IMAGES,
        metavar="N",
        help="images cut from each volume in each plane (default: %(default)s)",
    )
    add("--seed", type=whole_number(0, 2**63 - 1), default=0, help="of resampling (default: 0)")
    add(
        "--into-card",
        metavar="MODEL",
        help="also write the figures into the card of the model that made the volumes; its weights stay, but the "
        "file's digest covers the card and changes",
    )
    add("--allow-phantoms", action="store_true", help="let phantoms stand for real scans, for tests")
    add_device_arguments(parser)
    add_cancel_argument(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Measure, compare and write the report.

    Raises:
        Cancelled: If the user stopped it; nothing is written.
        CTDiffusionError: If the volumes, an extractor, the device or the output cannot be used.
    """
    began = time.monotonic()
    for path in [path for group in GROUPS for path in getattr(args, group)]:  # before torch is imported
        if not path.exists():
            raise InputError(f"{path} does not exist.", remedy="Check the path.")
    _check_free(args.out)
    _check_packages()
    card_of = find_model(args.into_card) if args.into_card else None
    with CancelSwitch(args.cancel_file) as is_cancelled:
        from CTDiffusionLogic import __version__
        from CTDiffusionLogic.card_figures import EVALUATION, digests_of, write_figures
        from CTDiffusionLogic.device import set_threads
        from CTDiffusionLogic.fidelity.evaluate import EvaluateOptions, evaluate
        from CTDiffusionLogic.fidelity.report import write_report
        from CTDiffusionLogic.fidelity.report.card_entry import evaluation_entry
        from CTDiffusionLogic.fidelity.report.standing import standing_of_section, text_of_section

        set_threads(args.threads)
        is_cancelled.check()
        extractors = tuple(dict.fromkeys(args.extractor)) or (DEFAULT_EXTRACTOR,)
        console.emit(Started(args.command, __version__, {"out": args.out.absolute(), "extractors": extractors}))
        options = EvaluateOptions(
            **{name: tuple(getattr(args, name)) for name in GROUPS},
            extractors=extractors,
            images_per_volume=args.images_per_volume,
            device=args.device,
            seed=args.seed,
            allow_phantoms=args.allow_phantoms,
        )
        reporter = _Reporter(console)
        evaluation = evaluate(options, command=_typed(), on_event=reporter, is_cancelled=is_cancelled)
        report = evaluation.report
        for sentence in report.warnings:
            reporter.warn(sentence)
        _emit_figures(console, report)
        is_cancelled.check()
        written = [*write_report(report, evaluation.pictures, args.out)]
    if card_of is not None:
        written.append(card_of)
        entry = evaluation_entry(report, digests_of(card_of))
        console.say(f"The digest of {card_of} is now {write_figures(card_of, EVALUATION, entry)[:12]}.")
    words = {section.key: standing_of_section(section) for section in report.sections}
    for section in report.sections:
        console.say(f"{section.title}: {text_of_section(section)}. {section.verdict}")
    details = {
        "standings": words,
        "left_out": [{"path": item.path, "group": item.group, "reason": item.reason} for item in report.left_out],
        "seconds": round(time.monotonic() - began, 2),
    }
    console.emit(Finished(tuple(map(str, written)), details))


def _check_free(out: Path) -> None:
    """Refuse a folder that could not be written, before minutes of measuring."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        kind = "is not an empty folder" if out.is_dir() else "is a file"
        raise OutputError(f"{out} exists already and {kind}.", remedy="Name a new folder, or empty this one first.")


def _check_packages() -> None:
    """Refuse before minutes of measuring what would fail in the end."""
    for name in ("monai", "matplotlib", "PIL", "jinja2"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _typed() -> str:
    """The command as typed, with the program's name instead of its place on this machine."""
    return shlex.join(["ctdiffusion", *sys.argv[1:]]) if sys.argv[1:2] == ["evaluate"] else ""


def _emit_figures(console: Console, report: Any) -> None:
    """One metric event a figure, for programs; people find them in the report."""
    from CTDiffusionLogic.fidelity.report.standing import standing_of

    for section in report.sections:
        for figure in section.figures:
            values = {
                "synthetic": figure.synthetic.value,
                "floor": figure.floor and figure.floor.value,
                "unit": figure.unit,
                "standing": standing_of(figure),
            }
            console.emit(Metric(figure.key, {key: value for key, value in values.items() if value not in (None, "")}))


class _Reporter:
    """Turns what the evaluation tells into events; a sentence is told once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: set[str] = set()

    def __call__(self, name: str, facts: dict[str, Any]) -> None:
        """Pass on one report of :func:`CTDiffusionLogic.fidelity.evaluate.evaluate`."""
        if name == "progress":
            self._console.emit(Progress(facts["done"], facts["of"], facts["eta_s"], facts["phase"]))
        elif name == "left out":
            self.warn(f"Left out {facts['path']} ({facts['group']}): {facts['reason'].rstrip('.')}.")
        elif name == "warning":
            self.warn(facts["message"])
        else:
            self._console.emit(Metric(name, facts))

    def warn(self, sentence: str) -> None:
        """Emit a warning, unless it was told before."""
        if sentence not in self._told:
            self._told.add(sentence)
            self._console.emit(Warned(sentence))
