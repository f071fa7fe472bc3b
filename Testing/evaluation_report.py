"""A small report of an evaluation, written by the library's own writer of JSON: for tests of what reads it."""

from __future__ import annotations

import math
from pathlib import Path

from CTDiffusionLogic.fidelity.findings import InputVolume, LeftOut, Report
from CTDiffusionLogic.fidelity.report.json_report import to_json
from CTDiffusionLogic.fidelity.results import PLANES, Curve, Figure, Interval, Section

#: Fréchet distances by plane: synthetic and floor, as (value, low, high).
DISTANCES = {
    "axial": ((44.674, 30.5, 60.25), (12.5, 9.0, 17.0)),
    "coronal": ((57.08, 41.0, 80.0), (14.0, 10.0, 19.5)),
    "sagittal": ((63.22, 50.0, 90.0), (11.0, 8.0, 16.0)),
    "mean": ((54.99, 42.0, 75.0), (12.5, 10.0, 15.0)),
}
DISTANCES_MM = [3.0, 6.0, 12.0, 24.0]


def make_report(*, floors: bool = True) -> Report:
    """A report of three sections, with curves of each kind.

    Args:
        floors: Whether there are enough real patients for floors and intervals.
    """
    made = [InputVolume(id=f"scene-synthetic-{n:03d}", patient=f"s{n}", groups=("synthetic",), sha256="0" * 64,
                        shape=(32, 64, 64), spacing_mm=(4.0, 6.5, 6.5), synthetic=True) for n in (1, 2)]  # fmt: skip
    real = [InputVolume(id=f"scene-real-{n:03d}", patient=f"scene {n}", groups=("real",), sha256="1" * 64,
                        shape=(32, 64, 64), spacing_mm=(4.0, 6.5, 6.5)) for n in (1, 2, 3)]  # fmt: skip
    return Report(
        created="2024-05-06T07:08:09Z",
        command="",
        seed=0,
        versions={"CTDiffusion": "0"},
        machine="CPU",
        protocol={},
        inputs=(*real, *made),
        left_out=(LeftOut(path="x.txt", group="real", reason="is no image"),),
        sections=(_frechet(floors), _coherence(floors), _physics()),
        warnings=("There are fewer than 8 synthetic volumes: their figures are rough.",),
        seconds={"all": 12.5},
    )


def write_report_json(folder: Path, *, floors: bool = True) -> Path:
    """Write report.json (and a page of a few words) into ``folder``; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(to_json(make_report(floors=floors)), encoding="utf-8")
    (folder / "report.html").write_text("<p>How real is it?</p>", encoding="utf-8")
    return folder


def _interval(numbers: tuple[float, float, float], *, is_whole: bool) -> Interval:
    value, low, high = numbers
    return Interval(value=value, low=low, high=high) if is_whole else Interval(value=value)


def _frechet(floors: bool) -> Section:
    figures = [
        Figure(
            key=f"frechet.ctfeatures.{place}",
            title=f"Fréchet distance, {place}",
            synthetic=_interval(synthetic, is_whole=floors),
            floor=_interval(floor, is_whole=True) if floors else None,
            better="lower",
            plane=place if place in PLANES else None,
            extractor="ctfeatures",
            extractor_sha256="ab" * 32,
            meaning="How far the images lie from real ones.",
        )
        for place, (synthetic, floor) in DISTANCES.items()
    ]
    verdict = "Mean over three planes 55; real scans against each other 12.5."
    return Section(key="frechet", title="Distance of images from real ones", verdict=verdict, figures=figures)


def _coherence(floors: bool) -> Section:
    figure = Figure(
        key="coherence.difference.3mm",
        title="Differences of slices 3 mm apart",
        synthetic=Interval(value=20.83, low=15.08, high=26.94),
        floor=Interval(value=8.42, low=6.6, high=10.01) if floors else None,
        better="lower",
        unit="HU",
        meaning="How differently neighbouring slices differ.",
    )
    difference = Curve(
        key="coherence.difference",
        title="Mean difference of slices inside the body",
        x=DISTANCES_MM,
        lines={"real": [51.0, 70.0, 95.0, 120.0], "synthetic": [47.0, 61.0, 88.0, 117.0]},
        bands={"real": ([45.0, 62.0, 84.0, 100.0], [58.0, 80.0, 106.0, 140.0])},
        x_title="Distance of slices", x_unit="mm", y_title="Mean difference", y_unit="HU", x_log=True,
    )  # fmt: skip
    spectrum = Curve(
        key="coherence.spectrum",
        title="Power spectrum along z",
        x=[0.0, 0.05, 0.1],
        lines={"real": [900.0, 90.0, 0.0], "synthetic": [800.0, math.nan, 4.0], "independent slices": [5.0, 5.0, 5.0]},
        x_title="Frequency", x_unit="cycles/mm", y_title="Power", y_unit="HU² mm", y_log=True,
    )  # fmt: skip
    empty = Curve(key="coherence.period", title="Rise and fall", x=[], lines={})
    verdict = "Slices 3 mm apart of scene-synthetic-001 differ by 47 HU, those of scene-real-002 by 51 HU."
    return Section(key="coherence", title="Through-plane coherence", verdict=verdict, figures=[figure],
                   curves=[difference, spectrum, empty])  # fmt: skip


def _physics() -> Section:
    figure = Figure(
        key="physics.peak.lung",
        title="Lung, peak",
        synthetic=Interval(value=-842.5),
        floor=Interval(value=-844.5, low=-880.5, high=-790.25),
        better="near-floor",
        unit="HU",
    )
    hu = [float(value) for value in range(-1000, 1000, 250)]
    histogram = Curve(
        key="physics.histogram",
        title="HU inside the body",
        x=hu,
        lines={"real": [20.0, 5.0, 1.0, 4.0, 60.0, 8.0, 1.5, 0.5],
               "synthetic": [25.0, 4.0, 1.0, 5.0, 58.0, 5.0, 2.0, 0.0]},
        bands={"real": ([18.0, 4.0, 0.5, 3.0, 55.0, 6.0, 1.0, 0.2], [24.0, 6.0, 2.0, 6.0, 66.0, 10.0, 2.0, 0.9])},
        x_title="HU", x_unit="HU", y_title="Voxels per 16 HU", y_unit="%",
    )  # fmt: skip
    return Section(
        key="physics",
        title="Physics of CT",
        verdict="Of 5 tissue peaks all lie within published ranges.",
        figures=[figure],
        curves=[histogram],
        details={"standing_text": "as it should be"},
    )
