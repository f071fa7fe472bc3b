"""Through-plane coherence: do neighbouring slices belong together as those of real scans do?

More alike is not better: slices that are too much alike are blurred along z, those that are too different flicker.
So everything is compared with real scans at the same distance in mm, and with *independent slices*: the same model
asked for every slice alone (:mod:`CTDiffusionLogic.fidelity.independent`).

Example:
    real = [measure_coherence(v) for v in real_volumes]
    section = compare_coherence(real, [measure_coherence(v) for v in synthetic_volumes])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from CTDiffusionLogic.fidelity.body_grid import PIXEL_MM, BodyGrid, body_grid
from CTDiffusionLogic.fidelity.coherence_figures import (
    INDEPENDENT,
    REAL,
    SYNTHETIC,
    Groups,
    coherence_figures,
    period_rows,
    shared_distances,
)
from CTDiffusionLogic.fidelity.group_figures import Draw
from CTDiffusionLogic.fidelity.group_warnings import EMPTY, unlike_warnings, volume_warnings
from CTDiffusionLogic.fidelity.periodicity import (
    Periods,
    border_excess,
    difference_profile,
    find_periods,
    sharpness_profile,
    slab_slices,
    strongest,
)
from CTDiffusionLogic.fidelity.results import Figure, Section
from CTDiffusionLogic.fidelity.slice_pairs import PairMeasures, measure_pairs
from CTDiffusionLogic.fidelity.volumes import LabVolume
from CTDiffusionLogic.fidelity.z_spectrum import ZSpectrum, measure_z_spectrum

#: Distances of slices that are compared.
DISTANCES_MM = (1.5, 3.0, 6.0, 12.0, 24.0)
#: A period is spoken of from this evidence on (-log10 p), if it is so much stronger than any in real scans: anatomy
#: (ribs, vertebrae) has some evidence of periods of its own, of 1 to 3 %.
CLEAR_EVIDENCE, CLEAR_FACTOR = 3.0, 2.0
_PERIODIC = {
    "differences": "the differences of neighbours rise and fall",
    "sharpness": "the sharpness of slices rises and falls",
}
#: Two groups whose gaps or pixels differ by more than this factor are compared with a warning.
ALIKE = 1.5


@dataclass(frozen=True, eq=False)
class CoherenceMeasures:
    """What is kept of a volume.

    Args:
        id, patient: Of the volume.
        gap_mm, pixel_mm: Distance of slices; pixel size at which they were compared.
        pairs: By distance in mm.
        spectrum: Along z; None for short volumes.
        differences, sharpness: Periods of the profiles along z; None for short volumes.
        borders: Slab borders against inside, in %; None where slabs are not known or too few.
        warnings: What could not be measured.
    """

    id: str
    patient: str
    gap_mm: float
    pixel_mm: float
    pairs: Mapping[float, PairMeasures]
    spectrum: ZSpectrum | None
    differences: Periods | None
    sharpness: Periods | None
    borders: float | None
    warnings: tuple[str, ...] = field(default=())


def measure_coherence(
    volume: LabVolume,
    *,
    pixel_mm: float = PIXEL_MM,
    distances_mm: Sequence[float] = DISTANCES_MM,
    pairs: int = 16,
    grid: BodyGrid | None = None,
) -> CoherenceMeasures:
    """Measure a volume; it is not kept.

    Args:
        volume: Any; of a single slice little can be told.
        pixel_mm: Pixels are averaged to this size; see
            :func:`~CTDiffusionLogic.fidelity.body_grid.common_pixel_mm` for several volumes.
        distances_mm: Distances of slice pairs.
        pairs: Most pairs per step of slices.
        grid: Of this volume, where it is there already.
    """
    grid = body_grid(volume, pixel_mm=pixel_mm) if grid is None else grid
    profile = difference_profile(grid)
    slices = slab_slices(volume.metadata, synthetic=volume.synthetic)
    found = measure_pairs(grid, distances_mm, pairs=pairs)
    spectrum = measure_z_spectrum(grid)
    warnings = []
    if not grid.found:
        warnings.append("no body was found; whole slices were compared")
    if spectrum is None:
        warnings.append(f"too short for a spectrum along z ({len(grid.hu)} slices, {volume.spacing_mm[0]:g} mm apart)")
    differences = find_periods(profile)
    if differences is None or not np.isfinite(differences.modulation).all():
        warnings.append(f"too few slices ({len(grid.hu)}) for all periods along z")
    return CoherenceMeasures(
        id=volume.id,
        patient=volume.patient,
        gap_mm=volume.spacing_mm[0],
        pixel_mm=max(grid.spacing_mm[1:]),
        pairs=found,
        spectrum=spectrum,
        differences=differences,
        sharpness=find_periods(sharpness_profile(grid)),
        borders=border_excess(profile, slices) if slices else None,
        warnings=tuple(warnings),
    )


def compare_coherence(
    real: Sequence[CoherenceMeasures],
    synthetic: Sequence[CoherenceMeasures],
    *,
    independent: Sequence[CoherenceMeasures] | None = None,
    seed: int = 0,
    rounds: int = 200,
) -> Section:
    """Compare synthetic volumes with real scans, and independent slices of the same model with both.

    Args:
        real, synthetic: Measured with the same options.
        independent: Volumes of independent slices; their values stand in curves and in the section's details.
        seed: Of the resampling.
        rounds: How often to resample.
    """
    groups = {REAL: list(real), SYNTHETIC: list(synthetic), INDEPENDENT: list(independent or [])}
    draw = Draw(seed=seed, rounds=rounds)
    figures, curves = coherence_figures(groups, draw)
    details: dict[str, Any] = {
        "pixel_mm": {name: sorted({round(m.pixel_mm, 2) for m in group}) for name, group in groups.items() if group},
        "gaps_mm": {name: sorted({round(m.gap_mm, 3) for m in group}) for name, group in groups.items() if group},
        "distances_mm": {name: _measured_distances(group) for name, group in groups.items() if group},
        "strongest_period": {name: _strongest_period(group) for name, group in groups.items() if group},
    }
    if independent:
        # The same comparison with the baseline in the place of the synthetic volumes.
        of_baseline, _ = coherence_figures(
            {REAL: groups[REAL], SYNTHETIC: groups[INDEPENDENT], INDEPENDENT: []}, Draw(rounds=0)
        )
        details["independent_slices"] = {figure.key: figure.synthetic.value for figure in of_baseline}
    return Section(
        key="coherence",
        title="Through-plane coherence",
        verdict=_verdict(figures, details, groups),
        figures=figures,
        curves=curves,
        warnings=_warnings(groups),
        details=details,
    )


def _strongest_period(measures: Sequence[CoherenceMeasures]) -> dict[str, Any]:
    found = {}
    for name in ("differences", "sharpness"):
        rows = period_rows(measures, name)
        if len(rows):
            slices, modulation, evidence = strongest(rows.values)
            found[name] = {"slices": slices, "percent": modulation, "evidence": evidence}
    return found


def _measured_distances(measures: Sequence[CoherenceMeasures]) -> dict[str, list[list[float]]]:
    """Which distances stand for each wanted one."""
    wanted = sorted({d for m in measures for d in m.pairs})
    return {
        f"{d:g}": [
            list(s)
            for s in sorted({tuple(round(v, 3) for v in m.pairs[d].steps_mm) for m in measures if d in m.pairs})
        ]
        for d in wanted
    }


def _verdict(figures: Sequence[Figure], details: Mapping[str, Any], groups: Groups) -> str:
    by_key = {figure.key: figure for figure in figures}
    baseline = details.get("independent_slices", {})
    sentences = []
    distances = shared_distances(groups)
    if distances and (figure := by_key.get(f"coherence.difference.{distances[0]:g}mm")):
        means = {
            name: np.mean([m.pairs[distances[0]].mean_difference for m in group if distances[0] in m.pairs])
            for name, group in groups.items()
            if group
        }
        sentence = (
            f"Slices {distances[0]:g} mm apart differ by {means[SYNTHETIC]:.0f} HU on average, those of real scans by "
            f"{means[REAL]:.0f} HU; the distributions lie {figure.synthetic.value:.1f} HU apart"
        )
        if figure.floor is not None:
            sentence += f", those of real patients {figure.floor.value:.1f} HU"
        if figure.key in baseline:
            sentence += f"; independent slices {baseline[figure.key]:.1f} HU"
        sentences.append(sentence + ".")
    found = details["strongest_period"].get(SYNTHETIC, {})
    usual = details["strongest_period"].get(REAL, {})
    clear = [
        name
        for name, period in found.items()
        if period["evidence"] >= CLEAR_EVIDENCE
        and period["percent"] > CLEAR_FACTOR * usual.get(name, {}).get("percent", 0.0)
    ]
    for name in clear:
        beside = f" ({usual[name]['percent']:.1f} % in real scans, at any period)" if name in usual else ""
        sentences.append(
            f"In synthetic volumes {_PERIODIC[name]} every {found[name]['slices']} slices, by "
            f"{found[name]['percent']:.1f} %{beside}."
        )
    if found and not clear:
        sentences.append("No period along z stands out in the synthetic volumes.")
    return " ".join(sentences) or "There are no volumes that could be compared."


def _warnings(groups: Groups) -> list[str]:
    found = volume_warnings(groups)
    filled = {name: group for name, group in groups.items() if group}
    if not groups[REAL] or not groups[SYNTHETIC]:
        return [*found, EMPTY]
    shared = shared_distances(groups)
    missing = sorted({d for group in filled.values() for m in group for d in m.pairs} - set(shared))
    if missing:
        found.append(
            f"Slices {', '.join(f'{d:g}' for d in missing)} mm apart are not in all groups and were not compared."
        )
    found += unlike_warnings(
        groups,
        lambda m: m.gap_mm,
        limit=ALIKE,
        what="Slices are not equally far apart",
        digits="g",
        meaning="thick slices are smoother than thin ones at the same distance.",
    )
    pixels = [m.pixel_mm for group in filled.values() for m in group]
    if max(pixels) > 1.1 * min(pixels):
        found.append(
            f"Pixels of {min(pixels):.2g} to {max(pixels):.2g} mm were compared: coarse ones differ less. Measure "
            f"with a pixel size of {max(pixels):.2g} mm for all."
        )
    return found
