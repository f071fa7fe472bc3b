"""The baseline of through-plane coherence: a volume whose slices know nothing of each other.

What a 2D model gives without slabs. To be a fair baseline all else is as in
:func:`~CTDiffusionLogic.generation.generate`: the same model, sampler, steps and guidance; each slice is told the same
size and class of the body, and its own place along it. Only the noise is new for every slice, and none is given to
another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.errors import UsageError
from CTDiffusionLogic.volume import CTVolume

if TYPE_CHECKING:
    import torch

    from CTDiffusionLogic.bundle import ModelFile
    from CTDiffusionLogic.generation import GenerationModel, GenerationRequest, OnSlices
    from CTDiffusionLogic.generation_request import Settings
    from CTDiffusionLogic.stage_run import OnProgress

#: In the metadata of such a volume: "yes".
KEY = "independent_slices"


def independent_slices(
    model: ModelFile | GenerationModel,
    request: GenerationRequest,
    *,
    device: torch.device | str = "cpu",
    on_progress: OnProgress | None = None,
    on_slices: OnSlices | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> CTVolume:
    """Generate what ``request`` asks for, every slice alone.

    A model of K slices makes a slab around each slice, of which the slice is kept: it costs about K times what the
    volume costs.

    Args:
        model: A model file, or a model that is ready (then its own device counts).
        request: As for :func:`~CTDiffusionLogic.generation.generate`, without given slices.
        device: Where to compute.
        on_progress: Told after each denoiser pass: units done, units in all, seconds left, stage.
        on_slices: Told of slices that are final, as by ``generate``.
        is_cancelled: Asked between denoiser passes.
        on_warning: Told, in a sentence, of what the user should know.

    Returns:
        A volume of the same geometry; its metadata say ``independent_slices``.

    Raises:
        UsageError: If slices are given: the baseline has none.
        Cancelled, InputError, ModelFileError, ResourceError: As ``generate``.
    """
    from CTDiffusionLogic import generation as parts

    if request.known:
        raise UsageError(
            f"Independent slices cannot rest on the {len(request.known)} slices that are given.",
            remedy="Leave the given slices out.",
        )
    ready = model if isinstance(model, parts.GenerationModel) else parts.GenerationModel.from_file(model, device)
    grid = parts._like_grid(request)
    settings = parts.resolve(
        request,
        ready.card,
        slices=grid.slices if grid else parts.DEFAULT_SLICES if request.slices is None else request.slices,
        spacing_mm=grid.spacing_mm[0] if grid else request.spacing_mm or parts.DEFAULT_SPACING_MM,
        body_net=ready.body,
    )
    for sentence in settings.warnings:
        if on_warning is not None:
            on_warning(sentence)

    def make() -> Iterator[tuple[int, NDArray[np.int16]]]:
        for number in range(settings.slices):
            alone = settings_of_slice(settings, number)
            plan = parts.plan_volume(
                1,
                alone.spacing_mm,
                slices=ready.anatomy.config.slices,
                anatomy_gap_mm=alone.anatomy_gap_mm,
                max_gap_mm=alone.max_gap_mm,
            )
            told = _shifted(on_progress, number, settings.slices)
            meter, runs = parts.stage_runs(ready, alone, plan, told, is_cancelled, on_warning)
            meter.check()
            anatomy = parts._make_anatomy(runs["anatomy"], plan, alone)
            for _, hu in parts._make_detail(runs["detail"], plan, alone, anatomy):
                yield number, hu

    hu = parts._collect(make(), grid, settings, on_slices)
    geometry = grid.geometry if grid else parts._default_geometry(settings)
    return CTVolume(hu, geometry, {**parts._metadata(ready, request, settings), KEY: "yes"})


def settings_of_slice(settings: Settings, number: int) -> Settings:
    """Settings of a volume of one slice: slice ``number`` of the volume of ``settings``, with noise of its own."""
    from_middle = number - (settings.slices - 1) / 2
    # A seed of 63 bits, as the command takes; different for every slice of every volume.
    seed = int(np.random.SeedSequence([settings.seed % 2**64, number, 0x51CE]).generate_state(1, np.uint64)[0] >> 1)
    return dataclasses.replace(
        settings, slices=1, seed=seed, body_mm=settings.body_mm + from_middle * settings.spacing_mm
    )


def _shifted(on_progress: OnProgress | None, number: int, slices: int) -> OnProgress | None:
    """Progress of one slice as that of all."""
    if on_progress is None:
        return None

    def told(done: int, total: int, left_s: float, stage: str) -> None:
        rate = left_s / max(total - done, 1)
        on_progress(number * total + done, slices * total, left_s + rate * total * (slices - number - 1), stage)

    return told
