"""What of a report goes into the card of the model that made the volumes: figures with floors; no names, no images."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity.findings import InputVolume, Report
from CTDiffusionLogic.fidelity.report.standing import counts_of_section, standing_of, text_of_section
from CTDiffusionLogic.fidelity.results import Figure, Interval, Section

#: Digits of the figures in a card.
_DIGITS = 6
#: Protocols of this part of the report describe the figures; other parts have their own.
_LIBRARIES = ("CTDiffusion",)
#: Volumes that a message names one by one.
_MAX_NAMES = 5
#: Where a volume names the model that made it, and the fine model that made a larger matrix of it.
_BASE, _FINE = "model_sha256", "fine_model_sha256"


def evaluation_entry(report: Report, digests: Collection[str]) -> dict[str, Any]:
    """The report as an entry of a model's card.

    Args:
        report: Its volumes must be this model's, and whole: a volume that is partly real is no sample of it. Those
            that a fine model refined are the fine model's.
        digests: Of the model: today's, and those of the same weights under earlier cards.

    Returns:
        Plain JSON data: "created", counts, "extractors", "sections" (title, standing, one sentence), "figures" by
        key with interval, floor, unit, standing and extractor, "protocol", "versions", "model_sha256"; of a fine model
        also "base_model_sha256", those of the models whose volumes it refined.

    Raises:
        InputError: If a synthetic volume does not say that this model made it, as it is.
    """
    made = report.volumes("synthetic")
    _refuse_refined(made, digests)
    for volume in made:
        said = _maker(volume)
        if said not in digests:
            raise InputError(
                f"{volume.id} was not made by this model: it names {said[:12] or 'none'}.",
                remedy="Evaluate only volumes that `ctdiffusion generate` made with this model, in NRRD or MHA.",
            )
        if "real_slices" in volume.origin:
            raise InputError(
                f"{volume.id} is partly real.", remedy="Leave completed scans out of the model's figures."
            )
    bases = sorted({volume.origin.get(_BASE, "") for volume in made if volume.origin.get(_FINE)})
    return {
        "created": report.created,
        "synthetic_volumes": len(made),
        "real_volumes": len(report.volumes("real")),
        "real_patients": report.patients("real"),
        "extractors": dict(report.protocol.get("extractors", {})),
        "model_sha256": sorted({_maker(volume) for volume in made})[0],
        **({"base_model_sha256": bases} if bases else {}),
        "versions": {name: report.versions[name] for name in _LIBRARIES if name in report.versions},
        "protocol": dict(report.protocol.get("images", {})),
        "sections": {
            section.key: {"title": section.title, "standing": text_of_section(section), "verdict": _sentence(section)}
            for section in report.sections
        },
        "figures": {figure.key: _figure(figure) for section in report.sections for figure in section.figures},
    }


def _maker(volume: InputVolume) -> str:
    """Digest of the model whose images a volume has: the last that worked on it."""
    return volume.origin.get(_FINE) or volume.origin.get(_BASE, "")


def _refuse_refined(volumes: list[InputVolume], digests: Collection[str]) -> None:
    """Refuse volumes of the model that a fine model refined, unless the card is that one's: the grain is its own."""
    refined = [v for v in volumes if v.origin.get(_BASE) in digests and v.origin.get(_FINE)]
    refined = [v for v in refined if v.origin[_FINE] not in digests]
    if not refined:
        return
    more = f" and {len(refined) - _MAX_NAMES} more" if len(refined) > _MAX_NAMES else ""
    fine = ", ".join(sorted({volume.origin.get("fine_model") or volume.origin[_FINE][:12] for volume in refined}))
    raise InputError(
        f"{', '.join(volume.id for volume in refined[:_MAX_NAMES])}{more} {'was' if len(refined) == 1 else 'were'} "
        f"refined by the fine model {fine}: the figures are not this model's own.",
        remedy="Evaluate volumes that `ctdiffusion generate` made without --matrix, or name the fine model after "
        "--into-card.",
    )


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
