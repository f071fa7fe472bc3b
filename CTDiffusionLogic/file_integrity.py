"""Is an image file whole, and are its voxels numbers? Checked here because ITK does not always say.

Measured with SimpleITK 2.5.7: a NIfTI file cut in half (.nii and .nii.gz) is read without an error and the
missing voxels hold whatever was in memory; NaNs in a NIfTI file become 0, which is water; a NIfTI file that
hits a full disk is reported as written. Broken MetaImage and NIfTI headers are reported on stderr.

The three headers are parsed only as far as it takes to say where the voxels are and how many bytes they take.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Bytes read at a time.
_CHUNK = 1 << 20

_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "int64", "int64_t", "ulonglong", "uint64", "uint64_t", "double"), 8),
    "float": 4,
}
_META_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}
#: NIfTI datatype codes and their bits; colour, complex and 128 bit numbers are refused later, by name.
_NIFTI_BITS = {2: 8, 4: 16, 8: 32, 16: 32, 64: 64, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64, 128: 24, 32: 64}
_NIFTI_FLOATS = {16: "f4", 64: "f8"}


@dataclass(frozen=True)
class VoxelData:
    """Where the voxels of an image file are.

    Args:
        path: The file that holds them; not always the one with the header.
        start: Where the data, or their compressed stream, begin in the file.
        expected: Bytes there must be from ``start`` on, after decompression; 0 if that is not known.
        compressed: Whether it is a gzip or zlib stream.
        skip: Bytes before the first voxel, after decompression.
        floats: numpy type of the voxels if NaNs must be looked for, else "".
    """

    path: Path
    start: int = 0
    expected: int = 0
    compressed: bool = False
    skip: int = 0
    floats: str = ""


def locate_voxels(path: Path) -> VoxelData:
    """Parse the header of a NIfTI, NRRD or MetaImage file.

    Raises:
        ValueError: If there is no such header, or it makes no sense; the message says what is wrong.
        OSError: If the file cannot be read.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return _locate_nifti(path)
    return _locate_nrrd(path) if name.endswith((".nrrd", ".nhdr")) else _locate_meta(path)


def data_problem(data: VoxelData) -> str:
    """What is wrong with the voxels, in plain words, or "" if they are all there.

    Compressed data are decompressed once, in pieces of 1 MiB, so their checksums are verified too.

    Raises:
        OSError: If the file cannot be read.
    """
    if not data.expected:
        return ""
    if not data.compressed and not data.floats:
        present, bad = data.path.stat().st_size - data.start, 0
    else:
        present = bad = 0
        rest = b""
        try:
            for piece in _pieces(data):
                if data.floats:
                    voxels = rest + piece[max(0, data.skip - present) :]
                    whole = len(voxels) - len(voxels) % np.dtype(data.floats).itemsize
                    bad += int((~np.isfinite(np.frombuffer(voxels[:whole], data.floats))).sum())
                    rest = voxels[whole:]
                present += len(piece)
        except zlib.error as error:
            return f"its compressed data are broken ({error})"
    if present < data.expected:
        return f"it holds {max(0, present):,} of {data.expected:,} bytes of data"
    return f"it has {bad:,} voxels that are not numbers (NaN or infinite)" if bad else ""


