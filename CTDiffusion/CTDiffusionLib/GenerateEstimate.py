"""How long a generation will take and how much memory it needs, about, before it starts. Without torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from .GenerateRequest import GenerateRequest

#: The library's own, which cannot be imported without torch; a test compares.
DEFAULT_STEPS = {"sde": (40, 10), "multistep": (28, 10), "heun": (20, 10), "ddpm": (1000, 1000)}
DEFAULT_SLICES, DEFAULT_SPACING_MM = 64, 3.0
FEATURE_MAPS, REFINER_MAPS, SLAB_COPIES = 32, 4, 16
#: Share of the anatomy stage's passes that guidance doubles where a model has no guide: those at high noise.
GUIDED_SHARE = 19 / 22

#: Seconds per unit of work where a device was never used; one is 10^9 multiplications of the networks' inner layers.
#: "cpu": two cores of a server (measured: 0.18 on one). The other two are guesses by what such devices can do.
DEFAULT_SECONDS_PER_WORK = {"cpu": 0.1, "mps": 0.01, "cuda": 0.002}
#: Until the first pass: Python, PyTorch and the model are loaded.
START_S = {"cpu": 8.0, "mps": 10.0, "cuda": 15.0}
#: Python with PyTorch and a model.
PROGRAM_BYTES = 0.8e9


@dataclass(frozen=True)
class Estimate:
    """What a generation takes, about.

    :param work: in 10^9 multiplications.
    :param seconds: from the click to the volume.
    :param memoryBytes: of the machine; on a GPU the slabs' share is its own.
    :param isMeasured: whether the speed of this device is known from an earlier generation.
    """

    work: float
    seconds: float
    memoryBytes: float
    isMeasured: bool

    @property
    def text(self) -> str:
        """A sentence for the user."""
        words = _("about {time}, about {memory:.1f} GB of memory").format(
            time=durationText(self.seconds), memory=self.memoryBytes / 1e9
        )
        return words if self.isMeasured else _("{words} (a guess until the first volume is made)").format(words=words)


def estimate(
    card: Mapping[str, Any],
    request: GenerateRequest,
    *,
    device: str,
    secondsPerWork: float | None = None,
    shape: tuple[int, ...] | None = None,
    spacingMm: float | None = None,
    known: Collection[int] = (),
    fine: Mapping[str, Any] | None = None,
) -> Estimate:
    """Estimate a generation.

    :param card: of the model.
    :param request: what to generate.
    :param device: "cpu", "cuda" or "mps".
    :param secondsPerWork: measured on it; None if it is not known.
    :param shape: slices, rows, columns of the volume to be like, if there is one.
    :param spacingMm: its distance of slices.
    :param known: slices that are given, from 0, where a real scan is completed.
    :param fine: card of the fine model that makes a larger matrix, if one is wanted.
    :raises KeyError, TypeError, ValueError: if the card is not one of a model that can be used.
    """
    plan, size = card["plan"], int(card["plan"]["image_size"])
    slices = request.slices or (shape[0] if shape else DEFAULT_SLICES)
    work = workOf(
        card,
        slices=slices,
        spacingMm=request.spacingMm or spacingMm or DEFAULT_SPACING_MM,
        steps=request.steps,
        detailSteps=request.detailSteps,
        sampler=request.sampler,
        known=known,
    )
    finest = int(fine["plan"]["image_size"]) if fine is not None else size
    if fine is not None:
        work += fineWork(fine, slices=slices, steps=request.fineSteps)
    rows, columns = shape[1:] if shape else (finest, finest)
    isMeasured = secondsPerWork is not None
    rate = secondsPerWork if secondsPerWork is not None else DEFAULT_SECONDS_PER_WORK[device]
    # Twice, as batches of detail have them: eight of anatomy, and of the fine stage's larger slabs one.
    slabs = max(
        slabBytes(card["stages"]["detail"], size),
        4 * slabBytes(card["stages"]["anatomy"], int(plan["anatomy_size"])),
        slabBytes(fine["stages"]["detail"], finest) / 2 if fine is not None else 0,
    )
    # Slices in the worker (model's size, own size), their file, and the node.
    volume = 2.0 * slices * (size * size + 3 * rows * columns)
    return Estimate(
        work * request.count,
        START_S[device] + rate * work * request.count,
        PROGRAM_BYTES + 2 * slabs + volume,
        isMeasured,
    )


def workOf(
    card: Mapping[str, Any],
    *,
    slices: int,
    spacingMm: float,
    steps: int | None = None,
    detailSteps: int | None = None,
    sampler: str | None = None,
    known: Collection[int] = (),
) -> float:
    """Return the work of one volume in 10^9 multiplications: passes over slabs, as the slab plan has them."""
    from CTDiffusionLogic.slab_plan import detail_passes, plan_volume

    plan, stages = card["plan"], card["stages"]
    passes = _passesOf(card, steps=steps, detailSteps=detailSteps, sampler=sampler)
    slabs = plan_volume(
        slices,
        spacingMm,
        known=known,
        slices=int(stages["anatomy"]["slices"]),
        anatomy_gap_mm=float(plan["anatomy_gap_mm"]),
        max_gap_mm=float(plan["max_gap_mm"]),
    )
    size = int(plan["anatomy_size"])
    passCost = _passCost(stages["anatomy"], size)
    slabPasses = len(slabs.anatomy) * passCost
    if float(card.get("sampling", {}).get("guidance", 1.0)) != 1.0:
        if "guide" in stages:  # guides slabs that begin from nothing
            slabPasses += sum(not slab.known for slab in slabs.anatomy) * _passCost(stages["guide"], size)
        else:
            slabPasses *= 1 + GUIDED_SHARE
    anatomy = passes[0] * slabPasses
    detail = detail_passes(slabs.detail, passes[1]) * _passCost(stages["detail"], int(plan["image_size"]))
    return (anatomy + detail) / 1e9


def fineWork(fine: Mapping[str, Any], *, slices: int, steps: int | None = None) -> float:
    """Return what a fine model adds to workOf: passes over windows of neighbours, as those of detail.

    :param fine: its card.
    :param slices: of the volume.
    :param steps: asked for; None for its own.
    """
    from CTDiffusionLogic.slab_plan import detail_passes, plan_detail

    stage, size = fine["stages"]["detail"], int(fine["plan"]["image_size"])
    blocks = plan_detail(slices, (), slices=int(stage["slices"]))
    return detail_passes(blocks, _passesOf(fine, detailSteps=steps)[1]) * _passCost(stage, size) / 1e9


def stepsOf(
    card: Mapping[str, Any], *, steps: int | None = None, detailSteps: int | None = None, sampler: str | None = None
) -> tuple[int, int]:
    """Return the steps of both stages: those asked for, else the model's."""
    sampling = card.get("sampling", {})
    name = _samplerOf(card, sampler)
    defaults = DEFAULT_STEPS[name]
    if name == sampling.get("sampler", "multistep"):
        defaults = (
            int(sampling.get("anatomy_steps", defaults[0])),
            int(sampling.get("detail_steps", defaults[1])),
        )
    return steps or defaults[0], detailSteps or defaults[1]


