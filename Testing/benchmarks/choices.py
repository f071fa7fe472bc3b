"""Choices of the training recipe: what each changes about the shipped one. Plain data; see training_choices.py.

A choice belongs to a question (parametrisation, noise levels, ...). It changes the network's configuration, the loss,
the data, the optimisation or the sampling; all else is as shipped. Choices with ``trained`` are made with the weights
of that choice and cost no training of their own.

"v" needs no row of its own where data have unit variance in the network's units: with sigma = t / (1 - t), EDM's
target is v = cos(phi) noise - sin(phi) x0 / sigma_data with tan(phi) = sigma / sigma_data, sign aside (Salimans & Ho
2022, Karras et al. 2022). The row "v" is the one of the paper, without that scaling of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from CTDiffusionLogic.corpus import slabs
from CTDiffusionLogic.corpus.augment import Crop
from CTDiffusionLogic.noise import SlabLoss

#: The row that all others are set beside.
SHIPPED = "shipped"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One change.

    Args:
        question: What is asked; rows of one question stand together.
        network: Of :class:`~CTDiffusionLogic.denoiser.network.DenoiserConfig`.
        loss: Of :class:`RuledLoss`.
        data: Names in :data:`DATA_CHANGES`.
        plan: Of the corpus plan.
        optimiser: "batch" (slabs a step), "learning_rate" (times the shipped one), "cooldown" (share of the
            budget), "level_shift" (of the first steps), "muon" (False: AdamW for all weights).
        sampling: Of the card.
        trained: Whose weights are used; "" for its own.
        baseline: Another library's recipe, see training_baselines.py: "MONAI" or "diffusers".
        options: Of the baseline; "ema": which average of the weights, 0 for none.
    """

    question: str
    network: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)
    optimiser: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    trained: str = ""
    baseline: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


#: Weights of the squared error of x0 at sigma = t / (1 - t), beside the shipped one of SlabLoss.
RULES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "noise": lambda sigma, sd: sigma.clamp(min=0.02) ** -2,  # DDPM's simple loss
    "x0": lambda sigma, sd: 0 * sigma + sd**-2,
    "velocity": lambda sigma, sd: (1 + 1 / sigma.clamp(min=0.02)) ** 2,  # flow matching's loss, 1 / t^2
    "min-SNR 5": lambda sigma, sd: sd**-2 * ((sd / sigma.clamp(min=1e-3)) ** 2).clamp(max=5.0),
}


@dataclass(frozen=True, kw_only=True)
class RuledLoss(SlabLoss):
    """The loss with another weight, named in :data:`RULES`; "" for the shipped one."""

    rule: str = ""

    def weight(self, t: Tensor) -> Tensor:
        """Weight of the squared error at noise levels ``t``, same shape."""
        if not self.rule:
            return super().weight(t)
        return RULES[self.rule](t / (1 - t).clamp(min=1e-6), self.sigma_data)


