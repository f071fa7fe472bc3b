"""The report for people: one HTML file that loads nothing, with a summary in plain words first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from CTDiffusionLogic.fidelity.findings import Report
from CTDiffusionLogic.fidelity.report.figures import Plot
from CTDiffusionLogic.fidelity.report.galleries import (
    BLACK_HU,
    PNG_URI,
    SIDE_MM,
    WHITE_HU,
    VolumePictures,
    beside,
    pair_with_nearest,
    png_data_uri,
)
from CTDiffusionLogic.fidelity.report.json_report import NOTICE
from CTDiffusionLogic.fidelity.report.standing import (
    RANKS,
    RULE,
    Standing,
    counts_of_section,
    standing_of,
    standing_of_section,
    text_of_section,
)
from CTDiffusionLogic.fidelity.results import PLANES, Section

TEMPLATE = "report.html.j2"
#: Signs that differ in shape, so that words are told apart without colour, before the word itself.
SIGNS: dict[Standing, str] = {"near real": "●", "off": "▲", "far off": "■", "not told": "○"}
#: Where sections keep what their figures are for the baseline, volumes made slice by slice: key to value.
BASELINE_KEY = "independent_slices"
#: Where sections keep their closest pairs, and most of them that are shown.
PAIRS_KEY, MOST_PAIRS = "closest_pairs", 6


def to_html(
    report: Report,
    *,
    pictures: Mapping[str, VolumePictures],
    plots: Mapping[str, Sequence[Plot]],
    overview: Plot | None = None,
) -> str:
    """Write the report.

    Args:
        report: What was found.
        pictures: Of volumes by id; those that lack one are left out of the galleries.
        plots: Of each section by its key.
        overview: Plot for the summary.

    Returns:
        HTML that needs no other file and no network; all text from files is escaped.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": format_number, "counts": _format_counts}
    words = [standing_of_section(section) for section in report.sections]
    return environment.get_template(TEMPLATE).render(
        notice=NOTICE,
        report=report,
        rule=RULE,
        marks=SIGNS,
        lead=_lead(report),
        balance=_balance(words),
        overview=overview,
        sections=[
            _section(section, word, plots.get(section.key, ()), pictures)
            for section, word in zip(report.sections, words, strict=True)
        ],
        gallery=_gallery(report, pictures),
        gallery_note=(
            f"Three planes through the middle of the body, all at one scale (at most {SIDE_MM:.0f} mm), shown from "
            f"{BLACK_HU} HU (black) to {WHITE_HU} HU (white); the patient's right is on the left. Each pair shows the "
            "synthetic volume on the left and the real scan most like it on the right."
        ),
        protocol=list(_flat(report.protocol)),
    )


def format_number(value: float) -> str:
    """Three significant digits, without powers of ten between 0.0001 and 1,000,000."""
    if (value and abs(value) < 1e-4) or abs(value) >= 1e6:
        return f"{value:.2e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _lead(report: Report) -> str:
    synthetic, real = len(report.volumes("synthetic")), len(report.volumes("real"))
    return (
        f"{_count(synthetic, 'synthetic volume')} beside {_count(real, 'real scan')} "
        f"of {_count(report.patients('real'), 'patient')}."
    )


def _balance(words: Sequence[Standing]) -> str:
    """How many sections have which word, best first."""
    counts = Counter(words)
    parts = [f"{counts[word]} {'read' if counts[word] > 1 else 'reads'} {word}" for word in RANKS if counts[word]]
    if counts["not told"]:
        parts.append(f"{counts['not told']} cannot be told")
    if not parts:
        return ""
    return f"Of {_count(len(words), 'section')}, {' and '.join(', '.join(parts).rsplit(', ', 1))}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _section(
    section: Section, word: Standing, plots: Sequence[Plot], pictures: Mapping[str, VolumePictures]
) -> dict[str, Any]:
    return {
        "anchor": f"section-{section.key}",
        "title": section.title,
        "verdict": section.verdict,
        "word": word,
        "text": text_of_section(section),
        "counts": counts_of_section(section),
        "warnings": section.warnings,
        "figures": [(figure, standing_of(figure)) for figure in section.figures],
        "baseline": section.details.get(BASELINE_KEY) or {},
        "has_extractors": any(figure.extractor for figure in section.figures),
        "plots": plots,
        "pairs": _closest_pairs(section, pictures),
        "pairs_title": "Closest pairs",
    }


def _gallery(report: Report, pictures: Mapping[str, VolumePictures]) -> list[dict[str, Any]]:
    shown = {
        group: [pictures[volume.id] for volume in report.volumes(group) if volume.id in pictures]
        for group in ("synthetic", "real")
    }
    pairs = pair_with_nearest(shown["synthetic"], shown["real"])
    return [_pair(f"{p.synthetic} beside {p.real}", pictures[p.synthetic], pictures[p.real]) for p in pairs]


def _closest_pairs(section: Section, pictures: Mapping[str, VolumePictures]) -> list[dict[str, Any]]:
    """Pairs that a section names by ids, under ``synthetic`` and ``training``; their own ``picture`` goes first."""
    result = []
    for pair in section.details.get(PAIRS_KEY, [])[:MOST_PAIRS]:
        made, other = pair.get("synthetic"), pair.get("training")
        told = [f"{name} {format_number(pair[name])}" for name in ("ratio", "distance") if pair.get(name) is not None]
        text = f"{made} beside {other}: {', '.join([*told, *(['a copy'] if pair.get('copy') else [])]) or 'closest'}."
        if str(pair.get("picture", "")).startswith(PNG_URI):  # of the very place that is alike
            alt = f"Synthetic {made} on the left, training scan {other} on the right, at the same place of the body."
            picture = {"data_uri": pair["picture"], "alt": alt, "caption": "synthetic | training scan"}
            result.append({"text": text, "pictures": [picture]})
        elif made in pictures and other in pictures:
            result.append(_pair(text, pictures[made], pictures[other]))
    return result


def _pair(text: str, made: VolumePictures, real: VolumePictures) -> dict[str, Any]:
    return {
        "text": text,
        "pictures": [
            {
                "data_uri": png_data_uri(beside(made.images[plane], real.images[plane])),
                "alt": f"{plane.capitalize()} plane: synthetic {made.id} on the left, real {real.id} on the right.",
                "caption": f"{plane}: synthetic | real",
            }
            for plane in PLANES
        ],
    }


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested plain data as lines of a table."""
    for key, value in data.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(_text(item) for item in value) or "none"
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "as each volume has it"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _format_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items())
