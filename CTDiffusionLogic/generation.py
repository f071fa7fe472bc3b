"""Plan x sampler -> CT volume: the anatomy of all slices first, then their detail, slice after slice.

A fine model, if there is one, makes a larger matrix of the slices as they come (:mod:`CTDiffusionLogic.fine`).

Orientation: slices run to the head, rows to the patient's back, columns to the left; without a volume to
be like, the grid is centred on x = y = 0 and begins at z = 0 (LPS). The same model, request, device and
number of threads give the same bytes; a batch that had to be smaller for lack of memory, or another
device, may change a voxel here and there by one HU.

Example:
    volume = generate(load_model("torso.safetensors"), GenerationRequest(slices=64, spacing_mm=3.0, seed=7))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from CTDiffusionLogic import __version__
from CTDiffusionLogic.bundle import GUIDE, ModelFile, load_body_net, load_denoiser, load_denoisers
from CTDiffusionLogic.corpus.body_position import BodyPositionNet
from CTDiffusionLogic.denoiser.coarse import downsample, interpolate_along_z, upsample
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.denoiser.intensity import hu_to_intensity
from CTDiffusionLogic.denoiser.network import DenoiserConfig, SlabDenoiser
from CTDiffusionLogic.errors import ModelFileError
from CTDiffusionLogic.fine import NAME as FINE
from CTDiffusionLogic.fine import FineModel, coarse_slices_of
from CTDiffusionLogic.generation_request import (
    DEFAULT_SLICES,
    DEFAULT_SPACING_MM,
    GenerationRequest,
    Settings,
    resolve,
)
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.like_grid import LikeGrid
from CTDiffusionLogic.sampling import SAMPLERS
from CTDiffusionLogic.slab_plan import Block, Slab, VolumePlan, detail_passes, plan_detail, plan_volume
from CTDiffusionLogic.stage_run import Meter, OnProgress, StageRun, ready_batches
from CTDiffusionLogic.stage_slices import final_slices, slab_conditions
from CTDiffusionLogic.volume import CTVolume

__all__ = ["GenerationModel", "GenerationRequest", "generate"]

#: Given the number of the first one and int16 HU (n, rows, columns), slices of the result that are final.
OnSlices = Callable[[int, NDArray[np.int16]], None]


@dataclass(frozen=True, eq=False)
class GenerationModel:
    """A model ready to generate; make one to generate several volumes.

    Args:
        anatomy, detail: The denoisers, in evaluation mode, on ``device``.
        card: The model file's card.
        name, sha256: For the provenance of volumes.
        device: Where the denoisers are.
        body: Names the body position of given slices, on the CPU; None where the file has none.
        guide: Of the anatomy stage (:mod:`CTDiffusionLogic.guidance`), as the denoisers; None where the file has none.
    """

    anatomy: SlabDenoiser
    detail: SlabDenoiser
    card: Mapping[str, Any]
    name: str
    sha256: str
    device: torch.device
    body: BodyPositionNet | None = None
    guide: SlabDenoiser | None = None

    @classmethod
    def from_file(cls, model: ModelFile, device: torch.device | str = "cpu") -> GenerationModel:
        """Build the denoisers of a model file.

        Raises:
            ModelFileError: If the card lacks something that generation needs, or does not fit the weights; or if it
                is a fine model.
        """
        model.require_whole()
        plan: Any = model.card.get("plan")
        needed = ("image_size", "anatomy_size", "fov_mm", "anatomy_gap_mm", "max_gap_mm", "body_mm_range")
        missing = [key for key in needed if not isinstance(plan, Mapping) or key not in plan]
        if missing:
            raise ModelFileError(
                f"{model.path}: its card does not say {', '.join(missing)}.",
                remedy="Get the file again, or train a model with `ctdiffusion train`.",
            )
        anatomy, detail = load_denoisers(model, device)
        guide = load_denoiser(model, GUIDE, device) if GUIDE in model.card["stages"] else None
        sizes = [(anatomy, plan["anatomy_size"]), (detail, plan["image_size"])]
        if guide is not None:
            sizes.append((guide, plan["anatomy_size"]))
        for denoiser, size in sizes:
            config = denoiser.config
            if size % config.size_multiple or config.slices != anatomy.config.slices:
                raise ModelFileError(
                    f"{model.path}: its {config.stage} stage ({config.slices} slices, sizes in steps of "
                    f"{config.size_multiple}) does not fit its plan ({size} pixels).",
                    remedy="Get the file again, or train a model with `ctdiffusion train`.",
                )
        body = load_body_net(model)
        return cls(anatomy, detail, model.card, model.name, model.sha256, torch.device(device), body, guide)


def generate(
    model: ModelFile | GenerationModel,
    request: GenerationRequest,
    *,
    fine: ModelFile | FineModel | None = None,
    device: torch.device | str = "cpu",
    on_progress: OnProgress | None = None,
    on_slices: OnSlices | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> CTVolume:
    """Generate a volume.

    Args:
        model: A model file, or a model that is ready (then its own device counts).
        request: What to generate.
        fine: A fine model to make a larger matrix with; a file, or ready on the model's device.
        device: Where to compute.
        on_progress: Told after each step: units done, units in all, seconds left, stage. A unit is an anatomy pass
            over one slab; a guided step takes two passes, a detail or fine pass counts as many as it costs.
        on_slices: Given slices as they become final, each once, from the feet up: the number of the first and
            int16 HU (n, rows, columns). With a ``like`` whose slices run to the feet the numbers fall; one whose
            slices are not axial comes whole, at the end.
        is_cancelled: Asked between denoiser passes.
        on_warning: Told, in a sentence, of what the user should know.

    Raises:
        Cancelled: If ``is_cancelled`` said so; slices that were handed out stay final.
        UsageError, InputError: If the request makes no sense; see :func:`resolve`.
        ModelFileError: If a model file cannot be used, or the two do not go together.
        ResourceError: If memory does not suffice for a single slab.
    """
    ready = model if isinstance(model, GenerationModel) else GenerationModel.from_file(model, device)
    grid = _like_grid(request)
    settings = resolve(
        request,
        ready.card,
        slices=grid.slices if grid else DEFAULT_SLICES if request.slices is None else request.slices,
        spacing_mm=grid.spacing_mm[0] if grid else request.spacing_mm or DEFAULT_SPACING_MM,
        body_net=ready.body,
    )
    for sentence in settings.warnings:
        if on_warning is not None:
            on_warning(sentence)
    plan = plan_volume(
        settings.slices,
        settings.spacing_mm,
        known=settings.known,
        slices=ready.anatomy.config.slices,
        anatomy_gap_mm=settings.anatomy_gap_mm,
        max_gap_mm=settings.max_gap_mm,
    )
    facts = _metadata(ready, request, settings)
    meter, runs = stage_runs(ready, settings, plan, on_progress, is_cancelled, on_warning)
    finest = settings
    if fine is not None:
        finer = fine if isinstance(fine, FineModel) else FineModel.from_file(fine, ready.device)
        finest = finer.refined(settings)
        fine_run, fine_blocks = _fine_run(finer, ready, request, finest, meter, on_warning)
        facts |= finer.facts(fine_run.steps)
    meter.check()
    anatomy = _make_anatomy(runs["anatomy"], plan, settings)
    blocks = _make_detail(runs["detail"], plan, settings, anatomy)
    if fine is not None:
        source = coarse_slices_of(blocks, settings.slices, finer.size)
        blocks = final_slices(fine_run, fine_blocks, finer.told(finest), source)
    hu = _collect(blocks, grid, finest, on_slices)
    return CTVolume(hu, grid.geometry if grid else _default_geometry(finest), facts)


def stage_runs(
    model: GenerationModel,
    settings: Settings,
    plan: VolumePlan,
    on_progress: OnProgress | None,
    is_cancelled: Callable[[], bool] | None,
    on_warning: Callable[[str], None] | None = None,
) -> tuple[Meter, dict[str, StageRun]]:
    """Both stages ready to make one volume, by their names, and the meter that they share."""
    sampler = SAMPLERS[settings.sampler]
    cost = _cost(model.detail.config, settings.image_size) / _cost(model.anatomy.config, settings.anatomy_size)
    unit = max(1, round(cost))
    meter = Meter({}, on_progress, is_cancelled)
    shared: dict[str, Any] = {
        "sampler": sampler,
        "seed": settings.seed,
        "device": model.device,
        "meter": meter,
        "on_warning": on_warning,
    }
    anatomy = StageRun(
        denoiser=model.anatomy,
        size=settings.anatomy_size,
        steps=settings.steps,
        guidance=settings.guidance,
        guide=model.guide,
        sigma_min=settings.sigma_min,
        **shared,
    )
    detail = StageRun(
        denoiser=model.detail,
        size=settings.image_size,
        steps=settings.detail_steps,
        unit=unit,
        sigma_max=settings.detail_sigma_max,
        **shared,
    )
    windows = detail_passes(plan.detail, len(detail.costs))
    meter.units = {"anatomy": len(plan.anatomy) * anatomy.costs[-1], "detail": windows * unit}
    return meter, {"anatomy": anatomy, "detail": detail}


def _fine_run(
    fine: FineModel,
    model: GenerationModel,
    request: GenerationRequest,
    settings: Settings,
    meter: Meter,
    on_warning: Callable[[str], None] | None,
) -> tuple[StageRun, list[Block]]:
    """The fine stage ready to make the volume of these (refined) settings, and its blocks."""
    sampler, steps = fine.sampling(request)
    config = fine.denoiser.config
    blocks = plan_detail(settings.slices, (), slices=config.slices)
    run = StageRun(
        denoiser=fine.denoiser,
        size=fine.size,
        sampler=SAMPLERS[sampler],
        steps=steps,
        seed=settings.seed,
        device=fine.device,
        meter=meter,
        unit=max(1, round(_cost(config, fine.size) / _cost(model.anatomy.config, settings.anatomy_size))),
        name=FINE,
        on_warning=on_warning,
    )
    meter.units = {**meter.units, FINE: detail_passes(blocks, len(run.costs)) * run.unit}
    return run, blocks


def _cost(config: DenoiserConfig, size: int) -> float:
    """Multiplications of a pass, up to a factor: 3 x 3 convolutions at every level of the network."""
    side = size / config.unshuffle
    layers = 2 * config.layers + 1
    unet = layers * sum((side / 2**level) ** 2 * width**2 for level, width in enumerate(config.channels))
    return unet + config.refiner_blocks * (size * config.refiner_channels) ** 2


def _make_anatomy(run: StageRun, plan: VolumePlan, settings: Settings) -> Tensor:
    """Coarse slices at the positions ``plan.grid``: (grid, anatomy size, anatomy size) intensities."""
    size = (run.size, run.size)
    made: dict[int, Tensor] = {}

    def coarse(position: int) -> Tensor:
        if position not in made:  # a real slice
            real = torch.from_numpy(hu_to_intensity(settings.known[position]))
            made[position] = downsample(real[None], size)[0]
        return made[position]

    def conditions(slab: Slab) -> SlabConditions:
        known = torch.zeros(len(slab.positions), *size)
        for place, position in enumerate(slab.positions):
            if position in slab.known:
                known[place] = coarse(position)
        pixel_mm = settings.pixel_mm * settings.image_size / run.size
        return slab_conditions(slab.positions, slab.mask, settings, known, pixel_mm=pixel_mm)

    for batch in ready_batches(plan.anatomy, plan.known, lambda: run.batch):
        for slab, result in zip(batch, run.make(batch, conditions), strict=True):
            made |= {p: result[slab.positions.index(p)].clone() for p in slab.new}
    return torch.stack([coarse(p) for p in plan.grid]) if plan.grid else torch.zeros(0, *size)


def _make_detail(
    run: StageRun, plan: VolumePlan, settings: Settings, anatomy: Tensor
) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Final slices in HU on the model's grid, as :func:`final_slices` gives them."""
    size = (run.size, run.size)
    grid = torch.tensor(plan.grid, dtype=torch.float32)

    def coarse(positions: Sequence[int]) -> Tensor:
        return upsample(interpolate_along_z(anatomy, grid, torch.tensor(positions, dtype=torch.float32)), size)

    return final_slices(run, plan.detail, settings, coarse)


