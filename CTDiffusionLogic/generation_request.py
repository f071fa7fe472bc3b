"""What a volume is asked to be, checked, and filled up with the model's own defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.corpus.body_position import BodyPositionNet
from CTDiffusionLogic.errors import InputError, UsageError
from CTDiffusionLogic.given_slices import see_body
from CTDiffusionLogic.sampling import DDPM_STEPS, DEFAULT_SAMPLER, SAMPLERS
from CTDiffusionLogic.volume import CTVolume, to_hu_int16

DEFAULT_SLICES = 64
DEFAULT_SPACING_MM = 3.0
MAX_SLICES = 1000
MAX_STEPS = 10_000
MAX_GUIDANCE = 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class GenerationRequest:
    """What to generate.

    Args:
        slices: Number of slices, 1 to 1,000; default: those of ``like``, else 64.
        spacing_mm: Their distance; default: that of ``like``, else 3.0.
        seed: Chooses the volume; any integer.
        steps: Steps of the anatomy stage; default: the model's.
        detail_steps: Steps of the detail stage; default: the model's, or ``steps`` with "ddpm".
        fine_steps: Steps of a fine model's stage; default: that model's.
        sampler: A name in :data:`~CTDiffusionLogic.sampling.SAMPLERS`; default: the model's.
        guidance: How strongly anatomy is guided, 0 to 10; 1 is as learnt. Default: the model's. See
            :mod:`CTDiffusionLogic.guidance`.
        body_mm: Anatomical body position of the volume's middle; default: see :func:`choose_body_mm`, or what given
            slices show.
        label: Name of a class the model was trained with; default: none.
        like: A volume whose matrix, spacing, origin and direction the result gets.
        known: Slices that are given, by slice number: HU on the model's grid (image size x image size, rows
            to the back, columns to the left). They come out unaltered, but for HU outside [-1024, 3071].
        pixel_mm: In-plane pixel size of the model's grid, where ``known`` slices have another; default: the model's.
    """

    slices: int | None = None
    spacing_mm: float | None = None
    seed: int = 0
    steps: int | None = None
    detail_steps: int | None = None
    fine_steps: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    body_mm: float | None = None
    label: str | None = None
    like: CTVolume | None = None
    known: Mapping[int, NDArray] | None = None
    pixel_mm: float | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A request with every choice made; see :class:`GenerationRequest`.

    Args:
        anatomy_size, image_size: Pixels per side of the two stages.
        label: Class index, 0 for none.
        body_box: Edges of the body (front, back, right, left) as parts of the image's side; NaN for unknown.
        coarse_noise: Standard deviation of the noise that made anatomy was estimated from, or is taken to have, in
            intensities: the detail stage is told.
        sigma_min: Noise from which the anatomy stage's last estimate is taken as it is; None for the sampler's own.
        detail_sigma_max: Noise at which the detail stage begins; None for the sampler's own levels.
        warnings: Sentences for the user on what lies outside of the model's range.
    """

    slices: int
    spacing_mm: float
    seed: int
    sampler: str
    steps: int
    detail_steps: int
    guidance: float
    body_mm: float
    label: int
    label_name: str
    image_size: int
    anatomy_size: int
    pixel_mm: float
    anatomy_gap_mm: float
    max_gap_mm: float
    body_box: tuple[float, float, float, float]
    known: Mapping[int, NDArray[np.int16]] = field(repr=False)
    coarse_noise: float = 0.0
    sigma_min: float | None = None
    detail_sigma_max: float | None = None
    warnings: tuple[str, ...] = ()


