"""What the user chose in the module, kept in the scene."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from .Display import DEFAULT_PRESET, PRESETS


@parameterNodeWrapper
class CompareParameters:
    """Choices of the comparison.

    volumeFile - A volume that ``ctdiffusion generate`` wrote.
    realVolume - The real scan to compare with.
    syntheticVolume - The synthetic volume that is shown.
    preset - CT display preset of both volumes.
    overlayOpacity - How strongly the synthetic volume covers the real one, 0 to 1.
    """

    volumeFile: Path
    realVolume: vtkMRMLScalarVolumeNode
    syntheticVolume: vtkMRMLScalarVolumeNode
    preset: Annotated[str, Choice(sorted(PRESETS))] = DEFAULT_PRESET
    overlayOpacity: Annotated[float, WithinRange(0, 1)] = 0.5
