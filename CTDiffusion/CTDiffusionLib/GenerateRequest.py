"""What to generate, as the ``ctdiffusion generate`` command is told."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from .SceneVolumes import ijkToRAS

#: Seeds that a spin box can show, so that every volume can be made again from the panel.
MAX_SEED = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """What to generate; the worker checks it and says what is wrong.

    :param model: a model file, or the name of a bundled model; None for the default one.
    :param slices: 1 to 1,000; None for those of the volume to be like, else 64.
    :param spacingMm: distance of slices; None for that of the volume to be like, else 3.0.
    :param seed: of the first volume; see withSeed.
    :param count: how many volumes; they have the seeds ``seed``, ``seed + 1``...
    :param steps: of the anatomy stage; None for the model's own number.
    :param detailSteps: of the detail stage; None for the model's own number.
    :param matrix: rows and columns: the model's own (None), or those of the fine model, 512 for the bundled one.
    :param fineModel: a fine model's file that makes a larger matrix; None for the bundled one, if ``matrix`` wants it.
    :param fineSteps: of the fine model; None for its own number. Only where a fine model is wanted.
    :param sampler: "sde", "multistep", "heun" or "ddpm"; None for the model's own.
    :param device: "auto", "cpu", "cuda", "cuda:1" or "mps".
    :param bodyMm: where along the body the middle lies; None lets the model choose.
    :param region: a class the model was trained with.
    """

    model: str | Path | None = None
    slices: int | None = None
    spacingMm: float | None = None
    seed: int | None = None
    count: int = 1
    steps: int | None = None
    detailSteps: int | None = None
    matrix: int | None = None
    fineModel: str | Path | None = None
    fineSteps: int | None = None
    sampler: str | None = None
    device: str = "auto"
    bodyMm: float | None = None
    region: str | None = None

    def withOwnMatrix(self) -> GenerateRequest:
        """Return the same with the model's own matrix: a scan that is completed keeps the scan's."""
        return replace(self, matrix=None, fineModel=None, fineSteps=None)

    def words(self, folder: Path, *, isLike: bool) -> list[str]:
        """Return the command, with its files in ``folder``.

        :param isLike: whether likeFile(folder) is the volume to be like.
        """
        options = {
            "--out": outputFile(folder),
            "--preview-dir": folder / "preview",
            "--like": likeFile(folder) if isLike else None,
            "--model": self.model,
            "--slices": self.slices,
            "--spacing-mm": self.spacingMm,
            "--seed": self.seed,
            "--count": self.count,
            "--steps": self.steps,
            "--detail-steps": self.detailSteps,
            "--matrix": self.matrix,
            "--fine": self.fineModel,
            "--fine-steps": self.fineSteps,
            "--sampler": self.sampler,
            "--device": self.device,
            "--body-mm": self.bodyMm,
            "--region": self.region,
        }
        # With "=", so that a value that begins with a dash is not taken for an option.
        return ["generate", *(f"{name}={value}" for name, value in options.items() if value is not None)]


def newSeed(count: int = 1) -> int:
    """Return a random seed for ``count`` volumes."""
    return random.SystemRandom().randint(0, MAX_SEED - max(count, 1))


def outputFile(folder: Path) -> Path:
    """Where the volume is written (with a number before the suffix, if there are several)."""
    return folder / "synthetic.nrrd"


def likeFile(folder: Path) -> Path:
    """Where the volume to be like is."""
    return folder / "like.nrrd"


def likeWriter(volume: Any) -> Callable[[Path], None]:
    """Return a function that writes a volume of air on the grid of ``volume`` for the worker, from any thread.

    Only the grid matters to the generation: the scan itself never leaves Slicer.

    :param volume: a scalar volume node.
    :raises CTDiffusionLogic.errors.InputError: if its grid cannot be used (sheared, empty).
    """
    from CTDiffusionLogic.errors import InputError
    from CTDiffusionLogic.geometry import Geometry
    from CTDiffusionLogic.volume import AIR_HU, CTVolume
    from CTDiffusionLogic.volume_io import write_volume

    if volume.GetImageData() is None:
        raise InputError(
            _("The volume {name} is empty.").format(name=volume.GetName()), remedy=_("Choose another one.")
        )
    columns, rows, slices = volume.GetImageData().GetDimensions()
    try:
        geometry = Geometry.from_ijk_to_ras(ijkToRAS(volume))
    except ValueError as error:
        raise InputError(
            _("The volume {name} has a geometry that cannot be used: {error}.").format(
                name=volume.GetName(), error=error
            ),
            remedy=_("Harden its transform, resample it to right angles, or choose another one."),
        ) from error

    def write(folder: Path) -> None:
        air = np.full((slices, rows, columns), AIR_HU, dtype=np.int16)
        write_volume(CTVolume(air, geometry), likeFile(folder))

    return write
