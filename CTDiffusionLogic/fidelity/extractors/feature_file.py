"""The file of a feature network: one safetensors file with its weights and a card in the header.

The header has one entry, JSON with ``format``, ``format_version``, ``card`` and ``content_sha256``, a digest of all
the rest. It names the network in every figure, and finds damage and edits; it is no signature. Equal networks give
equal bytes (one entry only: the library writes several in an order that differs from run to run). Nothing unpickles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CTDiffusionLogic.atomic import atomic_file
from CTDiffusionLogic.errors import ModelFileError

if TYPE_CHECKING:
    import torch

FORMAT = "ctdiffusion-features"
#: Raised when older readers can no longer read what is written. 1: the first.
FORMAT_VERSION = 1
#: Larger ones are not files of this kind; refused before any memory is taken for them.
MAX_FILE_BYTES = 64 * 2**20
_ENTRY = "ctdiffusion"
_REMEDY = "Get the file again, or make one with `ctdiffusion train-features`."


@dataclass(frozen=True, eq=False)
class FeatureFile:
    """A file that was read and checked.

    Args:
        card: Architecture, training data, seed, steps; plain JSON data.
        sha256: Digest of card and weights, 64 hexadecimal digits.
        tensors: Weights by name, CPU, as stored.
        path: Where it was read.
    """

    card: Mapping[str, Any]
    sha256: str
    tensors: Mapping[str, torch.Tensor]
    path: Path


def save_feature_file(path: Path | str, tensors: Mapping[str, torch.Tensor], card: Mapping[str, Any]) -> str:
    """Write a file, whole or not at all: matrices and kernels in float16, vectors as they are.

    (The variances of batch norms may lie below what float16 can hold.)

    Returns:
        Its sha256.

    Raises:
        ValueError: If a weight is not finite or the card is not JSON.
        OutputError: If the file cannot be written.
    """
    import torch
    from safetensors.torch import save

    stored = {}
    for name, tensor in sorted(tensors.items()):
        kept = tensor.detach().to("cpu", torch.float16 if tensor.ndim > 1 else None).contiguous().clone()
        if not torch.isfinite(kept).all():
            raise ValueError(f"{name} has values that are not finite numbers")
        stored[name] = kept
    card_text = _to_json(card)
    sha256 = _digest(FORMAT_VERSION, card_text, stored)
    entry = {"format": FORMAT, "format_version": FORMAT_VERSION, "card": card_text, "content_sha256": sha256}
    with atomic_file(Path(path)) as part:
        part.write_bytes(save(stored, {_ENTRY: _to_json(entry)}))
    return sha256


def load_feature_file(path: Path | str) -> FeatureFile:
    """Read and check a file.

    Raises:
        ModelFileError: If it is missing, truncated, edited, of another kind or newer.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"There is no file of a feature network {path}.", remedy="Check the path.")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelFileError(f"{path} is not a feature network: it is too large for one.", remedy=_REMEDY)
        with safe_open(path, "pt") as stream:
            entry = json.loads((stream.metadata() or {}).get(_ENTRY, "null"))
            tensors = {name: stream.get_tensor(name) for name in sorted(stream.keys())}
    except OSError as error:
        raise ModelFileError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise ModelFileError(
            f"{path} is broken, cut off or no safetensors file ({str(error).splitlines()[0]}).", remedy=_REMEDY
        ) from error
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        raise ModelFileError(f"{path} is not a feature network but something else.", remedy=_REMEDY)
    version = entry.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has the format {version}; this CTDiffusion reads up to {FORMAT_VERSION}.",
            remedy="Update CTDiffusion.",
        )
    card_text = str(entry.get("card"))
    if _digest(version, card_text, tensors) != entry.get("content_sha256"):
        raise ModelFileError(f"{path} is damaged or was edited: it differs from what was saved.", remedy=_REMEDY)
    return FeatureFile(json.loads(card_text), str(entry["content_sha256"]), tensors, path)


def _digest(version: int, card_text: str, tensors: Mapping[str, torch.Tensor]) -> str:
    table = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()}
    digest = hashlib.sha256(_to_json([FORMAT, version, card_text, table]).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def _to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
