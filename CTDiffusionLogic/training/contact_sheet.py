"""A sheet of samples while the training runs: what the model makes now, beside nothing but its own past.

That of a fine model has patches of real scans: as coarse as it gets them, as it makes them, and as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from CTDiffusionLogic.atomic import atomic_file
from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.denoiser.coarse import from_residual, upsample
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.denoiser.intensity import intensity_to_hu
from CTDiffusionLogic.denoiser.network import SlabDenoiser
from CTDiffusionLogic.sampling import SAMPLERS, Sampler
from CTDiffusionLogic.training.export import FINE_SAMPLING, SAMPLING

#: Places along the body that are shown, as parts of the known range.
PLACES = (0.25, 0.55, 0.85)
#: Detail is made with fewer passes than volumes for people get: these are most of a sheet's cost, and a tile has half
#: the pixels per side.
DETAIL_STEPS = 8
#: Part of the time that sheets may take. The training stands still for them: when each checkpoint had one, that was
#: 5.7 of the 5.9 s for which the standard preset stopped every five minutes on two cores; files took the rest.
SHARE = 0.005
#: Pixels per side of a tile, and the HU shown as black and white.
TILE, BLACK_HU, WHITE_HU = 128, -1000, 400


class SheetSchedule:
    """Decides at which checkpoints there is a sheet: at the first, then where :data:`SHARE` of the time suffices."""

    def __init__(self) -> None:
        self._spent_s = 0.0
        #: What the newest one took.
        self.seconds = 0.0

    def is_due(self, elapsed_s: float) -> bool:
        """Whether to make one now, so long after the training or its continuation began to train."""
        return self._spent_s == 0 or self._spent_s + self.seconds <= SHARE * elapsed_s

    def note(self, seconds: float) -> None:
        """Remember what one took."""
        self.seconds = seconds
        self._spent_s += seconds


@torch.no_grad()
def sample_sheet(
    anatomy: SlabDenoiser, detail: SlabDenoiser, plan: CorpusPlan, *, device: torch.device, seed: int = 0
) -> NDArray[np.uint8]:
    """Make a slab at each of three places along the body, from the same noise at every call.

    Returns:
        Grey picture (2 * places * TILE, K * TILE): a row of anatomy, then the same slab in full detail.
    """
    slabs, slices = len(PLACES), anatomy.config.slices
    generator = torch.Generator().manual_seed(seed)
    low, high = plan.body_range_mm
    offsets = (torch.arange(slices) - (slices - 1) / 2) * plan.anatomy_gap_mm
    size = (plan.anatomy_size, plan.anatomy_size)
    nothing = torch.zeros(slabs, slices, *size)
    conditions = SlabConditions(
        known=nothing,
        mask=torch.zeros(slabs, slices),
        offsets_mm=offsets.expand(slabs, -1),
        body_mm=torch.tensor([low + place * (high - low) for place in PLACES]),
        pixel_mm=torch.full((slabs,), plan.fov_mm / plan.anatomy_size),
        label=torch.zeros(slabs, dtype=torch.int64),
        body_box=torch.tensor(np.median([s.body_box for s in plan.train], axis=0)).float().expand(slabs, -1),
    ).to(device)
    noise = torch.randn(nothing.shape, generator=generator).to(device)
    sampler = SAMPLERS[SAMPLING["sampler"]]
    times = sampler.times("anatomy", SAMPLING["anatomy_steps"], sigma_min=SAMPLING["anatomy_sigma_min"])
    coarse = _sample(anatomy, noise, conditions, sampler, generator, times)
    full = (plan.image_size, plan.image_size)
    rows = []
    for index in range(slabs):  # one at a time: at full size memory counts
        up = upsample(coarse[index], full)[None]
        told = conditions.slice(index, index + 1)
        told = SlabConditions(
            known=torch.zeros_like(up),
            mask=told.mask,
            offsets_mm=told.offsets_mm,
            body_mm=told.body_mm,
            pixel_mm=torch.full_like(told.pixel_mm, plan.fov_mm / plan.image_size),
            label=told.label,
            coarse=up,
            coarse_noise=torch.full_like(told.body_mm, SAMPLING["coarse_noise"]),
        )
        noise = torch.randn(up.shape, generator=generator).to(device)
        times = sampler.times("detail", DETAIL_STEPS, sigma_max=SAMPLING["detail_sigma_max"])
        residual = _sample(detail, noise, told, sampler, generator, times)
        rows += [_tiles(coarse[index]), _tiles(from_residual(residual, up, plan.residual_scale)[0])]
    return np.concatenate(rows)


@torch.no_grad()
def sample_fine_sheet(
    detail: SlabDenoiser, real: Tensor, conditions: SlabConditions, *, device: torch.device, seed: int = 0
) -> NDArray[np.uint8]:
    """Refine the first patches of a batch of the slab stream, from the same noise at every call.

    Args:
        detail: A fine model's network.
        real, conditions: The batch, on the CPU; what is known in it is hidden.
        device: Where the network is.
        seed: Of the noise.

    Returns:
        Grey picture (3 * patches * TILE, K * TILE): for each patch a row of coarse, of made and of real slices.
    """
    generator = torch.Generator().manual_seed(seed)
    patches, scale = len(PLACES), detail.config.residual_scale
    told = conditions.slice(0, patches).to(device)
    told = replace(told, mask=torch.zeros_like(told.mask))
    assert told.coarse is not None
    real = real[:patches].to(device)
    noise = torch.randn(real.shape, generator=generator).to(device)
    sampler = SAMPLERS[FINE_SAMPLING["sampler"]]
    times = sampler.times("detail", FINE_SAMPLING["detail_steps"])
    made = _sample(detail, noise, told, sampler, generator, times)
    images = (told.coarse, from_residual(made, told.coarse, scale), from_residual(real, told.coarse, scale))
    return np.concatenate([_tiles(slabs[n]) for n in range(len(real)) for slabs in images])


def save_sheet(picture: NDArray[np.uint8], path: Path) -> None:
    """Write the picture as PNG, atomically."""
    from PIL import Image

    with atomic_file(path) as temporary:
        Image.fromarray(picture).save(temporary)


def _sample(
    denoiser: SlabDenoiser,
    noise: Tensor,
    conditions: SlabConditions,
    sampler: Sampler,
    generator: torch.Generator,
    times: Sequence[float],
) -> Tensor:
    """A slab, as :class:`~CTDiffusionLogic.stage_run.StageRun` makes it; of anatomy, the last estimate."""
    stage = denoiser.config.stage
    estimates: list[Tensor] = []

    def fresh() -> Tensor:
        return torch.randn(noise.shape, generator=generator).to(noise.device)

    def model(x: Tensor, t: float) -> Tensor:
        estimates[:] = [denoiser(x, torch.full((len(x),), t, device=x.device), conditions)]
        return estimates[0]

    made = sampler.run_of(stage)(model, noise, times, noise=fresh, callback=None)
    return estimates[0] if stage == "anatomy" else made


def _tiles(slab: Tensor) -> NDArray[np.uint8]:
    """The slices of a slab side by side, from the feet on the left to the head on the right."""
    resized = torch.nn.functional.interpolate(slab[None].float(), size=(TILE, TILE), mode="area")[0]
    hu = intensity_to_hu(resized).astype(np.float32)
    grey = np.clip((hu - BLACK_HU) / (WHITE_HU - BLACK_HU), 0, 1) * 255
    return np.concatenate(list(grey.astype(np.uint8)), axis=1)


def write_sheet(
    networks: Mapping[str, SlabDenoiser],
    plan: CorpusPlan,
    folder: Path,
    *,
    step: int,
    patches: Callable[[], tuple[Tensor, SlabConditions]],
) -> Path:
    """Sample and write ``folder/step-<step>.png``.

    Args:
        networks: By stage, with the weights to be shown.
        plan: Of the corpus.
        folder, step: Where, and of which step.
        patches: Gives the batch of real patches that a fine model is shown with.
    """
    device = next(networks["detail"].parameters()).device
    path = folder / f"step-{step:08d}.png"
    if "anatomy" in networks:
        picture = sample_sheet(networks["anatomy"], networks["detail"], plan, device=device)
    else:
        picture = sample_fine_sheet(networks["detail"], *patches(), device=device)
    save_sheet(picture, path)
    return path
