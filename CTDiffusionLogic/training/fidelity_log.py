"""``fidelity.jsonl`` of a training and its picture: how far from real the images are, over the epochs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from CTDiffusionLogic.atomic import atomic_file, failures_named
from CTDiffusionLogic.training.fidelity_best import best_of

#: Figures with other values of these are not set beside each other.
SAME = ("extractor_sha256", "protocol_sha256", "against")
_PLANES = {"axial": "tab:blue", "coronal": "tab:green", "sagittal": "tab:purple"}
#: The axis is logarithmic where the largest figure is so many times the smallest.
_LOG_FROM = 8.0

Line = dict[str, Any]


class FidelityLog:
    """``fidelity.jsonl``: a line a measurement; lines past the step a run is resumed from are dropped.

    Args:
        path: The file; made at the first measurement.
        step: Step the training begins at; None keeps all lines.
    """

    def __init__(self, path: Path, step: int | None = None) -> None:
        self.path = path
        self.lines: list[Line] = []
        if not path.exists():
            return
        whole = read_lines(path)
        self.lines = [line for line in whole if step is None or line["step"] <= step]
        if len(self.lines) < len(whole) or _is_cut_off(path):
            with atomic_file(path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in self.lines), encoding="utf-8")

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line.

        Raises:
            OutputError: If it cannot be written.
        """
        text = json.dumps(line, allow_nan=False)
        with failures_named(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
        self.lines.append(dict(line))

    def alike(self, line: Mapping[str, Any]) -> list[Line]:
        """Lines that may be set beside ``line``: same extractor, same protocol, same kind of patients; by step."""
        same = [one for one in self.lines if all(one.get(key) == line.get(key) for key in SAME)]
        return sorted(same, key=lambda one: one["step"])

    def is_best(self, line: Mapping[str, Any]) -> bool:
        """Whether ``line`` is the best of those that may be set beside it, as :func:`best_of` says."""
        others = [one for one in self.alike(line) if one["step"] != line["step"]]
        return best_of([*others, line]) is line


def read_lines(path: Path) -> list[Line]:
    """Lines of the file, without damaged ones."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
            wanted = [float(line[key]) for key in ("step", "epoch", "frechet")]
        except (ValueError, KeyError, TypeError):
            continue
        if all(math.isfinite(value) for value in wanted):
            lines.append(line)
    return lines


def draw_curve(lines: Sequence[Mapping[str, Any]], path: Path, *, title: str = "") -> None:
    """Draw the figures of ``lines``, which may be set beside each other, over the epochs; a PNG picture.

    Below the distances stands the length of the bodies' outlines, where it was measured.

    Intervals are not drawn: they say how far figures would move with other patients, and all points move together.

    Raises:
        ResourceError: If matplotlib is missing.
        OutputError: If it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    outlines = [(line["epoch"], line["outline"]) for line in lines if "outline" in line]
    figure = Figure(figsize=(8, 6.2 if outlines else 4.8), dpi=120, layout="constrained")
    panels = figure.subplots(
        2 if outlines else 1, sharex=True, squeeze=False, height_ratios=[3, 1][: 1 + bool(outlines)]
    )
    axes, lowest = panels[0, 0], panels[-1, 0]
    newest = lines[-1]
    epochs = [line["epoch"] for line in lines]

    def curve(key: str, label: str, **style: Any) -> None:
        points = [(line["epoch"], line[key]) for line in lines if key in line]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, **style)

    marker = "o" if len(lines) < 60 else None
    for plane, colour in _PLANES.items():
        curve(f"frechet_{plane}", plane, color=colour, linewidth=1, alpha=0.7)
    held_out = newest.get("against") == "held-out"
    patients = "patients it never saw" if held_out else "the patients it learnt from"
    curve("frechet", f"mean, against {patients}", color="black", linewidth=2, marker=marker, markersize=4)
    curve("frechet_training", "mean, against patients it learnt from", color="black", linewidth=1.2, linestyle="--")
    if "frechet_floor" in newest:
        low, high = (newest.get(f"frechet_floor_{side}", newest["frechet_floor"]) for side in ("low", "high"))
        axes.axhspan(low, high, color="tab:orange", alpha=0.25, linewidth=0)
        axes.axhline(newest["frechet_floor"], color="tab:orange", label="real scans of other patients (floor)")
    seen = [line[key] for line in lines for key in line if _is_drawn(key)]
    seen += [newest["frechet_floor"]] if "frechet_floor" in newest else []
    positive = [value for value in seen if value > 0]
    if positive and max(positive) > _LOG_FROM * min(positive):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    if min(epochs) < max(epochs) / 4:  # else the curve would begin far from the axis
        axes.set_xlim(left=0)
    if outlines:
        _draw_outlines(lowest, outlines, newest, marker)
    lowest.set_xlabel("epoch")
    axes.set_ylabel(f"Fréchet distance ({newest.get('extractor', '')})")
    axes.set_title(title)
    axes.grid(alpha=0.25)
    figure.legend(fontsize="small", loc="outside lower center", ncols=2)  # never over a curve
    FigureCanvasAgg(figure)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_outlines(
    axes: Any, points: Sequence[tuple[float, float]], newest: Mapping[str, Any], marker: str | None
) -> None:
    """Length of the bodies' outlines over a circle's, beside the range of real stretches."""
    if "outline_real" in newest:
        axes.axhspan(
            newest["outline_real_low"], newest["outline_real_high"], color="tab:orange", alpha=0.25, linewidth=0
        )
        axes.axhline(newest["outline_real"], color="tab:orange")
    axes.plot(*zip(*points, strict=True), color="black", linewidth=2, marker=marker, markersize=4)
    axes.set_ylabel("outline,\nof a circle's")
    axes.grid(alpha=0.25)


def _is_drawn(key: str) -> bool:
    return key in ("frechet", "frechet_training") or key.removeprefix("frechet_") in _PLANES


def _is_cut_off(path: Path) -> bool:
    text = path.read_bytes()
    return bool(text) and not text.endswith(b"\n")
