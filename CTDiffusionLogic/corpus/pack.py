"""A prepared corpus in one file: made where the scans are, trained from where the GPU is.

A pack is a zip file (any tool lists it) of

    slices/scan-00001/000.jp2   slices of a scan, see slice_codec.py
    plan.json                   the plan, with numbers in place of names, and without paths
    body.safetensors            the network that names body positions
    pack.json                   format, version, step of HU, digest of each member, digest of them all

Neither text names a patient, a file or a folder. **But the images are those of the scans**: a pack must be kept and
sent as the scans themselves. The digests find damage and edits; they are no signature. Nothing here unpickles.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic import __version__
from CTDiffusionLogic.atomic import atomic_file
from CTDiffusionLogic.corpus.body_position import BodyPositionNet
from CTDiffusionLogic.corpus.pack_options import MAX_HU_STEP, PackOptions, require_pack_name
from CTDiffusionLogic.corpus.plan import CorpusPlan, ScanPlan
from CTDiffusionLogic.corpus.prepare import PreparedCorpus, make_cache
from CTDiffusionLogic.corpus.slice_codec import block_of, decode_slices, encode_slices, require_codec
from CTDiffusionLogic.errors import InputError

FORMAT = "ctdiffusion-pack"
#: Raised when older readers can no longer read what is written. 1: the first.
FORMAT_VERSION = 1
#: Larger ones are not packs of this project; refused before any memory is taken for them.
MAX_MEMBER_BYTES, MAX_SIZE, MAX_SLICES = 2**28, 4096, 10**5

_HEADER, _PLAN, _BODY = "pack.json", "plan.json", "body.safetensors"
_NOTICE = "Holds images of patients. Keep it and send it as you would the scans."
_SCAN_ID = re.compile(r"scan-\d{5,9}")
_GET_ANOTHER = "Get the file again, or make it anew with `ctdiffusion pack`."
#: What zipfile raises where a file is not, or is no longer, what it should be.
_FAULTS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PackHeader:
    """What a pack says about itself.

    Args:
        plan: Of the corpus, with numbers in place of names.
        hu_step: See :class:`PackOptions`; 1 where every HU is as it was.
        sha256: Digest of everything in it.
        path: Where it was read.
    """

    plan: CorpusPlan
    hu_step: int
    sha256: str
    path: Path


def neutral_plan(plan: CorpusPlan) -> CorpusPlan:
    """The plan without names: scans and patients are numbered in its order; paths and what was skipped go."""
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(s.patient for s in plan.scans), start=1)}
    scans = []
    for number, scan in enumerate(plan.scans, start=1):
        name, patient = f"scan-{number:05d}", f"patient-{numbers[scan.patient]:05d}"
        scans.append(replace(scan, id=name, patient=patient, source=name, stamp=""))
    return replace(plan, scans=tuple(scans), skipped=())


def write_pack(
    path: Path,
    corpus: PreparedCorpus,
    options: PackOptions | None = None,
    *,
    within: Path | None = None,
    on_progress: Progress | None = None,
) -> str:
    """Write a pack, whole or not at all, a few slices at a time; equal arguments give equal bytes.

    Args:
        path: Ends in ``.ctpack``; an existing file is replaced.
        corpus: From :func:`~CTDiffusionLogic.corpus.prepare.prepare`, or of a run folder. HU that came rounded from
            another pack are not rounded anew to a step of which theirs is a multiple.
        options: How.
        within: A folder on the same disk for the file as long as it is not whole; None: beside ``path``.
        on_progress: Told of each scan before it is packed: how many were, and of how many.

    Returns:
        The pack's sha256.

    Raises:
        UsageError: If the name or an option makes no sense.
        InputError: If cached slices are missing or damaged.
        OutputError: If the file cannot be written.
        ResourceError: If this Pillow has no JPEG 2000.
    """
    from safetensors.torch import save

    options = options or PackOptions()
    options.check()
    require_pack_name(path)
    require_codec()
    step = corpus.hu_step if corpus.hu_step % options.step == 0 else options.step
    plan = neutral_plan(corpus.plan)
    digests: dict[str, str] = {}
    with atomic_file(path, within=within) as temporary, zipfile.ZipFile(temporary, "w") as archive:

        def add(name: str, data: bytes, *, deflate: bool = False) -> None:
            digests[name] = hashlib.sha256(data).hexdigest()
            info = zipfile.ZipInfo(name)  # its date is the first that zip knows: equal contents give equal bytes
            info.create_system, info.external_attr = 3, 0o600 << 16
            info.compress_type = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
            archive.writestr(info, data)

        for number, (named, scan) in enumerate(zip(corpus.plan.scans, plan.scans, strict=True)):
            if on_progress is not None:
                on_progress(number, len(plan.scans))
            hu = _cached(corpus.cache / f"{named.id}.npy", scan, plan)
            for name, block in _members(scan, plan):
                add(name, encode_slices(hu[block], hu_step=step))
            del hu  # on Windows what is mapped cannot be removed, and whoever cancels wants no images left
        weights = {key: value.contiguous() for key, value in corpus.body_net.state_dict().items()}
        add(_BODY, save(weights), deflate=True)
        add(_PLAN, plan.to_json().encode(), deflate=True)
        digest = _digest(step, digests)
        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "notice": _NOTICE,
            "ctdiffusion_version": __version__,
            "hu_step": step,
            "content_sha256": digest,
            "members": dict(digests),
        }
        add(_HEADER, json.dumps(header, indent=1).encode(), deflate=True)
    return digest


def read_pack(path: Path) -> PackHeader:
    """Read and check what a pack says of its corpus; the slices are not looked at.

    Raises:
        UsageError: If it is not named as packs are.
        InputError: If the file is missing, cut off, edited, of another kind or newer.
    """
    with _open(path) as pack:
        return pack.header


def unpack(path: Path, run: Path, *, on_progress: Progress | None = None) -> PreparedCorpus:
    """Write ``run/cache/`` and, at the end, ``run/plan.json``, as a preparation from the scans does.

    Args:
        path: The pack.
        run: The run folder.
        on_progress: Told of each scan before it is unpacked: how many were, and of how many.

    Raises:
        InputError: As :func:`read_pack`, and if slices are damaged.
        OutputError: If the run folder cannot be written, or its disk has too little space.
        ResourceError: If this Pillow has no JPEG 2000.
    """
    require_codec()
    cache = run / "cache"
    with _open(path) as pack:
        plan, net = pack.header.plan, pack.body_net()
        make_cache(cache, {scan.id: scan.slices for scan in plan.scans}, size=plan.image_size)
        for number, scan in enumerate(plan.scans):
            if on_progress is not None:
                on_progress(number, len(plan.scans))
            hu = np.empty((scan.slices, plan.image_size, plan.image_size), dtype=np.int16)
            for name, block in _members(scan, plan):
                part = hu[block]
                part[:] = pack.slices(name, part.shape)
            with atomic_file(cache / f"{scan.id}.npy") as temporary:
                np.save(temporary, hu)
    plan.save(run / "plan.json")
    return PreparedCorpus(plan, cache, net, pack.header.hu_step)


@dataclass(frozen=True)
class _OpenPack:
    """A pack that is open and whose texts have been checked."""

    archive: zipfile.ZipFile
    header: PackHeader
    digests: dict[str, str]

    def body_net(self) -> BodyPositionNet:
        from safetensors import SafetensorError
        from safetensors.torch import load

        net = BodyPositionNet()
        try:
            net.load_state_dict(load(_member(self.archive, self.header.path, _BODY, self.digests)))
        except (SafetensorError, RuntimeError) as error:
            raise _broken(self.header.path, f"{_BODY} is of something else") from error
        return net.eval()

    def slices(self, name: str, shape: tuple[int, int, int]) -> NDArray[np.int16]:
        data = _member(self.archive, self.header.path, name, self.digests)
        try:
            return decode_slices(data, shape, hu_step=self.header.hu_step)
        except ValueError as error:
            raise _broken(self.header.path, f"{name} cannot be read ({error})") from error


@contextmanager
def _open(path: Path) -> Iterator[_OpenPack]:
    """Lend a pack, once what it says of itself holds."""
    require_pack_name(path)
    with _open_zip(path) as archive:
        try:
            header = json.loads(_read(archive, path, _HEADER))
            version, step, digests = (header.get(key) for key in ("format_version", "hu_step", "members"))
        except (ValueError, AttributeError, RecursionError) as error:
            raise _broken(path, f"{_HEADER} cannot be read") from error
        if header.get("format") != FORMAT:
            raise _other_kind(path, "it is a zip file of something else")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise InputError(
                f"{path} has the pack format {version}; this CTDiffusion reads up to {FORMAT_VERSION}.",
                remedy="Update CTDiffusion.",
            )
        if version != FORMAT_VERSION or not isinstance(digests, dict) or not isinstance(step, int):
            raise _broken(path, f"{_HEADER} is incomplete")
        if not 1 <= step <= MAX_HU_STEP or _digest(step, digests) != header.get("content_sha256"):
            raise _broken(path, "its contents are not those it was made with (damaged or edited)")
        text = _member(archive, path, _PLAN, digests).decode()
        plan = CorpusPlan.parse(text, source=f"{_PLAN} in {path}", remedy="Make the pack anew with this CTDiffusion.")
        _check_plan(path, plan, digests)
        yield _OpenPack(archive, PackHeader(plan, step, str(header["content_sha256"]), path), digests)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise InputError(f"There is no pack {path}.", remedy="Check the path.") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder, not a pack.", remedy="Name a .ctpack file.") from error
    except _FAULTS as error:
        with path.open("rb") as stream:
            begins_as_zip = stream.read(4) == b"PK\x03\x04"
        if begins_as_zip:
            raise _broken(path, "it is cut off or damaged") from error
        raise _other_kind(path, "it is no zip file") from error
    except OSError as error:
        raise InputError(f"Cannot read the pack {path}: {error.strerror}.") from error


def _read(archive: zipfile.ZipFile, path: Path, name: str) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        if name == _HEADER:
            raise _other_kind(path, "it is a zip file of something else") from error
        raise _broken(path, f"{name} is missing") from error
    if info.file_size > MAX_MEMBER_BYTES:
        raise _broken(path, f"{name} is larger than any")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _broken(path, f"{name} is compressed as no pack is")
    try:
        with archive.open(info) as stream:  # ZipFile.read would expand all there is, whatever size the file tells
            return stream.read(max(1, info.file_size))
    except (*_FAULTS, OSError) as error:
        raise _broken(path, f"{name} is damaged") from error


def _member(archive: zipfile.ZipFile, path: Path, name: str, digests: dict[str, str]) -> bytes:
    """A member's bytes, if they are those it was packed with."""
    data = _read(archive, path, name)
    if hashlib.sha256(data).hexdigest() != digests.get(name):
        raise _broken(path, f"{name} is damaged or edited")
    return data


