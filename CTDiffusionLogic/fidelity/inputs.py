"""Which volumes are compared with which: found, grouped, and those left out that are not what they were given as."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from CTDiffusionLogic.dicom_series import find_series
from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity.findings import GROUPS, Group, InputVolume, LeftOut
from CTDiffusionLogic.fidelity.partly_real import MEASURED, REAL_SLICES, cut_out, made_slices, sentence
from CTDiffusionLogic.fidelity.volumes import LabVolume, to_lab_volume
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.image_files import read_image_facts
from CTDiffusionLogic.scan_search import ScanRef, find_scans
from CTDiffusionLogic.volume import CTVolume, to_standard_axes

#: Groups that hold patients' scans, and groups that hold what models made.
REAL_GROUPS: tuple[Group, ...] = ("real", "training", "held-out")
MADE_GROUPS: tuple[Group, ...] = ("synthetic", "independent")
#: What is kept of a volume's own facts: how it was made.
_ORIGIN = (
    *("model", "model_sha256", "seed", "version", "steps", "sampler", "phantom"),
    *("fine_model", "fine_model_sha256", "fine_steps"),
    *("completion", REAL_SLICES, MEASURED, "independent_slices"),
)


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A volume that will be read and measured.

    Args:
        ref: Where it is.
        id: Short name, unique among all.
        patient: Whose; a made volume is its own patient.
        groups: What it was given as.
        shape: Slices, rows, columns after turning to standard axes, from the header.
        spacing_mm: Distance of slices, rows, columns after turning.
        metadata: Its own facts, as far as the header has them.
        part: Slices that are measured, as it is stored, of a volume that is partly real; None: all.
        stored: Slices of the whole volume.
    """

    ref: ScanRef
    id: str
    patient: str
    groups: tuple[Group, ...]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    metadata: Mapping[str, str] = field(default_factory=dict)
    part: range | None = None
    stored: int = 0

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Size along slices, rows, columns in mm."""
        z, y, x = (n * d for n, d in zip(self.shape, self.spacing_mm, strict=True))
        return z, y, x

    def read(self) -> tuple[LabVolume, InputVolume]:
        """Read it, and say what was read.

        Raises:
            InputError: If it cannot be used.
        """
        volume = self.ref.read()
        if self.part is not None:
            volume = cut_out(volume, self.part)
        lab = to_lab_volume(volume, id=self.id, patient=self.patient)
        if not set(self.groups) & set(MADE_GROUPS):
            lab = replace(lab, synthetic=False)  # a phantom that was let in stands for a patient
        said = InputVolume(
            id=self.id,
            patient=self.patient,
            groups=self.groups,
            sha256=voxel_digest(lab),
            shape=lab.hu.shape,
            spacing_mm=lab.spacing_mm,
            synthetic=volume.metadata.get("synthetic") == "yes",
            origin={key: str(volume.metadata[key]) for key in _ORIGIN if volume.metadata.get(key)},
        )
        return lab, said


@dataclass(frozen=True)
class Inputs:
    """What will be measured, what was left out, and sentences about it."""

    scans: tuple[Scan, ...]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]


def find_inputs(paths: Mapping[Group, Sequence[Path]], *, allow_phantoms: bool = False) -> Inputs:
    """Find all volumes, reading headers only.

    A scan that is given twice (as real and as training, say) is one scan in two groups. Synthetic volumes are left
    out of the groups of real scans, and so are phantoms unless ``allow_phantoms``. Without held-out scans, those
    real ones serve whose patients are not among the training's.

    Raises:
        InputError: If a path does not exist, or no real or no synthetic volumes remain.
    """
    left_out: list[LeftOut] = []
    merged: dict[tuple[Path, str], Scan] = {}
    for group in GROUPS:
        if not paths.get(group):
            continue
        search = find_scans(paths[group])
        left_out += [LeftOut(path=str(s.path), group=group, reason=s.reason) for s in search.skipped]
        for ref in search.found:
            key = (ref.path.resolve(), ref.series_uid)
            before = merged.get(key)
            try:
                scan = before or _from_header(ref)
            except InputError as error:
                left_out.append(LeftOut(path=str(ref.path), group=group, reason=error.message))
                continue
            if reason := _not_real(scan, allow_phantoms=allow_phantoms) if group in REAL_GROUPS else "":
                left_out.append(LeftOut(path=str(ref.path), group=group, reason=reason))
                continue
            merged[key] = replace(scan, groups=(*scan.groups, group))
    scans = _with_patients(list(merged.values()))
    scans, more = _apart_from_training(scans, held_out_given=bool(paths.get("held-out")))
    left_out += more
    for group in ("real", "synthetic"):
        if not any(group in scan.groups for scan in scans):
            places = ", ".join(str(path) for path in paths.get(group, ()))
            reasons = "".join(f" {Path(o.path).name}: {o.reason}." for o in left_out if o.group == group)
            raise InputError(
                f"No {group} volumes are left to compare in {places}.{reasons[:500]}",
                remedy="Give real scans with --real and generated volumes with --synthetic.",
            )
    return Inputs(tuple(scans), tuple(left_out), tuple(_sentences(scans)))


def voxel_digest(volume: LabVolume) -> str:
    """SHA-256 of shape, spacing (to 0.1 µm) and voxels: the same for one scan in two formats."""
    digest = hashlib.sha256()
    digest.update(repr((volume.hu.shape, [round(s, 4) for s in volume.spacing_mm])).encode())
    digest.update(np.ascontiguousarray(volume.hu, dtype="<i2").data)
    return digest.hexdigest()


def _from_header(ref: ScanRef) -> Scan:
    if ref.files:
        series = find_series([ref.path / name for name in ref.files]).usable
        if not series:
            raise InputError(f"{ref.path} has lost its DICOM files since it was found.", remedy="Search again.")
        shape, metadata = series[0].shape, dict(series[0].facts)
        try:
            geometry: Geometry = series[0].geometry
        except ValueError as error:
            raise InputError(f"{ref.path} has no usable geometry: {error}.", remedy="Export it again.") from None
    else:
        shape, geometry, metadata = read_image_facts(ref.path)
    # An array without memory of its own: only its shape is turned.
    whole = CTVolume(np.broadcast_to(np.int16(0), shape), geometry, metadata)
    part = made_slices(shape, metadata) if metadata.get("synthetic") == "yes" else None
    turned = to_standard_axes(whole if part is None else cut_out(whole, part))
    dx, dy, dz = turned.spacing
    return Scan(
        ref=ref,
        id=ref.id,
        patient=ref.patient,
        groups=(),
        shape=turned.shape,
        spacing_mm=(dz, dy, dx),
        metadata=metadata,
        part=part,
        stored=shape[0],
    )


def _not_real(scan: Scan, *, allow_phantoms: bool) -> str:
    """Why the scan cannot stand for a patient's, or ""."""
    if scan.metadata.get("phantom") == "yes":
        return "" if allow_phantoms else "is a phantom, not a patient's scan; --allow-phantoms lets it in"
    return "is synthetic, not a real scan" if scan.metadata.get("synthetic") == "yes" else ""


