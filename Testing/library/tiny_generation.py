"""A real, tiny, untrained denoiser for both stages, and what the tests of generation share."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import torch

from CTDiffusionLogic.denoiser.network import DenoiserConfig, SlabDenoiser
from CTDiffusionLogic.generation import GenerationModel
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import CTVolume

SIZE = 32


CARD = {
    "name": "tiny",
    "plan": {
        "image_size": SIZE,
        "anatomy_size": 16,
        "fov_mm": 320.0,
        "anatomy_gap_mm": 6.0,
        "max_gap_mm": 36.0,
        "spacing_mm_range": [1.0, 8.0],
        "body_mm_range": [100.0, 500.0],
    },
    "labels": ["chest", "abdomen"],
    "sampling": {"sampler": "multistep", "anatomy_steps": 3, "detail_steps": 2},
}


@cache
def tiny_denoisers():
    torch.manual_seed(0)
    common = {"slices": 8, "channels": (8, 16), "layers": 1, "attention": False, "labels": 2}
    anatomy = SlabDenoiser(DenoiserConfig(stage="anatomy", **common))
    detail = SlabDenoiser(DenoiserConfig(stage="detail", residual_scale=0.2, **common))
    for network in (anatomy, detail):
        # Zero before training: nothing would depend on it.
        torch.nn.init.normal_(network.unet.conv_out.weight, std=0.1)
        torch.nn.init.normal_(network.embed_label.weight)
        network.eval().requires_grad_(False)
    return anatomy, detail


def tiny_model():
    return GenerationModel(*tiny_denoisers(), CARD, "tiny", "ab" * 32, torch.device("cpu"))


class Recorder:
    """Collects what a generation tells."""

    def __init__(self, cancel_after=None):
        self.progress, self.blocks, self.warnings = [], [], []
        self.cancel_after = cancel_after

    def callbacks(self):
        return {
            "on_progress": lambda *event: self.progress.append(event),
            "on_slices": lambda first, hu: self.blocks.append((first, hu.copy())),
            "on_warning": self.warnings.append,
            "is_cancelled": self.is_cancelled,
        }

    def is_cancelled(self):
        return self.cancel_after is not None and len(self.progress) >= self.cancel_after


def replaced(model, **changes):
    return dataclasses.replace(model, **changes)


class Wrapped(torch.nn.Module):
    """A denoiser whose calls are seen, and may fail."""

    def __init__(self, inner, before):
        super().__init__()
        self.inner, self.config, self.before = inner, inner.config, before

    def forward(self, x_t, t, conditions):
        self.before(x_t, t, conditions)
        return self.inner(x_t, t, conditions)


def real_slice(number):
    rng = np.random.default_rng(number)
    return rng.integers(-1024, 3072, size=(SIZE, SIZE)).astype(np.int16)


def like_volume(direction, shape=(10, 40, 50), spacing=(3.0, 4.0, 5.0)):
    geometry = Geometry(spacing, (7.0, -3.0, 11.0), np.array(direction, dtype=float))
    return CTVolume(np.zeros(shape, dtype=np.int16), geometry)
