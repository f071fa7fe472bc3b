"""Write a synthetic volume in another format, with what it says about its origin.

The format follows --out: .nrrd, .nii.gz, .nii or .mha; a name without suffix, or one that ends with a slash,
becomes a folder of DICOM files that are marked as synthetic.

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
from typing import TYPE_CHECKING

from CTDiffusionLogic.cli.arguments import add_cancel_argument
from CTDiffusionLogic.cli.cancel import CancelSwitch
from CTDiffusionLogic.cli.console import Console
from CTDiffusionLogic.cli.events import Finished, Progress, Started
from CTDiffusionLogic.cli.outputs import Output, check_outputs, plan_outputs
from CTDiffusionLogic.errors import InputError

if TYPE_CHECKING:
    from CTDiffusionLogic.volume import CTVolume

SUMMARY = "write a synthetic volume as DICOM, NRRD, NIfTI or MetaImage"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add VOLUME, --out and the options of an export."""
    add_volume_argument(parser)
    parser.add_argument("--out", required=True, metavar="FILE_OR_DIR", help="the suffix decides the format")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists; never a folder")
    add_export_options(parser)


def add_volume_argument(parser: argparse.ArgumentParser) -> None:
    """Add VOLUME."""
    parser.add_argument("volume", metavar="VOLUME", type=Path, help="a synthetic CT: .nrrd, .nii.gz, .mha, DICOM")


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``export`` and ``export-dicom`` share."""
    add = parser.add_argument
    add("--description", default="", metavar="TEXT", help="DICOM: of the series, after SYNTHETIC")
    add("--patient-name", metavar="NAME", help="DICOM: SYNTHETIC^ is put before it (default: SYNTHETIC^CTDiffusion)")
    add("--patient-id-prefix", metavar="TEXT", help="DICOM: before the volume's own part (default: SYNTHETIC)")
    add("--study-description", metavar="TEXT", help="DICOM: SYNTHETIC is put before it (default: SYNTHETIC CT)")
    add(
        "--declare-synthetic",
        action="store_true",
        help="you vouch that VOLUME is synthetic although it does not say so",
    )
    add_cancel_argument(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Read, check, write; see :func:`export_volume`."""
    export_volume(args, console, plan_outputs(args.out, 1)[0], overwrite=args.overwrite)


def export_volume(args: argparse.Namespace, console: Console, output: Output, *, overwrite: bool = False) -> None:
    """Read VOLUME, refuse what may not be exported as synthetic, write it.

    Args:
        args: What :func:`add_export_options` has added.
        console: Is told.
        output: Where to; a folder for DICOM.
        overwrite: Whether a file that exists may be replaced.

    Raises:
        Cancelled: If the user stopped it; nothing is left behind.
        InputError: If the volume cannot be read or may not be exported as synthetic.
        OutputError: If it cannot be written.
    """
    from CTDiffusionLogic import __version__
    from CTDiffusionLogic.dicom_identity import SyntheticIdentity
    from CTDiffusionLogic.dicom_write import write_synthetic_dicom
    from CTDiffusionLogic.volume_io import read_volume, write_volume

    began = time.monotonic()
    console.emit(Started(args.command, __version__))
    with CancelSwitch(args.cancel_file) as is_cancelled:
        volume = _as_synthetic(
            read_volume(args.volume, require_hu=False), args.volume, is_declared=args.declare_synthetic
        )
        check_outputs([output], shape=volume.shape, overwrite=overwrite)
        is_cancelled.check()

        def on_slice(done: int, of: int) -> None:
            is_cancelled.check()
            if done % 10 == 0 or done == of:
                left = (time.monotonic() - writing) * (of - done) / done
                console.emit(Progress(done, of, round(left, 1), "writing DICOM"))

        writing = time.monotonic()
        if output.is_folder:
            given = (args.patient_name, args.patient_id_prefix, args.study_description)
            names = (field.name for field in dataclasses.fields(SyntheticIdentity))
            chosen = {name: text for name, text in zip(names, given, strict=True) if text is not None}
            write_synthetic_dicom(
                volume,
                output.path,
                description=args.description,
                identity=SyntheticIdentity(**chosen),
                on_slice=on_slice,
            )
        else:
            write_volume(volume, output.target)
    seconds = round(time.monotonic() - began, 2)
    console.emit(Finished((str(output.path),), {"slices": volume.shape[0], "seconds": seconds}))


def _as_synthetic(volume: CTVolume, path: Path, *, is_declared: bool) -> CTVolume:
    """``volume``, if it is synthetic or is declared to be."""
    from CTDiffusionLogic.image_files import image_suffix

    if volume.metadata.get("synthetic") == "yes":
        return volume
    if not image_suffix(path):
        raise InputError(
            f"{path} is DICOM that is not marked as synthetic; a real scan is never exported as one.",
            remedy="Give a volume that `ctdiffusion generate` made.",
        )
    if not is_declared:
        raise InputError(
            f"{path} does not say that it is synthetic; a real scan must not be exported as one.",
            remedy="If you know that it is synthetic, add --declare-synthetic.",
        )
    facts = {**volume.metadata, "synthetic": "yes", "synthetic_because": "declared by the user at export"}
    return dataclasses.replace(volume, metadata=facts)
