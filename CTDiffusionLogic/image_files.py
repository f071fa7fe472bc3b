"""NRRD, NIfTI and MetaImage files, through SimpleITK."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.file_integrity import VoxelData, data_problem, locate_voxels
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.quiet import quiet_itk, quiet_stderr
from CTDiffusionLogic.volume import CTVolume, to_hu_int16

#: Suffixes of the image files that are read.
READABLE_SUFFIXES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
#: Suffixes of the image files that are written (each one file, header and voxels together).
WRITABLE_SUFFIXES = (".nrrd", ".nii", ".nii.gz", ".mha")

#: Prefix of our own facts in NRRD and MetaImage headers; Slicer shows them as node attributes.
HEADER_PREFIX = "CTDiffusion."
#: A scan in HU has air or lung somewhere: voxels below this value.
AIRLIKE_HU = -200


def image_suffix(path: Path) -> str:
    """The image suffix of ``path`` in lower case (".nii.gz" as one), or "" if it is not an image file's."""
    name = path.name.lower()
    return next((s for s in sorted(READABLE_SUFFIXES, key=len, reverse=True) if name.endswith(s)), "")


def image_stem(path: Path) -> str:
    """The file name without its image suffix."""
    return path.name[: len(path.name) - len(image_suffix(path))] or path.name


def read_image_header(path: Path) -> tuple[int, int, int]:
    """Slices, rows and columns of an image file, without reading its voxels.

    Raises:
        InputError: If the file cannot be opened, or is not a three-dimensional image of single numbers.
    """
    return _open(path)[2]


def read_image_facts(path: Path) -> tuple[tuple[int, int, int], Geometry, dict[str, str]]:
    """Shape (slices, rows, columns), grid and own metadata of an image file, without reading its voxels.

    Raises:
        InputError: As :func:`read_image_header` says, and if the grid cannot be used.
    """
    reader, _, shape = _open(path)
    direction = np.reshape(reader.GetDirection(), (reader.GetDimension(),) * 2)[:3, :3]
    try:
        geometry = Geometry(reader.GetSpacing()[:3], reader.GetOrigin()[:3], direction)
    except ValueError as error:
        raise InputError(f"{path} has no usable geometry: {error}.", remedy="Export the scan again.") from None
    return shape, geometry, _own_metadata(reader)


def read_image_file(path: Path, *, require_hu: bool = True) -> CTVolume:
    """Read one NRRD, NIfTI or MetaImage file as a CT.

    Args:
        path: The file; its suffix says the format.
        require_hu: Refuse values that cannot be a CT in HU (see :func:`check_hu`).

    Raises:
        InputError: If the file is missing, damaged, truncated, of more or fewer than three
            dimensions, of several values a voxel, holds NaNs, or is not a CT in HU.
    """
    reader, data, _ = _open(path)
    try:
        problem = data_problem(data)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", remedy="Copy the file again.") from None
    if problem:
        raise InputError(f"{path} is truncated or damaged: {problem}.", remedy="Copy or export the file again.")
    try:
        with _quietly(path):
            image = reader.Execute()
    except RuntimeError as error:
        raise InputError(
            f"{path} cannot be read: {_itk_reason(error)}.", remedy="Copy or export the file again."
        ) from None
    image = _as_three_dimensional(image)
    values = sitk.GetArrayViewFromImage(image)
    metadata = _own_metadata(image)
    try:
        hu = to_hu_int16(values, source=str(path))
    except ValueError as error:
        raise InputError(f"{error}.", remedy="Export the scan again with air in their place.") from None
    try:
        geometry = Geometry(image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (3, 3)))
    except ValueError as error:
        raise InputError(f"{path} has no usable geometry: {error}.", remedy="Export the scan again.") from None
    if require_hu and metadata.get("synthetic") != "yes":  # ours are in HU by construction
        check_hu(hu, str(path))
    return CTVolume(hu, geometry, {**metadata, "source": path.name})


def check_hu(hu: NDArray[np.int16], source: str) -> None:
    """Refuse voxels that cannot be a CT scan in Hounsfield units.

    MR, PET, label maps, images scaled to [0, 1] or 8 bits and CT stored with an offset of 1024 have
    one thing in common: nothing lies where air does. Every CT with some air or lung in it passes.

    Raises:
        InputError: If no voxel lies below -200; the message has ``source`` and the range seen.
    """
    low, high = int(hu.min()), int(hu.max())
    if low >= AIRLIKE_HU:
        raise InputError(
            f"{source} does not look like a CT in Hounsfield units: its values run from {low} to {high}, "
            f"and none is below {AIRLIKE_HU}, where air and lung lie.",
            remedy="Give a CT (not MR, PET or labels) with unscaled HU; if 1024 was added to its values, subtract it.",
        )


