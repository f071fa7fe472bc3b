"""The models that come with CTDiffusion, found by name; and any model file, found by its path.

The files are package data, beside this one: in a source tree, in an installed wheel, and in Slicer's
``qt-scripted-modules/CTDiffusionLogic/models``. Standard library only.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from CTDiffusionLogic.errors import ModelFileError

#: Used where no model is named.
DEFAULT_MODEL = "torso"
#: The bundled fine model, which makes finer images of volumes and no volumes by itself.
FINE_MODEL = "fine"
SUFFIX = ".safetensors"


def bundled_models() -> dict[str, Path]:
    """Name and path of each bundled model, in alphabetical order; the name is the file's without its suffix.

    Those that make volumes: the fine model is not among them.
    """
    return {name: path for name, path in _files().items() if name != FINE_MODEL}


def bundled_fine_model() -> dict[str, Path]:
    """Name and path of the bundled fine model; empty if there is none."""
    return {name: path for name, path in _files().items() if name == FINE_MODEL}


def find_model(name_or_path: str | Path | None = None) -> Path:
    """Return the path of a model.

    Args:
        name_or_path: A path to a model file, or the name of a bundled one; None for the default.
            A file that exists goes before a bundled model of the same name.

    Raises:
        ModelFileError: If there is neither; the message lists the bundled names.
    """
    name = str(name_or_path) if name_or_path is not None else DEFAULT_MODEL
    bundled = bundled_models() | bundled_fine_model()
    if name_or_path is not None and Path(name).is_file():
        return Path(name)
    if name in bundled:
        return bundled[name]
    names = ", ".join(bundled) or "none"
    if name_or_path is None:
        raise ModelFileError(
            f"The bundled model {DEFAULT_MODEL!r} is missing from this installation.",
            remedy="Name a model file with --model, or install CTDiffusion again.",
        )
    raise ModelFileError(
        f"There is no model file {name} and no bundled model of that name.",
        remedy=f"Name a .safetensors file or a bundled model ({names}).",
    )


def find_fine_model(name_or_path: str | Path | None = None) -> Path:
    """Return the path of a fine model; None for the bundled one.

    Raises:
        ModelFileError: If there is none.
    """
    if name_or_path is None and not bundled_fine_model():
        raise ModelFileError(
            "No fine model comes with this installation.",
            remedy="Name one with --fine, or train one with ctdiffusion train --preset fine.",
        )
    return find_model(FINE_MODEL if name_or_path is None else name_or_path)


def _files() -> dict[str, Path]:
    folder = Path(str(resources.files(__name__)))
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}
