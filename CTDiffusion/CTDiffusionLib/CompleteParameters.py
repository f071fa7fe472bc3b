"""What the user chose for the completion of a scan, kept in the scene."""

from __future__ import annotations

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from .CompleteRequest import EXTEND, HOWS, MAX_SLICES, SIDES

#: Slices of the longest scan whose slices can be named.
MOST_SLICES = 100_000


@parameterNodeWrapper
class CompleteParameters:
    """Choices of a completion. All sections share one parameter node, so the names differ from the others'.

    completionVolume - The scan.
    completionHow - One of HOWS.
    completionSlices - How many slices are added.
    completionTowards - On which side.
    completionFirst - First slice that is made anew, from 0.
    completionLast - Last one.
    completionBetween - How many slices are put between two.
    """

    completionVolume: vtkMRMLScalarVolumeNode
    completionHow: Annotated[str, Choice(list(HOWS))] = EXTEND
    completionSlices: Annotated[int, WithinRange(1, MAX_SLICES)] = 20
    completionTowards: Annotated[str, Choice(list(SIDES))] = SIDES[0]
    completionFirst: Annotated[int, WithinRange(0, MOST_SLICES)] = 0
    completionLast: Annotated[int, WithinRange(0, MOST_SLICES)] = 0
    completionBetween: Annotated[int, WithinRange(1, 39)] = 1
