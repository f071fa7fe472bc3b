"""Figures and curves of through-plane coherence; see :mod:`CTDiffusionLogic.fidelity.coherence`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from CTDiffusionLogic.fidelity.group_figures import (
    Draw,
    Rows,
    distance_figure,
    group_curve,
    quantity_figure,
    spectrum_curve,
    spectrum_figure,
)
from CTDiffusionLogic.fidelity.periodicity import PERIODS, strongest
from CTDiffusionLogic.fidelity.results import Curve, Figure
from CTDiffusionLogic.fidelity.slice_pairs import SSIM_CENTRES, STEP_CENTRES
from CTDiffusionLogic.fidelity.z_spectrum import common_frequencies, decibels, fast_share

if TYPE_CHECKING:
    from CTDiffusionLogic.fidelity.coherence import CoherenceMeasures

#: Names of the groups in curves.
REAL, SYNTHETIC, INDEPENDENT = "real", "synthetic", "independent slices"
#: |dHU| up to here is drawn.
DRAWN_HU = 300.0

#: Measures of the volumes of each group.
Groups = Mapping[str, "list[CoherenceMeasures]"]

_MEANING = {
    "difference": "Distance (Wasserstein) between the distributions of |dHU| inside the body; 0 if slices differ as "
    "in real scans. To be read beside the floor, the distance between real patients.",
    "ssim": "Distance (Wasserstein) between the distributions of structural similarity of slice pairs; 0 if slices "
    "are as alike as in real scans.",
    "spectrum": "Mean distance of the power spectra along z in dB, from long waves to the coarsest slices' limit.",
    "fast": "Part of the power along z that lies in the upper half of the frequencies: too high if slices flicker, "
    "too low if they are blurred into each other. Coarse scans count up to their own limit only.",
    "period": "How strongly the differences of neighbours rise and fall with the period that shows most, in % of "
    "themselves. Slabs that do not fit together show here, whatever their size.",
    "sharpness": "How strongly slices are sharp and blurred in turn, at the period that shows most.",
    "borders": "How much more neighbours differ across borders of slabs than inside slabs; 0 if borders cannot be "
    "seen. Of real scans: at the places where borders would be.",
}


def coherence_figures(groups: Groups, draw: Draw) -> tuple[list[Figure], list[Curve]]:
    """All figures of the synthetic group against the real one, and curves of all groups."""
    figures: list[Figure | None] = []
    curves: list[Curve | None] = []
    distances = shared_distances(groups)
    figures += [
        _distance(
            groups,
            draw,
            _of_pairs(distance, "differences"),
            lambda a, b: wasserstein_distance(STEP_CENTRES, STEP_CENTRES, a, b),
            key=f"coherence.difference.{distance:g}mm",
            title=f"Differences of slices {distance:g} mm apart",
            unit="HU",
            meaning=_MEANING["difference"],
        )
        for distance in distances
    ]
    figures += [
        _distance(
            groups,
            draw,
            _of_pairs(distance, "ssim"),
            lambda a, b: wasserstein_distance(SSIM_CENTRES, SSIM_CENTRES, a, b),
            key=f"coherence.ssim.{distance:g}mm",
            title=f"Structural similarity of slices {distance:g} mm apart",
            meaning=_MEANING["ssim"],
        )
        for distance in distances
    ]
    curves += _pair_curves(groups, distances)
    of_spectra = _compare_spectra(groups, draw)
    of_periods = _compare_periods(groups, draw)
    figures += of_spectra[0] + of_periods[0]
    curves += of_spectra[1] + of_periods[1]
    return [f for f in figures if f is not None], [c for c in curves if c is not None]


def _pair_curves(groups: Groups, distances: Sequence[float]) -> list[Curve | None]:
    if not distances:
        return []
    x = {"x_title": "Distance of slices", "x_unit": "mm", "x_log": True}
    rows: list[Curve | None] = []
    for name, title, unit in (
        ("mean_difference", "Mean difference of slices inside the body", "HU"),
        ("mean_ssim", "Structural similarity of slices", ""),
    ):

        def values(m: CoherenceMeasures, name: str = name) -> list[Any] | None:
            found = [getattr(m.pairs[d], name) if d in m.pairs else None for d in distances]
            # A scan whose slices lie too far apart for the first distance is left out: lines need all points.
            return None if None in found else found

        key = "coherence.difference" if unit else "coherence.ssim"
        lines = _rows(groups, values)
        rows.append(group_curve(lines, distances, key=key, title=title, y_title=title, y_unit=unit, **x))
    nearest = distances[0]
    shown = STEP_CENTRES < DRAWN_HU
    rows.append(
        group_curve(
            _rows(groups, lambda m: m.pairs[nearest].differences[shown] * 100 if nearest in m.pairs else None),
            STEP_CENTRES[shown],
            key="coherence.distribution",
            title=f"Differences of slices {nearest:g} mm apart",
            x_title="|dHU|",
            x_unit="HU",
            y_title="Voxels in the body per 2 HU",
            y_unit="%",
            y_log=True,
        )
    )
    return rows


def _compare_spectra(groups: Groups, draw: Draw) -> tuple[list[Figure | None], list[Curve | None]]:
    spectra = [m.spectrum for group in groups.values() for m in group if m.spectrum is not None]
    if not spectra:
        return [], []
    frequencies = common_frequencies(spectra)
    rows = _rows(groups, lambda m: None if m.spectrum is None else decibels(m.spectrum, frequencies))
    figures = [
        spectrum_figure(
            rows[REAL],
            rows[SYNTHETIC],
            draw=draw,
            key="coherence.spectrum",
            title="Power spectrum along z",
            meaning=_MEANING["spectrum"],
        )
    ]
    if len(frequencies) > 1:
        shares = {
            name: Rows(np.array([100 * fast_share(row, frequencies) for row in group.values]), group.patients)
            for name, group in rows.items()
        }
        figures.append(
            quantity_figure(
                shares[REAL],
                shares[SYNTHETIC],
                draw=draw,
                key="coherence.fast_share",
                title=f"Power along z beyond {frequencies[-1] / 2:.2g} cycles/mm",
                unit="%",
                meaning=_MEANING["fast"],
            )
        )
    curve = spectrum_curve(
        rows, frequencies, key="coherence.spectrum", title="Power spectrum along z", y_unit="HU² mm"
    )
    return figures, [curve]


def _compare_periods(groups: Groups, draw: Draw) -> tuple[list[Figure | None], list[Curve | None]]:
    figures: list[Figure | None] = []
    curves: list[Curve | None] = []
    for name, key, title in (
        ("differences", "period", "Rise and fall of the differences of neighbours"),
        ("sharpness", "sharpness", "Rise and fall of sharpness along z"),
    ):
        rows = {group: period_rows(measures, name) for group, measures in groups.items()}
        figures.append(
            quantity_figure(
                rows[REAL],
                rows[SYNTHETIC],
                lambda stack: strongest(stack)[1],
                draw=draw,
                key=f"coherence.{key}",
                title=title,
                unit="%",
                meaning=_MEANING[key],
            )
        )
        filled = {group: r for group, r in rows.items() if len(r)}
        # Short volumes do not tell of long periods: a period is drawn if each group has a volume that does.
        usable = np.all([np.isfinite(r.values[:, 0]).any(axis=0) for r in filled.values()], axis=0)
        if filled and usable.any():
            curves.append(
                group_curve(
                    {group: Rows(r.values[:, 0][:, usable], r.patients) for group, r in filled.items()},
                    np.array(PERIODS)[usable],
                    key=f"coherence.{key}",
                    title=title,
                    x_title="Period",
                    x_unit="slices",
                    y_title="Strength",
                    y_unit="%",
                )
            )
    borders = _rows(groups, lambda m: m.borders)
    figures.append(
        quantity_figure(
            borders[REAL],
            borders[SYNTHETIC],
            draw=draw,
            key="coherence.borders",
            title="Slab borders against inside slabs",
            unit="%",
            meaning=_MEANING["borders"],
        )
    )
    return figures, curves


def _of_pairs(distance: float, name: str) -> Callable[[Any], Any]:
    """Get what was measured at a distance, None where it was not."""
    return lambda m: getattr(m.pairs[distance], name) if distance in m.pairs else None


def _rows(groups: Groups, value: Callable[[Any], Any]) -> dict[str, Rows]:
    return {name: Rows.of(group, value) for name, group in groups.items()}


def _distance(
    groups: Groups,
    draw: Draw,
    value: Callable[[Any], Any],
    distance: Callable[[NDArray, NDArray], float],
    **texts: Any,
) -> Figure | None:
    return distance_figure(
        Rows.of(groups[REAL], value), Rows.of(groups[SYNTHETIC], value), distance, draw=draw, **texts
    )


def period_rows(measures: Sequence[CoherenceMeasures], name: str) -> Rows:
    """(volumes, 2, periods) modulation and evidence of the profile ``name``: "differences" or "sharpness"."""

    def row(m: CoherenceMeasures) -> NDArray[np.float64] | None:
        periods = getattr(m, name)
        return None if periods is None else np.stack([periods.modulation, periods.evidence])

    return Rows.of(measures, row)


def shared_distances(groups: Groups) -> list[float]:
    """Distances that at least one volume of each group has."""
    each = [{d for m in group for d in m.pairs} for group in groups.values() if group]
    return sorted(set.intersection(*each)) if each else []
