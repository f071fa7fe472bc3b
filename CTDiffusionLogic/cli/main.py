"""The ``ctdiffusion`` command: reads arguments, runs one subcommand, reports one ending.

Only the standard library is imported before a subcommand begins to work, so that help and wrong
arguments answer at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import NoReturn

import CTDiffusionLogic
from CTDiffusionLogic.cli import (
    doctor,
    evaluate,
    export,
    export_dicom,
    fidelity_curve,
    fingerprint,
    generate,
    info,
    pack,
    reader_results,
    train,
    train_features,
)
from CTDiffusionLogic.cli.arguments import add_common_arguments
from CTDiffusionLogic.cli.console import open_console
from CTDiffusionLogic.cli.failures import failure_of
from CTDiffusionLogic.errors import Cancelled, UsageError
from CTDiffusionLogic.processes import speaks

#: Subcommands in the order of the help. Each module has SUMMARY, add_arguments(parser) and run(args, console).
COMMANDS = {
    "train": train,
    "pack": pack,
    "train-features": train_features,
    "generate": generate,
    "evaluate": evaluate,
    "reader-results": reader_results,
    "fidelity-curve": fidelity_curve,
    "export": export,
    "export-dicom": export_dicom,
    "info": info,
    "fingerprint": fingerprint,
    "doctor": doctor,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (by default the process's own).

    Returns:
        0 done, 1 failed, 2 wrong use, 130 cancelled.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with open_console(json=_wants_json(words), silent=not speaks()) as console:
        try:
            args = _parser().parse_args(words)
            COMMANDS[args.command].run(args, console)
        except SystemExit as stop:  # argparse after --help and --version
            return int(stop.code or 0)
        except BaseException as error:
            failure = failure_of(error)
            try:
                console.emit(failure)
            except Cancelled:  # nobody reads any more
                return Cancelled.exit_code
            return failure.exit_code
    return 0


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments like every other failure, instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        text = message[:1].upper() + message[1:].rstrip(".")
        raise UsageError(f"{text}.", remedy=f"See: {self.prog} --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ctdiffusion",
        description=CTDiffusionLogic.__doc__.partition(":")[2].strip().partition("\n")[0],
        epilog="Exit codes: 0 done, 1 failed, 2 wrong use, 130 cancelled. Synthetic CT is for research only.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ctdiffusion {CTDiffusionLogic.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, module in COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=(module.__doc__ or "").strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(subparser)
        add_common_arguments(subparser)
    return parser


def _wants_json(words: Sequence[str]) -> bool:
    """Whether events are asked for; looked up by hand, because wrong arguments must be reported as events too."""
    return "--events=json" in words or ("--events", "json") in pairwise(words)


if __name__ == "__main__":
    sys.exit(main())
