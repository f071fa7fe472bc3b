"""Do the slices of a DICOM series make an even, straight stack? If not, what is wrong, and where?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pydicom
from numpy.typing import NDArray

from CTDiffusionLogic.dicom_headers import ORIENTATION_TOLERANCE, DicomSlice

#: Slices may lie this far from an even grid, in mm: scanners round positions, to 0.1 mm at the worst ...
ROUNDING_MM = 0.1
#: ... but not this share of a thin slice, so that a missing one is always seen ...
THIN_SHARE = 0.2
#: ... and this share of a thick one.
THICK_SHARE = 0.05
#: Slices closer than this are in one place, in mm.
SAME_PLACE_MM = 0.01


@dataclass(frozen=True)
class Stack:
    """Slices in the order of rising position, or what is wrong with them.

    Args:
        slices: Sorted along ``row x column``, copies dropped.
        spacing: Distance of slices in mm; NaN if there is a problem.
        problem: Why they are not a volume, in plain words, or "".
        remedy: What to do about it.
        notes: What was put right or accepted.
    """

    slices: tuple[DicomSlice, ...]
    spacing: float = math.nan
    problem: str = ""
    remedy: str = ""
    notes: tuple[str, ...] = ()


def stack_slices(
    slices: Sequence[DicomSlice],
    *,
    orientation: Sequence[float],
    pixel_spacing: tuple[float, float],
    nominal_spacing: float = 0.0,
) -> Stack:
    """Sort ``slices`` along the normal of their plane and check that they fill an even grid.

    Args:
        slices: In any order; InstanceNumber is not looked at, it runs either way or not at all.
        orientation: Unit LPS vectors of a row and of a column, six numbers.
        pixel_spacing: In mm; a stack may lean sideways by half a pixel in all.
        nominal_spacing: Distance of slices in mm that the header names; used for a single slice only.
    """
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    ordered = sorted(slices, key=lambda s: (float(normal @ s.position), str(s.path), s.frame))
    axes = np.stack([row, column, normal], axis=1)
    if np.abs(axes.T @ axes - np.eye(3)).max() > ORIENTATION_TOLERANCE:
        return Stack(
            tuple(ordered), problem="has rows and columns that are not perpendicular", remedy="Export it again."
        )
    stack = _drop_copies(ordered, normal)
    if stack.problem:
        return stack
    if len(stack.slices) == 1:
        return replace(stack, spacing=nominal_spacing or 1.0, notes=(*stack.notes, "a single slice"))
    positions = np.array([s.position for s in stack.slices])
    along = positions @ normal
    gaps = np.diff(along)
    typical = float(np.quantile(gaps, 0.5, method="lower"))  # one that occurs, of two as of many
    spacing = float((along[-1] - along[0]) / (len(along) - 1))
    tolerance = max(min(ROUNDING_MM, THIN_SHARE * typical), THICK_SHARE * typical)
    off_grid = along - along[0] - spacing * np.arange(len(along))
    if np.ptp(off_grid) / 2 > tolerance:
        return replace(
            stack, problem=_uneven(along, gaps, typical), remedy="Copy or export the complete series again."
        )
    # What is left beside the normal: a tilted gantry shears the stack, a changed field of view shifts a part of it.
    sideways = (positions - positions[0]) - np.outer(along - along[0], normal)
    if np.linalg.norm(sideways, axis=1).max() > max(tolerance, min(pixel_spacing) / 2):
        problem, remedy = _leaning(positions, sideways, float(along[-1] - along[0]), tolerance)
        return replace(stack, problem=problem, remedy=remedy)
    return replace(stack, spacing=spacing)


def _drop_copies(ordered: Sequence[DicomSlice], normal: NDArray) -> Stack:
    """Drop copies of a slice; different slices in one place are a problem."""
    kept: list[DicomSlice] = []
    for image in ordered:
        if not kept or normal @ np.subtract(image.position, kept[-1].position) > SAME_PLACE_MM:
            kept.append(image)
        elif not _same_image(kept[-1], image):
            names = " and ".join(dict.fromkeys((kept[-1].path.name, image.path.name)))
            return Stack(
                tuple(ordered),
                problem=f"has two different slices at position {_place(image.position)}, in {names}",
                remedy="Separate its phases or reconstructions into folders of their own.",
            )
    dropped = len(ordered) - len(kept)
    notes = (f"{dropped} duplicate slice{'s' if dropped > 1 else ''} dropped",) if dropped else ()
    return Stack(tuple(kept), notes=notes)


def _same_image(one: DicomSlice, other: DicomSlice) -> bool:
    """Whether both have the same position and stored values (pixel data are read for this only)."""
    if one.path == other.path or one.frame != other.frame:
        return False
    if (one.slope, one.intercept) != (other.slope, other.intercept):
        return False
    if np.abs(np.subtract(one.position, other.position)).max() > SAME_PLACE_MM:
        return False
    first, second = (pydicom.dcmread(s.path, specific_tags=["PixelData"], force=True) for s in (one, other))
    return first.get("PixelData") is not None and first.get("PixelData") == second.get("PixelData")


def _uneven(along: NDArray, gaps: NDArray, typical: float) -> str:
    """Name what is wrong with the distances ``gaps`` of the slices at ``along`` (mm along the normal)."""
    steps = gaps / typical
    whole = np.rint(steps)
    if (np.abs(steps - whole) < 0.15).all() and whole.min() >= 1 and whole.max() > 1:
        first = int(np.argmax(whole > 1))
        missing = int((whole - 1).sum())
        where = f"between slices {first + 1} and {first + 2}, at {along[first]:.1f} and {along[first + 1]:.1f} mm"
        more = ", and in other places" if int((whole > 1).sum()) > 1 else ""
        return f"lacks {missing} slice{'s' if missing > 1 else ''} ({where}{more})"
    worst = int(np.argmax(np.abs(gaps - typical)))
    return (
        f"has uneven slices: most lie {typical:.2f} mm apart, but distances run from {gaps.min():.2f} to "
        f"{gaps.max():.2f} mm (slices {worst + 1} and {worst + 2} are {gaps[worst]:.2f} mm apart)"
    )


def _leaning(positions: NDArray, sideways: NDArray, height: float, tolerance: float) -> tuple[str, str]:
    """Problem and remedy for a stack that does not follow its normal."""
    drift = float(np.linalg.norm(sideways[-1]))
    straight = np.outer(np.linspace(0, 1, len(sideways)), sideways[-1])
    if np.linalg.norm(sideways - straight, axis=1).max() < max(tolerance, 0.1 * drift):
        angle = math.degrees(math.atan2(drift, height))
        return (
            f"was scanned with the gantry tilted by {angle:.1f} degrees, so that its slices are sheared",
            "Straighten it first (Slicer's DICOM import with acquisition geometry regularization, or dcm2niix).",
        )
    worst = int(np.argmax(np.linalg.norm(np.diff(sideways, axis=0), axis=1)))
    return (
        f"has slices that are shifted sideways from slice {worst + 2} on, at {_place(positions[worst + 1])}",
        "Separate the parts into folders of their own.",
    )


def _place(position: Sequence[float] | NDArray) -> str:
    return "(" + ", ".join(f"{v:.1f}" for v in position) + ") mm"