def resolve(
    request: GenerationRequest,
    card: Mapping[str, Any],
    *,
    slices: int,
    spacing_mm: float,
    body_net: BodyPositionNet | None = None,
) -> Settings:
    """Fill up a request from the model's card.

    Args:
        request: What was asked for.
        card: The model's card.
        slices, spacing_mm: Along the body; those of the request, or of its ``like`` as it lies.
        body_net: Says where given slices lie; without it that stays unknown.

    Raises:
        UsageError: If a value makes no sense; the message names it.
        InputError: If a known slice has NaNs or another size than the model's images.
    """
    plan, sampling = card["plan"], card.get("sampling", {})
    if slices < 1 or (request.like is None and slices > MAX_SLICES):
        raise UsageError(f"The number of slices must be 1 to {MAX_SLICES}, got {slices}.")
    if not 0 < spacing_mm < math.inf:
        raise UsageError(f"The distance of slices must be positive in mm, got {spacing_mm}.")
    if request.like is not None and request.known:
        raise UsageError(
            "Known slices and a scan to be like exclude each other.", remedy="Known slices fix the grid already."
        )
    sampler = request.sampler or sampling.get("sampler", DEFAULT_SAMPLER)
    if sampler not in SAMPLERS:
        raise UsageError(f"There is no sampler {sampler!r}.", remedy=f"Use one of {', '.join(SAMPLERS)}.")
    steps, detail_steps = _steps(request, sampler, sampling)
    guidance = float(sampling.get("guidance", 1.0) if request.guidance is None else request.guidance)
    if not 0 <= guidance <= MAX_GUIDANCE:
        raise UsageError(f"The guidance must be 0 to {MAX_GUIDANCE:g}, got {guidance:g}.")
    size = int(plan["image_size"])
    pixel_mm = float(request.pixel_mm or plan["fov_mm"] / size)
    if not 0 < pixel_mm < math.inf:
        raise UsageError(f"The pixel size must be positive in mm, got {pixel_mm}.")
    known = _checked_known(request.known or {}, slices, size)
    extent_mm = (slices - 1) * spacing_mm
    if not known:
        body_mm = choose_body_mm(plan, extent_mm, request.seed)
    elif body_net is not None:
        body_mm, body_box = see_body(body_net, known, slices=slices, spacing_mm=spacing_mm, pixel_mm=pixel_mm)
    else:
        body_mm, body_box = math.nan, (math.nan,) * 4
    if request.body_mm is not None:
        body_mm = float(request.body_mm)
        if not math.isfinite(body_mm):
            raise UsageError(f"The body position must be a number in mm, got {body_mm}.")
    if not known:
        body_box = choose_body_box(plan, body_mm, extent_mm, request.seed, side_mm=pixel_mm * size)
    label_name = request.label or ""
    return Settings(
        slices=slices,
        spacing_mm=spacing_mm,
        seed=int(request.seed),
        sampler=sampler,
        steps=steps,
        detail_steps=detail_steps,
        guidance=guidance,
        body_mm=body_mm,
        label=_label(label_name, card.get("labels", ())),
        label_name=label_name,
        image_size=size,
        anatomy_size=int(plan["anatomy_size"]),
        pixel_mm=pixel_mm,
        anatomy_gap_mm=float(plan["anatomy_gap_mm"]),
        max_gap_mm=float(plan["max_gap_mm"]),
        body_box=body_box,
        known=known,
        coarse_noise=float(sampling.get("coarse_noise", 0.0)),
        sigma_min=float(sampling["anatomy_sigma_min"]) if "anatomy_sigma_min" in sampling else None,
        detail_sigma_max=float(sampling["detail_sigma_max"]) if "detail_sigma_max" in sampling else None,
        warnings=tuple(_warnings(plan, body_mm, slices, spacing_mm)),
    )


def choose_body_mm(plan: Mapping[str, Any], extent_mm: float, seed: int) -> float:
    """Where along the body the middle of a volume of this extent lies, if nobody says.

    Where the volume fits into the body range the model was trained on, at one of the places where its least
    covered part was seen in the most patients (or nearly: 90 % of it), chosen by the seed. A longer one is
    centred on the range.

    Args:
        plan: The card's plan: ``body_mm_range`` and, if there, ``body_mm_coverage`` (patients in equal parts of it).
        extent_mm: From the first slice to the last.
        seed: The request's.
    """
    low, high = (float(v) for v in plan["body_mm_range"])
    if extent_mm >= high - low:
        return (low + high) / 2
    centres = np.linspace(low + extent_mm / 2, high - extent_mm / 2, 101)
    coverage = np.asarray(plan.get("body_mm_coverage") or [1], dtype=float)
    edges = (centres[:, None] + np.linspace(-0.5, 0.5, 41) * extent_mm - low) / (high - low) * len(coverage)
    least = coverage[np.clip(edges.astype(int), 0, len(coverage) - 1)].min(axis=1)
    good = centres[least >= 0.9 * least.max()]
    return float(np.random.default_rng([seed % 2**64, 0xB0D1]).choice(good))


