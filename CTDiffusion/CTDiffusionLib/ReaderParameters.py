"""What the user chose for reader studies, kept in the scene."""

from __future__ import annotations

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from .Display import DEFAULT_PRESET, PRESETS
from .GenerateRequest import MAX_SEED

#: Those of CTDiffusionLogic.fidelity.reader_study, which is on the path only once the module has been set up.
MODES = ("pairs", "one by one")
SHOWN = ("slices", "volumes")


@parameterNodeWrapper
class ReaderParameters:
    """Choices of a reader study. All sections share one parameter node, so the names differ from the others'.

    readerVolumes - Volumes of the scene that take part, real and synthetic ones.
    readerRealFolder - Folder with real scans that take part, or "".
    readerSyntheticFolder - Folder with synthetic volumes that take part, or "".
    readerMode - A pair at a time, or one image.
    readerShown - Slices, or whole volumes.
    readerItems - Number of questions.
    readerSeed - Of everything random.
    readerSameGrid - Whether all images are brought to the same pixel size and field.
    readerPreset - CT display preset.
    readerCode - Who reads; not a name.
    readerFile - CSV file of the results.
    """

    readerVolumes: list[vtkMRMLScalarVolumeNode]
    readerRealFolder: str = ""
    readerSyntheticFolder: str = ""
    readerMode: Annotated[str, Choice(list(MODES))] = "pairs"
    readerShown: Annotated[str, Choice(list(SHOWN))] = "slices"
    readerItems: Annotated[int, WithinRange(2, 1000)] = 40
    readerSeed: Annotated[int, WithinRange(0, MAX_SEED)] = 0
    readerSameGrid: bool = True
    readerPreset: Annotated[str, Choice(sorted(PRESETS))] = DEFAULT_PRESET
    readerCode: str = "R1"
    readerFile: str = ""
