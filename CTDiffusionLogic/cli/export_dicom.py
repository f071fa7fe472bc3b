"""Write a synthetic volume as a DICOM series that is marked as synthetic.

VOLUME must say that it is synthetic, as everything does that `ctdiffusion generate` made (NRRD and MHA in
their header, NIfTI in its note, DICOM in SyntheticData). A volume that lost its note in another program
can be exported with --declare-synthetic. A DICOM series that is not marked synthetic is always refused,
because a real scan must never go into an archive under a false name.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from CTDiffusionLogic.cli.console import Console
from CTDiffusionLogic.cli.events import Finished, Started
from CTDiffusionLogic.cli.outputs import Output, check_outputs
from CTDiffusionLogic.errors import InputError

SUMMARY = "write a synthetic volume as DICOM, marked as synthetic"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add VOLUME, --out, --description and --declare-synthetic."""
    parser.add_argument("volume", metavar="VOLUME", type=Path, help="a synthetic CT: .nrrd, .nii.gz, .mha")
    parser.add_argument("--out", required=True, metavar="DIR", type=Path, help="a new or empty folder")
    parser.add_argument(
        "--declare-synthetic",
        action="store_true",
        help="you vouch that VOLUME is synthetic although it does not say so",
    )


def run(args: argparse.Namespace, console: Console) -> None:
    """Read, check, write.

    Raises:
        InputError: If the volume cannot be read or may not be exported as synthetic.
        OutputError: If the folder cannot be written.
    """
    from CTDiffusionLogic import __version__
    from CTDiffusionLogic.image_files import image_suffix
    from CTDiffusionLogic.volume_io import read_volume, write_volume

    began = time.monotonic()
    console.emit(Started(args.command, __version__))
    volume = read_volume(args.volume, require_hu=False)
    if volume.metadata.get("synthetic") != "yes":
        if not image_suffix(args.volume):
            raise InputError(
                f"{args.volume} is DICOM that is not marked as synthetic; a real scan is never exported as one.",
                remedy="Give a volume that `ctdiffusion generate` made.",
            )
        if not args.declare_synthetic:
            raise InputError(
                f"{args.volume} does not say that it is synthetic; a real scan must not be exported as one.",
                remedy="If you know that it is synthetic, add --declare-synthetic.",
            )
        facts = {**volume.metadata, "synthetic": "yes", "synthetic_because": "declared by the user at export"}
        volume = dataclasses.replace(volume, metadata=facts)
    output = Output(args.out, is_folder=True)
    check_outputs([output], shape=volume.shape, overwrite=False)
    write_volume(volume, output.target)
    seconds = round(time.monotonic() - began, 2)
    console.emit(Finished((str(args.out),), {"slices": volume.shape[0], "seconds": seconds}))
