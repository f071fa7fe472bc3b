"""Reading and writing CT volumes: the one door for every format."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from CTDiffusionLogic.atomic import atomic_file
from CTDiffusionLogic.errors import InputError, UsageError
from CTDiffusionLogic.image_files import (
    READABLE_SUFFIXES,
    WRITABLE_SUFFIXES,
    image_suffix,
    read_image_file,
    write_image_file,
)
from CTDiffusionLogic.volume import CTVolume

if TYPE_CHECKING:  # pydicom is imported where DICOM is read or written: most volumes come and go without it
    from CTDiffusionLogic.dicom_series import DicomSeries

__all__ = ["READABLE_SUFFIXES", "WRITABLE_SUFFIXES", "output_kind", "read_volume", "write_volume"]


def read_volume(path: str | Path, *, require_hu: bool = True) -> CTVolume:
    """Read a CT scan.

    Args:
        path: An image file (.nrrd, .nhdr, .nii, .nii.gz, .mha, .mhd), or a folder that holds exactly
            one usable DICOM CT series, or one DICOM file whose series lies beside it.
        require_hu: Refuse image files whose values cannot be HU; see
            :func:`CTDiffusionLogic.image_files.check_hu`.

    Returns:
        The volume with int16 HU in [-1024, 3071]; padding below is air, float values are rounded.
        Axes are as in the file; :func:`CTDiffusionLogic.volume.to_standard_axes` turns them.

    Raises:
        InputError: If it cannot be used; the message names the file and what is wrong with it.
    """
    path = Path(path)
    if path.is_dir():
        from CTDiffusionLogic.dicom_read import read_dicom_folder

        return read_dicom_folder(path)
    if path.is_file() and not image_suffix(path):
        from CTDiffusionLogic.dicom_read import read_dicom_file

        return read_dicom_file(path)
    if not path.exists():
        raise InputError(f"{path} does not exist.", remedy="Check the path.")
    return read_image_file(path, require_hu=require_hu)


def output_kind(path: str | Path) -> str:
    """What :func:`write_volume` makes of ``path``: one of the writable suffixes, or "dicom".

    No suffix, a trailing slash, or an existing folder mean a folder of DICOM files.

    Raises:
        UsageError: If the suffix is none that can be written.
    """
    suffix = image_suffix(Path(path))
    if Path(path).is_dir() or str(path).endswith(("/", "\\")) or not Path(path).suffix:
        return "dicom"
    if suffix in WRITABLE_SUFFIXES:
        return suffix
    raise UsageError(
        f"{path} ends with {Path(path).suffix!r}, which cannot be written.",
        remedy=f"Use {', '.join(WRITABLE_SUFFIXES)}, or a folder for DICOM.",
    )


def write_volume(
    volume: CTVolume,
    path: str | Path,
    *,
    reference: DicomSeries | None = None,
    same_space: bool = False,
    created: datetime | None = None,
) -> None:
    """Write ``volume`` in the format of the suffix, whole or not at all; same volume, same bytes.

    Args:
        volume: What to write. NRRD and MHA keep its metadata, NIfTI only that it is synthetic.
        path: A file that ends with .nrrd, .nii, .nii.gz or .mha (an existing one is replaced), or a
            folder, new or empty, for synthetic DICOM.
        reference: DICOM only; see :func:`CTDiffusionLogic.dicom_write.write_synthetic_dicom`.
        same_space: DICOM only, as ``reference``.
        created: DICOM only, as ``reference``.

    Raises:
        UsageError: If the suffix is none of these.
        OutputError: If it cannot be written (disk full, no permission); nothing is left behind.
    """
    kind = output_kind(path)
    if kind == "dicom":
        from CTDiffusionLogic.dicom_write import write_synthetic_dicom

        write_synthetic_dicom(volume, Path(path), reference=reference, same_space=same_space, created=created)
        return
    with atomic_file(Path(path)) as temporary:
        write_image_file(volume, temporary)
