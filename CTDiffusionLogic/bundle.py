"""The model file: one safetensors file with its denoisers in half precision and a card in its header.

A model has two stages, anatomy and detail. A fine model (:mod:`CTDiffusionLogic.fine`) has the stage detail alone: it
makes finer images of another model's volumes.

Layout: the tensors ``anatomy.<parameter>``, ``detail.<parameter>`` and, if the model was trained with them,
``guide.<parameter>`` of the network that guides anatomy (:mod:`CTDiffusionLogic.guidance`), ``body.<parameter>`` of
the one that tells positions along the body, and ``fingerprints.<name>`` of the training scans
(:mod:`CTDiffusionLogic.fidelity.fingerprints`); in the header's metadata ``format``, ``format_version``, ``card``
(JSON text) and ``content_sha256``, a digest of card and tensors that also serves as the model's identity in the
provenance of volumes. It finds damage and edits; it is no signature.

Nothing here unpickles. Everything up to :func:`load_model` needs the standard library only, so that the
Slicer process and ``ctdiffusion doctor`` can read a card without torch.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from CTDiffusionLogic.atomic import atomic_file
from CTDiffusionLogic.errors import ModelFileError

if TYPE_CHECKING:
    import torch

    from CTDiffusionLogic.corpus.body_position import BodyPositionNet
    from CTDiffusionLogic.denoiser.network import SlabDenoiser

FORMAT = "ctdiffusion-model"
#: Raised when older readers can no longer read what is written. 1: the first, and still that of models with both
#: stages; 2: fine models.
FORMAT_VERSION = 2
STAGES = ("anatomy", "detail")
#: The network that guides anatomy, where there is one: named among the card's stages and before its tensors.
GUIDE = "guide"
#: Fingerprints of the training scans: a part of the tensors, and the card's entry about them.
FINGERPRINTS = "fingerprints"
#: What tensors may begin with: the stages, the guide, the network that names body positions, and fingerprints.
PARTS = (*STAGES, GUIDE, "body", FINGERPRINTS)

#: Larger ones are not models of this project; refused before any memory is taken for them.
MAX_HEADER_BYTES = 16 * 2**20
MAX_FILE_BYTES = 4 * 2**30
MAX_CONFIG_NUMBER = 4096

_GET_ANOTHER = "Get the file again, or train a model with `ctdiffusion train`."


@dataclass(frozen=True, eq=False)
class ModelHeader:
    """What a model file says about itself.

    Args:
        card: Architecture of the stages, volume plan, training data, figures, limits; see CONTRIBUTING.md.
        sha256: Digest of card and tensors, 64 hexadecimal digits.
        shapes: Shape of each tensor by its name.
        path: Where it was read.
    """

    card: Mapping[str, Any]
    sha256: str
    shapes: Mapping[str, tuple[int, ...]]
    path: Path

    @property
    def name(self) -> str:
        """The model's name as its card has it, else the file's."""
        return str(self.card.get("name") or self.path.stem)

    @property
    def is_fine(self) -> bool:
        """Whether it is a fine model, which makes no volumes by itself."""
        return STAGES[0] not in self.card["stages"]

    def require_whole(self) -> None:
        """Return if it makes volumes by itself.

        Raises:
            ModelFileError: If it is a fine model.
        """
        if self.is_fine:
            raise ModelFileError(
                f"{self.path} is a fine model: it makes finer images of volumes, and no volumes by itself.",
                remedy="Name it with --fine, and a model that makes volumes with --model.",
            )

    def fine_sizes(self) -> tuple[int, int]:
        """Rows and columns of the images that a fine model refines, and of those it makes of them.

        Raises:
            ModelFileError: If it is no fine model, or its card does not say.
        """
        if not self.is_fine:
            raise ModelFileError(
                f"{self.path} is not a fine model: it makes volumes by itself.",
                remedy="Name it with --model; ctdiffusion train --preset fine trains a fine model.",
            )
        plan: Any = self.card.get("plan")
        try:
            return int(plan["anatomy_size"]), int(plan["image_size"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"{self.path}: its card does not say the sizes of its images.", remedy=_GET_ANOTHER
            ) from error


@dataclass(frozen=True, eq=False)
class ModelFile(ModelHeader):
    """A model file with its weights: ``tensors`` maps names to CPU tensors, float16 as stored."""

    tensors: Mapping[str, torch.Tensor]


def save_model(path: Path | str, tensors: Mapping[str, torch.Tensor], card: Mapping[str, Any]) -> str:
    """Write a model file, whole or not at all; equal arguments give equal bytes.

    Args:
        path: Usually ends in ``.safetensors``; an existing file is replaced.
        tensors: Weights by name, all beginning with a name in PARTS and a dot. Floating ones are stored as float16.
        card: Must be expressible in JSON (no NaN) and have "stages" with a configuration for each stage; that of a
            fine model has the stage detail alone.

    Returns:
        The model's sha256.

    Raises:
        ValueError: If a name, a weight (not finite in float16) or the card cannot be stored; names it.
        OutputError: If the file cannot be written.
    """
    from safetensors.torch import save

    _check_stages(card, source="the card")
    stored = {name: _storable(name, tensor) for name, tensor in tensors.items()}
    plain = save(stored)
    # The library writes the metadata in an order that differs from run to run (a Rust HashMap); so its
    # header is rewritten with sorted keys. The data section and all its rules stay the library's.
    length = struct.unpack("<Q", plain[:8])[0]
    entries, data = json.loads(plain[8 : 8 + length]), plain[8 + length :]
    card_text = _to_json(card)
    version = "1" if STAGES[0] in card["stages"] else "2"
    digest = _digest(version, card_text, entries)
    digest.update(data)
    entries["__metadata__"] = {
        "format": FORMAT,
        "format_version": version,
        "card": card_text,
        "content_sha256": digest.hexdigest(),
    }
    header = _to_json(entries).encode()
    header += b" " * (-len(header) % 8)
    with atomic_file(Path(path)) as part:
        part.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return digest.hexdigest()


def read_header(path: Path | str, *, verify: bool = True) -> ModelHeader:
    """Read the card of a model file without torch; with ``verify`` also the digest (reads the whole file).

    Raises:
        ModelFileError: If the file is missing, unreadable, truncated, edited, of another kind or newer.
    """
    path = Path(path)
    with _open(path) as stream:
        return _read_header(stream, path, verify=verify)


def load_model(path: Path | str) -> ModelFile:
    """Read and check a whole model file.

    Raises:
        ModelFileError: As :func:`read_header`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(path)
    with _open(path) as stream:
        header = _read_header(stream, path, verify=True)
        stream.seek(0)
        try:
            tensors = load(stream.read())
        except (SafetensorError, ValueError, KeyError) as error:
            raise _broken(path, f"its table of tensors is wrong ({error})") from error
    return ModelFile(header.card, header.sha256, header.shapes, path, tensors)


