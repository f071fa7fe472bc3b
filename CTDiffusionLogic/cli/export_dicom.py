"""Write a synthetic volume as a DICOM series that is marked as synthetic.

As `ctdiffusion export`, and always DICOM: VOLUME must say that it is synthetic; a volume that lost its note in
another program can be exported with --declare-synthetic; a DICOM series that is not marked synthetic is refused.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from CTDiffusionLogic.cli.console import Console
from CTDiffusionLogic.cli.export import add_export_options, add_volume_argument, export_volume
from CTDiffusionLogic.cli.outputs import Output

SUMMARY = "write a synthetic volume as DICOM, marked as synthetic"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add VOLUME, --out and the options of an export."""
    add_volume_argument(parser)
    parser.add_argument("--out", required=True, metavar="DIR", type=Path, help="a new or empty folder")
    add_export_options(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Read, check, write; see :func:`CTDiffusionLogic.cli.export.export_volume`."""
    export_volume(args, console, Output(args.out, is_folder=True))
