"""Models of random weights: they make noise, but go through everything real ones do."""

from __future__ import annotations

from pathlib import Path

import torch

from CTDiffusionLogic.bundle import save_model
from CTDiffusionLogic.denoiser.intensity import KNOTS
from CTDiffusionLogic.denoiser.network import DenoiserConfig, SlabDenoiser


def write_random_model(path: Path, *, image_size: int = 64, steps: int = 2) -> Path:
    """Write one with small networks.

    Args:
        path: The new .safetensors file.
        image_size: Rows and columns of its images, a multiple of 64.
        steps: Of both stages.
    """
    torch.manual_seed(1)
    # EDM's parametrization passes noise on where the other, from weights that begin at zero, makes flat slices.
    common = {"slices": 8, "channels": (32, 32), "layers": 1, "parametrization": "edm"}
    stages = {
        "anatomy": SlabDenoiser(DenoiserConfig(stage="anatomy", attention=True, **common)),
        "detail": SlabDenoiser(DenoiserConfig(stage="detail", attention=False, residual_scale=0.3, **common)),
    }
    tensors = {f"{stage}.{name}": t for stage, net in stages.items() for name, t in net.state_dict().items()}
    card = {
        "name": "noise",
        "stages": {stage: net.config.to_dict() for stage, net in stages.items()},
        "plan": {
            "image_size": image_size,
            "anatomy_size": 32,
            "fov_mm": 384.0,
            "pixel_mm": 384.0 / image_size,
            "pixel_mm_range": [1.0, 8.0],
            "anatomy_gap_mm": 6.0,
            "max_gap_mm": 36.0,
            "spacing_mm_range": [1.0, 8.0],
            "body_mm_range": [0.0, 600.0],
            "body_mm_coverage": [3] * 20,
            "hu_knots": [list(knot) for knot in KNOTS],
        },
        "labels": [],
        "sampling": {"sampler": "multistep", "anatomy_steps": steps, "detail_steps": steps},
        "training": {"patients": 0},
        "limits": ["Makes noise."],
    }
    save_model(path, tensors, card)
    return path


def write_random_fine_model(path: Path, *, coarse_size: int = 64, steps: int = 2, **sampling: object) -> Path:
    """Write a fine model with a small network.

    Args:
        path: The new .safetensors file.
        coarse_size: Rows and columns of the images it refines, a multiple of 4; its own have twice as many.
        steps: Of its stage.
        sampling: More of the card's entry.
    """
    torch.manual_seed(2)
    config = DenoiserConfig(
        stage="detail",
        slices=8,
        channels=(8, 16),
        layers=1,
        attention=False,
        residual_scale=0.1,
        parametrization="edm",
        refiner_channels=8,
        refiner_blocks=1,
    )
    tensors = {f"detail.{name}": t for name, t in SlabDenoiser(config).state_dict().items()}
    card = {
        "name": "finer",
        "stages": {"detail": config.to_dict()},
        "plan": {"image_size": 2 * coarse_size, "anatomy_size": coarse_size, "pixel_mm_range": [0.6, 0.9]},
        "labels": [],
        "sampling": {"sampler": "multistep", "detail_steps": steps, "coarse_noise": 0.01, **sampling},
        "training": {"patients": 0},
        "limits": ["Makes noise."],
    }
    save_model(path, tensors, card)
    return path
