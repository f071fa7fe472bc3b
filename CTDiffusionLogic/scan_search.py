"""Find CT scans in files and folders, and say of everything else why it was left out."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from CTDiffusionLogic.dicom_headers import DICOM_SUFFIXES, is_dicom
from CTDiffusionLogic.dicom_read import read_series
from CTDiffusionLogic.dicom_series import DicomSeries, find_series
from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.image_files import image_stem, image_suffix, read_image_header
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import read_volume

#: Columns an index must have to be one; "id" is used where it is there.
INDEX_COLUMNS = ("file", "patient", "region")


@dataclass(frozen=True)
class ScanRef:
    """A scan that was found but not read.

    Args:
        id: Short name, unique among the scans found together, the same wherever the data folder lies.
        path: The image file, or the folder of a DICOM series.
        kind: "dicom", or the suffix of the file (".nii.gz").
        patient: Whose scan it is, as a pseudonym; scans of one patient share it.
        label: Region or class from an index, or "".
        series_uid: SeriesInstanceUID of a DICOM series, or "".
        shape: Slices, rows, columns, from the headers.
        files: The files of a DICOM series, relative to ``path``.
    """

    id: str
    path: Path
    kind: str
    patient: str
    label: str = ""
    series_uid: str = ""
    shape: tuple[int, int, int] = (0, 0, 0)
    files: tuple[str, ...] = field(default=(), repr=False)

    def read(self) -> CTVolume:
        """Read the scan.

        Raises:
            InputError: If it cannot be used; the message names the file and what is wrong with it.
        """
        volume = read_series(self._series()) if self.files else read_volume(self.path)
        return replace(volume, metadata={**volume.metadata, "id": self.id, "patient": self.patient})

    def _series(self) -> DicomSeries:
        search = find_series([self.path / name for name in self.files])
        if not search.series:
            raise InputError(f"{self.path} has lost its DICOM files since it was found.", remedy="Search again.")
        return search.series[0]


@dataclass(frozen=True)
class SkippedScan:
    """Something that was looked at and left out, and the plain reason."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ScanSearchResult:
    """What a search found, what it left out, and the index files that gave patients and labels."""

    found: tuple[ScanRef, ...]
    skipped: tuple[SkippedScan, ...]
    index: tuple[Path, ...] = ()

    def require_any(self, paths: Sequence[Path]) -> ScanSearchResult:
        """Return self.

        Raises:
            InputError: If no scan was found; the message has the paths and the first reasons.
        """
        if self.found:
            return self
        places = ", ".join(str(p) for p in paths)
        reasons = "".join(f" {s.path.name}: {s.reason}" for s in self.skipped[:3])
        raise InputError(
            f"No CT scans found in {places}.{reasons}",
            remedy="Give files or folders of DICOM, NIfTI, NRRD or MHA.",
        )


def find_scans(paths: Sequence[str | Path], *, index: str | Path | None = None) -> ScanSearchResult:
    """Search files and folders for CT scans, reading headers only.

    Args:
        paths: Files and folders; folders are searched recursively, links that lead in circles are safe.
        index: CSV with the columns file (relative to the CSV), patient and region. Without it, an
            ``INDEX.csv`` in a given folder or up to two levels above is used if it speaks of files there.

    Returns:
        Scans in the order of their paths, each once.

    Raises:
        InputError: If a path does not exist, the index is not one, or nothing was found.
    """
    roots = [Path(p) for p in paths]
    for root in roots:
        if not root.exists():
            raise InputError(f"{root} does not exist.", remedy="Check the path.")
    rows, index_files = _index_rows(roots, Path(index) if index is not None else None)
    found: list[ScanRef] = []
    skipped = [
        SkippedScan(path, f"is named in {row['index']} but does not exist")
        for path, row in rows.items()
        if not path.exists() and any(path.is_relative_to(root.resolve()) for root in roots)
    ]
    seen: set[Path] = set()
    dicom: list[Path] = []
    for root in roots:
        for path in _files_below(root):
            real = path.resolve()
            if real in seen:
                continue
            seen.add(real)
            if image_suffix(path):
                try:
                    found.append(_file_ref(path, root, read_image_header(path), rows))
                except InputError as error:
                    skipped.append(SkippedScan(path, error.message.removeprefix(f"{path} ")))
            elif path.suffix.lower() in DICOM_SUFFIXES or is_dicom(path):
                dicom.append(path)
            elif path == root:
                skipped.append(SkippedScan(path, "is neither an image file nor DICOM"))
    search = find_series(dicom)
    skipped += [SkippedScan(path, reason) for path, reason in search.rejected]
    skipped += [SkippedScan(s.folder, f"the {s} {s.problem}.") for s in search.series if s.problem]
    found += [_series_ref(s, roots, rows) for s in search.usable]
    found = _with_unique_ids(sorted(found, key=lambda scan: str(scan.path)))
    return ScanSearchResult(tuple(found), tuple(skipped), index_files).require_any(roots)


