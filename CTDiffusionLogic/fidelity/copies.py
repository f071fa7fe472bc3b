"""Memorisation: are synthetic volumes copies of training scans?

Each volume is described by windows along its body (:mod:`body_windows`: shifts, flips and changes of size do not
matter), and its closest stretch is searched in the training (:mod:`copy_search`). Synthetic volumes are set beside
real scans of people who were *not* trained on: held-out scans, and training scans against the training without their
patient. Pictures of the closest pairs, at the same place of the body, let people judge for themselves.

What it sees: copies of a whole training scan or of a stretch of 60 mm, shifted, flipped, somewhat larger or smaller,
noisy, blurred, of another window or spacing. What it need not see: copied texture or a copied small lesion in another
body; a copy whose body is cut off by the image's edge elsewhere; rotations of more than a few degrees.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity.body_windows import describe_windows
from CTDiffusionLogic.fidelity.bootstrap import bootstrap_interval
from CTDiffusionLogic.fidelity.copy_search import (
    REFERENCE_STEP,
    Closest,
    Limits,
    ScanWindows,
    find_closest,
    limits_from,
    real_against_others,
    reference_from,
)
from CTDiffusionLogic.fidelity.results import Figure, Interval, Section
from CTDiffusionLogic.fidelity.volumes import LabVolume

TITLE = "Copies of training scans"
#: Closest pairs in the details.
SHOWN_PAIRS = 6
#: Pixels per side of thumbnails; the HU they show as black and white.
THUMBNAIL, BLACK_HU, WHITE_HU = 96, -1000.0, 400.0


@dataclass(frozen=True, eq=False)
class CopiesMeasures(ScanWindows):
    """What the search for copies keeps of a volume.

    Args:
        id, patient, windows: See there.
        thumbnails: uint8 (windows, THUMBNAIL, THUMBNAIL): the slice in each window's middle, the body in the middle.
    """

    thumbnails: NDArray[np.uint8]


def measure_copies(volume: LabVolume) -> CopiesMeasures:
    """Describe a volume's windows and take their pictures.

    Raises:
        InputError: If the volume is shorter than 40 mm or shows no body.
    """
    windows = describe_windows(volume.hu, volume.spacing_mm)
    if not len(windows):
        raise InputError(f"{volume.id} shows no body to compare.", remedy="Give CT of a body.")
    thumbnails = [
        thumbnail(volume, float(centre), place)
        for centre, place in zip(windows.centres_mm, windows.places_mm, strict=True)
    ]
    return CopiesMeasures(volume.id, volume.patient, windows, np.stack(thumbnails))


def compare_copies(
    training: Sequence[CopiesMeasures],
    synthetic: Sequence[CopiesMeasures],
    held_out: Sequence[CopiesMeasures] = (),
    *,
    seed: int = 0,
) -> Section:
    """Say which synthetic volumes are closer to a training scan than other people are.

    Args:
        training: All scans the model was trained on.
        synthetic: What it made.
        held_out: Real scans it never saw; those of training patients are left out.
        seed: Of the intervals.

    Returns:
        Section "copies"; ``details["closest_pairs"]`` has ``synthetic`` and ``training`` (ids), ``ratio``,
        ``distance``, ``copy``, ``synthetic_mm`` and ``training_mm`` (from the first slice), and ``picture``, a PNG
        of both as a data URI: the real scan's is a patient's picture and belongs into the report only.

    Raises:
        InputError: If there are no training or no synthetic volumes.
    """
    if not training or not synthetic:
        raise InputError(
            "Copies cannot be looked for without training scans and synthetic volumes.", remedy="Give both."
        )
    patients = sorted({m.patient for m in training})
    reference = reference_from(training)
    found = [_require(find_closest(m.windows.numbers, reference)) for m in synthetic]
    others = [m for m in held_out if m.patient not in patients]
    real = real_against_others([*others, *training], training, reference)
    limits = limits_from(real, patients=len(patients))
    copies = [limits.is_copy(closest) for closest in found]
    return Section(
        key="copies",
        title=TITLE,
        verdict=_verdict(found, copies, limits),
        figures=_figures(synthetic, found, copies, real, others, limits, len(patients), seed),
        warnings=_warnings(limits, real, patients=len(patients)),
        details={
            "ratio_limit": round(limits.ratio, 4),
            "distance_limit": round(limits.distance, 4),
            "real_ratios": [round(v, 4) for v in limits.real_ratios],
            "synthetic_ratios": {m.id: round(c.ratio, 4) for m, c in zip(synthetic, found, strict=True)},
            "held_out_volumes": len(others),
            "training_windows": len(reference.numbers),
            "closest_pairs": _pairs(training, synthetic, found, copies),
        },
    )


def _warnings(limits: Limits, real: Sequence[Closest], *, patients: int) -> list[str]:
    """What limits the search."""
    said = []
    if patients < 2:
        said.append(
            "There is one training patient only, so that it cannot be told whether a volume resembles one person "
            "more than others; only volumes that are nearly identical are found."
        )
    elif not limits.calibrated:
        said.append(f"Only {len(real)} real scans tell how close other people come; the limit is the program's own.")
    if not real:
        said.append("No real scan tells how close other people come.")
    if close := sum(limits.is_copy(closest) for closest in real):
        said.append(
            f"{close} of the {len(real)} real scans are as close to a training patient said to be another: one person "
            "under two names?"
        )
    return said


def thumbnail(volume: LabVolume, centre_mm: float, place: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The slice at ``centre_mm`` as grey values, the body at ``place`` (row, column, radius in mm) in the middle."""
    gap, dy, dx = volume.spacing_mm
    plane = volume.hu[min(int(centre_mm / gap), len(volume.hu) - 1)].astype(np.float32)
    row, column, radius = (float(v) for v in place)
    side = np.linspace(-1.5, 1.5, THUMBNAIL) * radius
    step = 3 * radius / THUMBNAIL
    plane = ndimage.uniform_filter(plane, (max(1, round(step / dy)), max(1, round(step / dx))))
    where = np.meshgrid((row + side) / dy - 0.5, (column + side) / dx - 0.5, indexing="ij")
    hu = ndimage.map_coordinates(plane, where, order=1, mode="constant", cval=BLACK_HU)
    return np.rint(255 * np.clip((hu - BLACK_HU) / (WHITE_HU - BLACK_HU), 0, 1)).astype(np.uint8)