def slabBytes(stage: Mapping[str, Any], size: int) -> float:
    """Return the memory of a pass over one slab, as CTDiffusionLogic.memory has it."""
    features = stage["channels"][0] * size**2 // stage["unshuffle"] ** 2
    refined = REFINER_MAPS * stage.get("refiner_channels", 0) * size**2
    return 4.0 * (FEATURE_MAPS * features + refined + SLAB_COPIES * stage["slices"] * size**2)


def durationText(seconds: float) -> str:
    """Return a duration for people, rounded: "40 seconds", "12 minutes", "3 hours"."""
    if seconds < 100:
        return _("{n} seconds").format(n=max(1, int(round(seconds, -1 if seconds >= 10 else 0))))
    if seconds < 100 * 60:
        return _("{n} minutes").format(n=round(seconds / 60))
    return _("{n} hours").format(n=round(seconds / 3600))


def _passesOf(card: Mapping[str, Any], *, sampler: str | None = None, **steps: int | None) -> tuple[int, int]:
    """Passes of both stages over a slab: one a step, or nearly two."""
    anatomy, detail = stepsOf(card, sampler=sampler, **steps)
    return (2 * anatomy - 1, 2 * detail - 1) if _samplerOf(card, sampler) == "heun" else (anatomy, detail)


def _samplerOf(card: Mapping[str, Any], sampler: str | None) -> str:
    return sampler or str(card.get("sampling", {}).get("sampler", "multistep"))


def _passCost(stage: Mapping[str, Any], size: int) -> float:
    """Multiplications of the 3 x 3 convolutions, as CTDiffusionLogic.generation counts them, times nine."""
    side = size / stage["unshuffle"]
    layers = 2 * stage["layers"] + 1
    unet = layers * sum((side / 2**level) ** 2 * width**2 for level, width in enumerate(stage["channels"]))
    return 9 * (unet + stage.get("refiner_blocks", 0) * (size * stage.get("refiner_channels", 0)) ** 2)
