"""Several short volumes of one model at once: the slabs of all of them share batches.

:func:`CTDiffusionLogic.generation.generate` makes one volume at a time, so that a short one has batches of one slab.
For some short volumes of one shape that is slow: together they take about two thirds of the time on two CPU cores,
and on a GPU nearly as long as one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from CTDiffusionLogic.block_run import make_blocks
from CTDiffusionLogic.denoiser.coarse import interpolate_along_z, upsample
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.generation import GenerationModel, stage_runs
from CTDiffusionLogic.generation_request import GenerationRequest, Settings, resolve
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.slab_plan import Slab, VolumePlan, plan_volume
from CTDiffusionLogic.stage_run import OnProgress, StageRun
from CTDiffusionLogic.stage_slices import BlockOfVolume, slab_conditions
from CTDiffusionLogic.volume import CTVolume

#: Noise depends on the seed and the slice's number; so that volumes differ, their slices are numbered this far apart.
_APART = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ShortVolumes:
    """What to make.

    Args:
        places_mm: Anatomical body position of the middle of each volume.
        slices, spacing_mm: Of each.
        steps, detail_steps: Of the two stages.
        seed: Of all noise, and of the size of each body.
    """

    places_mm: tuple[float, ...]
    slices: int
    spacing_mm: float
    steps: int
    detail_steps: int
    seed: int = 0


def make_short_volumes(
    model: GenerationModel,
    wanted: ShortVolumes,
    *,
    on_progress: OnProgress | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> list[CTVolume]:
    """Make the volumes; the same model and wish give the same volumes on the same machine.

    Args:
        model: On its device. Its card says which sampler and guidance; the steps are those of ``wanted``.
        wanted: What to make.
        on_progress: Told after each pass; see :class:`~CTDiffusionLogic.stage_run.Meter`.
        is_cancelled: Asked between passes.

    Raises:
        Cancelled: If ``is_cancelled`` says so.
        ResourceError: If memory does not suffice for one slab.
        CTDiffusionError: If the model gives what is not a number.
    """
    settings = [
        resolve(
            GenerationRequest(
                seed=wanted.seed + number,
                steps=wanted.steps,
                detail_steps=wanted.detail_steps,
                body_mm=place,
            ),
            model.card,
            slices=wanted.slices,
            spacing_mm=wanted.spacing_mm,
        )
        for number, place in enumerate(wanted.places_mm)
    ]
    if not settings:
        return []
    first = settings[0]
    plan = plan_volume(
        wanted.slices,
        wanted.spacing_mm,
        slices=model.anatomy.config.slices,
        anatomy_gap_mm=first.anatomy_gap_mm,
        max_gap_mm=first.max_gap_mm,
    )
    meter, runs = stage_runs(model, first, plan, on_progress, is_cancelled)
    meter.units = {stage: units * len(settings) for stage, units in meter.units.items()}
    anatomy = _make_anatomy(runs["anatomy"], plan, settings)
    return [
        CTVolume(hu, Geometry((s.pixel_mm, s.pixel_mm, s.spacing_mm)), {"synthetic": "yes"})
        for hu, s in zip(_make_detail(runs["detail"], plan, settings, anatomy), settings, strict=True)
    ]


def _make_anatomy(run: StageRun, plan: VolumePlan, settings: Sequence[Settings]) -> list[Tensor]:
    """Intensities at the positions ``plan.grid`` of each volume: (grid, anatomy size, anatomy size)."""
    made: list[dict[int, Tensor]] = [{} for _ in settings]

    def conditions(volume: int, slab: Slab) -> SlabConditions:
        known = torch.zeros(len(slab.positions), run.size, run.size)
        for place, position in enumerate(slab.positions):
            if position in slab.known:
                known[place] = made[volume][position]
        own = settings[volume]
        pixel_mm = own.pixel_mm * own.image_size / run.size
        return slab_conditions(slab.positions, slab.mask, own, known, pixel_mm=pixel_mm)

    for volume, slab, result in _made(run, plan.anatomy, len(settings), conditions):
        made[volume] |= {p: result[slab.positions.index(p)].clone() for p in slab.new}
    return [torch.stack([slices[p] for p in plan.grid]) for slices in made]


def _make_detail(
    run: StageRun, plan: VolumePlan, settings: Sequence[Settings], anatomy: Sequence[Tensor]
) -> list[NDArray[np.int16]]:
    """Final slices of each volume in HU: (slices, image size, image size)."""
    size = (run.size, run.size)
    grid = torch.tensor(plan.grid, dtype=torch.float32)
    final: list[dict[int, NDArray[np.int16]]] = [{} for _ in settings]
    before: list[dict[int, Tensor]] = [{} for _ in settings]

    def coarse(positions: Sequence[int], *, volume: int) -> Tensor:
        places = torch.tensor(positions, dtype=torch.float32)
        return upsample(interpolate_along_z(anatomy[volume], grid, places), size)

    for block in plan.detail:
        parts = [
            BlockOfVolume(run, block, own, partial(coarse, volume=volume), numbered_from=volume * _APART)
            for volume, own in enumerate(settings)
        ]
        made = make_blocks(run, [part.task(kept) for part, kept in zip(parts, before, strict=True)])
        for hu, part, images in zip(final, parts, made, strict=True):
            hu |= part.hu(images)
        before = [part.kept(images) for part, images in zip(parts, made, strict=True)]
    return [np.stack([slices[p] for p in range(plan.count)]) for slices in final]


def _made(
    run: StageRun, slabs: Sequence[Slab], volumes: int, conditions: Callable[[int, Slab], SlabConditions]
) -> Iterator[tuple[int, Slab, Tensor]]:
    """Make the slabs of all volumes, level by level: number of the volume, slab, (K, size, size)."""
    for level in sorted({slab.level for slab in slabs}):
        batch = [(volume, slab) for volume in range(volumes) for slab in slabs if slab.level == level]
        apart = [replace(slab, positions=tuple(p + volume * _APART for p in slab.positions)) for volume, slab in batch]
        owners = {id(moved): owner for moved, owner in zip(apart, batch, strict=True)}
        results = run.make(apart, lambda moved, owners=owners: conditions(*owners[id(moved)]))  # type: ignore[misc]
        for (volume, slab), result in zip(batch, results, strict=True):
            yield volume, slab, result