def _require(closest: Closest | None) -> Closest:
    assert closest is not None, "measured volumes have windows"
    return closest


def _verdict(found: Sequence[Closest], copies: Sequence[bool], limits: Limits) -> str:
    lowest = min(c.ratio for c in found)
    count, total = sum(copies), len(found)
    beside = f"; real scans of other people: {limits.real_ratios[0]:.2f} and more" if limits.real_ratios else ""
    if count:
        are = "is" if count == 1 else "are"
        return (
            f"{count} of {total} volumes {are} closer to one training patient than other people are: look at the "
            f"pairs. The nearest training patient is {lowest:.2f} times as far as the next one{beside}."
        )
    return (
        f"No volume is closer to a training scan than other people are: 0 of {total}. At the closest, the nearest "
        f"training patient is {lowest:.2f} times as far as the next one{beside}."
    )


def _figures(
    synthetic: Sequence[CopiesMeasures],
    found: Sequence[Closest],
    copies: Sequence[bool],
    real: Sequence[Closest],
    others: Sequence[CopiesMeasures],
    limits: Limits,
    patients: int,
    seed: int,
) -> list[Figure]:
    from scipy import stats  # slow to import, and generating volumes imports this file

    counts = {"synthetic_volumes": len(found), "training_patients": patients, "held_out_volumes": len(others)}
    exact = stats.binomtest(sum(copies), len(copies)).proportion_ci()
    share = Interval(value=100 * float(np.mean(copies)), low=100 * exact.low, high=100 * exact.high)
    flagged = [limits.is_copy(c) for c in real]
    figures = [
        Figure(
            key="copies.share",
            title="Volumes close to one training patient",
            synthetic=share,
            floor=Interval(value=100 * float(np.mean(flagged))) if real else None,
            better="lower",
            unit="%",
            counts=counts,
            meaning="Share of volumes below the limit set by real scans of other people; the interval is exact "
            "(Clopper and Pearson).",
        )
    ]
    names = [m.id for m in synthetic]
    for key, title, unit, meaning in (
        (
            "ratio",
            "Nearest training patient against the next",
            "",
            "Ratio of distances, of the closest stretch of each volume, median: near 1 for a body of its own, low "
            "where it resembles one training patient only.",
        ),
        ("distance", "Distance to the nearest training patient", "", "Of the closest stretch, median."),
    ):
        values = np.array([getattr(c, key) for c in found])
        floor = [getattr(c, key) for c in real]
        figures.append(
            Figure(
                key=f"copies.{key}",
                title=title,
                synthetic=bootstrap_interval(
                    lambda _, drawn, values=values: float(np.median(values[drawn])),  # type: ignore[misc]
                    [],
                    names,
                    seed=seed,
                ),
                floor=Interval(value=float(np.median(floor))) if floor else None,
                better="near-floor",
                unit=unit,
                counts=counts,
                meaning=meaning,
            )
        )
    return figures


def _pairs(
    training: Sequence[CopiesMeasures],
    synthetic: Sequence[CopiesMeasures],
    found: Sequence[Closest],
    copies: Sequence[bool],
) -> list[dict[str, Any]]:
    """The closest pairs, lowest ratio first."""
    owners = [
        (scan, window) for scan in training for window in range(0, len(scan.windows), REFERENCE_STEP)
    ]  # in the order of the reference
    order = sorted(range(len(found)), key=lambda n: (not copies[n], found[n].ratio, found[n].distance))
    pairs = []
    for n in order[:SHOWN_PAIRS]:
        scan, window = owners[found[n].match]
        pairs.append(
            {
                "synthetic": synthetic[n].id,
                "training": scan.id,
                "ratio": round(found[n].ratio, 4),
                "distance": round(found[n].distance, 4),
                "copy": bool(copies[n]),
                "synthetic_mm": round(float(synthetic[n].windows.centres_mm[found[n].window]), 1),
                "training_mm": round(float(scan.windows.centres_mm[window]), 1),
                "picture": _data_uri(synthetic[n].thumbnails[found[n].window], scan.thumbnails[window]),
            }
        )
    return pairs


def _data_uri(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> str:
    """Both pictures side by side as PNG text for HTML and JSON."""
    from PIL import Image

    line = np.full((left.shape[0], 4), 255, np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.concatenate([left, line, right], axis=1)).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
