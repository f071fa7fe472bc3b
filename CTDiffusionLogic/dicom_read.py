"""Reading the voxels of a DICOM CT series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.uid import ImplicitVRLittleEndian

from CTDiffusionLogic.dicom_headers import DicomSlice, one_line
from CTDiffusionLogic.dicom_series import DicomSearch, DicomSeries, find_series
from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.image_files import AIRLIKE_HU, check_hu, image_suffix
from CTDiffusionLogic.quiet import quiet_stderr, quiet_warnings
from CTDiffusionLogic.volume import AIR_HU, CTVolume, to_hu_int16


def read_dicom_folder(folder: Path) -> CTVolume:
    """Read the one CT series in ``folder`` (searched recursively); localizers and other series are left out.

    Raises:
        InputError: If there is no usable CT series, or more than one; the message says which there are.
    """
    return read_series(find_the_series(folder))


def read_dicom_file(path: Path) -> CTVolume:
    """Read the series that ``path`` belongs to, from its folder (not from folders below).

    Raises:
        InputError: If ``path`` is not a usable DICOM image.
    """
    return read_series(find_the_series(path))


def find_the_series(path: Path) -> DicomSeries:
    """The one CT series in a folder, or the one that a file belongs to.

    Raises:
        InputError: As :func:`read_dicom_folder` and :func:`read_dicom_file`.
    """
    if path.is_dir():
        return the_one_series(find_series(path), path)
    own = find_series([path])
    if not own.series:
        reason = own.rejected[0][1] if own.rejected else "is neither an image file nor DICOM"
        raise InputError(
            f"{path} cannot be used: it {reason}.", remedy="Give a CT: DICOM, NIfTI (.nii.gz), NRRD or MHA."
        )
    beside = find_series(sorted(p for p in path.parent.iterdir() if p.is_file()))
    return next((s for s in beside.series if any(i.path == path for i in s.slices)), own.series[0])


def the_one_series(search: DicomSearch, folder: Path) -> DicomSeries:
    """The usable CT series of a search.

    Raises:
        InputError: If there are none or several.
    """
    usable = search.usable
    if len(usable) == 1:
        return usable[0]
    if usable:
        shown = "; ".join(f"{s} in {s.folder}" for s in usable[:5])
        raise InputError(
            f"{folder} holds {len(usable)} CT series: {shown}.",
            remedy="Give the folder of one series, or move the files of one into a folder of its own.",
        )
    if search.series:
        worst = max(search.series, key=lambda s: (s.modality == "CT", len(s.slices)))
        raise InputError(f"{folder} cannot be used: the {worst} {worst.problem}.", remedy=worst.remedy)
    reasons = "; ".join(f"{path.name} {reason}" for path, reason in search.rejected[:3])
    images = sorted(p.name for p in folder.iterdir() if image_suffix(p))
    if images:
        raise InputError(
            f"{folder} holds no DICOM CT series but image files.", remedy=f"Give the file itself: {images[0]}."
        )
    raise InputError(
        f"No CT scans found in {folder}{': ' + reasons if reasons else ', there are no DICOM files'}.",
        remedy="Give a folder that holds a DICOM CT series.",
    )


def read_series(series: DicomSeries) -> CTVolume:
    """Read the voxels of ``series`` in HU, with rescale slope and intercept of each slice.

    Raises:
        InputError: If the series has a problem, or a file is truncated, has no pixel data or is
            compressed in a way no decoder here knows.
    """
    if series.problem:
        raise InputError(f"{series.folder} cannot be used: the {series} {series.problem}.", remedy=series.remedy)
    hu = np.empty(series.shape, np.int16)
    open_file: tuple[Path | None, Any, NDArray | None] = (None, None, None)
    for k, image in enumerate(series.slices):
        if image.path != open_file[0]:  # frames of one file follow one another
            open_file = (image.path, *_decode(image))
        _, dataset, frames = open_file
        if frames is None or frames.shape[1:] != series.shape[1:] or image.frame >= len(frames):
            raise InputError(f"{image.path} holds other images than its header says.", remedy="Copy the file again.")
        hu[k] = _to_hu(frames[image.frame], image, dataset)
    if not all(s.has_rescale for s in series.slices):  # then only the values can tell whether they are HU
        check_hu(hu, str(series.folder))
    metadata = {**series.facts, "modality": "CT", "patient": series.patient, "source": series.folder.name}
    if series.notes:
        metadata["notes"] = "; ".join(series.notes)
    return CTVolume(hu, series.geometry, metadata)


def _decode(image: DicomSlice) -> tuple[Any, NDArray]:
    """The data set and its stored values, shape (frames, rows, columns)."""
    path = image.path
    try:
        with quiet_warnings():
            dataset = pydicom.dcmread(path, force=True)
            if "PixelData" not in dataset or not dataset.PixelData:
                raise InputError(f"{path} has no pixel data.", remedy="Copy or export the series again.")
            if "TransferSyntaxUID" not in dataset.file_meta:  # no file header: DICOM's default
                dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
            try:
                pixels = dataset.pixel_array
            except (RuntimeError, NotImplementedError, ImportError):
                if not compressed:
                    raise
                pixels = _decode_with_itk(image)
    except InputError:
        raise
    except Exception as error:  # pydicom raises a dozen kinds on damaged files
        raise InputError(
            f"{path} is truncated or damaged: {one_line(error)}.", remedy="Copy or export the series again."
        ) from None
    return dataset, pixels.reshape(-1, *pixels.shape[-2:])


def _decode_with_itk(image: DicomSlice) -> NDArray:
    """Stored values of a compressed file through GDCM, which brings its own JPEG decoders.

    ITK applies the rescaling itself, so it is undone here: one place applies it, in :func:`_to_hu`.
    """
    try:
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(image.path))
        with quiet_stderr():
            values = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError:
        syntax = pydicom.dcmread(image.path, stop_before_pixels=True).file_meta.TransferSyntaxUID
        raise InputError(
            f"{image.path} is compressed as {syntax.name}, which cannot be decoded here.",
            remedy="Install pylibjpeg with its plugins, or convert the series (gdcmconv --raw).",
        ) from None
    return np.rint((values - image.intercept) / image.slope).astype(np.int32)


def _to_hu(stored: NDArray, image: DicomSlice, dataset: Any) -> NDArray[np.int16]:
    """Rescale one slice; pixels the scanner did not reconstruct become air."""
    values = stored.astype(np.float64 if not float(image.slope).is_integer() else np.int64)
    slope, intercept = (
        v if not float(v).is_integer() else int(v) for v in (float(image.slope), float(image.intercept))
    )
    hu = to_hu_int16(values * slope + intercept, source=str(image.path))
    padding = dataset.get("PixelPaddingValue")
    if padding is None:
        return hu
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(padding), int(padding if limit is None else limit)))
    padded = (stored >= low) & (stored <= high)
    # Some exporters name a value that tissue has too (0 in signed data): believe it where it fills the corners.
    if high * slope + intercept < AIRLIKE_HU or padded[:: stored.shape[0] - 1 or 1, :: stored.shape[1] - 1 or 1].all():
        hu[padded] = AIR_HU
    return hu
