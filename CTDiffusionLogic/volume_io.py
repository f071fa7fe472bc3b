"""Reading and writing CT volumes: the one door for every format."""

from __future__ import annotations

from pathlib import Path

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

__all__ = ["READABLE_SUFFIXES", "WRITABLE_SUFFIXES", "read_volume", "write_volume"]


def read_volume(path: str | Path, *, require_hu: bool = True) -> CTVolume:
    """Read a CT scan.

    Args:
        path: An image file (.nrrd, .nhdr, .nii, .nii.gz, .mha, .mhd).
        require_hu: Refuse values that cannot be HU; see :func:`CTDiffusionLogic.image_files.check_hu`.

    Returns:
        The volume with int16 HU in [-1024, 3071]; padding below is air, float values are rounded.

    Raises:
        InputError: If it cannot be used; the message names the file and what is wrong with it.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder.", remedy="Give a file.")
    return read_image_file(path, require_hu=require_hu)


def write_volume(volume: CTVolume, path: str | Path) -> None:
    """Write ``volume`` in the format of the suffix, whole or not at all; same volume, same bytes.

    Args:
        volume: What to write.
        path: A file that ends with .nrrd, .nii, .nii.gz or .mha; an existing one is replaced.

    Raises:
        UsageError: If the suffix is not one of these.
        OutputError: If it cannot be written (disk full, no permission); nothing is left behind.
    """
    path = Path(path)
    if image_suffix(path) not in WRITABLE_SUFFIXES:
        raise UsageError(f"{path} has a suffix that cannot be written.", remedy=f"Use {', '.join(WRITABLE_SUFFIXES)}.")
    with atomic_file(path) as temporary:
        write_image_file(volume, temporary)
