"""Say what is installed, which devices compute, and what to do where something is missing."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from CTDiffusionLogic import doctor
from CTDiffusionLogic.cli.console import Console
from CTDiffusionLogic.cli.events import Finished, Metric, Started
from CTDiffusionLogic.errors import ResourceError

SUMMARY = "examine this machine and installation"

_MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the doctor's options."""
    parser.add_argument("--generate", action="store_true", help="also generate one tiny slice")


def run(args: argparse.Namespace, console: Console) -> None:
    """Print all checks.

    Raises:
        ResourceError: If CTDiffusion cannot work on this machine as it is.
    """
    from CTDiffusionLogic import __version__

    console.emit(Started(args.command, __version__))
    checks = []
    for check in doctor.examine(generate=args.generate):
        checks.append(check)
        if args.events == "json":
            console.emit(Metric("check", asdict(check)))
        console.say(f"{_MARKS[check.status]}  {check.name}: {check.text}")
        if check.remedy:
            console.say(f"         -> {check.remedy}")
    problems = [check for check in checks if check.status == "problem"]
    if problems:
        names = ", ".join(dict.fromkeys(check.name for check in problems))
        remedy = problems[0].remedy if len(problems) == 1 else "See the remedy beside each problem above."
        raise ResourceError(f"CTDiffusion cannot work here: {names}.", remedy=remedy)
    console.emit(Finished(details={"checks": [asdict(check) for check in checks]}))
    console.say("CTDiffusion can work here.")
