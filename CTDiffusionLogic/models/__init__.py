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
SUFFIX = ".safetensors"


def bundled_models() -> dict[str, Path]:
    """Name and path of each bundled model, in alphabetical order; the name is the file's without its suffix."""
    folder = Path(str(resources.files(__name__)))
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def find_model(name_or_path: str | Path | None = None) -> Path:
    """Return the path of a model.

    Args:
        name_or_path: A path to a model file, or the name of a bundled one; None for the default.
            A file that exists goes before a bundled model of the same name.

    Raises:
        ModelFileError: If there is neither; the message lists the bundled names.
    """
    name = str(name_or_path) if name_or_path is not None else DEFAULT_MODEL
    bundled = bundled_models()
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
