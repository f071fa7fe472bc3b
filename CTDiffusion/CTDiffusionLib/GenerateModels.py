"""The models that can be chosen, and what their cards say; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from .GenerateSettings import GenerateSettings

if TYPE_CHECKING:
    from CTDiffusionLogic.bundle import ModelHeader

#: What a training writes into its folder.
RUN_MODEL = "model.safetensors"
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class ModelChoice:
    """A model that can be chosen.

    :param key: name of a bundled model, or path of a file: what the worker is told.
    :param label: for people.
    :param path: the file.
    """

    key: str
    label: str
    path: Path


def modelChoices(settings: GenerateSettings) -> list[ModelChoice]:
    """Return the bundled models, then those the user has trained here or chosen from files."""
    from CTDiffusionLogic.models import bundled_models

    bundled = [
        ModelChoice(name, _("{name} (bundled)").format(name=name), path) for name, path in bundled_models().items()
    ]
    return bundled + [fileChoice(path) for path in settings.models()]


def fileChoice(path: Path) -> ModelChoice:
    """Return the choice of a model file; one of a training goes by the name of the training's folder."""
    name = path.parent.name if path.name == RUN_MODEL else path.name
    return ModelChoice(str(path), name, path)


def modelFileIn(path: str | Path) -> Path | None:
    """Return the model file that ``path`` means: a file, or the folder of a training; None if it is neither."""
    path = Path(path)
    if path.is_dir():
        path = path / RUN_MODEL
    return path.absolute() if path.is_file() and path.suffix == SUFFIX else None


def readCard(path: Path) -> Mapping[str, Any]:
    """Return the card of a model file. Its weights are not checked: that takes time, and the worker does it.

    :raises CTDiffusionLogic.errors.ModelFileError: if it is no model file.
    """
    return readHeader(path).card


def readHeader(path: Path) -> ModelHeader:
    """Return what a model file says about itself; see readCard."""
    return _readHeader(path, path.stat().st_mtime_ns if path.is_file() else 0)


def summary(card: Mapping[str, Any], fine: ModelHeader | None = None) -> str:
    """Return what matters of a card before a generation, in a sentence or two.

    :param fine: the fine model that makes a larger matrix, if one is wanted.
    :raises KeyError, TypeError, ValueError: if the card is not one of a model that can be used.
    """
    plan = card["plan"]
    low, high = (float(v) for v in plan["body_mm_range"])
    own = int(plan["image_size"])
    size = fine.fine_sizes()[1] if fine is not None else own
    text = _("{size} x {size} pixels of {pixel:.2g} mm; knows {extent:.0f} mm along the body.").format(
        size=size, pixel=float(plan["fov_mm"]) / size, extent=high - low
    )
    patients = card.get("training", {}).get("patients")
    if patients:
        text += _(" Trained on {n} patients.").format(n=patients)
    if fine is not None:
        text += _(" Refined from {own} x {own} by the fine model {name}.").format(own=own, name=fine.name)
    return text


@lru_cache(maxsize=16)  # asked at every change of the panel
def _readHeader(path: Path, _modified: int) -> ModelHeader:
    from CTDiffusionLogic.bundle import read_header

    return read_header(path, verify=False)