def _with_patients(scans: list[Scan]) -> list[Scan]:
    """Unique ids, and made volumes as patients of their own."""
    counts: dict[str, int] = {}
    result = []
    for scan in scans:
        counts[scan.id] = counts.get(scan.id, 0) + 1
        name = scan.id if counts[scan.id] == 1 else f"{scan.id}-{counts[scan.id]}"
        made = not set(scan.groups) & set(REAL_GROUPS)
        result.append(replace(scan, id=name, patient=f"synthetic {name}" if made else scan.patient))
    return result


def _apart_from_training(scans: list[Scan], *, held_out_given: bool) -> tuple[list[Scan], list[LeftOut]]:
    """Held-out scans share no patient with the training's; found among the real ones where none were given."""
    trained = {scan.patient for scan in scans if "training" in scan.groups}
    if not trained:
        return scans, []
    result, left_out = [], []
    for scan in scans:
        groups = scan.groups
        if "held-out" in groups and scan.patient in trained:
            left_out.append(
                LeftOut(path=str(scan.ref.path), group="held-out", reason="is of a patient of the training scans")
            )
            groups = tuple(group for group in groups if group != "held-out")
        elif not held_out_given and "real" in groups and scan.patient not in trained:
            groups = (*groups, "held-out")
        if groups:
            result.append(replace(scan, groups=groups))
    return result, left_out


def _sentences(scans: Sequence[Scan]) -> list[str]:
    """What a reader must know about the groups before the figures."""
    said = []
    both = [scan.id for scan in scans if set(scan.groups) & set(REAL_GROUPS) and set(scan.groups) & set(MADE_GROUPS)]
    if both:
        said.append(f"Given as real and as synthetic: {_names(both)}. Its comparison with itself means nothing.")
    unmarked = [s.id for s in scans if set(s.groups) & set(MADE_GROUPS) and s.metadata.get("synthetic") != "yes"]
    if unmarked:
        said.append(f"Given as synthetic, but they do not say so themselves: {_names(unmarked)}.")
    said += [sentence(s.id, s.stored, s.part) for s in scans if s.part is not None]
    phantoms = [s.id for s in scans if set(s.groups) & set(REAL_GROUPS) and s.metadata.get("phantom") == "yes"]
    if phantoms:
        said.append(f"{len(phantoms)} of the real volumes are phantoms: the floor is not that of patients.")
    trained = [scan for scan in scans if "training" in scan.groups and "real" in scan.groups]
    if trained:
        real = sum("real" in scan.groups for scan in scans)
        said.append(
            f"{len(trained)} of {real} real scans are training scans: distances to them flatter a model that copies."
        )
    patients = len({scan.patient for scan in scans if "real" in scan.groups})
    if patients < 2:
        said.append("All real scans are of one patient: there is no floor between patients.")
    elif patients < 8:
        said.append(f"The real scans are of {patients} patients only: floors and intervals are rough.")
    if sum("synthetic" in scan.groups for scan in scans) < 8:
        said.append("There are fewer than 8 synthetic volumes: their figures are rough.")
    return said


def _names(ids: Sequence[str], *, most: int = 5) -> str:
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(ids[:most]) + more
