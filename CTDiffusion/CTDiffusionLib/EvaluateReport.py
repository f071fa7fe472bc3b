"""What ``ctdiffusion evaluate`` has found, read from its report.json: key figures, curves, and a summary in words.

The library's own classes would bring torch along; a test holds the two together.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

#: Those of CTDiffusionLogic.fidelity.report.json_report.
FORMAT, FORMAT_VERSION = "ctdiffusion-fidelity", 1
DATA_FILE, PAGE_FILE = "report.json", "report.html"
#: Signs that differ in shape, so that the words are told apart without colour; best first.
SIGNS = {"near real": "\u25cf", "off": "\u25b2", "far off": "\u25a0", "not told": "\u25cb"}
PLANES = ("axial", "coronal", "sagittal")
#: Sentences on what limits the figures that the summary has at most; the page has all.
_MOST_LIMITS = 4


@dataclass(frozen=True)
class Interval:
    """A number and its 95 % interval; NaN where it cannot be told."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    def text(self, unit: str = "") -> str:
        """For people: "31.2 HU (28 to 36)"; empty where there is no number."""
        if math.isnan(self.value):
            return ""
        words = f"{numberText(self.value)} {unit}".rstrip()
        if math.isnan(self.low) or math.isnan(self.high):
            return words
        return _("{value} ({low} to {high})").format(value=words, low=numberText(self.low), high=numberText(self.high))


@dataclass(frozen=True)
class KeyFigure:
    """One number of a report.

    :param key: stable name for programs, such as "frechet.ctfeatures.axial".
    :param title: for people.
    :param section: title of the section that it belongs to.
    :param synthetic: of the synthetic volumes, or between them and the real ones.
    :param floor: the same of the real scans, or between different patients.
    :param unit: "HU", "mm"..., or "".
    :param standing: a key of SIGNS.
    :param plane: one of PLANES, or "".
    :param extractor: what made the features, or "".
    :param meaning: a sentence on how to read it.
    """

    key: str
    title: str
    section: str
    synthetic: Interval
    floor: Interval
    unit: str
    standing: str
    plane: str
    extractor: str
    meaning: str

    @property
    def standingText(self) -> str:
        """The word behind its sign."""
        return f"{SIGNS.get(self.standing, '')} {standingName(self.standing)}".strip()


@dataclass(frozen=True)
class ReportCurve:
    """Lines over a quantity. Values that cannot be told are NaN.

    :param key: such as "physics.histogram".
    :param lines: group ("real", "synthetic"...) to values, as many as there are in ``x``.
    :param bands: group to the values between which 95 % of its volumes lie.
    """

    key: str
    title: str
    x: tuple[float, ...]
    lines: Mapping[str, tuple[float, ...]]
    bands: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]
    xTitle: str
    yTitle: str
    xLog: bool
    yLog: bool


@dataclass(frozen=True)
class ReportSection:
    """What one way to look at the volumes has found."""

    key: str
    title: str
    verdict: str
    standing: str
    standingText: str