CHOICES: dict[str, Choice] = {
    SHIPPED: Choice(question="shipped"),
    "x0, without skip": Choice(question="parametrisation", network={"skip_sigma": 0.0}, loss={"sigma_floor": 0.3}),
    "EDM": Choice(question="parametrisation", network={"parametrization": "edm"}, loss={"sigma_floor": 0.0}),
    "v": Choice(
        question="parametrisation",
        network={"parametrization": "edm", "sigma_data": 1.0},
        loss={"sigma_floor": 0.0, "sigma_data": 1.0},
    ),
    "flow matching": Choice(
        question="parametrisation", network={"parametrization": "flow"}, loss={"rule": "velocity"}
    ),
    "low levels from the start (-0.2, 1.5)": Choice(question="noise levels", optimiser={"level_shift": 0.0}),
    "levels of EDM (-1.2, 1.2)": Choice(
        question="noise levels", loss={"mean": -1.2, "std": 1.2}, optimiser={"level_shift": 0.0}
    ),
    "high levels to the end (0.4, 1.7)": Choice(
        question="noise levels", loss={"mean": 0.4, "std": 1.7}, optimiser={"level_shift": 0.0}
    ),
    "higher ones (1.2, 1.7)": Choice(
        question="noise levels", loss={"mean": 1.2, "std": 1.7}, optimiser={"level_shift": 0.0}
    ),
    "weight: EDM's, no floor": Choice(question="loss weighting", loss={"sigma_floor": 0.02}),
    "weight: x0": Choice(question="loss weighting", loss={"rule": "x0"}),
    "weight: noise (DDPM)": Choice(question="loss weighting", loss={"rule": "noise"}),
    "weight: min-SNR 5": Choice(question="loss weighting", loss={"rule": "min-SNR 5"}),
    "slabs of 4": Choice(question="slab length", network={"slices": 4}, optimiser={"batch": 24}),
    "slabs of 12": Choice(question="slab length", network={"slices": 12}, optimiser={"batch": 8}),
    "slabs of 16": Choice(question="slab length", network={"slices": 16}, optimiser={"batch": 6}),
    "gaps up to 12 mm": Choice(question="z-gaps", plan={"max_gap_mm": 12.0}),
    "gaps up to 24 mm": Choice(question="z-gaps", plan={"max_gap_mm": 24.0}),
    "short gaps drawn more often": Choice(question="z-gaps", data=("short gaps",)),
    "known slices: half as often": Choice(question="known slices", data=("known rarely",)),
    "known slices: more often": Choice(question="known slices", data=("known often",)),
    "known slices never corrupted": Choice(question="known slices", data=("known clean",)),
    "known slices corrupted twice as much": Choice(question="known slices", data=("known noisy",)),
    "three levels": Choice(question="shape", network={"channels": (24, 40, 64)}),
    "one level": Choice(question="shape", network={"channels": (32,), "layers": 2}),
    "wider": Choice(question="shape", network={"channels": (32, 56)}),
    "deep and narrow": Choice(question="shape", network={"channels": (16, 32), "layers": 2}),
    "4x unshuffle, wide": Choice(question="shape", network={"unshuffle": 4, "channels": (48, 80)}),
    "no attention": Choice(question="shape", network={"attention": False}),
    "attention at the bottleneck, too": Choice(question="shape", network={"mid_attention": True}),
    "no refiner, wider": Choice(question="shape", network={"refiner_channels": 0, "channels": (32, 48)}),
    "larger refiner, narrower": Choice(
        question="shape", network={"refiner_channels": 24, "refiner_blocks": 2, "channels": (16, 32)}
    ),
    "no augmentation": Choice(question="augmentation", data=("no crop", "no height", "no jitter")),
    "no crop": Choice(question="augmentation", data=("no crop",)),
    "half the crop": Choice(question="augmentation", data=("half the crop",)),
    "twice the crop": Choice(question="augmentation", data=("twice the crop",)),
    "no height": Choice(question="augmentation", data=("no height",)),
    "AdamW for all": Choice(question="optimisation", optimiser={"muon": False}),
    "AdamW for all, 0.4 times the learning rate": Choice(
        question="optimisation", optimiser={"muon": False, "learning_rate": 0.4}
    ),
    "batch 24": Choice(question="optimisation", optimiser={"batch": 24}),
    "batch 6": Choice(question="optimisation", optimiser={"batch": 6}),
    "half the learning rate": Choice(question="optimisation", optimiser={"learning_rate": 0.5}),
    "twice the learning rate": Choice(question="optimisation", optimiser={"learning_rate": 2.0}),
    "no cooldown": Choice(question="optimisation", optimiser={"cooldown": 0.0}),
    "cooldown over half of the time": Choice(question="optimisation", optimiser={"cooldown": 0.5}),
    "no EMA": Choice(question="EMA", trained=SHIPPED, options={"ema": 0.0}),
    "EMA 0.99": Choice(question="EMA", trained=SHIPPED, options={"ema": 0.99}),
    "EMA 0.9995": Choice(question="EMA", trained=SHIPPED, options={"ema": 0.9995}),
    "EMA 0.9999": Choice(question="EMA", trained=SHIPPED, options={"ema": 0.9999}),
    "guidance 1.5": Choice(question="guidance", trained=SHIPPED, sampling={"guidance": 1.5}),
    "guidance 2": Choice(question="guidance", trained=SHIPPED, sampling={"guidance": 2.0}),
    "guidance 3": Choice(question="guidance", trained=SHIPPED, sampling={"guidance": 3.0}),
    "MONAI 2D DDPM": Choice(question="other recipes", baseline="MONAI"),
    "MONAI 2D DDPM, our learning rate": Choice(
        question="other recipes", baseline="MONAI", options={"learning_rate": 1e-3}
    ),
    "MONAI 2D DDPM, published network": Choice(
        question="other recipes",
        baseline="MONAI",
        options={"channels": (128, 256, 256), "layers": 1, "attention": (False, True, True)},
    ),
    "diffusers unconditional": Choice(question="other recipes", baseline="diffusers"),
    "diffusers unconditional, our learning rate": Choice(
        question="other recipes", baseline="diffusers", options={"learning_rate": 1e-3}
    ),
    "diffusers unconditional, published network": Choice(
        question="other recipes",
        baseline="diffusers",
        options={
            "channels": (128, 128, 256, 256, 512, 512),
            "layers": 2,
            "attention": (False, False, False, False, True, False),
        },
    ),
}
QUESTIONS = tuple(dict.fromkeys(choice.question for choice in CHOICES.values()))
#: Averages of the weights that the training of the shipped recipe keeps, for the question of EMA.
EMA_DECAYS = tuple(c.options["ema"] for c in CHOICES.values() if c.question == "EMA" and c.options["ema"])


