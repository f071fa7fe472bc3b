"""The options of ``ctdiffusion generate`` for a larger matrix than the model's own: --matrix, --fine, --fine-steps."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from CTDiffusionLogic.bundle import ModelHeader, load_model, read_header
from CTDiffusionLogic.cli.arguments import whole_number
from CTDiffusionLogic.errors import ModelFileError, UsageError
from CTDiffusionLogic.models import find_fine_model

if TYPE_CHECKING:
    import torch

    from CTDiffusionLogic.fine import FineModel

_TOGETHER = "See ctdiffusion generate --help."


def add_matrix_arguments(parser: argparse.ArgumentParser, *, max_steps: int) -> None:
    """Add --matrix, --fine and --fine-steps."""
    add = parser.add_argument
    add(
        "--matrix",
        type=whole_number(16, 4096),
        metavar="PIXELS",
        help="rows and columns: the model's own (default), or those of the fine model, 512 for the bundled one",
    )
    add("--fine", metavar="MODEL", help="a fine model that makes a larger matrix of the model's; default: the bundled")
    add("--fine-steps", type=whole_number(1, max_steps), metavar="N", help="of the fine stage (default: the model's)")


def find_fine(args: argparse.Namespace, model: ModelHeader) -> ModelHeader | None:
    """Find the fine model that the options ask for; None where the model's own matrix is wanted.

    Reads no weights: what does not go together is refused before anything is computed.

    Args:
        args: Of the command.
        model: That makes the volume.

    Raises:
        UsageError: If options do not go together.
        ModelFileError: If the fine model cannot be used or is missing.
    """
    plan = model.card.get("plan")
    own = plan.get("image_size") if isinstance(plan, Mapping) else None
    if args.fine is None and args.matrix in (None, own):
        if args.fine_steps is not None:
            raise UsageError("--fine-steps goes with --matrix or --fine only.", remedy=_TOGETHER)
        return None
    for option, given in (
        ("--extend", args.extend),
        ("--fill", args.fill),
        ("--thin", args.thin),
        ("--independent-slices", args.independent_slices),
    ):
        if given:
            raise UsageError(
                f"{'--fine' if args.fine else '--matrix'} does not go with {option}.",
                remedy="A completed scan has its own matrix." if option != "--independent-slices" else _TOGETHER,
            )
    header = read_header(find_fine_model(args.fine))
    coarse, size = header.fine_sizes()
    if args.matrix not in (None, size):
        raise UsageError(
            f"--matrix {args.matrix} cannot be made: the model {model.name} makes {own} x {own} pixels, the fine "
            f"model {header.name} {size} x {size}.",
            remedy="Ask for one of these.",
        )
    if coarse != own:
        raise ModelFileError(
            f"The fine model {header.name} refines images of {coarse} x {coarse} pixels; the model {model.name} makes "
            f"{own} x {own}.",
            remedy="Use a fine model for such images.",
        )
    return header


def load_fine(header: ModelHeader | None, device: torch.device) -> FineModel | None:
    """Load what :func:`find_fine` found.

    Raises:
        ModelFileError: If the file is broken.
    """
    if header is None:
        return None
    from CTDiffusionLogic.fine import FineModel

    return FineModel.from_file(load_model(header.path), device)
