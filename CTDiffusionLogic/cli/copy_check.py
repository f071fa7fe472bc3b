"""The check of ``ctdiffusion generate`` for copies of training scans: --check-copies, and what it tells."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from CTDiffusionLogic.bundle import FINGERPRINTS, ModelFile, ModelHeader
from CTDiffusionLogic.cli.console import Console
from CTDiffusionLogic.cli.events import Warned
from CTDiffusionLogic.errors import ModelFileError

if TYPE_CHECKING:
    from CTDiffusionLogic.volume import CTVolume


def add_copy_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --check-copies and --no-check-copies; on where the model can be checked, for it takes part of a second."""
    parser.add_argument(
        "--check-copies",
        action=argparse.BooleanOptionalAction,
        help="warn if a volume resembles a training scan more than people resemble each other "
        "(default: if the model has fingerprints of its training scans)",
    )


def require_fingerprints(args: argparse.Namespace, header: ModelHeader) -> None:
    """Refuse --check-copies for a model without fingerprints, before anything is computed.

    Raises:
        ModelFileError: If the check was asked for and the model has none.
    """
    if args.check_copies and not isinstance(header.card.get(FINGERPRINTS), Mapping):
        raise _none_there(header)


class CopyCheck:
    """Checks volumes against a model's fingerprints, warns, and notes what it found.

    Attributes:
        findings: Of each volume: {"volume": 1, "copy": False, "ratio": 0.81}; empty if nothing was checked.
    """

    def __init__(self, args: argparse.Namespace, model: ModelFile, console: Console) -> None:
        self.findings: list[dict[str, Any]] = []
        self._console = console
        self._fingerprints = None
        if args.check_copies is not False and FINGERPRINTS in model.card:
            from CTDiffusionLogic.fidelity.fingerprints import read_fingerprints

            self._fingerprints = read_fingerprints(model)
        if args.check_copies and self._fingerprints is None:
            raise _none_there(model)

    def __call__(self, volume: CTVolume, number: int, volumes: int) -> CTVolume:
        """The volume with the finding among its metadata; a warning is told before it is written anywhere.

        Args:
            volume: As generated.
            number, volumes: Which it is, from 1, of how many.
        """
        if self._fingerprints is None:
            return volume
        from CTDiffusionLogic.fidelity.fingerprints import CopyFinding, check_volume

        try:
            finding = check_volume(volume, self._fingerprints)
        except ImportError as error:  # scipy, which comes this late: the check is lost, the volume must not be
            finding = CopyFinding(False, None, f"Not checked for copies of training scans: {error}.")
        if finding.copy or finding.closest is None:
            self._console.emit(Warned(f"Volume {number}: {finding.sentence}" if volumes > 1 else finding.sentence))
        ratio = None if finding.closest is None else round(finding.closest.ratio, 4)
        self.findings.append({"volume": number, "copy": finding.copy, "ratio": ratio})
        return dataclasses.replace(volume, metadata={**volume.metadata, **finding.metadata()})


def _none_there(header: ModelHeader) -> ModelFileError:
    return ModelFileError(
        f"{header.path} has no fingerprints of its training scans to check against.",
        remedy="Add them with `ctdiffusion fingerprint`, or leave out --check-copies.",
    )
