"""One stage in training: network, moving average, optimiser, loss, and its batches."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from CTDiffusionLogic.bundle import GUIDE
from CTDiffusionLogic.corpus.patches import PatchStream
from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.corpus.stream import SlabStream, made_ahead
from CTDiffusionLogic.denoiser.network import DenoiserConfig, SlabDenoiser
from CTDiffusionLogic.noise import SlabLoss
from CTDiffusionLogic.training.batches import PatchBatch, ReadyBatch, compute_alone
from CTDiffusionLogic.training.muon import STATE_KEYS, make_optimizers
from CTDiffusionLogic.training.options import Preset, StageName, StagePreset
from CTDiffusionLogic.training.schedule import LevelFall, learning_rate

STAGES: tuple[StageName, ...] = ("anatomy", "detail", "guide")
#: Noise of these fixed batches measures the held-out loss, the same at every epoch.
HELD_OUT_BATCHES = 4
#: Steps from which a guide is good enough to guide: away from one that knows little, images only become brighter. On
#: the way to the bundled model the Frechet distance to held-out patients was 64 with a guide of 214 steps, 43 with one
#: of 789.
GUIDE_READY = 500
_REFINER = "refiner."
#: Share of the learning rate for fine-tuning. With all of it the bundled model's loss on held-out slabs rose from
#: 0.1135 to 0.1216 over the first three epochs; with half of it, it fell to 0.1108.
FINE_TUNING_RATE = 0.5


class StageTrainer:
    """Trains one stage, a step at a time.

    Args:
        stage: "anatomy", "detail", or "guide", which learns what anatomy learns.
        preset: The recipe.
        plan, cache: The corpus.
        accelerator: accelerate's; moves, wraps and synchronises the network.
        seed: Of weights, batches and noise.
        anatomy: What a detail stage refines is estimated by it, with its averaged weights; None: scans averaged.
    """

    def __init__(
        self,
        stage: StageName,
        preset: Preset,
        plan: CorpusPlan,
        cache: Path,
        accelerator: Any,
        *,
        seed: int,
        anatomy: StageTrainer | None = None,
    ) -> None:
        self.stage, self.preset, self.accelerator, self.seed = stage, preset, accelerator, seed
        self.plan, self.anatomy = plan, anatomy
        self.recipe: StagePreset = preset.stages[stage]
        #: Whether a trained model is the start: noise levels then do not come down from high ones, and the learning
        #: rate is lower.
        self.is_fine_tuning = False
        #: Whether its first weights were a model's; then it is good enough for a model from the start.
        self.is_given = False
        #: It learns at every so many steps.
        self.every = self.recipe.every
        #: How noise levels come down, where they do.
        self.level_fall = LevelFall(end=preset.level_steps)
        kind: Literal["anatomy", "detail"] = "detail" if stage == "detail" else "anatomy"
        config = DenoiserConfig(
            stage=kind,
            slices=preset.slices,
            channels=self.recipe.channels,
            layers=self.recipe.layers,
            attention=self.recipe.attention,
            labels=len(plan.labels),
            sigma_data=plan.sigma_data[kind],
            residual_scale=plan.residual_scale if stage == "detail" else 1.0,
            parametrization=self.recipe.parametrization,
            skip_sigma=self.recipe.skip_sigma,
            mid_attention=self.recipe.mid_attention,
            refiner_channels=self.recipe.refiner_channels,
            refiner_blocks=self.recipe.refiner_blocks,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = SlabDenoiser(config)
        self.loss = SlabLoss(
            mean=self.recipe.level_mean,
            std=self.recipe.level_std,
            sigma_data=config.sigma_data,
            sigma_floor=self.recipe.sigma_floor,
        )
        shared: dict[str, Any] = {
            "slices": preset.slices,
            "patch": min(preset.patch, plan.image_size),
            "seed": seed,
            "batch": self.recipe.batch,
            "coarse_noise": self.recipe.coarse_noise,
        }
        make = SlabStream if anatomy is None else PatchStream
        self.stream = make(plan, cache, stage=kind, **shared)
        self.held_out = make(plan, cache, stage=kind, split="held-out", **shared) if plan.held_out else None
        self._held_out_batches: list[ReadyBatch | PatchBatch] = []
        self._is_on_gpu = accelerator.device.type == "cuda"
        self._averaged = copy.deepcopy(self.network).requires_grad_(False).eval().to(accelerator.device)
        self.wrapped, *self.optimizers = accelerator.prepare(
            self.network, *make_optimizers(self.network, lr=self.recipe.learning_rate)
        )
        self.ema = EMAModel(
            self.network.parameters(), decay=preset.ema_decay, use_ema_warmup=True, power=0.75, foreach=True
        )
        self.ema.to(accelerator.device)

    def numbers(self, step: int) -> Iterator[int]:
        """Batch numbers of this process for the steps it takes from ``step`` on: the processes take turns."""
        for later in itertools.count(step):
            if self.takes(later):
                yield later * self.accelerator.num_processes + self.accelerator.process_index

    def ready(self, number: int, *, held_out: bool = False) -> ReadyBatch | PatchBatch:
        """Make batch ``number``, its noise drawn from the seed and the number alone; for a GPU in pinned memory."""
        stream = self.held_out if held_out and self.held_out is not None else self.stream
        generator = torch.Generator().manual_seed(_seed_of(self.seed, STAGES.index(self.stage), number, int(held_out)))
        shift = 0.0
        if not held_out:
            step = number // self.accelerator.num_processes
            first = 0.0 if self.is_fine_tuning else self.recipe.level_shift
            shift = first * self.level_fall.part(step)
        batch: ReadyBatch | PatchBatch
        if isinstance(stream, PatchStream):
            patches = stream.patches(number)
            t = self.loss.draw_levels(len(patches.images), generator, shift=shift)
            noise = torch.randn(patches.images.shape, generator=generator)
            low, high = (math.log(sigma) for sigma in self.recipe.estimated_from)
            sigma = (low + (high - low) * torch.rand(len(t), generator=generator)).exp()
            batch = PatchBatch(patches, noise, t, torch.randn(patches.around.shape, generator=generator), sigma)
        else:
            x0, conditions = stream.batch(number)
            t = self.loss.draw_levels(len(x0), generator, shift=shift)
            batch = ReadyBatch(x0, torch.randn(x0.shape, generator=generator), t, conditions)
        return batch.pinned() if self._is_on_gpu else batch

    def batches(self, numbers: Iterator[int], *, threads: int) -> Generator[ReadyBatch | PatchBatch, None, None]:
        """Yield the batches with these numbers, made ahead by so many threads."""
        at_start = compute_alone if self._is_on_gpu else None
        return made_ahead(self.ready, numbers, threads=threads, ahead=max(4, threads + 2), at_start=at_start)

    def takes(self, step: int) -> bool:
        """Whether this stage learns at ``step``."""
        return step % self.every == 0

    @property
    def is_ready(self) -> bool:
        """Whether it belongs into a model: a guide must have learnt something."""
        return self.stage != GUIDE or self.is_given or self.ema.optimization_step >= GUIDE_READY

    def train_step(
        self, step: int, batch: ReadyBatch | PatchBatch, *, rate_factor: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Take one optimiser step; returns loss and gradient norm as tensors (no waiting for the device).

        Args:
            step: Its number.
            batch: Of :meth:`ready`.
            rate_factor: Of the learning rate; see :class:`~CTDiffusionLogic.training.schedule.Cooldown`.
        """
        rate = rate_factor * learning_rate(
            step,
            peak=self.recipe.learning_rate * (FINE_TUNING_RATE if self.is_fine_tuning else 1.0),
            warmup_steps=self.preset.warmup_steps,
            decay_steps=self.preset.decay_steps,
        )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self.wrapped, self._on_device(batch))
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.ema.step(self.network.parameters())
        return loss.detach(), norm

    @torch.no_grad()
    def held_out_loss(self) -> float | None:
        """Loss of the averaged weights on fixed slabs and noise of held-out patients; None if there are none."""
        if self.held_out is None:
            return None
        if not self._held_out_batches:  # once: an epoch of few scans on a GPU takes less time than to make them
            made = (self.ready(number, held_out=True) for number in range(HELD_OUT_BATCHES))
            self._held_out_batches = [batch.to(self.accelerator.device) for batch in made]
        losses = [self._loss(self.averaged(), self._on_device(batch)) for batch in self._held_out_batches]
        return float(torch.stack(losses).mean())

    def averaged(self) -> SlabDenoiser:
        """The network in evaluation mode, its weights the averages themselves: they go on with the training.

        Nothing is copied, since a detail stage asks for the anatomy network at every step.
        """
        for parameter, average in zip(self._averaged.parameters(), self.ema.shadow_params, strict=True):
            parameter.data = average  # anew each time: who had it may have laid its weights out otherwise
        return self._averaged

    def averaged_weights(self) -> dict[str, Tensor]:
        """EMA weights by parameter name, on the CPU, for a model file."""
        names = [name for name, _ in self.network.named_parameters()]
        return {n: p.detach().cpu() for n, p in zip(names, self.ema.shadow_params, strict=True)}

    def state(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs, as plain tensors."""
        tensors: dict[str, Tensor] = {}
        for (name, parameter), shadow in zip(self.network.named_parameters(), self.ema.shadow_params, strict=True):
            tensors[f"weights.{name}"] = parameter.detach()
            tensors[f"ema.{name}"] = shadow
            for optimizer in self.optimizers:
                for key, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value)
        tensors["ema_step"] = torch.tensor(self.ema.optimization_step)
        tensors["given"] = torch.tensor(self.is_given)
        return tensors

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of :meth:`state`; raises KeyError or RuntimeError when the tensors are of another network."""
        device = self.accelerator.device
        for (name, parameter), shadow in zip(self.network.named_parameters(), self.ema.shadow_params, strict=True):
            parameter.copy_(tensors[f"weights.{name}"])
            shadow.copy_(tensors[f"ema.{name}"])
        for optimizer, keys in zip(self.optimizers, STATE_KEYS, strict=True):
            own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            for name, parameter in self.network.named_parameters():
                found = [key for key in keys if id(parameter) in own and f"optimizer.{key}.{name}" in tensors]
                state = {}
                for key in found:
                    value = tensors[f"optimizer.{key}.{name}"].to(device)
                    state[key] = value if key == "step" else torch.empty_like(parameter).copy_(value)
                if state:
                    optimizer.state[parameter] = state
        self.ema.optimization_step = int(tensors["ema_step"])
        self.is_given = bool(tensors.get("given", False))

    @torch.no_grad()
    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Start from a model file's weights (names without the stage); raises RuntimeError when they do not fit.

        Where they have no refiner, this network's begins anew: it adds nothing at first.
        """
        own = self.network.state_dict()
        has_refiner = any(name.startswith(_REFINER) for name in weights)
        begun = {} if has_refiner else {name: value for name, value in own.items() if name.startswith(_REFINER)}
        self.network.load_state_dict({**begun, **weights})
        self.is_given = True
        for shadow, parameter in zip(self.ema.shadow_params, self.network.parameters(), strict=True):
            shadow.copy_(parameter)

    def _on_device(self, batch: ReadyBatch | PatchBatch) -> ReadyBatch:
        """The batch on the device; what a detail stage refines is what the anatomy network makes of it now."""
        there = batch.to(self.accelerator.device)
        if isinstance(there, ReadyBatch):
            return there
        assert self.anatomy is not None
        with self.accelerator.autocast():
            return there.refining(
                self.anatomy.averaged(), image_size=self.plan.image_size, scale=self.plan.residual_scale
            )

    def _loss(self, network: torch.nn.Module, batch: ReadyBatch) -> Tensor:
        """Mean loss of a batch."""
        with self.accelerator.autocast():
            return self.loss(network, batch.x0, batch.noise, batch.t, batch.conditions).mean()


def _seed_of(*numbers: int) -> int:
    """One seed from several numbers, the same on every machine."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
