"""The headers of DICOM images: one :class:`SliceHeader` per file, or per frame of a multi-frame file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from CTDiffusionLogic.quiet import quiet_warnings

#: Suffixes that promise DICOM; other names are looked into.
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
#: Image planes whose axis vectors differ by less than this are parallel.
ORIENTATION_TOLERANCE = 1e-3

#: Where :mod:`CTDiffusionLogic.dicom_write` puts the metadata of a synthetic volume, as JSON.
PRIVATE_CREATOR, PRIVATE_GROUP = "CTDIFFUSION", 0x0077

_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "ImageType", "Modality", "SeriesInstanceUID", "StudyInstanceUID"),
    *("FrameOfReferenceUID", "PatientID", "SeriesDescription", "Manufacturer", "ConvolutionKernel", "KVP"),
    *("BodyPartExamined", "SliceThickness", "SpacingBetweenSlices", "SyntheticData", "Rows", "Columns"),
    *("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "NumberOfFrames", "SamplesPerPixel"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "PixelRepresentation"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *((PRIVATE_GROUP << 16) + 0x0010, (PRIVATE_GROUP << 16) + 0x1001),
]


@dataclass(frozen=True, slots=True)
class DicomSlice:
    """One image: a file, or one frame of a multi-frame file. Positions in LPS mm, sizes in mm."""

    path: Path
    frame: int
    sop_uid: str
    position: tuple[float, float, float]
    slope: float = 1.0
    intercept: float = 0.0
    has_rescale: bool = True


class NotAnImage(Exception):
    """This file is no image slice; the text says why, or is empty where that goes without saying."""


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What grouping needs to know of one slice, and the header it was taken from."""

    slice: DicomSlice
    series_uid: str
    orientation: tuple[float, ...]
    matrix: tuple[int, int]
    pixel_spacing: tuple[float, float]
    image_type: tuple[str, ...]
    dataset: Any = field(compare=False, repr=False)

    def fits(self, other: SliceHeader) -> bool:
        """Whether both can be slices of one volume."""
        return (
            self.matrix == other.matrix
            and ("LOCALIZER" in self.image_type) == ("LOCALIZER" in other.image_type)
            and np.allclose(self.orientation, other.orientation, rtol=0, atol=ORIENTATION_TOLERANCE)
            and np.allclose(self.pixel_spacing, other.pixel_spacing, rtol=1e-3, atol=0)
        )


def is_dicom(path: Path) -> bool:
    """Whether the file has the DICOM mark behind its preamble. Unreadable files are not DICOM."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def one_line(error: Exception) -> str:
    """The message of a library's exception, fit to stand within a sentence."""
    return " ".join(str(error).split())[:200].rstrip(" .")


def read_headers(path: Path) -> list[SliceHeader]:
    """Headers of all images in one file.

    Raises:
        NotAnImage: If there are none.
    """
    named_dicom = path.suffix.lower() in DICOM_SUFFIXES
    if not is_dicom(path) and not named_dicom:
        raise NotAnImage("")
    try:
        with quiet_warnings():
            # Files without the DICOM mark exist (old exports): force, then look whether it made sense.
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=named_dicom)
            if "SOPClassUID" not in dataset and "Modality" not in dataset:
                raise NotAnImage("" if "DirectoryRecordSequence" in dataset else "is not a DICOM file")
            return _headers_of(path, dataset)
    except InvalidDicomError:
        raise NotAnImage("is not a DICOM file") from None
    except OSError as error:
        raise NotAnImage(f"cannot be read: {error.strerror or error}") from None
    except NotAnImage:
        raise
    except Exception as error:  # pydicom raises a dozen kinds on damaged files
        raise NotAnImage(f"has a damaged DICOM header: {one_line(error)}") from None


def _headers_of(path: Path, dataset: Any) -> list[SliceHeader]:
    modality = str(dataset.get("Modality", ""))
    if dataset.get("SOPClassUID") == "1.2.840.10008.1.3.10":  # DICOMDIR
        raise NotAnImage("")
    if "Rows" not in dataset:
        raise NotAnImage(f"is not an image but {modality or 'of unknown modality'}")
    if dataset.get("SamplesPerPixel", 1) != 1:
        raise NotAnImage("is a colour picture, not a slice")
    if "PerFrameFunctionalGroupsSequence" in dataset:
        frames = [FrameFields(dataset, index) for index in range(len(dataset.PerFrameFunctionalGroupsSequence))]
    elif int(dataset.get("NumberOfFrames", None) or 1) > 1:
        raise NotAnImage("holds several frames without their positions")
    else:
        frames = [FrameFields(dataset, 0)]
    headers = []
    for index, frame in enumerate(frames):
        position, orientation = frame.numbers("ImagePositionPatient", 3), frame.numbers("ImageOrientationPatient", 6)
        spacing = frame.numbers("PixelSpacing", 2)
        if not position or not orientation:
            raise NotAnImage(f"is a {modality or 'picture'} image without a position in the patient")
        if not spacing or min(spacing) <= 0:
            raise NotAnImage("has no pixel size")
        slope, intercept = frame.number("RescaleSlope"), frame.number("RescaleIntercept")
        image = DicomSlice(
            path=path,
            frame=index,
            sop_uid=str(dataset.get("SOPInstanceUID", "")),
            position=(position[0], position[1], position[2]),
            slope=slope or 1.0,
            intercept=intercept or 0.0,
            has_rescale=bool(slope) and intercept is not None,
        )
        headers.append(
            SliceHeader(
                slice=image,
                series_uid=str(dataset.get("SeriesInstanceUID", "")),
                orientation=orientation,
                matrix=(int(dataset.Rows), int(dataset.Columns)),
                pixel_spacing=(spacing[1], spacing[0]),  # DICOM: distance of rows first
                image_type=tuple(str(v) for v in frame.get("FrameType") or dataset.get("ImageType") or ()),
                dataset=dataset,
            )
        )
    return headers


def own_metadata(dataset: Any) -> dict[str, str]:
    """The metadata of a synthetic volume that this program wrote; empty for other files."""
    try:
        text = dataset.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)[0x01].value
        return {str(key): str(value) for key, value in json.loads(text).items()}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


class FrameFields:
    """Header fields of one frame: its own functional groups, then the shared ones, then the file's."""

    def __init__(self, dataset: Any, index: int) -> None:
        own = dataset.get("PerFrameFunctionalGroupsSequence") or []
        shared = dataset.get("SharedFunctionalGroupsSequence") or []
        groups = [*own[index : index + 1], *shared]
        self._places = [item for group in groups for e in group if e.VR == "SQ" for item in e.value] + [dataset]

    def get(self, name: str) -> Any:
        """The first value that is neither empty nor unreadable, or None."""
        for place in self._places:
            try:
                value = place.get(name)
            except Exception:  # damaged: pydicom converts a value when it is asked for it
                continue
            if value not in (None, ""):
                return value
        return None

    def text(self, name: str) -> str:
        """A field as text, "" if it is absent."""
        value = self.get(name)
        return "" if value is None else str(value)

    def number(self, name: str) -> float | None:
        """A field that holds one finite number, or None."""
        try:
            number = float(self.get(name))
        except (TypeError, ValueError):
            return None
        return number if math.isfinite(number) else None

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """A field of ``count`` finite numbers, or () if it is absent or something else."""
        value = self.get(name)
        try:
            numbers = tuple(float(v) for v in value)
        except (TypeError, ValueError):
            return ()
        return numbers if len(numbers) == count and all(math.isfinite(v) for v in numbers) else ()
