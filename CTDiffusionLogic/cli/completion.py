"""The options of ``ctdiffusion generate`` that complete a real scan: --extend, --fill and --thin."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from CTDiffusionLogic.errors import UsageError
from CTDiffusionLogic.slice_ranges import parse_slices

if TYPE_CHECKING:
    from CTDiffusionLogic.completion import Completion
    from CTDiffusionLogic.dicom_series import DicomSeries


def add_completion_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --extend with --towards, --fill with --missing, and --thin."""
    add = parser.add_argument_group("complete a real scan; the result lies on its grid, its own slices unaltered")
    choice = add.add_mutually_exclusive_group()
    choice.add_argument("--extend", type=Path, metavar="SCAN", help="continue it by --slices N at its own spacing")
    choice.add_argument("--fill", type=Path, metavar="SCAN", help="make the slices --missing anew")
    choice.add_argument("--thin", type=Path, metavar="SCAN", help="put slices between, down to --spacing-mm")
    add.add_argument("--towards", choices=("head", "feet"), help="with --extend: where to (default: head)")
    add.add_argument(
        "--missing",
        type=_slices,
        metavar="FIRST-LAST",
        help="with --fill: slices, from 1 as the scan is stored; several ranges: 12-15,20",
    )


def check_completion_arguments(args: argparse.Namespace) -> None:
    """Refuse options that do not go together, before anything is read.

    Raises:
        UsageError: Naming them.
    """
    how = next((name for name in ("extend", "fill", "thin") if getattr(args, name)), None)
    wrong = {
        "--like": how and args.like,
        "--independent-slices": how and args.independent_slices,
        "--towards": how != "extend" and args.towards,
        "--missing": how != "fill" and args.missing,
        "--slices": how in ("fill", "thin") and args.slices,
        "--spacing-mm": how in ("extend", "fill") and args.spacing_mm,
    }
    for option, given in wrong.items():
        if given:
            without = f"does not go with --{how}" if how else f"goes with --{_partner(option)} only"
            raise UsageError(f"{option} {without}.", remedy="See ctdiffusion generate --help.")
    needed = {"extend": ("--slices", args.slices), "fill": ("--missing", args.missing)}
    option, value = needed.get(how or "", ("--spacing-mm", args.spacing_mm if how == "thin" else True))
    if not value:
        raise UsageError(f"--{how} needs {option}.", remedy="See ctdiffusion generate --help.")


def read_completion(args: argparse.Namespace) -> tuple[Completion | None, DicomSeries | None]:
    """Read the scan that is to be completed, if any, and say how; and the DICOM series it is, if it is one.

    Raises:
        CTDiffusionError: If the scan cannot be used or lacks nothing.
    """
    path = args.extend or args.fill or args.thin
    if path is None:
        return None, None
    from CTDiffusionLogic.completion import extension, filling, thinning
    from CTDiffusionLogic.dicom_read import find_the_series, read_series
    from CTDiffusionLogic.image_files import image_suffix
    from CTDiffusionLogic.volume_io import read_volume

    is_dicom = path.is_dir() or (path.is_file() and not image_suffix(path))
    series = find_the_series(path) if is_dicom else None
    scan = read_series(series) if series else read_volume(path)
    if args.extend:
        return extension(scan, args.slices, towards=args.towards or "head"), series
    if args.fill:
        return filling(scan, [number - 1 for number in args.missing]), series
    return thinning(scan, args.spacing_mm), series


def _partner(option: str) -> str:
    return {"--towards": "extend", "--missing": "fill"}[option]


def _slices(text: str) -> list[int]:
    try:
        return parse_slices(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