def _locate_nifti(path: Path) -> VoxelData:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            head = file.read(544)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"its compressed data are broken ({error})") from None
    for order in "<>":
        if len(head) >= 348 and struct.unpack_from(order + "i", head)[0] == 348:  # NIfTI-1
            dims, (kind, bits) = struct.unpack_from(order + "8h", head, 40), struct.unpack_from(order + "2h", head, 70)
            offset = struct.unpack_from(order + "f", head, 108)[0]
            break
        if len(head) >= 540 and struct.unpack_from(order + "i", head)[0] == 540:  # NIfTI-2
            dims, (kind, bits) = struct.unpack_from(order + "8q", head, 16), struct.unpack_from(order + "2h", head, 12)
            offset = struct.unpack_from(order + "q", head, 168)[0]
            break
    else:
        raise ValueError("it has no NIfTI header")
    used = dims[1 : dims[0] + 1] if 1 <= dims[0] <= 7 else ()
    if not used or min(used) < 1 or _NIFTI_BITS.get(kind) != bits or not 0 <= offset < 1 << 31:
        raise ValueError(f"its NIfTI header gives the size {used}, type {kind} and {bits} bits")
    skip = int(offset)
    floats = order + _NIFTI_FLOATS[kind] if kind in _NIFTI_FLOATS else ""
    return VoxelData(path, expected=skip + math.prod(used) * bits // 8, compressed=zipped, skip=skip, floats=floats)


def _locate_nrrd(path: Path) -> VoxelData:
    with path.open("rb") as file:
        if not file.readline(64).startswith(b"NRRD"):
            raise ValueError("it has no NRRD header")
        fields: dict[str, str] = {}
        while (line := file.readline(1 << 16)).strip():
            key, colon, value = line.decode("utf-8", "replace").partition(":")
            if colon and not value.startswith("="):  # "key:=value" is a comment of the maker
                fields[key.strip().lower()] = value.strip()
        start = file.tell()
    absent = {"type", "sizes", "encoding"} - fields.keys()
    if absent:
        raise ValueError(f"its NRRD header lacks {', '.join(sorted(absent))}")
    data_file = fields.get("data file", fields.get("datafile", ""))
    if data_file.upper().startswith("LIST") or "%" in data_file:
        return VoxelData(path)
    if data_file:
        path, start = _beside(path, data_file), 0
    width, encoding = _NRRD_BYTES.get(fields["type"].lower(), 0), fields["encoding"].lower()
    if encoding not in ("raw", "gzip", "gz") or fields.keys() & {"line skip", "lineskip", "byte skip", "byteskip"}:
        return VoxelData(path)
    return VoxelData(path, start, _product(fields["sizes"]) * width, encoding != "raw")


def _locate_meta(path: Path) -> VoxelData:
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while "ElementDataFile" not in fields:  # the last line of the header
            line = file.readline(1 << 16)
            key, equals, value = line.decode("utf-8", "replace").partition("=")
            if not line or not equals:
                raise ValueError("it has no complete MetaImage header")
            fields[key.strip()] = value.strip()
        start = file.tell()
    absent = {"NDims", "DimSize", "ElementType"} - fields.keys()
    if absent:
        raise ValueError(f"its MetaImage header lacks {', '.join(sorted(absent))}")
    data_file = fields["ElementDataFile"]
    if data_file.upper().startswith("LIST") or "%" in data_file:
        return VoxelData(path)
    if data_file.upper() != "LOCAL":
        path, start = _beside(path, data_file), 0
    if "HeaderSize" in fields or fields.get("BinaryData", "True").lower() != "true":
        return VoxelData(path)
    width = _META_BYTES.get(fields["ElementType"], 0) * _product(fields.get("ElementNumberOfChannels", "1"))
    compressed = fields.get("CompressedData", "False").lower() == "true"
    said, present = fields.get("CompressedDataSize", ""), path.stat().st_size - start
    if compressed and said and _product(said) != present:
        raise ValueError(f"its header speaks of {said} bytes of compressed data, there are {max(0, present)}")
    return VoxelData(path, start, _product(fields["DimSize"]) * width, compressed)


def _beside(header: Path, name: str) -> Path:
    path = header.parent / name
    if not path.is_file():
        raise ValueError(f"its data file {name} does not exist")
    return path


def _product(text: str) -> int:
    try:
        numbers = [int(word) for word in text.split()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ValueError(f"its header gives the size {text!r}")
    return math.prod(numbers)


def _pieces(data: VoxelData) -> Iterator[bytes]:
    """The data in pieces, decompressed (several gzip members, as of bgzip, are one stream).

    Raises:
        zlib.error: If the stream is damaged or ends early.
    """
    either = zlib.MAX_WBITS | 32  # gzip or zlib, whichever the stream says
    with data.path.open("rb") as file:
        file.seek(data.start)
        stream = zlib.decompressobj(either)
        piece = file.read(_CHUNK)
        while piece:
            if not data.compressed:
                yield piece
            else:
                yield stream.decompress(piece)
                if stream.eof and stream.unused_data[:2] == b"\x1f\x8b":
                    piece, stream = stream.unused_data, zlib.decompressobj(either)
                    continue
                if stream.eof:  # anything after the end is padding
                    return
            piece = file.read(_CHUNK)
    if data.compressed and not stream.eof:
        raise zlib.error("the stream ends early")