def _check_plan(path: Path, plan: CorpusPlan, digests: dict[str, str]) -> None:
    """Refuse plans with names or sizes that no pack has: what follows trusts them."""
    if not all(isinstance(value, int) for value in (plan.image_size, *(scan.slices for scan in plan.scans))):
        raise _broken(path, "its plan has sizes that are no whole numbers")
    ids = [str(scan.id) for scan in plan.scans]
    if not plan.train or len(set(ids)) != len(ids) or not all(_SCAN_ID.fullmatch(name) for name in ids):
        raise _broken(path, "its plan has no scans, or not those of a pack")
    if not 1 <= plan.image_size <= MAX_SIZE or not all(1 <= scan.slices <= MAX_SLICES for scan in plan.scans):
        raise _broken(path, "its plan has sizes that no scan has")
    blocks = sum(-(-scan.slices // block_of(plan.image_size)) for scan in plan.scans)
    if blocks + 2 != len(digests):  # counted before they are listed
        raise _broken(path, f"it has {len(digests)} members, its plan wants {blocks + 2}")
    wanted = {_PLAN, _BODY, *(name for scan in plan.scans for name, _ in _members(scan, plan))}
    if odd := len(wanted ^ digests.keys()):
        raise _broken(path, f"{odd} of its members do not fit its plan")


def _members(scan: ScanPlan, plan: CorpusPlan) -> Iterator[tuple[str, slice]]:
    """Names of the members with a scan's slices, and which slices are in each."""
    count = block_of(plan.image_size)
    for number, first in enumerate(range(0, scan.slices, count)):
        yield f"slices/{scan.id}/{number:03d}.jp2", slice(first, min(first + count, scan.slices))


def _cached(path: Path, scan: ScanPlan, plan: CorpusPlan) -> NDArray[np.int16]:
    """The cached slices of a scan, mapped into memory, if they are what the plan says."""
    shape, remedy = (scan.slices, plan.image_size, plan.image_size), "Prepare the scans anew."
    try:
        hu = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read ({error}).", remedy=remedy) from error
    if hu.shape != shape or hu.dtype != np.int16:
        raise InputError(f"{path} has {hu.dtype} of shape {hu.shape}, its plan says int16 {shape}.", remedy=remedy)
    return hu


def _digest(step: int, digests: dict[str, str]) -> str:
    facts = [FORMAT, FORMAT_VERSION, step, digests]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _other_kind(path: Path, why: str) -> InputError:
    return InputError(f"{path} is not a CTDiffusion pack: {why}.", remedy="Name a file that `ctdiffusion pack` made.")


def _broken(path: Path, why: str) -> InputError:
    return InputError(f"The pack {path} is broken: {why}.", remedy=_GET_ANOTHER)
