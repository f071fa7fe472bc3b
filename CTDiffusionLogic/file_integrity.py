"""Is an image file whole? Checked here because ITK does not always notice.

Measured with SimpleITK 2.5.7: a NIfTI file cut in half (.nii and .nii.gz) is read without an error
and the missing voxels hold whatever was in memory; a NIfTI file that hits a full disk is reported as
written. NRRD and MetaImage complain when read, but MetaImage does so on stderr.
The three headers are parsed only as far as it takes to say how many bytes there must be.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

#: Bytes read at a time when a compressed stream is measured.
_CHUNK = 1 << 20

_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(
        ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"), 4
    ),
    **dict.fromkeys(("longlong", "long long", "int64", "int64_t", "ulonglong", "uint64", "uint64_t", "double"), 8),
}
_META_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}


def missing_bytes(path: Path) -> str:
    """Say what is wrong with the voxel data of a NIfTI, NRRD or MetaImage file, or "" if it is whole.

    Compressed data are decompressed once, in pieces of 1 MiB, so checksums are verified too. What the
    header leaves open (text encodings, lists of data files) is left to ITK.

    Raises:
        OSError: If the file cannot be opened.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return _nifti_problem(path)
    if name.endswith((".nrrd", ".nhdr")):
        return _nrrd_problem(path)
    return _meta_problem(path)


def _nifti_problem(path: Path) -> str:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            head = file.read(544)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return f"its compressed data are broken ({error})"
    for order in "<>":
        if len(head) >= 348 and struct.unpack_from(order + "i", head)[0] == 348:  # NIfTI-1
            dims, bits = struct.unpack_from(order + "8h", head, 40), struct.unpack_from(order + "h", head, 72)[0]
            offset = int(struct.unpack_from(order + "f", head, 108)[0])
            break
        if len(head) >= 540 and struct.unpack_from(order + "i", head)[0] == 540:  # NIfTI-2
            dims, bits = struct.unpack_from(order + "8q", head, 16), struct.unpack_from(order + "h", head, 14)[0]
            offset = struct.unpack_from(order + "q", head, 168)[0]
            break
    else:
        return "it has no NIfTI header"
    if not 1 <= dims[0] <= 7 or bits <= 0:
        return f"its NIfTI header gives {dims[0]} dimensions of {bits} bits"
    expected = offset + math.prod(max(1, n) for n in dims[1 : dims[0] + 1]) * bits // 8
    return _stream_problem(path, start=0, expected=expected, compressed=zipped)


def _nrrd_problem(path: Path) -> str:
    with path.open("rb") as file:
        if not file.readline(64).startswith(b"NRRD"):
            return "it has no NRRD header"
        fields: dict[str, str] = {}
        while (line := file.readline(1 << 16)).strip():
            key, colon, value = line.decode("utf-8", "replace").partition(":")
            if colon and not value.startswith("="):  # "key:=value" is a comment of the maker
                fields[key.strip().lower()] = value.strip()
        start = file.tell()
    data_file = fields.get("data file", fields.get("datafile", ""))
    if data_file:
        path, start = path.parent / data_file, 0
        if data_file.upper().startswith("LIST") or "%" in data_file:
            return ""
        if not path.is_file():
            return f"its data file {data_file} does not exist"
    width = _NRRD_BYTES.get(fields.get("type", "").lower())
    encoding = fields.get("encoding", "").lower()
    skips = {"line skip", "lineskip", "byte skip", "byteskip"} & fields.keys()
    if width is None or encoding not in ("raw", "gzip", "gz") or skips:
        return ""
    expected = math.prod(int(n) for n in fields.get("sizes", "0").split()) * width
    return _stream_problem(path, start=start, expected=expected, compressed=encoding != "raw")


def _meta_problem(path: Path) -> str:
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while "ElementDataFile" not in fields:
            line = file.readline(1 << 16)
            key, equals, value = line.decode("utf-8", "replace").partition("=")
            if not line or not equals:
                return "it has no complete MetaImage header"
            fields[key.strip()] = value.strip()
        start = file.tell()
    data_file = fields["ElementDataFile"]
    if data_file.upper().startswith("LIST") or "%" in data_file:
        return ""
    if data_file.upper() != "LOCAL":
        path, start = path.parent / data_file, 0
        if not path.is_file():
            return f"its data file {data_file} does not exist"
    width = _META_BYTES.get(fields.get("ElementType", ""))
    if width is None or "HeaderSize" in fields or fields.get("BinaryData", "True").lower() != "true":
        return ""
    channels = int(fields.get("ElementNumberOfChannels", "1"))
    expected = math.prod(int(n) for n in fields.get("DimSize", "0").split()) * width * channels
    compressed = fields.get("CompressedData", "False").lower() == "true"
    return _stream_problem(path, start=start, expected=expected, compressed=compressed)


def _stream_problem(path: Path, *, start: int, expected: int, compressed: bool) -> str:
    """Compare the bytes of voxel data in ``path`` from ``start`` on with what the header promises."""
    if not compressed:
        present = path.stat().st_size - start
    else:
        try:
            present = _decompressed_size(path, start)
        except zlib.error as error:
            return f"its compressed data are broken ({error})"
    return "" if present >= expected else f"it holds {max(0, present):,} of {expected:,} bytes of data"


def _decompressed_size(path: Path, start: int) -> int:
    """Decompress a gzip or zlib stream (several members allowed) and count the bytes.

    Raises:
        zlib.error: If the stream is damaged or ends early.
    """
    size = 0
    either = zlib.MAX_WBITS | 32  # gzip or zlib, whichever the header says
    with path.open("rb") as file:
        file.seek(start)
        stream = zlib.decompressobj(either)
        data = file.read(_CHUNK)
        while data:
            size += len(stream.decompress(data))
            if stream.eof and stream.unused_data[:2] == b"\x1f\x8b":
                data, stream = stream.unused_data, zlib.decompressobj(either)
                continue
            if stream.eof:  # anything after the end is padding
                return size
            data = file.read(_CHUNK)
    if not stream.eof:
        raise zlib.error(f"the stream ends early, after {size:,} bytes")
    return size
