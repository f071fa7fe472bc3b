"""What the user chose for exports, kept in the scene."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper

from .ExportRequest import DEFAULT_FORMAT, FORMATS


@parameterNodeWrapper
class ExportParameters:
    """Choices of an export.

    exportFormat - A key of FORMATS.
    exportFolder - Where files go.
    exportPatientName - DICOM: name of the patient that does not exist.
    exportPatientIDPrefix - DICOM: begin of the patient's ID.
    exportStudyDescription - DICOM: description of the study.
    """

    exportFormat: Annotated[str, Choice(list(FORMATS))] = DEFAULT_FORMAT
    exportFolder: Path
    exportPatientName: str = "SYNTHETIC^CTDiffusion"
    exportPatientIDPrefix: str = "SYNTHETIC"
    exportStudyDescription: str = "SYNTHETIC CT"
