"""Which DICOM series lie in a folder, in which order their slices lie, and what is wrong with them.

Only headers are read (pixels only to compare slices that share a position). Rules:

* Files are recognised by content, not by name. Slices belong together when SeriesInstanceUID,
  orientation, matrix and pixel size agree: scanners put localizers into the series they planned.
* Slices are sorted by position along the normal of the image plane, never by InstanceNumber.
* Refused, with a reason (``DicomSeries.problem``): other modalities, localizers, values that are not
  HU, gantry tilt, slices shifted sideways, missing or uneven slices, different slices in one place.
* Accepted, with a note (``DicomSeries.notes``): copies of a slice (dropped), positions rounded
  by the scanner, a single slice whose distance to the next is unknown.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from CTDiffusionLogic.dicom_headers import DicomSlice, FrameFields, NotAnImage, SliceHeader, own_metadata, read_headers
from CTDiffusionLogic.dicom_stack import stack_slices
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.quiet import quiet_warnings

#: RescaleType values that mean HU, or that scanners write when they mean HU.
HU_RESCALE_TYPES = ("", "HU", "US", "HU_MOD", "UNSPECIFIED")

#: Header fields that become metadata of the volume: nothing that names a person or a place.
_FACTS = {
    "manufacturer": "Manufacturer",
    "kernel": "ConvolutionKernel",
    "kvp": "KVP",
    "slice_thickness_mm": "SliceThickness",
    "body_part": "BodyPartExamined",
}


@dataclass(frozen=True)
class DicomSeries:
    """Slices that belong together, sorted along the normal.

    Args:
        uid: SeriesInstanceUID; two groups of one series (two matrices, say) share it.
        slices: In the order of rising position along ``row x column``.
        orientation: ImageOrientationPatient: unit LPS vectors of a row (i) and of a column (j).
        shape: Slices, rows, columns.
        pixel_spacing: Distance of columns (i) and of rows (j) in mm.
        slice_spacing: Distance of slices in mm; NaN if there is a problem with it.
        problem: Why it cannot be used, in plain words, or "".
        remedy: What to do about it.
        notes: What was put right or accepted.
        modality: "CT", or what else it is.
        description: SeriesDescription, for messages only.
        patient: Pseudonym made from PatientID; the ID itself is not kept.
        study_uid: StudyInstanceUID.
        sop_class_uid: SOPClassUID: single CT images, or a multi-frame file.
        frame_of_reference_uid: FrameOfReferenceUID.
        facts: Manufacturer, kernel and other plain facts.
    """

    uid: str
    slices: tuple[DicomSlice, ...]
    orientation: tuple[float, ...]
    shape: tuple[int, int, int]
    pixel_spacing: tuple[float, float]
    slice_spacing: float
    problem: str = ""
    remedy: str = ""
    notes: tuple[str, ...] = ()
    modality: str = ""
    description: str = ""
    patient: str = ""
    study_uid: str = ""
    sop_class_uid: str = ""
    frame_of_reference_uid: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The innermost folder that holds all files of the series."""
        return Path(os.path.commonpath([s.path.parent for s in self.slices]))

    @property
    def geometry(self) -> Geometry:
        """Grid of the volume, in LPS.

        Raises:
            ValueError: If the series has a problem with its geometry.
        """
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        direction = np.stack([row, column, np.cross(row, column)], axis=1)
        return Geometry((*self.pixel_spacing, self.slice_spacing), self.slices[0].position, direction)

    def __str__(self) -> str:
        name = self.description or self.uid
        return f"{self.modality} series “{name}” of {len(self.slices)} slices"


@dataclass(frozen=True)
class DicomSearch:
    """Series that were found (usable or with a ``problem``), and files that are not part of one."""

    series: tuple[DicomSeries, ...]
    rejected: tuple[tuple[Path, str], ...]

    @property
    def usable(self) -> tuple[DicomSeries, ...]:
        """Series without a problem."""
        return tuple(s for s in self.series if not s.problem)


