"""The larger matrix that a fine model makes of a model's images: whether it can be had, and by what; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from .GenerateModels import readHeader
from .GenerateRequest import GenerateRequest

if TYPE_CHECKING:
    from CTDiffusionLogic.bundle import ModelHeader

#: What a fine model makes, where there is none to ask.
USUAL_MATRIX = 512


@dataclass(frozen=True)
class FineChoice:
    """The larger matrix that can be chosen for a model.

    :param matrix: rows and columns.
    :param header: of the fine model that makes it; None if it cannot be chosen.
    :param problem: why it cannot, for people; empty if it can.
    """

    matrix: int = USUAL_MATRIX
    header: ModelHeader | None = None
    problem: str = ""


def fineChoice(card: Mapping[str, Any]) -> FineChoice:
    """Return what the bundled fine model makes of a model's images.

    :param card: of the model.
    :raises KeyError, TypeError, ValueError: if the card is not one of a model that can be used.
    """
    from CTDiffusionLogic.errors import ModelFileError
    from CTDiffusionLogic.models import find_fine_model

    own = int(card["plan"]["image_size"])
    try:
        header = readHeader(find_fine_model())
        coarse, size = header.fine_sizes()
    except ModelFileError as error:  # its remedy is one for the command line
        return FineChoice(problem=error.message)
    if coarse != own:
        problem = _(
            "The fine model {name} makes {size} x {size} pixels of {coarse} x {coarse}; those of the chosen model "
            "are {own} x {own}."
        )
        return FineChoice(size, problem=problem.format(name=header.name, size=size, coarse=coarse, own=own))
    return FineChoice(size, header)


def fineCard(card: Mapping[str, Any], request: GenerateRequest) -> Mapping[str, Any] | None:
    """Return the card of the fine model that the worker will take for a request; None where it takes none.

    :param card: of the model.
    :raises KeyError, TypeError, ValueError: if the card is not one of a model that can be used.
    :raises CTDiffusionLogic.errors.ModelFileError: if there is no such fine model.
    """
    from CTDiffusionLogic.models import find_fine_model

    if request.fineModel is None and request.matrix in (None, int(card["plan"]["image_size"])):
        return None
    return readHeader(find_fine_model(Path(request.fineModel) if request.fineModel is not None else None)).card
