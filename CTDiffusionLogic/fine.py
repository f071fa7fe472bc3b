"""The fine stage: volumes of twice as many rows and columns, by a model file of its own.

A fine model is a detail stage (:mod:`CTDiffusionLogic.denoiser.coarse`) one level further: its coarse images are whole
slices of 256 x 256 pixels, its own ones have 512 x 512, and it has learnt what the larger matrix shows beyond the
smaller one. It knows nothing of anatomy, so it goes with every model whose images have the size of its coarse ones.
Slices are made in the same blocks as detail (:func:`~CTDiffusionLogic.slab_plan.plan_detail`), from the feet up, once
the coarse ones are final. The volume it refines is made as without it, to the last byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from CTDiffusionLogic.bundle import ModelFile, load_denoiser
from CTDiffusionLogic.denoiser.coarse import upsample
from CTDiffusionLogic.denoiser.intensity import hu_to_intensity
from CTDiffusionLogic.denoiser.network import SlabDenoiser
from CTDiffusionLogic.errors import ModelFileError, UsageError
from CTDiffusionLogic.generation_request import MAX_STEPS, GenerationRequest, Settings
from CTDiffusionLogic.sampling import DEFAULT_SAMPLER, SAMPLERS

#: Of the stage, in noise and progress.
NAME = "fine"
_GET_ANOTHER = "Get the file again, or train one with `ctdiffusion train --preset fine`."


@dataclass(frozen=True, eq=False)
class FineModel:
    """A fine model ready to generate.

    Args:
        denoiser: In evaluation mode, on ``device``.
        card: The model file's card.
        name, sha256: For the provenance of volumes.
        device: Where the denoiser is.
    """

    denoiser: SlabDenoiser
    card: Mapping[str, Any]
    name: str
    sha256: str
    device: torch.device

    @classmethod
    def from_file(cls, model: ModelFile, device: torch.device | str = "cpu") -> FineModel:
        """Build the denoiser of a model file.

        Raises:
            ModelFileError: If it is no fine model, its card lacks something, or does not fit the weights.
        """
        coarse, size = model.fine_sizes()
        denoiser = load_denoiser(model, "detail", device)
        if size % denoiser.config.size_multiple or size <= coarse:
            raise ModelFileError(
                f"{model.path}: its network (sizes in steps of {denoiser.config.size_multiple}) does not fit its plan "
                f"({size} pixels over {coarse}).",
                remedy=_GET_ANOTHER,
            )
        fine = cls(denoiser, model.card, model.name, model.sha256, torch.device(device))
        try:
            _ = fine.pixel_mm_range, fine.coarse_noise, fine.sampling(GenerationRequest())
        except (TypeError, ValueError, AttributeError) as error:
            raise ModelFileError(
                f"{model.path}: its card does not say in numbers what it needs ({error}).", remedy=_GET_ANOTHER
            ) from error
        return fine

    @property
    def pixel_mm_range(self) -> tuple[float, float]:
        """Smallest and largest pixels that its network has seen, mm."""
        low, high = self.card["plan"].get("pixel_mm_range", (0.0, math.inf))
        return float(low), float(high)

    @property
    def coarse_noise(self) -> float:
        """Standard deviation of the grain it looks through, in intensities."""
        return float(self.card.get("sampling", {}).get("coarse_noise", 0.0))

    @property
    def size(self) -> int:
        """Rows and columns of its images."""
        return int(self.card["plan"]["image_size"])

    def refined(self, settings: Settings) -> Settings:
        """Settings of the volume it makes of that of ``settings``: the same field of view, smaller pixels.

        Raises:
            ModelFileError: If that volume has another matrix than its coarse images.
            UsageError: If slices are given.
        """
        coarse = int(self.card["plan"]["anatomy_size"])
        if settings.image_size != coarse:
            raise ModelFileError(
                f"The fine model {self.name} refines images of {coarse} x {coarse} pixels; those of the model have "
                f"{settings.image_size} x {settings.image_size}.",
                remedy="Use a fine model for such images.",
            )
        if settings.known:
            raise UsageError(
                "A volume with given slices is not refined.", remedy="Leave out the fine model, or the given slices."
            )
        return replace(settings, image_size=self.size, pixel_mm=settings.pixel_mm * coarse / self.size)

    def told(self, settings: Settings) -> Settings:
        """What its network is told of a volume of these (refined) settings: of the body nothing, as in its training.

        Pixels beyond the sizes that it has seen count as the nearest of them.
        """
        low, high = self.pixel_mm_range
        return replace(
            settings,
            body_mm=math.nan,
            label=0,
            pixel_mm=min(max(settings.pixel_mm, low), high),
            coarse_noise=self.coarse_noise,
        )

    def sampling(self, request: GenerationRequest) -> tuple[str, int]:
        """Sampler, always its own, and number of steps: those of the request, else its own.

        Raises:
            UsageError: If the number of steps makes no sense.
            ModelFileError: If the card's sampler is unknown.
        """
        own = self.card.get("sampling", {})
        sampler = str(own.get("sampler", DEFAULT_SAMPLER))
        if sampler not in SAMPLERS:
            raise ModelFileError(
                f"The fine model {self.name} wants the unknown sampler {sampler!r}.", remedy=_GET_ANOTHER
            )
        steps = int(own.get("detail_steps", SAMPLERS[sampler].detail_steps))
        steps = steps if request.fine_steps is None else request.fine_steps
        if not 1 <= steps <= MAX_STEPS:
            raise UsageError(f"The number of steps must be 1 to {MAX_STEPS}, got {steps}.")
        return sampler, steps

    def facts(self, steps: int) -> dict[str, str]:
        """Provenance of a volume it has refined in so many steps."""
        return {"fine_model": self.name, "fine_model_sha256": self.sha256, "fine_steps": str(steps)}


def coarse_slices_of(
    blocks: Iterator[tuple[int, NDArray[np.int16]]], count: int, size: int
) -> Callable[[Sequence[int]], Tensor]:
    """Coarse images, upsampled, taken from a volume while it is made.

    Args:
        blocks: Slices of the volume as they become final, from the feet up: number of the first, HU (n, h, w).
        count: Slices of the volume.
        size: Rows and columns wanted.

    Returns:
        A function that gives the intensities (N, size, size) of slices, and takes as many blocks as it needs for that.
        Beyond the ends of the volume its end slices stand in.
    """
    seen: list[NDArray[np.int16]] = []

    def upsampled(positions: Sequence[int]) -> Tensor:
        places = [min(max(position, 0), count - 1) for position in positions]
        while len(seen) <= max(places):
            seen.extend(next(blocks)[1])
        return upsample(torch.from_numpy(hu_to_intensity(np.stack([seen[p] for p in places]))), (size, size))

    return upsampled