def find_series(paths: Path | Iterable[Path]) -> DicomSearch:
    """Group the DICOM images in a folder (recursively) or in the given files into series.

    Returns:
        Series in the order of their folders. Nothing raises here: what cannot be used says why.
    """
    files = _files_below(paths) if isinstance(paths, Path) else paths
    groups: list[list[SliceHeader]] = []
    by_uid: dict[str, list[list[SliceHeader]]] = {}
    rejected: list[tuple[Path, str]] = []
    for path in files:
        try:
            headers = read_headers(path)
        except NotAnImage as error:
            if str(error):
                rejected.append((path, str(error)))
            continue
        for header in headers:
            siblings = by_uid.setdefault(header.series_uid, [])
            group = next((g for g in siblings if g[0].fits(header)), None)
            if group is None:
                group = []
                siblings.append(group)
                groups.append(group)
            # One header a group is enough; all of them would fill the memory on a large archive.
            group.append(replace(header, dataset=None) if group else header)
    series = []
    for group in groups:
        largest = max(len(g) for g in by_uid[group[0].series_uid])
        if len(group) <= 3 and len(group) * 10 <= largest:
            reason = f"differs in orientation or matrix from the {largest} other images of its series"
            rejected += [(h.slice.path, reason) for h in group]
        else:
            with quiet_warnings():
                series.append(_to_series(group))
    series.sort(key=lambda s: (str(s.folder), s.uid))
    return DicomSearch(tuple(series), tuple(rejected))


def _files_below(folder: Path) -> Iterator[Path]:
    for place, names, files in os.walk(folder):
        names.sort()
        yield from (Path(place) / f for f in sorted(files) if not f.startswith("."))


def pseudonym(identity: str) -> str:
    """A name for a patient that does not show who it is, the same on every machine."""
    return "p" + hashlib.sha256(f"ctdiffusion patient {identity}".encode()).hexdigest()[:12]


def _to_series(group: Sequence[SliceHeader]) -> DicomSeries:
    first, dataset = group[0], group[0].dataset
    frame = FrameFields(dataset, 0)
    stack = stack_slices(
        [h.slice for h in group],
        orientation=first.orientation,
        pixel_spacing=first.pixel_spacing,
        nominal_spacing=abs(frame.number("SpacingBetweenSlices") or frame.number("SliceThickness") or 0.0),
    )
    modality = frame.text("Modality")
    kind = frame.text("RescaleType").upper()
    problem, remedy = stack.problem, stack.remedy
    if modality != "CT":
        problem, remedy = f"is {modality or 'of unknown modality'}, not CT", "Give a CT."
    elif "LOCALIZER" in first.image_type:
        problem, remedy = "is a localizer (scout view), not a scan", "Give the scan itself."
    elif kind not in HU_RESCALE_TYPES:
        problem, remedy = f"holds values of type {kind}, not HU", "Give a CT in Hounsfield units."
    facts = {key: value for key, tag in _FACTS.items() if (value := frame.text(tag))}
    if frame.text("SyntheticData") == "YES":
        facts = {**own_metadata(dataset), "synthetic": "yes"}
    return DicomSeries(
        uid=first.series_uid,
        slices=stack.slices,
        orientation=first.orientation,
        shape=(len(stack.slices), *first.matrix),
        pixel_spacing=first.pixel_spacing,
        slice_spacing=stack.spacing,
        problem=problem,
        remedy=remedy,
        notes=stack.notes,
        modality=modality,
        description=frame.text("SeriesDescription"),
        patient=pseudonym(frame.text("PatientID") or frame.text("StudyInstanceUID")),
        study_uid=frame.text("StudyInstanceUID"),
        sop_class_uid=frame.text("SOPClassUID"),
        frame_of_reference_uid=frame.text("FrameOfReferenceUID"),
        facts=facts,
    )
