"""What the user chose for generations, kept in the scene."""

from __future__ import annotations

import enum
from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from .GenerateRequest import MAX_SEED


class Quality(enum.Enum):
    """Factor on the model's own steps. Scenes keep the names, so these stay; people read the labels."""

    draft = 0.5
    standard = 1.0
    fine = 2.0  # not the fine model, which makes a larger matrix

    def label(self) -> str:
        """What Slicer writes into the list of choices."""
        labels = {
            Quality.draft: _("draft (faster)"),
            Quality.standard: _("standard"),
            Quality.fine: _("thorough (slower)"),
        }
        return labels[self]


@parameterNodeWrapper
class GenerateParameters:
    """Choices of a generation.

    model - Name of a bundled model or path of a model file; empty for the first in the list.
    likeVolume - A volume whose grid the result gets.
    slices - Number of slices.
    spacingMm - Their distance.
    seed - Of the first volume.
    randomSeed - Whether every generation takes a new seed.
    count - How many volumes.
    quality - How many steps, beside the model's own number.
    steps - Of the anatomy stage; 0 for what the quality says.
    detailSteps - Of the detail stage; 0 for what the quality says.
    matrix - Rows and columns; 0 for the model's own. One that cannot be had counts as the model's own.
    device - Name of a device, or "auto".
    keepPartial - Whether a volume that is not complete stays when a generation is stopped.
    """

    model: str = ""
    likeVolume: vtkMRMLScalarVolumeNode
    slices: Annotated[int, WithinRange(1, 1000)] = 64
    spacingMm: Annotated[float, WithinRange(0.25, 50)] = 3.0
    seed: Annotated[int, WithinRange(0, MAX_SEED)] = 0
    randomSeed: bool = True
    count: Annotated[int, WithinRange(1, 100)] = 1
    quality: Quality = Quality.standard
    steps: Annotated[int, WithinRange(0, 10000)] = 0
    detailSteps: Annotated[int, WithinRange(0, 10000)] = 0
    matrix: Annotated[int, WithinRange(0, 4096)] = 0
    device: str = "auto"
    keepPartial: bool = True
