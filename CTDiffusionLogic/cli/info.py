"""Show what a model's card says, or the geometry, HU range and oddities of a scan."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CTDiffusionLogic.bundle import describe, read_header
from CTDiffusionLogic.cli.console import Console
from CTDiffusionLogic.cli.events import Finished, Started, Warned
from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.models import bundled_fine_model, bundled_models, find_model

if TYPE_CHECKING:
    from CTDiffusionLogic.volume import CTVolume

SUMMARY = "show a model's card or a scan's geometry"

#: Endings of files that hold weights, ours or not.
_MODEL_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".onnx")
#: Spacings outside these limits (mm) are rare enough to be a mistake in the header.
_USUAL_PIXEL_MM = (0.2, 3.0)
_USUAL_SLICE_MM = (0.2, 15.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL|SCAN."""
    names = ", ".join(bundled_models() | bundled_fine_model()) or "none"
    parser.add_argument(
        "path",
        metavar="MODEL|SCAN",
        help=f"a model file, a bundled model ({names}), an image file, or a folder with one DICOM series",
    )


def run(args: argparse.Namespace, console: Console) -> None:
    """Print the card or the facts.

    Raises:
        ModelFileError: If a model file is broken or of another kind.
        InputError: If a scan cannot be used.
    """
    from CTDiffusionLogic import __version__

    console.emit(Started(args.command, __version__))
    path = Path(args.path)
    is_bundled = args.path in bundled_models() | bundled_fine_model()
    if not path.exists() and path.suffix not in _MODEL_SUFFIXES and not is_bundled:
        raise InputError(f"{path} does not exist.", remedy="Check the path.")
    if path.suffix.lower() in _MODEL_SUFFIXES or not path.exists() or _looks_like_safetensors(path):
        header = read_header(find_model(args.path))
        console.say(describe(header))
        details: dict[str, Any] = {"kind": "model", "sha256": header.sha256, "card": header.card}
    else:
        details = _show_scan(path, console)
    console.emit(Finished(details=details))


def _show_scan(path: Path, console: Console) -> dict[str, Any]:
    from CTDiffusionLogic.volume_io import read_volume

    volume = read_volume(path, require_hu=False)
    facts = scan_facts(volume)
    console.say(f"CT scan {path}")
    for key, value in facts.items():
        shown = " x ".join(f"{v:.6g}" for v in value) if isinstance(value, list) else value
        console.say(f"  {key.replace('_', ' ')}: {shown}")
    for key, value in sorted(volume.metadata.items()):
        if key != "notes":
            console.say(f"  {key.replace('_', ' ')}: {value}")
    for remark in scan_remarks(volume):
        console.emit(Warned(remark))
    matrix = volume.geometry.ijk_to_lps
    return {"kind": "scan", **facts, "ijk_to_lps": matrix, "metadata": dict(volume.metadata)}


def scan_facts(volume: CTVolume) -> dict[str, Any]:
    """Size, spacing, extent, position and HU of ``volume``, as plain data."""
    import numpy as np

    slices, rows, columns = volume.shape
    size = [columns, rows, slices]
    return {
        "size": size,
        "spacing_mm": list(volume.spacing),
        "extent_mm": [n * mm for n, mm in zip(size, volume.spacing, strict=True)],
        "origin_lps_mm": list(volume.geometry.origin),
        "orientation": _orientation(volume),
        "hu_range": f"{volume.hu.min()} to {volume.hu.max()}",
        "hu_percentiles_5_50_95": " / ".join(f"{p:.0f}" for p in np.percentile(volume.hu, (5, 50, 95))),
    }


def scan_remarks(volume: CTVolume) -> list[str]:
    """Plain sentences about what is unusual in ``volume``; empty if nothing is."""
    from CTDiffusionLogic.image_files import check_hu

    remarks = [f"While reading: {volume.metadata['notes']}."] if volume.metadata.get("notes") else []
    try:
        check_hu(volume.hu, "The volume")
    except InputError as error:
        remarks.append(error.message)
    i_mm, j_mm, k_mm = volume.spacing
    if not all(_USUAL_PIXEL_MM[0] <= mm <= _USUAL_PIXEL_MM[1] for mm in (i_mm, j_mm)):
        remarks.append(f"The pixels measure {i_mm:.4g} x {j_mm:.4g} mm, which is unusual for CT.")
    if abs(i_mm - j_mm) > 0.01 * i_mm:
        remarks.append(f"The pixels are not square: {i_mm:.4g} x {j_mm:.4g} mm.")
    if not _USUAL_SLICE_MM[0] <= k_mm <= _USUAL_SLICE_MM[1]:
        remarks.append(f"The slices lie {k_mm:.4g} mm apart, which is unusual for CT.")
    if volume.shape[0] < 3:
        remarks.append(f"There are only {volume.shape[0]} slices; training needs more.")
    return remarks


def _orientation(volume: CTVolume) -> str:
    """Letters of the directions i, j and k run towards, such as LPS; "oblique" if an axis is tilted."""
    import numpy as np

    direction = volume.geometry.direction
    main = np.abs(direction).argmax(axis=0)
    names = ("RL", "AP", "IS")  # towards negative and positive LPS coordinates
    letters = "".join(names[axis][int(direction[axis, n] > 0)] for n, axis in enumerate(main))
    return letters if np.abs(direction[main, range(3)]).min() > 0.999 else f"{letters}, oblique"


def _looks_like_safetensors(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(9)[8:9] == b"{"
