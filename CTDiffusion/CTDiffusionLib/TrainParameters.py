"""What the user chose for trainings, kept in the scene."""

from __future__ import annotations

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from .GenerateRequest import MAX_SEED

#: Those of CTDiffusionLogic.training.options, which is on the path only once the module has been set up.
PRESETS = ("standard", "tiny", "large")
#: Multiples of the coarse stage's 64 pixels.
IMAGE_SIZES = (64, 128, 256, 512)


@parameterNodeWrapper
class TrainParameters:
    """Choices of a training. All sections share one parameter node, so the names differ from the others'.

    trainingVolumes - Volumes of the scene to learn from.
    trainingFolders - Folders to learn from.
    trainingSeries - Series of Slicer's DICOM database to learn from (SeriesInstanceUID).
    trainingAnyVolume - Whether synthetic volumes, and those that do not look like CT, may be chosen.
    trainingFolder - Folder of the training.
    trainingPreset - Size of the networks.
    trainingImageSize - Rows and columns of the images the model makes.
    trainingMinutes - Time budget; 0 for no limit.
    trainingEpochs - Epochs in all; 0 for no limit.
    trainingDevice - Name of a device, or "auto".
    trainingSeed - Of everything random.
    trainingNote - What the model's card says about the data's origin and licence.
    """

    trainingVolumes: list[vtkMRMLScalarVolumeNode]
    trainingFolders: list[str]
    trainingSeries: list[str]
    trainingAnyVolume: bool = False
    trainingFolder: str = ""
    trainingPreset: Annotated[str, Choice(list(PRESETS))] = "standard"
    trainingImageSize: Annotated[int, Choice(list(IMAGE_SIZES))] = 256
    trainingMinutes: Annotated[int, WithinRange(0, 100000)] = 120
    trainingEpochs: Annotated[int, WithinRange(0, 1000000)] = 0
    trainingDevice: str = "auto"
    trainingSeed: Annotated[int, WithinRange(0, MAX_SEED)] = 0
    trainingNote: str = ""
