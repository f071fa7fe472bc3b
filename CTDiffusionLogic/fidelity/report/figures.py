"""The report's plots: curves of each section, and all distances as multiples of their floors.

Matplotlib without pyplot: nothing global, no window. Colours are Okabe and Ito's, which people with colour blindness
can tell apart; groups differ in their dashes too, words (near real, off, far off) in their marks.
"""

from __future__ import annotations

import base64
import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from CTDiffusionLogic.fidelity.report.standing import Standing, over_floor, standing_of
from CTDiffusionLogic.fidelity.results import Curve, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: Colour and dashes of groups that every room names the same; others take from OTHER_STYLES in turn.
STYLES: dict[str, tuple[str, str]] = {
    "real": ("#0072B2", "-"),
    "synthetic": ("#D55E00", "--"),
    "independent slices": ("#009E73", "-."),
    "training": ("#CC79A7", ":"),
    "held-out": ("#56B4E9", (0, (5, 1, 1, 1))),  # type: ignore[dict-item]
}
OTHER_STYLES = (("#E69F00", (0, (3, 1, 1, 1, 1, 1))), ("#000000", (0, (1, 1))))
#: Mark and colour of the words.
MARKS: dict[Standing, tuple[str, str]] = {
    "near real": ("o", "#1B7837"),
    "off": ("^", "#8A5A00"),
    "far off": ("s", "#A11D33"),
    "not told": ("x", "#555555"),
}
#: Rows of the overview at most; the tables have all figures.
MOST_ROWS = 40
_DPI = 120
#: Labelled places of a logarithmic axis at most, and letters in a line of an upright label.
_MOST_TICKS, _LABEL_WIDTH = 9, 36


@dataclass(frozen=True)
class Plot:
    """A plot and its description in words.

    Args:
        name: File name without suffix.
        title: For people.
        alt: What it shows, for those who do not see it.
        png: The file's bytes.
    """

    name: str
    title: str
    alt: str
    png: bytes

    @property
    def data_uri(self) -> str:
        """As ``data:image/png;base64,...``."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"


def plot_section(section: Section) -> list[Plot]:
    """One plot for each curve that can be drawn."""
    return [
        plot_curve(curve, name=_file_name(f"{section.key}.{curve.key.removeprefix(section.key + '.')}"))
        for curve in section.curves
        if curve.x
    ]


def plot_curve(curve: Curve, *, name: str) -> Plot:
    """Lines with their bands (where 95 % of a group's volumes lie)."""
    canvas = _canvas(6.4, 3.6)
    axes = canvas.subplots()
    others = iter(OTHER_STYLES * (1 + len(curve.lines)))
    for group, values in curve.lines.items():
        colour, dashes = STYLES.get(group) or next(others)
        axes.plot(curve.x, values, color=colour, linestyle=dashes, linewidth=1.8, label=group)
        if group in curve.bands:
            low, high = curve.bands[group]
            axes.fill_between(curve.x, low, high, color=colour, alpha=0.15, linewidth=0)
    if curve.x_log and min(curve.x) > 0:
        axes.set_xscale("log")
        ticks = curve.x if len(curve.x) <= _MOST_TICKS else _log_ticks(min(curve.x), max(curve.x))
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.minorticks_off()
    if curve.y_log and any(value > 0 for values in curve.lines.values() for value in values):
        axes.set_yscale("log", nonpositive="mask")
    axes.set_xlabel(_label(curve.x_title, curve.x_unit))
    axes.set_ylabel(textwrap.fill(_label(curve.y_title, curve.y_unit), _LABEL_WIDTH))
    axes.set_title(curve.title, loc="left", fontsize=11)
    if len(curve.x) > 1:
        axes.margins(x=0.01)
    if curve.lines:
        axes.legend(frameon=False, handlelength=3)
    axes.grid(alpha=0.25)
    return Plot(name, curve.title, _describe_curve(curve), _png(canvas))


def plot_overview(sections: Sequence[Section]) -> Plot | None:
    """All distances as multiples of their floors, on a logarithmic axis; None if there are none."""
    rows = [
        (figure, ratio, standing_of(figure))
        for section in sections
        for figure in section.figures
        if (ratio := over_floor(figure)) is not None
    ][:MOST_ROWS]
    if not rows:
        return None
    canvas = _canvas(7.6, 1.3 + 0.27 * len(rows))
    axes = canvas.subplots()
    for place, (figure, ratio, word) in enumerate(rows):
        mark, colour = MARKS[word]
        assert figure.floor is not None
        low, high = (
            ratio if bound is None else max(bound / figure.floor.value, 1e-3)
            for bound in (figure.synthetic.low, figure.synthetic.high)
        )
        axes.plot([low, high], [place, place], color=colour, linewidth=1.5)
        axes.plot([ratio], [place], marker=mark, color=colour, markersize=7, linestyle="")
    axes.axvline(1.0, color=STYLES["real"][0], linewidth=1.5, label="real patients among themselves")
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [_with_extractor(figure.title, figure.extractor) for figure, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("times the floor")
    ticks = _log_ticks(*axes.get_xlim())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.25, axis="x")
    for word, (mark, colour) in MARKS.items():
        if any(other == word for _, _, other in rows):
            axes.plot([], [], marker=mark, color=colour, linestyle="", label=word)
    canvas.legend(frameon=False, loc="outside upper right", ncols=4, columnspacing=1.2, handletextpad=0.4)
    spoken = "; ".join(f"{f.title} {ratio:.2g} times, {word}" for f, ratio, word in rows)
    title = "Distances as multiples of their floors"
    return Plot("overview", title, f"{title}: {spoken}.", _png(canvas))


def _canvas(width: float, height: float) -> Canvas:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas


def _png(canvas: Canvas) -> bytes:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _label(title: str, unit: str) -> str:
    return f"{title} ({unit})" if title and unit and title != unit else title or unit


def _with_extractor(title: str, extractor: str) -> str:
    return f"{title} [{extractor}]" if extractor and extractor.lower() not in title.lower() else title


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 in every decade between the limits; only the decades where there are many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1,)):
        ticks = [tick for d in decades for step in steps if low <= (tick := step * 10.0**d) <= high]
        if len(ticks) <= _MOST_TICKS:
            break
    return ticks or [1.0]


def _describe_curve(curve: Curve) -> str:
    """Where each line begins, peaks and ends, in one sentence."""
    parts = []
    for group, values in curve.lines.items():
        y: Any = np.asarray(values, dtype=float)
        if not len(y) or not np.isfinite(y).any():
            continue
        peak = int(np.nanargmax(y))
        parts.append(f"{group} from {y[0]:.3g} to {y[-1]:.3g}, largest {y[peak]:.3g} at {curve.x[peak]:.3g}")
    x = _label(curve.x_title, curve.x_unit) or "position"
    y_name = _label(curve.y_title, curve.y_unit) or "value"
    return f"Line chart of {y_name} over {x}: {'; '.join(parts) or 'no values'}."


def _file_name(key: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in key).strip("-") or "curve"
