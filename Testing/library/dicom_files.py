"""Makes DICOM CT files for tests with pydicom alone, independently of the code under test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def scan_hu(slices: int, rows: int = 12, columns: int = 10, *, seed: int = 0) -> np.ndarray:
    """HU from air to bone, different in every slice."""
    return np.random.default_rng(seed).integers(-1024, 1500, (slices, rows, columns)).astype(np.int16)


def write_series(
    folder: Path,
    hu: np.ndarray,
    *,
    spacing: tuple[float, float, float] = (0.7, 0.8, 2.5),
    origin: Sequence[float] = (-100.0, -90.0, -50.0),
    orientation: Sequence[float] = AXIAL,
    change: Callable[[int, Dataset], None] | None = None,
    names: Callable[[int], str] = lambda k: f"{k:03d}.dcm",
    series_uid: str | None = None,
    intercept: int = -1024,
) -> list[Path]:
    """Write ``hu`` (slices, rows, columns) as a CT series.

    ``change(k, dataset)`` may spoil slice k before it is written, or drop it by raising StopIteration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    study, frame = generate_uid(), generate_uid()
    series_uid = series_uid or generate_uid()
    paths = []
    for k, plane in enumerate(hu):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        image.Modality, image.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.PatientID, image.PatientName = "Doe-4711", "Doe^Jane"
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series_uid, frame
        image.SeriesDescription, image.InstanceNumber = "test chest", len(hu) - k
        image.ImageOrientationPatient = [round(float(v), 10) for v in orientation]
        position = np.array(origin) + k * spacing[2] * normal
        image.ImagePositionPatient = [round(float(v), 8) for v in position]
        image.PixelSpacing = [spacing[1], spacing[0]]
        image.SliceThickness = spacing[2]
        image.Rows, image.Columns = plane.shape
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 1
        image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, intercept, "HU"
        image.PixelData = (plane.astype(np.int32) - intercept).astype("<i2").tobytes()
        image["PixelData"].VR = "OW"
        try:
            if change is not None:
                change(k, image)
        except StopIteration:
            continue
        paths.append(folder / names(k))
        image.save_as(paths[-1], enforce_file_format=True)
    return paths
