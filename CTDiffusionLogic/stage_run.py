"""One stage at work: batches of slabs through a sampler, within memory, reporting and stopping between passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.denoiser.network import SlabDenoiser
from CTDiffusionLogic.errors import Cancelled, CTDiffusionError, ResourceError
from CTDiffusionLogic.guidance import guided_estimate, passes_at
from CTDiffusionLogic.memory import batch_size, is_out_of_memory
from CTDiffusionLogic.sampling import Pass, Sampler, draw_slices, slice_generators
from CTDiffusionLogic.slab_plan import Slab

#: Told after each step: units done, units in all, seconds left (about), name of the stage.
OnProgress = Callable[[int, int, float, str], None]


def ready_batches(slabs: Sequence[Slab], known: Sequence[int], limit: Callable[[], int]) -> Iterator[list[Slab]]:
    """Batches of slabs that rest on nothing unmade, from the lowest slices up, so that those are final first.

    Args:
        slabs: A plan's, of one stage.
        known: Slices that are given.
        limit: Asked before each batch: how many slabs it may have.
    """
    made, pending = set(known), sorted(slabs, key=lambda slab: slab.new[0])
    while pending:
        batch = [slab for slab in pending if made.issuperset(slab.known)][: limit()]
        yield batch
        made.update(p for slab in batch for p in slab.new)
        done = {id(slab) for slab in batch}
        pending = [slab for slab in pending if id(slab) not in done]


@dataclass
class Meter:
    """Progress over all stages, in units of an anatomy pass over one slab, and whether to stop.

    Args:
        units: Units of each stage in all.
        on_progress: Told after each pass.
        is_cancelled: Asked after each pass.
    """

    units: Mapping[str, int]
    on_progress: OnProgress | None = None
    is_cancelled: Callable[[], bool] | None = None
    _done: dict[str, int] = field(default_factory=dict)
    _spent: dict[str, float] = field(default_factory=dict)
    _worked: dict[str, int] = field(default_factory=dict)
    _clock: float = 0.0

    def start(self) -> None:
        """Begin a batch."""
        self.check()
        self._clock = time.perf_counter()

    def check(self) -> None:
        """Raise :class:`Cancelled` if the user has asked to stop."""
        if self.is_cancelled is not None and self.is_cancelled():
            raise Cancelled()

    def passed(self, stage: str, units: int, done: int) -> None:
        """Note ``units`` of work that bring ``stage`` to ``done``; less than before where a batch is run again."""
        now = time.perf_counter()
        self._spent[stage] = self._spent.get(stage, 0.0) + now - self._clock
        self._worked[stage] = self._worked.get(stage, 0) + units
        self._clock = now
        self._done[stage] = max(done, self._done.get(stage, 0))
        if self.on_progress is not None:
            rate = self._spent[stage] / self._worked[stage]
            total, so_far = sum(self.units.values()), sum(self._done.values())
            self.on_progress(so_far, total, rate * max(0, total - so_far), stage)
        self.check()


@dataclass
class StageRun:
    """Makes slabs with one denoiser.

    Args:
        denoiser: The stage's, on ``device``.
        size: Pixels per side.
        sampler, steps: How.
        seed: Of the noise.
        device: Where the denoiser is.
        meter: Told of each pass; may raise.
        unit: What a pass over one slab counts in the meter's units; steps guided without a guide take two.
        name: Of the stage, in its noise, in progress and in messages; "": that of the denoiser.
        guidance, guide: See :func:`~CTDiffusionLogic.guidance.guided_estimate`; the guide is a fraction of the
            denoiser's size, and its passes are not counted.
        sigma_min: See :meth:`~CTDiffusionLogic.sampling.Sampler.times`; with it, what is made is the denoiser's
            estimate at the last of its levels, not what the sampler makes of several: the next stage has learnt to
            refine that.
        sigma_max: See there, too.
        on_warning: Told when a batch had to be halved.
    """

    denoiser: SlabDenoiser
    size: int
    sampler: Sampler
    steps: int
    seed: int
    device: torch.device
    meter: Meter
    unit: int = 1
    name: str = ""
    guidance: float = 1.0
    guide: SlabDenoiser | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    on_warning: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        self.stage: str = self.denoiser.config.stage
        self.name = self.name or self.stage
        self.batch = batch_size(self.denoiser.config, self.size, self.device)
        #: Units of work that are done for good.
        self.finished = 0
        #: Units that one slab has cost after each step of the sampler.
        self.costs: list[int] = list(
            accumulate(
                self.unit * (1 if self.guide is not None else passes_at(t, self.guidance))
                for t in self.sampler.levels(
                    self.stage, self.steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max
                )
            )
        )

    def make(self, slabs: Sequence[Slab], conditions: Callable[[Slab], SlabConditions]) -> Tensor:
        """Make slabs that are independent of each other; (B, K, size, size) on the CPU, in the stage's space.

        When memory runs out the batch is halved, for good, and what was lost is made again with the same noise.

        Args:
            slabs: At least one.
            conditions: What the denoiser is told about a slab, as a batch of one, on the CPU.

        Raises:
            Cancelled: If the meter's owner asked for it.
            ResourceError: If memory does not even suffice for one slab.
            CTDiffusionError: If the denoiser gives values that are not numbers.
        """
        parts: list[Tensor] = []
        while len(parts) < len(slabs):
            now = slabs[len(parts) : len(parts) + self.batch]
            try:
                parts += list(self._sample(now, SlabConditions.cat([conditions(slab) for slab in now])))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self.halve(len(now))
            # Outside of the handler: inside it the traceback still holds the tensors of the failed pass.
            if self.device.type == "cuda" and len(parts) < len(slabs):
                torch.cuda.empty_cache()
        return torch.stack(parts)

    def times(self) -> list[float]:
        """Noise levels of the sampler."""
        return self.sampler.times(self.stage, self.steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max)

    def passed(self, slabs: int) -> None:
        """Note a pass of the denoiser over so many slabs, which is done for good."""
        self.finished += self.unit * slabs
        self.meter.passed(self.name, self.unit * slabs, self.finished)

    def halve(self, tried: int) -> None:
        """Have fewer slabs at once than were tried, for good.

        Raises:
            ResourceError: If it was one.
        """
        if tried == 1:
            raise ResourceError(
                f"Memory on {self.device} does not suffice for a single slab of {self.size} x {self.size} pixels "
                f"({self.name} stage).",
                remedy="Close other programs, or use --device cpu.",
            )
        self.batch = max(1, tried // 2)
        if self.on_warning is not None:
            self.on_warning(
                f"Memory on {self.device} ran out with {tried} slabs at once ({self.name} stage); "
                f"going on with {self.batch}."
            )

    def require_numbers(self, made: Tensor) -> None:
        """Raise :class:`CTDiffusionError` if the denoiser gave values that are not numbers."""
        if not torch.isfinite(made).all():
            raise CTDiffusionError(
                f"The model's {self.name} stage gave values that are not numbers.",
                remedy="Use another model file, or another device (--device cpu).",
            )

    @torch.inference_mode()
    def _sample(self, slabs: Sequence[Slab], conditions: SlabConditions) -> Tensor:
        conditions = conditions.to(self.device)
        generators = [slice_generators(self.seed, self.name, slab.positions) for slab in slabs]
        count = len(slabs)
        is_guided = self.guide is None or not all(slab.known for slab in slabs)
        strength = self.guidance if is_guided else 1.0

        def noise() -> Tensor:
            return draw_slices(generators, (self.size, self.size)).to(self.device)

        def model(x: Tensor, t: float) -> Tensor:
            return guided_estimate(self.denoiser, x, t, conditions, strength=strength, guide=self.guide)

        estimate: Tensor | None = None

        def report(step: Pass) -> None:
            nonlocal estimate
            estimate = step.denoised
            cost = self.costs[step.number]
            last = self.costs[step.number - 1] if step.number else 0
            self.meter.passed(self.name, (cost - last) * count, self.finished + cost * count)

        self.meter.start()
        x = self.sampler.run_of(self.stage)(
            model,
            noise(),
            self.times(),
            noise=noise,
            callback=report,
        )
        if self.sigma_min is not None and estimate is not None:
            x = estimate
        known = conditions.mask[:, :, None, None] > 0
        made = torch.where(known, conditions.known, x).float().cpu()
        self.require_numbers(made)
        self.finished += self.costs[-1] * count
        return made