def load_denoisers(model: ModelFile, device: torch.device | str = "cpu") -> tuple[SlabDenoiser, SlabDenoiser]:
    """Build both stages from the card, with the file's weights in float32, ready to generate.

    Returns:
        (anatomy, detail), in evaluation mode, on ``device``.

    Raises:
        ModelFileError: As :func:`load_denoiser`; and if it is a fine model.
    """
    model.require_whole()
    anatomy, detail = (load_denoiser(model, stage, device) for stage in STAGES)
    return anatomy, detail


def load_denoiser(model: ModelFile, stage: str, device: torch.device | str = "cpu") -> SlabDenoiser:
    """Build one network from the card, "anatomy", "detail" or "guide", as :func:`load_denoisers` does the first two.

    Raises:
        ModelFileError: If the card's architecture cannot be built or does not fit the tensors; names the first.
    """
    import torch

    from CTDiffusionLogic.denoiser.network import DenoiserConfig, empty_denoiser

    weights = {name.removeprefix(f"{stage}."): t for name, t in model.tensors.items() if name.startswith(f"{stage}.")}
    try:
        config = DenoiserConfig.from_dict(_bounded(model.card["stages"][stage]))
        denoiser = empty_denoiser(config)  # takes no memory: a card cannot ask for more than the file holds
        wanted = {name: tuple(t.shape) for name, t in denoiser.state_dict().items()}
    except Exception as error:  # diffusers raises nearly anything for a configuration that makes no sense
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelFileError(
            f"{model.path}: the architecture of its {stage} stage cannot be built ({cause}).", remedy=_GET_ANOTHER
        ) from error
    found = {name: tuple(t.shape) for name, t in weights.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ModelFileError(
                f"{model.path}: the card and the weights do not fit: {stage}.{name} has the shape "
                f"{found.get(name, 'of nothing (it is missing)')}, the architecture has "
                f"{wanted.get(name, 'no such weight')}.",
                remedy=_GET_ANOTHER,
            )
    # The file's weights take the places of those without memory: none is drawn at random first, to be overwritten.
    denoiser.load_state_dict({name: t.to(torch.float32, copy=True) for name, t in weights.items()}, assign=True)
    denoiser.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # as the network lays them
    return denoiser.eval().requires_grad_(False)


def load_body_net(model: ModelFile) -> BodyPositionNet | None:
    """Build the network that names body positions; None where the file has none.

    Raises:
        ModelFileError: If its weights do not fit.
    """
    from CTDiffusionLogic.corpus.body_position import BodyPositionNet

    weights = {name.removeprefix("body."): t for name, t in model.tensors.items() if name.startswith("body.")}
    if not weights:
        return None
    net = BodyPositionNet()
    try:
        net.load_state_dict(weights)  # copies float16 into float32
    except RuntimeError as error:
        cause = str(error).splitlines()[-1].strip()
        raise ModelFileError(
            f"{model.path}: the weights of its body position network do not fit ({cause}).", remedy=_GET_ANOTHER
        ) from error
    return net.eval().requires_grad_(False)


def describe(model: ModelHeader) -> str:
    """The card in plain text, a few dozen lines, for people."""
    from CTDiffusionLogic.card_text import card_text

    return card_text(model.card, name=model.name, sha256=model.sha256, path=model.path, shapes=model.shapes)


def _bounded(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` as it is, if all its numbers are of a size a network can have."""
    for key, value in config.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not abs(number) <= MAX_CONFIG_NUMBER:
                raise ValueError(f"{key} is as large as {number}")
    return dict(config)


def _open(path: Path) -> BinaryIO:
    try:
        if path.is_dir():
            raise ModelFileError(f"{path} is a folder, not a model file.", remedy="Name the .safetensors file in it.")
        return path.open("rb")
    except FileNotFoundError as error:
        raise ModelFileError(f"There is no model file {path}.", remedy="Check the path.") from error
    except OSError as error:
        raise ModelFileError(f"Cannot read the model file {path}: {error.strerror}.") from error


def _read_header(stream: BinaryIO, path: Path, *, verify: bool) -> ModelHeader:
    size = stream.seek(0, 2)
    stream.seek(0)
    start = stream.read(16)
    length = struct.unpack("<Q", start[:8])[0] if len(start) >= 10 else 0
    if not 2 <= length <= MAX_HEADER_BYTES or start[8:9] != b"{":
        if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
            raise _other_kind(path, "it is a PyTorch pickle (.pt, .ckpt), which can run code and is never opened")
        raise _other_kind(path, "it is not a safetensors file")
    if size > MAX_FILE_BYTES:
        raise _other_kind(path, f"with {size / 2**30:.1f} GB it is larger than any")
    if size < 8 + length:
        raise _broken(path, "it is cut off in its header")
    stream.seek(8)
    try:
        entries = json.loads(stream.read(length))
        metadata = entries.pop("__metadata__", {})
        ends = [entry["data_offsets"][1] for entry in entries.values()]
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in entries.items()}
        data_bytes = max(map(int, ends), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise _broken(path, "its header cannot be read") from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise _other_kind(path, "it is a safetensors file of something else")
    _check_version(path, metadata.get("format_version"))
    if size < 8 + length + data_bytes:
        missing = 8 + length + data_bytes - size
        raise _broken(path, f"it is cut off, {missing} of {size + missing} bytes are missing")
    if size > 8 + length + data_bytes:
        raise _broken(path, "bytes have been appended to it")
    card_text = metadata.get("card", "")
    try:
        card = json.loads(card_text)
        _check_stages(card, source="its card")
    except (ValueError, TypeError, RecursionError) as error:
        raise _broken(path, f"its card cannot be read ({error})") from error
    sha256 = str(metadata.get("content_sha256"))
    if verify:
        digest = _digest(str(metadata["format_version"]), card_text, entries)
        while chunk := stream.read(2**20):
            digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise _broken(path, "its card or weights are not those it was saved with (damaged or edited)")
    return ModelHeader(card, sha256, shapes, path)


def _check_version(path: Path, version: Any) -> None:
    if not (isinstance(version, str) and version.isdecimal() and len(version) < 9):
        raise _broken(path, f"its format version is {version!r}")
    if int(version) > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has the model format {version}; this CTDiffusion reads up to {FORMAT_VERSION}.",
            remedy="Update CTDiffusion.",
        )


def _check_stages(card: Any, *, source: str) -> None:
    stages = card.get("stages") if isinstance(card, Mapping) else None
    # Of the two the first may be missing: a fine model.
    if not isinstance(stages, Mapping) or not all(isinstance(stages.get(s, {}), Mapping) for s in (*STAGES, GUIDE)):
        stages = {}
    if STAGES[1] not in stages:
        raise ValueError(f"{source} must have the stages {' and '.join(STAGES)}, or {STAGES[1]} alone")


def _storable(name: str, tensor: torch.Tensor) -> torch.Tensor:
    import torch

    if not name.startswith(tuple(f"{part}." for part in PARTS)):
        raise ValueError(f"tensor names begin with {', '.join(PARTS)} and a dot, got {name!r}")
    tensor = tensor.detach().to("cpu")
    if tensor.is_floating_point():
        tensor = tensor.to(torch.float16)
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} has values that are not finite numbers in float16")
    return tensor.clone(memory_format=torch.contiguous_format)  # the library refuses shared and strided memory


def _digest(version: str, card_text: str, entries: Mapping[str, Any]) -> hashlib._Hash:
    """SHA-256 begun with everything but the data section, which follows."""
    return hashlib.sha256(_to_json([FORMAT, version, card_text, entries]).encode())


def _to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _other_kind(path: Path, why: str) -> ModelFileError:
    return ModelFileError(f"{path} is not a CTDiffusion model: {why}.", remedy="Name a model file (.safetensors).")


def _broken(path: Path, why: str) -> ModelFileError:
    return ModelFileError(f"The model file {path} is broken: {why}.", remedy=_GET_ANOTHER)
