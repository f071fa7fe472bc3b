"""Where results go: names, and what can be checked before hours of computing rather than after."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from CTDiffusionLogic.atomic import check_space
from CTDiffusionLogic.errors import OutputError

#: Bytes of a file's header and the file system's share, generously.
_OVERHEAD = 8192


@dataclass(frozen=True)
class Output:
    """One volume to be written: an image file, or a folder of DICOM files."""

    path: Path
    is_folder: bool

    @property
    def target(self) -> str:
        """The path as :func:`CTDiffusionLogic.volume_io.write_volume` wants it: folders end with a slash."""
        return f"{self.path}/" if self.is_folder else str(self.path)


def plan_outputs(out: str, count: int) -> list[Output]:
    """Return the output of each of ``count`` volumes.

    One volume is written to ``out`` itself. Of several, number 1 to ``count`` is put before the suffix
    (``a.nrrd`` gives ``a-1.nrrd``, a DICOM folder ``a`` gives ``a-1``), with leading zeros from 10 on.

    Raises:
        UsageError: If the suffix is not one that can be written.
    """
    from CTDiffusionLogic.image_files import image_suffix
    from CTDiffusionLogic.volume_io import output_kind

    is_folder = output_kind(out) == "dicom"
    if is_folder:
        from CTDiffusionLogic import dicom_write  # noqa: F401  # where it is missing, that shows before the work
    path = Path(out)
    if count == 1:
        return [Output(path, is_folder)]
    ending = "" if is_folder else path.name[len(path.name) - len(image_suffix(path)) :]
    stem = path.name.removesuffix(ending)
    width = len(str(count))
    numbers = range(1, count + 1)
    return [Output(path.with_name(f"{stem}-{number:0{width}d}{ending}"), is_folder) for number in numbers]


def check_outputs(outputs: Sequence[Output], *, shape: tuple[int, int, int], overwrite: bool) -> None:
    """Refuse outputs that could not be written: existing ones, forbidden places, too little space.

    Args:
        outputs: From :func:`plan_outputs`.
        shape: Slices, rows and columns of each volume, two bytes a voxel.
        overwrite: Whether existing files may be replaced. Folders with something in them never are.

    Raises:
        OutputError: Naming the path and what is in the way.
    """
    needed: dict[Path, int] = {}
    for output in outputs:
        _check_free_name(output, overwrite=overwrite)
        place = _existing_parent(output.path)
        files = shape[0] if output.is_folder else 1
        needed[place] = needed.get(place, 0) + 2 * shape[0] * shape[1] * shape[2] + files * _OVERHEAD
    for place, size in needed.items():
        check_space(place, size)


def _check_free_name(output: Output, *, overwrite: bool) -> None:
    path = output.path
    if path.is_dir():
        if not output.is_folder:
            raise OutputError(f"{path} is a folder.", remedy="Give a file name that is free.")
        if any(path.iterdir()):
            raise OutputError(f"The folder {path} is not empty.", remedy="Name a new or an empty folder.")
    elif path.exists() and output.is_folder:
        raise OutputError(f"{path} exists already and is a file.", remedy="Choose another name for the folder.")
    elif path.exists() and not overwrite:
        raise OutputError(f"{path} exists already.", remedy="Choose another name, or add --overwrite.")


def _existing_parent(path: Path) -> Path:
    """The nearest folder above ``path`` that exists, once it is sure that one may write there."""
    place = path.absolute().parent
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise OutputError(f"Cannot write {path}: {place} is not a folder.", remedy="Choose another place.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"Cannot write {path}: no permission to write in {place}.", remedy="Choose another place.")
    return place
