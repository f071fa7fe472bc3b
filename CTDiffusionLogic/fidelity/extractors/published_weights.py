"""Weights of published networks: found on this machine, fetched where that was agreed, read without unpickling."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from CTDiffusionLogic.atomic import atomic_file
from CTDiffusionLogic.errors import ModelFileError, ResourceError
from CTDiffusionLogic.fidelity.availability import PublishedWeights

if TYPE_CHECKING:
    import torch
    from torch import nn


def find_weights(wanted: PublishedWeights, path: Path | None = None, *, allow_download: bool = False) -> Path:
    """Return the file.

    Args:
        wanted: What is needed.
        path: Where the user says it is; None: in
            :func:`~CTDiffusionLogic.fidelity.availability.weights_folder`.
        allow_download: Fetch it to that folder if it is not there.

    Raises:
        ResourceError: If it is not here and may or can not be fetched; says where it comes from and belongs.
        ModelFileError: If ``path`` names no file.
    """
    if path is not None:
        if not path.is_file():
            raise ModelFileError(f"There is no weights file {path}.", remedy="Check the path.")
        return path
    target = wanted.place
    if target.is_file():
        return target
    remedy = wanted.remedy
    if not allow_download:
        raise ResourceError(f"The {wanted.title} are not on this machine, and nothing is downloaded.", remedy=remedy)
    from torch.hub import download_url_to_file

    with atomic_file(target) as part:
        try:
            download_url_to_file(wanted.url, str(part), hash_prefix=wanted.sha256_begins or None, progress=False)
        except (OSError, RuntimeError, ValueError) as error:  # no network, wrong digest
            raise ResourceError(f"The {wanted.title} could not be downloaded ({error}).", remedy=remedy) from error
    return target


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict from a safetensors or a PyTorch file; from the latter tensors only, no code runs.

    Raises:
        ModelFileError: If it is broken or holds anything but tensors.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise _unreadable(path, str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    except Exception as error:  # pickle.UnpicklingError for all that is no tensor; named without importing pickle
        raise _unreadable(path, "it is no plain list of tensors") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise _unreadable(path, "it is no plain list of tensors")
    return dict(state)


def fit_weights(net: nn.Module, weights: Mapping[str, torch.Tensor], path: Path, title: str) -> None:
    """Load ``weights`` into ``net``; all must be there and fit.

    Raises:
        ModelFileError: If they are another network's; names the first fault.
    """
    try:
        net.load_state_dict(dict(weights))
    except RuntimeError as error:
        causes = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise ModelFileError(
            f"{path} does not hold {title}: {causes[0][:200]}", remedy="Name the right weights file."
        ) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _unreadable(path: Path, why: str) -> ModelFileError:
    return ModelFileError(f"The weights file {path} cannot be read: {why}.", remedy="Get the file again.")
