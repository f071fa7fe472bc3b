"""Say what reader studies found: right answers, d' and area under the curve of every reader, with intervals.

Each CSV was written by a study in the Slicer module; its key (.key.json) must lie beside it. Intervals are for 95 %:
exact ones of Clopper and Pearson for shares and d', that of DeLong for areas from ratings. Nothing is written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from CTDiffusionLogic.cli.console import Console
from CTDiffusionLogic.cli.events import Finished, Started, Warned

SUMMARY = "accuracy, d' and AUC of reader studies"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add CSV."""
    parser.add_argument("csv", metavar="CSV", type=Path, nargs="+", help="results of a reader study")


def run(args: argparse.Namespace, console: Console) -> None:
    """Print the figures.

    Raises:
        InputError: If a file is not the results of a study, or its key is missing.
    """
    from CTDiffusionLogic import __version__
    from CTDiffusionLogic.fidelity.reader_files import open_study
    from CTDiffusionLogic.fidelity.reader_statistics import interval_text, reader_figures, reader_section, summary

    console.emit(Started(args.command, __version__))
    found = []
    for path in args.csv:
        study = open_study(path, repair=False)
        section = reader_section(study.plan, study.answers)
        console.say(f"{path}: {study.plan.mode}, {study.plan.shown}, {len(study.plan.items)} questions")
        for one in reader_figures(study.plan, study.answers):
            console.say(f"  {summary(one)}")
            console.say(f"  d' {interval_text(one.d_prime)}, AUC {interval_text(one.auc)} ({one.auc_method})")
        for warning in section.warnings:
            console.emit(Warned(warning))
        found.append({"path": str(path), **section.to_dict()})
    console.emit(Finished(details={"studies": found}))
