"""What the user chose for measurements, kept in the scene."""

from __future__ import annotations

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from .EvaluateRequest import DEFAULT_EXTRACTOR, DEFAULT_IMAGES, EXTRACTORS, WITH_WEIGHTS
from .GenerateRequest import MAX_SEED


@parameterNodeWrapper
class EvaluateParameters:
    """Choices of a measurement. All sections share one parameter node, so the names differ from the others'.

    evaluationReal - Real volumes of the scene.
    evaluationSynthetic - Synthetic volumes of the scene.
    evaluationRealPaths - Files and folders with real scans.
    evaluationSyntheticPaths - Files and folders with synthetic volumes.
    evaluationFolder - Folder that gets a folder for each report.
    evaluationExtractor - What makes the features of the distances.
    evaluationWeights - File with its weights, or "".
    evaluationImages - Images cut from each volume in each plane.
    evaluationTraining - Folder with the scans that the model was trained on, or "".
    evaluationHeldOut - Folder with scans that the model never saw, or "".
    evaluationIndependent - Folder with volumes whose slices were made one by one, or "".
    evaluationDevice - Name of a device, or "auto".
    evaluationSeed - Of resampling.
    evaluationPhantoms - Whether phantoms may stand for real scans.
    evaluationReport - Folder of the report that is shown, or "".
    """

    evaluationReal: list[vtkMRMLScalarVolumeNode]
    evaluationSynthetic: list[vtkMRMLScalarVolumeNode]
    evaluationRealPaths: list[str]
    evaluationSyntheticPaths: list[str]
    evaluationFolder: str = ""
    evaluationExtractor: Annotated[str, Choice([*EXTRACTORS, *WITH_WEIGHTS])] = DEFAULT_EXTRACTOR
    evaluationWeights: str = ""
    evaluationImages: Annotated[int, WithinRange(1, 1000)] = DEFAULT_IMAGES
    evaluationTraining: str = ""
    evaluationHeldOut: str = ""
    evaluationIndependent: str = ""
    evaluationDevice: str = "auto"
    evaluationSeed: Annotated[int, WithinRange(0, MAX_SEED)] = 0
    evaluationPhantoms: bool = False
    evaluationReport: str = ""