def write_image_file(volume: CTVolume, path: Path) -> None:
    """Write ``volume`` to ``path`` in the format of its suffix; same volume, same bytes.

    Not atomic: see :func:`CTDiffusionLogic.volume_io.write_volume`, which is.

    Raises:
        RuntimeError: If ITK fails or the file is not whole afterwards.
    """
    image = sitk.GetImageFromArray(volume.hu)
    image.SetSpacing(volume.geometry.spacing)
    image.SetOrigin(volume.geometry.origin)
    image.SetDirection(volume.geometry.direction.ravel().tolist())
    suffix = image_suffix(path)
    if suffix in (".nii", ".nii.gz"):  # the header has room for one short note only
        if volume.metadata.get("synthetic") == "yes":
            image.SetMetaData("ITK_FileNotes", _nifti_note(volume.metadata))
    else:
        for key, value in volume.portable_metadata.items():
            image.SetMetaData(HEADER_PREFIX + _header_key(key), _header_value(value))
    with quiet_stderr():  # niftilib and MetaIO would tell of a full disk
        sitk.WriteImage(image, str(path), useCompression=suffix != ".nii")
    if problem := data_problem(locate_voxels(path)):
        raise RuntimeError(problem)


def _open(path: Path) -> tuple[sitk.ImageFileReader, VoxelData, tuple[int, int, int]]:
    suffix = image_suffix(path)
    if not suffix:
        raise InputError(
            f"{path} is not an image file this program reads.",
            remedy=f"Give a DICOM folder or a file that ends with {', '.join(READABLE_SUFFIXES)}.",
        )
    if not path.is_file():
        raise InputError(f"{path} does not exist.", remedy="Check the path.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read (permission denied).", remedy="Allow reading it, or copy it.")
    try:
        data = locate_voxels(path)  # before ITK, which would tell stderr about a broken header
    except (ValueError, OSError) as error:
        raise InputError(
            f"{path} is not a readable {suffix} file: {error}.", remedy="Copy or export the file again."
        ) from None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        # By suffix, not by content: else a text file named .nrrd is tried by every ITK reader there is.
        reader.SetImageIO(
            {".nr": "NrrdImageIO", ".nh": "NrrdImageIO", ".ni": "NiftiImageIO"}.get(suffix[:3], "MetaImageIO")
        )
        with _quietly(path):
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(
            f"{path} is not a readable {suffix} file: {_itk_reason(error)}.", remedy="Copy or export the file again."
        ) from None
    if reader.GetNumberOfComponents() != 1:
        raise InputError(
            f"{path} has {reader.GetNumberOfComponents()} values per voxel (colour or vectors), not one HU value.",
            remedy="Give the CT itself, not a picture of it.",
        )
    size = reader.GetSize()
    if len(size) < 3 or any(n > 1 for n in size[3:]):
        shown = " x ".join(str(n) for n in size)
        raise InputError(
            f"{path} is not a three-dimensional volume: its size is {shown}.", remedy="Give one 3D CT scan."
        )
    return reader, data, (size[2], size[1], size[0])


def _quietly(path: Path) -> AbstractContextManager[None]:
    """MetaIO prints on every odd header; NIfTI and NRRD are quiet once their header was checked, but for warnings."""
    return quiet_stderr() if image_suffix(path) in (".mha", ".mhd") else quiet_itk()


def _as_three_dimensional(image: sitk.Image) -> sitk.Image:
    while image.GetDimension() > 3:  # trailing axes of length one, checked on opening
        image = image[tuple([slice(None)] * (image.GetDimension() - 1) + [0])]
    return image


def _own_metadata(image: sitk.Image | sitk.ImageFileReader) -> dict[str, str]:
    keys = [k for k in image.GetMetaDataKeys() if k.startswith(HEADER_PREFIX)]
    metadata = {k.removeprefix(HEADER_PREFIX): _from_header_value(image.GetMetaData(k)) for k in keys}
    if image.HasMetaDataKey("descrip") and image.GetMetaData("descrip").startswith("SYNTHETIC CT"):
        metadata["synthetic"] = "yes"
        if "PARTLY REAL" in image.GetMetaData("descrip"):  # which slices, a NIfTI header has no room to say
            metadata["partly_real"] = "yes"
    return metadata


def _nifti_note(metadata: Mapping[str, str]) -> str:
    """At most 79 characters: what a NIfTI header can say about a synthetic volume."""
    parts = ["PARTLY REAL"] if metadata.get("real_slices") or metadata.get("partly_real") == "yes" else []
    parts += [f"{key} {metadata[key]}" for key in ("model", "seed") if metadata.get(key)]
    return ", ".join(["SYNTHETIC CT by CTDiffusion", *parts]).encode("ascii", "replace").decode()[:79]


def _header_key(key: str) -> str:
    """``key`` without what NRRD and MetaImage headers use as separators."""
    return "".join(c if c.isalnum() or c in "_.-" else "_" for c in key)


def _header_value(value: str) -> str:
    """Plain words as they are; what would break a header line, or be changed by a reader, in quotes and %-escapes."""
    plain = value.isascii() and value.isprintable() and value == value.strip() and value and "\\" not in value
    return value if plain and not value.startswith('"') else f'"{quote(value, safe=" :;,=/()")}"'


def _from_header_value(text: str) -> str:
    quoted = len(text) >= 2 and text.startswith('"') and text.endswith('"')
    return unquote(text[1:-1]) if quoted else text


def _itk_reason(error: RuntimeError) -> str:
    """The last sentence of an ITK exception, without source files and object addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else "unknown reason"
    if "orthonormal" in reason:
        return "its axes are not at right angles (was the gantry tilted?)"
    for mark in ("ITK ERROR:", "): "):
        reason = reason.rpartition(mark)[2] if mark in reason else reason
    reason = reason.removeprefix("Reason:").strip().rstrip(".")
    return "its header or its data are damaged" if reason in ("", "Success") else reason
