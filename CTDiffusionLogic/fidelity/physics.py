"""Physics: are the HU those of tissue, the noise that of a scanner, the outline that of a body?

Example:
    real = [measure_physics(v) for v in real_volumes]
    section = compare_physics(real, [measure_physics(v) for v in synthetic_volumes])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from CTDiffusionLogic.fidelity.body_grid import PIXEL_MM, BodyGrid, body_grid
from CTDiffusionLogic.fidelity.group_figures import Draw
from CTDiffusionLogic.fidelity.group_warnings import EMPTY, unlike_warnings, volume_warnings
from CTDiffusionLogic.fidelity.noise_spectrum import LEAST_REGIONS, NoiseMeasures, measure_noise
from CTDiffusionLogic.fidelity.outline import OutlineMeasures, measure_outline
from CTDiffusionLogic.fidelity.physics_figures import REAL, SYNTHETIC, physics_figures
from CTDiffusionLogic.fidelity.results import Figure, Section
from CTDiffusionLogic.fidelity.tissue import TISSUES, TissueMeasures, measure_tissues
from CTDiffusionLogic.fidelity.volumes import LabVolume

#: Pixels that differ by more than this factor have different noise.
ALIKE = 1.25
#: A body that the image cuts off in more than this part of the slices has no outline of its own.
CUT_OFF = 0.2


@dataclass(frozen=True, eq=False)
class PhysicsMeasures:
    """What is kept of a volume.

    Args:
        id, patient: Of the volume.
        gap_mm, pixel_mm: Distance of slices; the volume's own pixel size.
        tissues: Histograms and peaks.
        noise: In flat soft tissue and in air.
        outline: Of the body; None where there is none, or the image cuts it off.
        warnings: What could not be measured.
    """

    id: str
    patient: str
    gap_mm: float
    pixel_mm: float
    tissues: TissueMeasures
    noise: NoiseMeasures
    outline: OutlineMeasures | None
    warnings: tuple[str, ...] = field(default=())


def measure_physics(volume: LabVolume, *, pixel_mm: float = PIXEL_MM, grid: BodyGrid | None = None) -> PhysicsMeasures:
    """Measure a volume; it is not kept.

    Args:
        volume: Any.
        pixel_mm: Of the outline. HU and noise are measured at the volume's own pixels.
        grid: Of this volume, where it is there already.
    """
    grid = body_grid(volume, pixel_mm=pixel_mm) if grid is None else grid
    tissues = measure_tissues(volume, grid)
    noise = measure_noise(volume, grid)
    if noise.air_level_hu is not None:
        tissues.values["air"] = noise.air_level_hu
    warnings = []
    if not grid.found:
        warnings.append("no body was found; the whole volume counts as one")
    if grid.touches > CUT_OFF:
        warnings.append("the image cuts off the body; its outline was not measured")
    missing = [t.title.lower() for t in TISSUES if t.where == "body" and t.key not in tissues.values]
    if missing:
        warnings.append(f"too little of it, or no peak: {', '.join(missing)}")
    if noise.regions < LEAST_REGIONS:
        warnings.append("too few flat regions of soft tissue for the noise")
    if noise.air_regions < LEAST_REGIONS:
        warnings.append("too little air around the body that is more than padding")
    return PhysicsMeasures(
        id=volume.id,
        patient=volume.patient,
        gap_mm=volume.spacing_mm[0],
        pixel_mm=max(volume.spacing_mm[1:]),
        tissues=tissues,
        noise=noise,
        outline=measure_outline(grid) if grid.touches <= CUT_OFF else None,
        warnings=tuple(warnings),
    )


def compare_physics(
    real: Sequence[PhysicsMeasures], synthetic: Sequence[PhysicsMeasures], *, seed: int = 0, rounds: int = 200
) -> Section:
    """Compare synthetic volumes with real scans and with published ranges.

    Args:
        real, synthetic: Measured with the same options.
        seed: Of the resampling.
        rounds: How often to resample.
    """
    groups = {REAL: list(real), SYNTHETIC: list(synthetic)}
    figures, curves = physics_figures(groups, Draw(seed=seed, rounds=rounds))
    by_key = {figure.key: figure for figure in figures}
    references = _references(by_key)
    return Section(
        key="physics",
        title="Physics of CT",
        verdict=_verdict(by_key, references, _lost(groups)),
        figures=figures,
        curves=curves,
        warnings=_warnings(groups, references),
        details={
            "references": references,
            "pixel_mm": {name: sorted({round(m.pixel_mm, 2) for m in group}) for name, group in groups.items()},
            "flat_regions": {name: sum(m.noise.regions for m in group) for name, group in groups.items()},
        },
    )


def _references(figures: dict[str, Figure]) -> dict[str, Any]:
    """Peaks beside the published ranges."""
    found = {}
    for tissue in TISSUES:
        figure = figures.get(f"physics.peak.{tissue.key}")
        if figure is None:
            continue
        low, high = tissue.expected
        found[tissue.key] = {
            "title": tissue.title,
            "expected_hu": [low, high],
            "source": tissue.source,
            "synthetic_hu": figure.synthetic.value,
            "synthetic_inside": low <= figure.synthetic.value <= high,
            "real_hu": None if figure.floor is None else figure.floor.value,
            "real_inside": None if figure.floor is None else low <= figure.floor.value <= high,
        }
    return found


def _lost(groups: dict[str, list[PhysicsMeasures]]) -> list[str]:
    """Tissues of which most real scans show a peak and most synthetic volumes do not."""

    def part(name: str, key: str) -> float:
        return float(np.mean([key in m.tissues.values for m in groups[name]])) if groups[name] else 0.5

    return [t.title.lower() for t in TISSUES if part(REAL, t.key) > 0.5 > part(SYNTHETIC, t.key)]


def _verdict(figures: dict[str, Figure], references: dict[str, Any], lost: list[str]) -> str:
    sentences = []
    if figure := figures.get("physics.histogram.body"):
        floor = "" if figure.floor is None else f", those of real patients {figure.floor.value:.0f} HU"
        sentences.append(
            f"HU inside the body are distributed {figure.synthetic.value:.0f} HU from those of real scans{floor}."
        )
    if references:
        outside = [r["title"].lower() for r in references.values() if not r["synthetic_inside"]]
        named = f" (outside: {', '.join(outside)})" if outside else ""
        inside = len(references) - len(outside)
        sentences.append(f"{inside} of {len(references)} tissue peaks lie within published ranges{named}.")
    if lost:
        sentences.append(f"Most synthetic volumes have no peak of {', '.join(lost)}, real scans have.")
    if (figure := figures.get("physics.noise.soft")) and figure.floor is not None:
        sentences.append(
            f"The noise of flat soft tissue is {figure.synthetic.value:.0f} HU, in real scans "
            f"{figure.floor.value:.0f} HU."
        )
    return " ".join(sentences) or "There are no volumes that could be compared."


def _warnings(groups: dict[str, list[PhysicsMeasures]], references: dict[str, Any]) -> list[str]:
    found = volume_warnings(groups)
    if not groups[REAL] or not groups[SYNTHETIC]:
        return [*found, EMPTY]
    for reference in references.values():
        if not reference["synthetic_inside"]:
            low, high = reference["expected_hu"]
            found.append(
                f"{reference['title']} lies at {reference['synthetic_hu']:.0f} HU in synthetic volumes; published are "
                f"{low:.0f} to {high:.0f} HU."
            )
    return found + unlike_warnings(
        groups,
        lambda m: m.pixel_mm,
        limit=ALIKE,
        what="Pixels differ",
        digits=".2g",
        meaning="small pixels are noisier. The noise spectrum is compared where both have frequencies.",
    )
