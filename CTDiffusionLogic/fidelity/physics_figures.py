"""Figures and curves of the physics of CT; see :mod:`CTDiffusionLogic.fidelity.physics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from CTDiffusionLogic.fidelity.results import Curve, Figure
from CTDiffusionLogic.fidelity.tissue import HU_CENTRES, TISSUES

if TYPE_CHECKING:
    from CTDiffusionLogic.fidelity.physics import PhysicsMeasures

#: Names of the groups in curves.
REAL, SYNTHETIC = "real", "synthetic"
#: HU per bin of drawn histograms, and the highest HU drawn.
DRAWN_BIN_HU, DRAWN_HU = 16, 1024
#: Points of drawn noise spectra.
NOISE_POINTS = 24

#: Measures of the volumes of each group.
Groups = Mapping[str, "list[PhysicsMeasures]"]


def physics_figures(groups: Groups, draw: Draw) -> tuple[list[Figure], list[Curve]]:
    """All figures of the synthetic group against the real one, and curves of both."""
    parts = [_histograms(groups, draw), _tissues(groups, draw), _noise(groups, draw), _outlines(groups, draw)]
    figures = [figure for part in parts for figure in part[0] if figure is not None]
    return figures, [curve for part in parts for curve in part[1] if curve is not None]


def _rows(groups: Groups, value: Callable[[Any], Any]) -> dict[str, Rows]:
    return {name: Rows.of(group, value) for name, group in groups.items()}


def _histograms(groups: Groups, draw: Draw) -> tuple[list[Figure | None], list[Curve | None]]:
    figures: list[Figure | None] = []
    for key, title, meaning in (
        (
            "body",
            "HU inside the body",
            "Distance (Wasserstein) between the distributions of HU inside the body: by how much HU would have to be "
            "moved on average to make them the same. Blind to where in the body they are.",
        ),
        (
            "whole",
            "HU of the whole image",
            "The same over the whole image: it also depends on how much air is around the body.",
        ),
    ):
        rows = _rows(groups, lambda m, key=key: getattr(m.tissues, key))  # type: ignore[misc]
        figures.append(
            distance_figure(
                rows[REAL],
                rows[SYNTHETIC],
                _hu_distance,
                draw=draw,
                key=f"physics.histogram.{key}",
                title=title,
                unit="HU",
                meaning=meaning,
            )
        )
    count = (DRAWN_HU - int(HU_CENTRES[0])) // DRAWN_BIN_HU
    curve = group_curve(
        _rows(groups, lambda m: 100 * m.tissues.body[: count * DRAWN_BIN_HU].reshape(count, -1).sum(axis=1)),
        HU_CENTRES[0] + DRAWN_BIN_HU * (np.arange(count) + 0.5) - 0.5,
        key="physics.histogram",
        title="HU inside the body",
        x_title="HU",
        x_unit="HU",
        y_title=f"Voxels per {DRAWN_BIN_HU} HU",
        y_unit="%",
    )
    return figures, [curve]


def _hu_distance(a: NDArray, b: NDArray) -> float:
    return float(wasserstein_distance(HU_CENTRES, HU_CENTRES, a, b))


def _tissues(groups: Groups, draw: Draw) -> tuple[list[Figure | None], list[Curve | None]]:
    figures: list[Figure | None] = []
    for tissue in TISSUES:
        low, high = tissue.expected
        values = _rows(groups, lambda m, key=tissue.key: m.tissues.values.get(key))  # type: ignore[misc]
        figures.append(
            quantity_figure(
                values[REAL],
                values[SYNTHETIC],
                draw=draw,
                key=f"physics.peak.{tissue.key}",
                title=f"{tissue.title}, {tissue.measure}",
                unit="HU",
                meaning=f"Published: {low:.0f} to {high:.0f} HU ({tissue.source}).",
            )
        )
    for tissue in TISSUES:
        if tissue.where == "outside":
            continue
        shares = _rows(groups, lambda m, key=tissue.key: 100 * m.tissues.shares[key])  # type: ignore[misc]
        figures.append(
            quantity_figure(
                shares[REAL],
                shares[SYNTHETIC],
                draw=draw,
                key=f"physics.share.{tissue.key}",
                title=f"{tissue.title}, part of the body",
                unit="%",
                meaning=f"Voxels of {tissue.low} to {tissue.high} HU inside the body. It depends on which part of the "
                "body is seen.",
            )
        )
    return figures, []


def _noise(groups: Groups, draw: Draw) -> tuple[list[Figure | None], list[Curve | None]]:
    figures: list[Figure | None] = []
    for key, title in (("soft", "Noise of flat soft tissue"), ("air", "Noise of air around the body")):
        values = _rows(groups, lambda m, key=key: getattr(m.noise, f"{key}_hu"))  # type: ignore[misc]
        figures.append(
            quantity_figure(
                values[REAL],
                values[SYNTHETIC],
                draw=draw,
                key=f"physics.noise.{key}",
                title=title,
                unit="HU",
                meaning="Standard deviation in regions of 24 mm, trend taken out, at each volume's own pixels: small "
                "pixels, thin slices and low dose are noisier. Organs are not perfectly flat.",
            )
        )
    measured = [m.noise for group in groups.values() for m in group if len(m.noise.frequencies) > 1]
    if not measured:
        return figures, []
    low = max(n.frequencies[0] for n in measured)
    high = min(n.frequencies[-1] for n in measured)
    if high <= low:
        return figures, []
    frequencies = np.linspace(low, high, NOISE_POINTS)
    rows = _rows(
        groups,
        lambda m: (
            np.interp(frequencies, m.noise.frequencies, 10 * np.log10(m.noise.power))
            if len(m.noise.frequencies) > 1
            else None
        ),
    )
    grain = {
        name: Rows(np.array([_mean_frequency(row, frequencies) for row in group.values]), group.patients)
        for name, group in rows.items()
    }
    figures += [
        spectrum_figure(
            rows[REAL],
            rows[SYNTHETIC],
            draw=draw,
            key="physics.noise.spectrum",
            title="In-plane noise power spectrum",
            meaning="Mean distance of the noise power spectra of flat soft tissue in dB, at frequencies that all "
            "volumes have. 3 dB: twice or half the power.",
        ),
        quantity_figure(
            grain[REAL],
            grain[SYNTHETIC],
            draw=draw,
            key="physics.noise.frequency",
            title="Mean frequency of the noise",
            unit="cycles/mm",
            meaning="Low for coarse, blotchy noise, high for fine grain; at frequencies that all volumes have.",
        ),
    ]
    curve = spectrum_curve(
        rows,
        frequencies,
        key="physics.noise",
        title="In-plane noise power spectrum of flat soft tissue",
        y_unit="HU² mm²",
    )
    return figures, [curve]


def _mean_frequency(decibel: NDArray, frequencies: NDArray) -> float:
    """Mean frequency of a radial spectrum; each ring counts by its length."""
    weights = frequencies * 10 ** (decibel / 10)
    return float((frequencies * weights).sum() / weights.sum())


def _outlines(groups: Groups, draw: Draw) -> tuple[list[Figure | None], list[Curve | None]]:
    figures: list[Figure | None] = []
    for key, title, unit, value, meaning in (
        (
            "area",
            "Area of the body per slice",
            "cm²",
            lambda outline: outline.area_cm2.mean(),
            "It depends on which part of the body is seen.",
        ),
        (
            "pieces",
            "Pieces of tissue per slice",
            "",
            lambda outline: outline.pieces,
            "Body, arms, table: connected pieces of at least 1 cm² above -300 HU. Debris beside the body adds to it.",
        ),
        (
            "holes",
            "Air spaces per slice",
            "",
            lambda outline: outline.holes,
            "Lungs, bowel gas, and holes that should not be there: at least 0.5 cm² below -300 HU inside the body.",
        ),
        (
            "circle_ratio",
            "Length of the outline, over a circle's",
            "",
            lambda outline: outline.circle_ratio,
            "Of a circle of the same area. Too high if the outline is ragged or torn; distances of image features "
            "hardly see that.",
        ),
        (
            "movement",
            "Movement of the outline over 6 mm",
            "mm",
            lambda outline: outline.movement_mm,
            "Mean distance between the outlines of slices 6 mm apart. Too high if the skin jumps from slice to slice.",
        ),
        (
            "roughness",
            "Roughness of the circumference over 6 mm",
            "mm",
            lambda outline: outline.roughness_mm,
            "Mean departure of a slice's circumference from the mean of those 6 mm above and below.",
        ),
    ):

        def of_volume(m: PhysicsMeasures, value: Callable[[Any], Any] = value) -> Any:
            return None if m.outline is None else value(m.outline)

        rows = _rows(groups, of_volume)
        figures.append(
            quantity_figure(
                rows[REAL],
                rows[SYNTHETIC],
                draw=draw,
                key=f"physics.outline.{key}",
                title=title,
                unit=unit,
                meaning=meaning,
            )
        )
    return figures, []
