"""What of a report goes into the card of the model that made the volumes: figures with floors; no names, no images."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity.findings import Report
from CTDiffusionLogic.fidelity.report.standing import counts_of_section, standing_of, text_of_section
from CTDiffusionLogic.fidelity.results import Figure, Interval, Section

#: Digits of the figures in a card.
_DIGITS = 6
#: Protocols of this part of the report describe the figures; other parts have their own.
_LIBRARIES = ("CTDiffusion",)


def evaluation_entry(report: Report, digests: Collection[str]) -> dict[str, Any]:
    """The report as an entry of a model's card.

    Args:
        report: Its volumes must be this model's, and whole: a volume that is partly real is no sample of it.
        digests: Of the model: today's, and those of the same weights under earlier cards.

    Returns:
        Plain JSON data: "created", counts, "extractors", "sections" (title, standing, one sentence), "figures" by
        key with interval, floor, unit, standing and extractor, "protocol", "versions", "model_sha256".

    Raises:
        InputError: If a synthetic volume does not say that this model made it.
    """
    made = report.volumes("synthetic")
    for volume in made:
        said = volume.origin.get("model_sha256", "")
        if said not in digests:
            raise InputError(
                f"{volume.id} was not made by this model: it names {said[:12] or 'none'}.",
                remedy="Evaluate only volumes that `ctdiffusion generate` made with this model, in NRRD or MHA.",
            )
        if "real_slices" in volume.origin:
            raise InputError(
                f"{volume.id} is partly real.", remedy="Leave completed scans out of the model's figures."
            )
    return {
        "created": report.created,
        "synthetic_volumes": len(made),
        "real_volumes": len(report.volumes("real")),
        "real_patients": report.patients("real"),
        "extractors": dict(report.protocol.get("extractors", {})),
        "model_sha256": sorted({volume.origin["model_sha256"] for volume in made})[0],
        "versions": {name: report.versions[name] for name in _LIBRARIES if name in report.versions},
        "protocol": dict(report.protocol.get("images", {})),
        "sections": {
            section.key: {"title": section.title, "standing": text_of_section(section), "verdict": _sentence(section)}
            for section in report.sections
        },
        "figures": {figure.key: _figure(figure) for section in report.sections for figure in section.figures},
    }


def _sentence(section: Section) -> str:
    """The section's words counted, and its first figure beside its floor; never its verdict, which may name scans."""
    told = [figure for figure in section.figures if figure.floor is not None]
    if not told:
        return ""
    figure = next((one for one in told if one.plane is None and ".mean" in one.key), told[0])
    assert figure.floor is not None
    unit = f" {figure.unit}" if figure.unit else ""
    beside = "real scans against each other" if figure.better == "lower" else "real scans"
    return (
        f"{counts_of_section(section)}; {figure.title} {_short(figure.synthetic.value)}{unit}, "
        f"{beside} {_short(figure.floor.value)}{unit}."
    )


def _figure(figure: Figure) -> dict[str, Any]:
    entry: dict[str, Any] = {**_interval("", figure.synthetic), "standing": standing_of(figure)}
    if figure.floor is not None:
        entry |= _interval("floor_", figure.floor)
    entry |= {"unit": figure.unit} if figure.unit else {}
    entry |= {"extractor": figure.extractor} if figure.extractor else {}
    entry |= {key: count for key, count in figure.counts.items() if key in ("images_per_side", "splits")}
    return entry


def _interval(name: str, interval: Interval) -> dict[str, float]:
    values = {"value": interval.value, "low": interval.low, "high": interval.high}
    return {f"{name}{key}": float(f"{v:.{_DIGITS}g}") for key, v in values.items() if v is not None}


def _short(value: float) -> str:
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"