def _files_below(root: Path) -> Iterator[Path]:
    """All files under ``root`` in the order of their names; hidden ones and loops of links left out."""
    if root.is_file():
        yield root
        return
    visited: set[Path] = set()
    for folder, names, files in os.walk(root, followlinks=True):
        real = Path(folder).resolve()
        if real in visited:
            names.clear()
            continue
        visited.add(real)
        names[:] = sorted(n for n in names if not n.startswith("."))
        yield from (Path(folder) / f for f in sorted(files) if not f.startswith("."))


def _file_ref(path: Path, root: Path, shape: tuple[int, int, int], rows: Mapping[Path, Mapping[str, str]]) -> ScanRef:
    row = rows.get(path.resolve(), {})
    subject = next((m[0] for part in reversed(path.parts) if (m := re.match(r"sub-[A-Za-z0-9]+", part))), "")
    return ScanRef(
        id=row.get("id") or _stable_id(path, root),
        path=path,
        kind=image_suffix(path),
        patient=row.get("patient") or subject or image_stem(path),
        label=row.get("region", ""),
        shape=shape,
    )


def _series_ref(series: DicomSeries, roots: Sequence[Path], rows: Mapping[Path, Mapping[str, str]]) -> ScanRef:
    folder = series.folder
    real = folder.resolve()
    row = next((rows[place] for place in (real, *real.parents) if place in rows), {})
    root = next((r for r in roots if folder.is_relative_to(r)), folder)
    return ScanRef(
        id=row.get("id") or _stable_id(folder, root, f"{series.uid} {series.shape}"),
        path=folder,
        kind="dicom",
        patient=row.get("patient") or series.patient,
        label=row.get("region", ""),
        series_uid=series.uid,
        shape=series.shape,
        files=tuple(dict.fromkeys(s.path.relative_to(folder).as_posix() for s in series.slices)),
    )


def _stable_id(path: Path, root: Path, extra: str = "") -> str:
    """Name of the file and six characters of its place below ``root``: stable when the data are moved."""
    place = path.relative_to(root).as_posix() if path != root and path.is_relative_to(root) else path.name
    return f"{image_stem(path)}-{hashlib.sha256((place + extra).encode()).hexdigest()[:6]}"


def _with_unique_ids(found: list[ScanRef]) -> list[ScanRef]:
    counts: dict[str, int] = {}
    unique = []
    for scan in found:
        counts[scan.id] = counts.get(scan.id, 0) + 1
        unique.append(scan if counts[scan.id] == 1 else replace(scan, id=f"{scan.id}-{counts[scan.id]}"))
    return unique


def _index_rows(roots: Sequence[Path], index: Path | None) -> tuple[dict[Path, dict[str, str]], tuple[Path, ...]]:
    """Rows of the index files by the resolved path they speak of, and the files that were used."""
    if index is not None:
        return _read_index(index), (index,)
    rows: dict[Path, dict[str, str]] = {}
    used: list[Path] = []
    for root in roots:
        folder = root if root.is_dir() else root.parent
        real = root.resolve()
        for place in (folder, *folder.resolve().parents[:2]):
            candidate = place / "INDEX.csv"
            if not candidate.is_file() or candidate.resolve() in {u.resolve() for u in used}:
                continue
            try:
                more = _read_index(candidate)
            except InputError:
                continue  # some other table of that name
            if any(path.is_relative_to(real) or real.is_relative_to(path) for path in more):
                rows |= more
                used.append(candidate)
    return rows, tuple(used)


def _read_index(path: Path) -> dict[Path, dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = table.fieldnames or []
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as an index: {error}.", remedy="Give a CSV file.") from None
    absent = [c for c in INDEX_COLUMNS if c not in columns]
    if absent:
        raise InputError(
            f"{path} is not an index of scans: it lacks the columns {', '.join(absent)}.",
            remedy="Give a CSV with the columns file, patient and region.",
        )
    folder = path.parent
    return {
        (folder / row["file"]).resolve(): {"index": path.name, **{k: v or "" for k, v in row.items() if k}}
        for row in rows
        if row["file"]
    }