def _known_rarely(
    count: int, gap_mm: float, max_gap_mm: float, rng: np.random.Generator, *, slices: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    positions, mask = _draw(count, gap_mm, max_gap_mm, rng, slices=slices)
    return positions, mask if rng.random() < 0.5 else np.zeros_like(mask)


def _known_often(
    count: int, gap_mm: float, max_gap_mm: float, rng: np.random.Generator, *, slices: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    positions, mask = _draw(count, gap_mm, max_gap_mm, rng, slices=slices)
    return (positions, mask) if mask.any() else _draw(count, gap_mm, max_gap_mm, rng, slices=slices)


def _short_gaps(
    count: int, gap_mm: float, max_gap_mm: float, rng: np.random.Generator, *, slices: int, power: float
) -> int:
    return _step(count, gap_mm, max_gap_mm, rng, slices=slices, power=2.0)


def _noisy(x0: NDArray[np.float32], mask: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    return x0 + 2 * (_corrupt(x0, mask, rng) - x0)


def _whole(size: int, rng: np.random.Generator) -> Crop:
    return Crop(0, 0, size, size, 1.0)


def _half(size: int, rng: np.random.Generator) -> Crop:
    once = _crop(size, rng)
    height, width = ((side + size) // 2 for side in (once.height, once.width))
    return Crop(once.top // 2, once.left // 2, height, width, (1 + once.pixel_factor) / 2)


def _twice(size: int, rng: np.random.Generator) -> Crop:
    once = _crop(size, rng)
    height, width = (max(16, 2 * side - size) for side in (once.height, once.width))
    return Crop(2 * once.top, 2 * once.left, height, width, 2 * once.pixel_factor - 1)


_draw, _step, _corrupt, _crop = (
    slabs.draw_anatomy_positions,
    slabs.draw_step,
    slabs.corrupt_known,
    slabs.draw_crop,
)
#: What of the module that cuts slabs is replaced while a choice trains.
DATA_CHANGES: dict[str, tuple[str, Callable[..., Any]]] = {
    "short gaps": ("draw_step", _short_gaps),
    "known rarely": ("draw_anatomy_positions", _known_rarely),
    "known often": ("draw_anatomy_positions", _known_often),
    "known clean": ("corrupt_known", lambda x0, mask, rng: x0),
    "known noisy": ("corrupt_known", _noisy),
    "no crop": ("draw_crop", _whole),
    "half the crop": ("draw_crop", _half),
    "twice the crop": ("draw_crop", _twice),
    "no height": ("draw_height", lambda rng: 1.0),
    "no jitter": ("jitter_hu", lambda hu, rng: np.asarray(hu)),
}


@contextmanager
def data_as(choice: Choice) -> Iterator[None]:
    """Slabs are cut as a choice says."""
    with ExitStack() as stack:
        for name in choice.data:
            function, replacement = DATA_CHANGES[name]
            stack.enter_context(patch.object(slabs, function, replacement))
        yield
