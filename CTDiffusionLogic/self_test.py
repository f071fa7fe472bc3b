"""Generate one tiny slice: goes through everything a generation needs. Used by ``ctdiffusion doctor --generate``."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from CTDiffusionLogic.models import DEFAULT_MODEL, bundled_models


def generate_one_slice() -> str:
    """Generate a slice on the CPU, with the bundled model if there is one, else with random weights.

    Returns:
        What was made, by what, and how long it took; one line.

    Raises:
        CTDiffusionError: If it cannot be done, for a reason that is known.
        RuntimeError: If the result is not what was asked for.
    """
    from CTDiffusionLogic.bundle import load_model
    from CTDiffusionLogic.generation import generate
    from CTDiffusionLogic.generation_request import GenerationRequest

    began = time.monotonic()
    models = bundled_models()
    with tempfile.TemporaryDirectory(prefix="ctdiffusion-") as folder:
        if models:
            name = DEFAULT_MODEL if DEFAULT_MODEL in models else min(models)
            path, what = models[name], f"the model {name}"
        else:
            path, what = _write_random_model(Path(folder) / "random.safetensors"), "random weights"
        volume = generate(load_model(path), GenerationRequest(slices=1, seed=0, steps=1, detail_steps=1), device="cpu")
    if volume.hu.shape[0] != 1 or volume.hu.min() == volume.hu.max():
        raise RuntimeError(f"the slice is empty (shape {volume.hu.shape}, HU {volume.hu.min()})")
    size = " x ".join(map(str, volume.hu.shape[1:]))
    return f"one slice of {size} pixels with {what} in {time.monotonic() - began:.1f} s"


def _write_random_model(path: Path) -> Path:
    """Write a model of the smallest networks there can be; it makes noise."""
    import torch

    from CTDiffusionLogic.bundle import save_model
    from CTDiffusionLogic.denoiser.intensity import KNOTS
    from CTDiffusionLogic.denoiser.network import DenoiserConfig, SlabDenoiser

    torch.manual_seed(0)
    configs = {
        # EDM's parametrization passes the noise on; the other, from weights that begin at zero, makes flat slices.
        stage: DenoiserConfig(
            stage=stage, slices=8, channels=(32, 32), layers=1, attention=False, parametrization="edm"
        )
        for stage in ("anatomy", "detail")
    }
    networks = {stage: SlabDenoiser(config) for stage, config in configs.items()}
    tensors = {f"{stage}.{name}": t for stage, net in networks.items() for name, t in net.state_dict().items()}
    plan = {
        "image_size": 64,
        "anatomy_size": 32,
        "fov_mm": 384.0,
        "pixel_mm": 6.0,
        "pixel_mm_range": [1.0, 8.0],
        "anatomy_gap_mm": 6.0,
        "max_gap_mm": 36.0,
        "spacing_mm_range": [1.0, 8.0],
        "body_mm_range": [0.0, 600.0],
        "hu_knots": [list(knot) for knot in KNOTS],
    }
    stages = {stage: config.to_dict() for stage, config in configs.items()}
    save_model(path, tensors, {"name": "random", "stages": stages, "plan": plan, "labels": [], "sampling": {}})
    return path