def _like_grid(request: GenerationRequest) -> LikeGrid | None:
    """The grid to be like; where the request says otherwise, with as many slices and as far apart as it says."""
    if request.like is None:
        return None
    slices, rows, columns = request.like.shape
    geometry = request.like.geometry
    if request.spacing_mm is not None:
        spacing = (*geometry.spacing[:2], request.spacing_mm)
        geometry = Geometry(spacing, geometry.origin, geometry.direction)
    return LikeGrid((slices if request.slices is None else request.slices, rows, columns), geometry)


def _default_geometry(settings: Settings) -> Geometry:
    corner = -(settings.image_size - 1) / 2 * settings.pixel_mm
    return Geometry((settings.pixel_mm, settings.pixel_mm, settings.spacing_mm), (corner, corner, 0.0))


def _collect(
    blocks: Iterator[tuple[int, NDArray[np.int16]]],
    grid: LikeGrid | None,
    settings: Settings,
    on_slices: OnSlices | None,
) -> NDArray[np.int16]:
    """Put blocks of slices together on the grid of the result, and hand them out."""
    tell = on_slices or (lambda *_: None)
    if grid is None:
        result = np.empty((settings.slices, settings.image_size, settings.image_size), dtype=np.int16)
        for first, hu in blocks:
            result[first : first + len(hu)] = hu
            tell(first, hu)
        return result
    if grid.slicewise:
        result = np.empty(grid.shape, dtype=np.int16)
        for first, hu in blocks:
            stored = grid.store(grid.resample(hu, settings.pixel_mm))
            start = min(grid.place(first), grid.place(first + len(hu) - 1))
            result[start : start + len(hu)] = stored
            tell(start, stored)
        return result
    result = grid.store(np.concatenate([grid.resample(hu, settings.pixel_mm) for _, hu in blocks]))
    tell(0, result)
    return result


def _metadata(model: GenerationModel, request: GenerationRequest, settings: Settings) -> dict[str, str]:
    facts = {
        "synthetic": "yes",
        "model": model.name,
        "model_sha256": model.sha256,
        "seed": str(settings.seed),
        "sampler": settings.sampler,
        "steps": str(settings.steps),
        "detail_steps": str(settings.detail_steps),
        "guidance": f"{settings.guidance:g}",
        "slab_slices": str(model.anatomy.config.slices),
        "version": __version__,
    }
    if math.isfinite(settings.body_mm):
        facts["body_mm"] = f"{settings.body_mm:.1f}"
    if settings.label_name:
        facts["label"] = settings.label_name
    if settings.known:
        facts["given_slices"] = str(len(settings.known))
    if request.like is not None:
        facts["like_geometry"] = "yes"
    return facts