def choose_body_box(
    plan: Mapping[str, Any], body_mm: float, extent_mm: float, seed: int, *, side_mm: float
) -> tuple[float, float, float, float]:
    """Size and place of the body: those of a patient of the training, up to 4 % larger or smaller, by the seed.

    Patients whose scans cover most of the volume come first: a pelvis is not as wide as shoulders.

    Args:
        plan: The card's plan; ``body_boxes_mm`` has a row for each training scan: lowest and highest body position,
            then the edges (front, back, right, left) from the image's middle, in mm.
        body_mm, extent_mm: Middle of the volume along the body, and its length.
        seed: The request's.
        side_mm: Side of the image.

    Returns:
        The edges as parts of the image's side, or NaN where the card has no boxes.
    """
    boxes = np.asarray(plan.get("body_boxes_mm") or [], dtype=float)
    if not len(boxes):
        return (math.nan,) * 4
    low, high = body_mm - extent_mm / 2, body_mm + extent_mm / 2
    shared = np.minimum(boxes[:, 1], high) - np.maximum(boxes[:, 0], low)
    fitting = boxes[shared >= shared.max() - 0.3 * abs(shared.max())]  # negative: none reaches that far
    random = np.random.default_rng([seed % 2**64, 0xB0C5])
    front, back, right, left = random.choice(fitting)[2:] * random.uniform(0.96, 1.04) / side_mm + 0.5
    return float(front), float(back), float(right), float(left)


def _steps(request: GenerationRequest, sampler: str, sampling: Mapping[str, Any]) -> tuple[int, int]:
    defaults = SAMPLERS[sampler].anatomy_steps, SAMPLERS[sampler].detail_steps
    if sampling.get("sampler", DEFAULT_SAMPLER) == sampler:  # the card's numbers mean its own sampler
        defaults = int(sampling.get("anatomy_steps", defaults[0])), int(sampling.get("detail_steps", defaults[1]))
    if defaults[1] == DDPM_STEPS and request.steps is not None:
        defaults = defaults[0], request.steps
    steps = defaults[0] if request.steps is None else request.steps
    detail_steps = defaults[1] if request.detail_steps is None else request.detail_steps
    for value in (steps, detail_steps):
        if not 1 <= value <= MAX_STEPS:
            raise UsageError(f"The number of steps must be 1 to {MAX_STEPS}, got {value}.")
    return steps, detail_steps


def _label(name: str, labels: Sequence[str]) -> int:
    if not name:
        return 0
    if name not in labels:
        known = f"It knows {', '.join(labels)}." if labels else "It was trained without classes."
        raise UsageError(f"The model has no class {name!r}.", remedy=known)
    return 1 + list(labels).index(name)


def _checked_known(known: Mapping[int, NDArray], slices: int, size: int) -> dict[int, NDArray[np.int16]]:
    checked = {}
    for number in sorted(known):
        if not 0 <= number < slices:
            raise UsageError(f"Known slice {number} is not one of the slices 0 to {slices - 1}.")
        pixels = np.asarray(known[number])
        if pixels.shape != (size, size):
            raise InputError(f"Known slice {number} has {pixels.shape} pixels, the model has {size} x {size}.")
        try:
            checked[int(number)] = to_hu_int16(pixels, source=f"known slice {number}")
        except ValueError as error:
            raise InputError(f"{error}.") from error
    return checked


def _warnings(plan: Mapping[str, Any], body_mm: float, slices: int, spacing_mm: float) -> list[str]:
    found = []
    low, high = (float(v) for v in plan["body_mm_range"])
    half = (slices - 1) * spacing_mm / 2
    if body_mm - half < low - 1e-6 or body_mm + half > high + 1e-6:
        found.append(
            f"The volume spans {body_mm - half:.0f} to {body_mm + half:.0f} mm along the body; the model has learnt "
            f"{low:.0f} to {high:.0f} mm: expect poor anatomy beyond."
        )
    least, most = (float(v) for v in plan.get("spacing_mm_range", (0, math.inf)))
    if not least * 0.8 <= spacing_mm <= most * 1.25:
        found.append(f"The model has learnt slices {least:g} to {most:g} mm apart; {spacing_mm:g} mm is beyond that.")
    return found