@dataclass(frozen=True)
class EvaluateReport:
    """A report.

    Example::

        report = EvaluateReport.read("/data/report")
        report.figure("frechet.ctfeatures.mean").synthetic.value
        print(report.summary())

    :param folder: where its files are.
    :param data: all that report.json has.
    """

    folder: Path
    data: Mapping[str, Any]
    figures: tuple[KeyFigure, ...]
    curves: tuple[ReportCurve, ...]
    sections: tuple[ReportSection, ...]

    @classmethod
    def read(cls, path: str | Path) -> EvaluateReport:
        """Read a report.

        :param path: its folder, or the report.json in it.
        :raises CTDiffusionLogic.errors.InputError: if there is none, or it is damaged or of a newer version.
        """
        from CTDiffusionLogic.errors import InputError

        file = Path(path) / DATA_FILE if Path(path).is_dir() else Path(path)
        remedy = _("Choose the report.json of a measurement, or measure again.")
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            message = _("The report {path} cannot be read: {reason}.")
            raise InputError(message.format(path=file, reason=error.strerror or error), remedy=remedy) from error
        except ValueError as error:
            raise InputError(_("{path} is truncated or damaged.").format(path=file), remedy=remedy) from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InputError(_("{path} is not a report of CTDiffusion.").format(path=file), remedy=remedy)
        if data.get("format_version") != FORMAT_VERSION:
            raise InputError(
                _("{path} was written by another version of CTDiffusion.").format(path=file),
                remedy=_("Update this extension, or open report.html beside it."),
            )
        try:
            return cls(
                file.parent.absolute(),
                data,
                tuple(_figure(figure, section) for section in data["sections"] for figure in section["figures"]),
                tuple(_curve(curve) for section in data["sections"] for curve in section["curves"] if curve["x"]),
                tuple(_section(section) for section in data["sections"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                _("{path} is damaged: {reason!r} is not as it should be.").format(path=file, reason=error),
                remedy=remedy,
            ) from error

    @property
    def page(self) -> Path:
        """The report for people, an HTML file."""
        return self.folder / PAGE_FILE

    def figure(self, key: str) -> KeyFigure:
        """Return the figure of that key.

        :raises KeyError: if the report has none.
        """
        for figure in self.figures:
            if figure.key == key:
                return figure
        raise KeyError(key)

    def summary(self, inWords: Callable[[str], str] = lambda text: text) -> str:
        """Return the findings in plain language: what was compared, each section's verdict, what limits them.

        :param inWords: replaces names of files by what the user knows them as.
        """
        counts = self.data.get("counts") or {}
        synthetic, real = (counts.get(group) or {} for group in ("synthetic", "real"))
        lines = [
            _("Synthetic volumes: {made}. Real scans: {real}, of {patients} patients.").format(
                made=synthetic.get("volumes", "?"), real=real.get("volumes", "?"), patients=real.get("patients", "?")
            )
        ]
        found = Counter(section.standing for section in self.sections)
        words = ", ".join(f"{found[word]} {standingName(word)}" for word in SIGNS if found[word])
        if words:
            lines[0] += " " + _("Of {n} sections: {words}.").format(n=len(self.sections), words=words)
        lines += [
            f"{SIGNS.get(section.standing, '')} {section.title}: {section.standingText}. {inWords(section.verdict)}"
            for section in self.sections
        ]
        limits = [inWords(str(sentence)) for sentence in self.data.get("warnings") or []]
        lines += [_("Note: {text}").format(text=text) for text in limits[:_MOST_LIMITS]]
        leftOut = len(self.data.get("left_out") or [])
        if leftOut or len(limits) > _MOST_LIMITS:
            lines.append(_("Left out: {n}. The report says what and why.").format(n=leftOut))
        return "\n".join(lines)


def standingName(standing: str) -> str:
    """Return a key of SIGNS in the user's language."""
    names = {
        "near real": _("near real"),
        "off": _("off"),
        "far off": _("far off"),
        "not told": _("cannot be told"),
    }
    return names.get(standing, standing)


def numberText(value: float) -> str:
    """Three significant digits, without powers of ten between 0.0001 and 1,000,000."""
    if (value and abs(value) < 1e-4) or abs(value) >= 1e6:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _section(data: Mapping[str, Any]) -> ReportSection:
    standing = str(data["standing"])
    text = data["details"].get("standing_text") or standingName(standing)
    return ReportSection(str(data["key"]), str(data["title"]), str(data["verdict"]), standing, str(text))


def _figure(data: Mapping[str, Any], section: Mapping[str, Any]) -> KeyFigure:
    return KeyFigure(
        key=str(data["key"]),
        title=str(data["title"]),
        section=str(section["title"]),
        synthetic=_interval(data["synthetic"]),
        floor=_interval(data["floor"]),
        unit=str(data["unit"]),
        standing=str(data["standing"]),
        plane=str(data["plane"] or ""),
        extractor=str(data["extractor"]),
        meaning=str(data["meaning"]),
    )


def _interval(data: Mapping[str, Any] | None) -> Interval:
    return Interval() if data is None else Interval(*(_number(data[name]) for name in ("value", "low", "high")))


def _curve(data: Mapping[str, Any]) -> ReportCurve:
    x = _numbers(data["x"])
    lines = {str(name): _numbers(values) for name, values in data["lines"].items()}
    bands = {str(name): (_numbers(low), _numbers(high)) for name, (low, high) in data["bands"].items()}
    if any(len(values) != len(x) for values in (*lines.values(), *(side for band in bands.values() for side in band))):
        raise ValueError(data["key"])
    return ReportCurve(
        key=str(data["key"]),
        title=str(data["title"]),
        x=x,
        lines=lines,
        bands=bands,
        xTitle=_axisTitle(data, "x"),
        yTitle=_axisTitle(data, "y"),
        xLog=bool(data["x_log"]),
        yLog=bool(data["y_log"]),
    )


def _axisTitle(data: Mapping[str, Any], axis: str) -> str:
    """As in the report's own plots: "Frequency (cycles/mm)", but "HU" where the unit says it all."""
    title, unit = str(data[f"{axis}_title"]), str(data[f"{axis}_unit"])
    return f"{title} ({unit})" if title and unit and title != unit else title or unit


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(_number(value) for value in values)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
