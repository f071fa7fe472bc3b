"""HU histograms, and where the tissues' peaks lie in them.

Published ranges say where a peak should be in people at large; real scans of the same kind say it better (contrast
agent, tube voltage and breathing move peaks), so both stand beside the figures.

What the sources say was looked up, but for two: of Gattinoni et al. the pages, not the numbers; of the accreditation
phantom the numbers as users of the programme quote them. For bone there is no better source than a table for students.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from CTDiffusionLogic.fidelity.body_grid import BodyGrid
from CTDiffusionLogic.fidelity.volumes import LabVolume
from CTDiffusionLogic.volume import AIR_HU, MAX_HU

#: HU of the histograms' bins, one each.
HU_CENTRES = np.arange(AIR_HU, MAX_HU + 1, dtype=np.float64)
#: A histogram is smoothed by this (standard deviation, HU) before its peak is sought.
SMOOTHING_HU = 4.0
#: A peak nearer than this to the end of its range is the slope of another one.
EDGE_HU = 5.0
#: Voxels that a tissue must have at least.
LEAST_VOXELS = 500


@dataclass(frozen=True, kw_only=True)
class Tissue:
    """A tissue as CT sees it.

    Args:
        key, title: For programs and for people.
        where: Inside the body, or outside of it and of the table.
        low, high: HU that count as this tissue.
        least_share: Part of the body below which nothing is said of its peak.
        measure: "peak" of the histogram or "median" (bone has no peak of its own).
        expected: Published range of that value in HU.
        source: Where it is published.
    """

    key: str
    title: str
    where: Literal["body", "outside"]
    low: int
    high: int
    least_share: float
    measure: Literal["peak", "median"]
    expected: tuple[float, float]
    source: str


TISSUES = (
    Tissue(
        key="air",
        title="Air around the body",
        where="outside",
        low=AIR_HU,
        high=-900,
        least_share=0.0,  # taken from regions of nothing but air, see noise_spectrum
        measure="median",
        expected=(-1005.0, -970.0),
        source="-1000 HU by definition; what the American College of Radiology accepts of air in its accreditation "
        "phantom, McCollough et al., Med Phys 2004; 31: 2423-2442",
    ),
    Tissue(
        key="lung",
        title="Lung",
        where="body",
        low=-1000,
        high=-500,
        least_share=0.03,
        measure="peak",
        expected=(-900.0, -500.0),
        source="normally aerated lung, Gattinoni et al., Am J Respir Crit Care Med 2001; 164: 1701-1711",
    ),
    Tissue(
        key="fat",
        title="Fat",
        where="body",
        low=-190,
        high=-30,
        least_share=0.02,
        measure="peak",
        expected=(-140.0, -52.0),
        source="pure adipose tissue of 53 patients (subcutaneous, retroperitoneal, visceral), PMC4043057; range of "
        "the tissue -190 to -30 HU, Aubrey et al. 2014, PMID 24393306",
    ),
    Tissue(
        key="soft_tissue",
        title="Soft tissue",
        where="body",
        low=-29,
        high=150,
        least_share=0.05,
        measure="peak",
        expected=(20.0, 80.0),
        source="muscle 34 to 49 HU on average, Goodpaster et al., J Appl Physiol 2000; 89: 104-110; kidney, spleen, "
        "blood, liver 20 to 65 HU, radclass.mudr.org after Buzug, Computed Tomography, Springer 2008, p. 475; more "
        "with contrast agent; range of muscle -29 to 150 HU, Aubrey et al. 2014, PMID 24393306",
    ),
    Tissue(
        key="bone",
        title="Bone",
        where="body",
        low=200,
        high=MAX_HU,
        least_share=0.003,
        measure="median",
        expected=(250.0, 1000.0),
        source="compact bone 250 to 1000 HU, as tables for students have it, such as radgray.com; of this median "
        "(all above 200 HU) no range is published",
    ),
)


@dataclass(frozen=True, eq=False)
class TissueMeasures:
    """Histogram and tissues of one volume.

    Args:
        body: Part of the body's voxels at each HU (:data:`HU_CENTRES`), adds up to one.
        whole: The same of the whole volume.
        values: HU of the peak or median of each tissue inside the body, by key; those that cannot be told are missing.
        shares: Part of the body that each tissue inside it takes, 0 to 1.
    """

    body: NDArray[np.float64]
    whole: NDArray[np.float64]
    values: dict[str, float]
    shares: dict[str, float]


def measure_tissues(volume: LabVolume, grid: BodyGrid) -> TissueMeasures:
    """Count HU at the volume's own pixels, inside ``grid``'s body and everywhere."""
    bins = len(HU_CENTRES)
    inside, whole = np.zeros(bins), np.zeros(bins)
    rows = _places(volume.hu.shape[1], volume.spacing_mm[1], grid.corner_mm[0], grid.spacing_mm[1], grid.hu.shape[1])
    columns = _places(
        volume.hu.shape[2], volume.spacing_mm[2], grid.corner_mm[1], grid.spacing_mm[2], grid.hu.shape[2]
    )
    row_range, column_range = slice(rows[0], rows[0] + len(rows[1])), slice(columns[0], columns[0] + len(columns[1]))
    for plane, body in zip(volume.hu, grid.body, strict=True):
        mask = body[rows[1]][:, columns[1]]
        inside += np.bincount(plane[row_range, column_range][mask] - AIR_HU, minlength=bins)
        whole += np.bincount(plane.ravel() - AIR_HU, minlength=bins)
    values = {}
    for tissue in TISSUES:
        value = _value(inside, tissue) if tissue.where == "body" else None
        if value is not None:
            values[tissue.key] = value
    total = max(inside.sum(), 1.0)
    shares = {t.key: float(_part(inside, t).sum() / total) for t in TISSUES if t.where == "body"}
    return TissueMeasures(inside / total, whole / whole.sum(), values, shares)


def _places(
    count: int, pixel_mm: float, corner_mm: float, grid_mm: float, grid_count: int
) -> tuple[int, NDArray[np.intp]]:
    """First of the volume's pixels on the grid, and the grid's pixel that each of them lies in."""
    place = np.floor(((np.arange(count) + 0.5) * pixel_mm - corner_mm) / grid_mm).astype(int)
    on = np.flatnonzero((place >= 0) & (place < grid_count))
    return int(on[0]), place[on]


def _part(histogram: NDArray[np.float64], tissue: Tissue) -> NDArray[np.float64]:
    return histogram[tissue.low - AIR_HU : tissue.high - AIR_HU + 1]


def _value(histogram: NDArray[np.float64], tissue: Tissue) -> float | None:
    """HU of a tissue's peak or median; None where there is too little of it, or no peak inside its range."""
    part = _part(histogram, tissue)
    if part.sum() < max(LEAST_VOXELS, tissue.least_share * histogram.sum()):
        return None
    if tissue.measure == "median":
        return float(tissue.low + np.searchsorted(np.cumsum(part), part.sum() / 2))
    # Smoothed with what lies beside the range, so that a slope is not mistaken for a peak.
    smooth = _part(ndimage.gaussian_filter1d(_without_padding(histogram), SMOOTHING_HU, mode="nearest"), tissue)
    place = int(np.argmax(smooth))
    if min(place, len(smooth) - 1 - place) < EDGE_HU:
        return None
    return float(tissue.low + place)


def _without_padding(histogram: NDArray[np.float64]) -> NDArray[np.float64]:
    """The histogram without the lowest HU, which mostly marks voxels that were not reconstructed."""
    kept = histogram.copy()
    kept[0] = kept[1]
    return kept
