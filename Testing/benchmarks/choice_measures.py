"""How good a trained anatomy network is: its error on held-out slabs, and how real the anatomy is that it makes.

Volumes of anatomy alone: the grid of the anatomy stage (64 x 64 over the whole field of view) is what there is, and
real scans are brought to the same pixels. So small trainings can be compared in a minute, ours and other libraries'
(whose tutorials make 64 x 64 images, too).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bench_tools  # noqa: F401  (puts the repository on the path)
import torch
from torch import Tensor

from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.corpus.stream import SlabStream
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.denoiser.intensity import intensity_to_hu
from CTDiffusionLogic.denoiser.network import DenoiserConfig, SlabDenoiser
from CTDiffusionLogic.fidelity.extractors import get_extractor
from CTDiffusionLogic.fidelity.volumes import to_lab_volume
from CTDiffusionLogic.generation import GenerationModel
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.training.export import generation_facts
from CTDiffusionLogic.training.fidelity_meter import FidelityMeter, MeterOptions
from CTDiffusionLogic.training.fidelity_scans import scans_of_run
from CTDiffusionLogic.training.fidelity_volumes import make_short_volumes
from CTDiffusionLogic.volume import CTVolume

LEVELS = (0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9)
#: No stage follows that could sharpen what is estimated from as much noise as a model's card says.
SIGMA_MIN = 0.2
#: What of the meter's figures is kept.
KEPT = ("frechet", "frechet_low", "frechet_high", "frechet_axial", "frechet_coronal", "frechet_sagittal", "kid")
KEPT += ("frechet_floor", "frechet_training", "kid_floor")


@torch.no_grad()
def held_out_errors(network: SlabDenoiser, stream: SlabStream, *, batches: int = 6) -> list[float]:
    """Root mean square error of the clean estimate on unknown slices at each of LEVELS."""
    errors = []
    for level in LEVELS:
        generator = torch.Generator().manual_seed(7)
        squares, count = 0.0, 0.0
        for number in range(batches):
            x0, conditions = stream.batch(number)
            x_t = (1 - level) * x0 + level * torch.randn(x0.shape, generator=generator)
            estimate = network(x_t, torch.full((len(x0),), level), conditions)
            unknown = 1 - conditions.mask
            squares += float((((estimate - x0) ** 2).mean(dim=(2, 3)) * unknown).sum())
            count += float(unknown.sum())
        errors.append((squares / count) ** 0.5)
    return errors


class NoDetail(torch.nn.Module):
    """A detail stage that adds nothing."""

    def __init__(self, slices: int) -> None:
        super().__init__()
        self.config = DenoiserConfig(stage="detail", slices=slices, channels=(8,), attention=False, unshuffle=1)

    def forward(self, x_t: Tensor, t: Tensor, conditions: SlabConditions) -> Tensor:
        return torch.zeros_like(x_t)


class AnatomyMeter:
    """Fréchet distance of made anatomy to real scans of held-out patients, at the same pixels.

    Args:
        plan, cache: Of a training.
        volumes: Made for each measurement.
        slices: Of each.
        steps: Of the sampler.
    """

    def __init__(self, plan: CorpusPlan, cache: Path, *, volumes: int, slices: int, steps: int) -> None:
        self.plan, self.size = plan, plan.anatomy_size
        self.pixel_mm = plan.fov_mm / plan.anatomy_size
        options = MeterOptions(volumes=volumes, slices=slices, steps=steps, detail_steps=1)
        self.meter = FidelityMeter(
            scans_of_run(plan, cache),
            get_extractor("ctfeatures"),
            sampling={},
            body_range_mm=plan.body_range_mm,
            pixel_mm=self.pixel_mm,
            options=options,
        )

    @property
    def images(self) -> int:
        """Slices of all volumes of a measurement."""
        return len(self.meter.wanted.places_mm) * self.meter.wanted.slices

    def of_network(
        self, network: SlabDenoiser, *, plan: Mapping[str, Any], sampling: Mapping[str, Any]
    ) -> dict[str, float]:
        """Measure an anatomy network.

        Args:
            network: In evaluation mode.
            plan: Changes to the corpus plan.
            sampling: Changes to how a card says to sample.
        """
        facts = generation_facts(replace(self.plan, **plan))
        grid = {"image_size": self.size, "pixel_mm": self.pixel_mm}
        own = {"coarse_noise": 0.0, "anatomy_sigma_min": SIGMA_MIN, **sampling}
        card = facts | {"plan": facts["plan"] | grid, "sampling": facts["sampling"] | own}
        detail: Any = NoDetail(network.config.slices)
        model = GenerationModel(network, detail, card, "choice", "0" * 64, torch.device("cpu"))
        return self._figures(make_short_volumes(model, self.meter.wanted))

    def of_images(self, images: Tensor) -> dict[str, float]:
        """Measure slices made one by one: (n, 1, size, size) intensities, put together to volumes as they come."""
        wanted = self.meter.wanted
        pixel = self.pixel_mm * self.size / images.shape[-1]
        geometry = Geometry((pixel, pixel, wanted.spacing_mm))
        hu = intensity_to_hu(images[:, 0].clamp(-1, 1))
        parts = [hu[n : n + wanted.slices] for n in range(0, len(hu), wanted.slices)]
        return self._figures([CTVolume(part, geometry, {"synthetic": "yes"}) for part in parts])

    def _figures(self, volumes: Sequence[CTVolume]) -> dict[str, float]:
        lab = [to_lab_volume(volume, id=f"synthetic {n}") for n, volume in enumerate(volumes)]
        figures = self.meter.compare(lab)
        return {key: figures[key] for key in KEPT if key in figures}
