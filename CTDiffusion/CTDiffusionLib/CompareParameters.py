"""What the user chose in the module, kept in the scene."""

from __future__ import annotations

from typing import Annotated

from slicer import vtkMRMLMarkupsLineNode, vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from . import VolumeRendering
from .Display import DEFAULT_PRESET, PRESETS

#: Shortest and longest time in s. More than three flashes a second can cause seizures (WCAG 2.3.1); two swaps are one.
FLICKER_SECONDS = (0.4, 5)


@parameterNodeWrapper
class CompareParameters:
    """Choices of the comparison.

    volumeFile - A volume that ``ctdiffusion generate`` wrote; "" for none (a Path would be "." then).
    realVolume - The real scan to compare with.
    syntheticVolume - The synthetic volume that is shown.
    preset - CT display preset of both volumes.
    overlayOpacity - How strongly the synthetic volume covers the real one, 0 to 1.
    flickerSeconds - How long each volume is seen when they are swapped by themselves.
    renderingPreset - Volume rendering preset of both volumes.
    squareMm - Edge of the checkerboard's squares.
    differenceHU - Difference of the strongest colours.
    profileLine - Where HU are read for the line profile; none: through the centre.
    """

    volumeFile: str
    realVolume: vtkMRMLScalarVolumeNode
    syntheticVolume: vtkMRMLScalarVolumeNode
    preset: Annotated[str, Choice(sorted(PRESETS))] = DEFAULT_PRESET
    overlayOpacity: Annotated[float, WithinRange(0, 1)] = 0.5
    flickerSeconds: Annotated[float, WithinRange(*FLICKER_SECONDS)] = 0.8
    renderingPreset: Annotated[str, Choice(sorted(VolumeRendering.PRESETS))] = VolumeRendering.DEFAULT_PRESET
    squareMm: Annotated[int, WithinRange(5, 200)] = 40
    differenceHU: Annotated[int, WithinRange(10, 2000)] = 200
    profileLine: vtkMRMLMarkupsLineNode
