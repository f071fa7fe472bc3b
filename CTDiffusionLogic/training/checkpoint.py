"""Checkpoints: one safetensors file each, written whole or not at all; the two newest and the best are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from CTDiffusionLogic.atomic import atomic_file
from CTDiffusionLogic.errors import InputError

KEEP = 2
_FORMAT = "ctdiffusion-checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of both stages ("anatomy.weights.<name>"...) and the progress they stand for."""

    tensors: dict[str, Tensor]
    step: int
    facts: dict[str, Any]


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, laid out row by row, for a file: a training that goes on does not change them."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def save_checkpoint(
    folder: Path, tensors: dict[str, Tensor], *, step: int, facts: dict[str, Any], is_best: bool = False
) -> Path:
    """Write ``folder/step-<step>.safetensors`` atomically, then remove all but the newest two.

    With ``is_best`` it is ``folder/best-<step>.safetensors``, of which one is kept. Training never resumes from it by
    itself; to go on from there, rename it to ``step-<step>.safetensors`` and remove the newer ones.

    Args:
        folder: Made if it is not there.
        tensors: Of :func:`copied`.
        step, facts: The progress they stand for; ``facts`` as JSON has them.
        is_best: See above.

    Returns:
        The file.

    Raises:
        OutputError: If it cannot be written; the checkpoints before it stay.
    """
    kind, kept = ("best", 1) if is_best else ("step", KEEP)
    path = folder / f"{kind}-{step:08d}.safetensors"
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, {"format": _FORMAT, "step": str(step), "facts": json.dumps(facts)})
    others = [old for old in sorted(folder.glob(f"{kind}-*.safetensors")) if old != path]
    for old in others[: len(others) + 1 - kept]:
        old.unlink(missing_ok=True)
    return path


def load_newest(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint that is whole, falling back to the one before; None if there is none.

    Raises:
        InputError: If there are checkpoints but none can be read.
    """
    paths = sorted(folder.glob("step-*.safetensors"), reverse=True)
    reasons = []
    for path in paths:
        try:
            with safe_open(path, "pt") as file:
                meta = file.metadata() or {}
                if meta.get("format") != _FORMAT:
                    raise ValueError("it is not a checkpoint")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Checkpoint(tensors, int(meta["step"]), json.loads(meta["facts"]))
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            reasons.append(f"{path.name}: {error}")
    if reasons:
        raise InputError(
            f"No checkpoint in {folder} can be read ({'; '.join(reasons)}).",
            remedy="Start the training anew with another --run folder.",
        )
    return None
