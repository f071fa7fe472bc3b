"""The figures of a training as curves: from the worker's events, or from the files in its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Curves that have their values at the same steps; those of FRECHET are whatever a fidelity score names.
LOSS, HELD_OUT, FRECHET = "loss", "held-out loss", "Frechet distance"
_GROUP_OF = {
    "anatomy": LOSS,
    "detail": LOSS,
    "anatomy_held_out": HELD_OUT,
    "detail_held_out": HELD_OUT,
}
#: So do the names of fidelity scores begin, as events and in metrics.jsonl.
_FIDELITY = "fid"
#: Numbers of a fidelity score that are no curves beside Fréchet distances.
_NO_CURVES = ("step", "epoch", "seconds", "hours", "kid", "frechet_training_floor", "outline")
_NO_CURVE_ENDINGS = ("_low", "_high")
#: Scores with other values of these are not set beside each other.
_SAME = ("extractor", "extractor_sha256", "protocol_sha256", "against")
#: Files in a run folder with one JSON object a line.
FILES = ("metrics.jsonl", "fidelity.jsonl")
#: Points of a curve that are drawn; more than a screen has columns help nobody.
MAX_POINTS = 2000

Columns = dict[str, NDArray[np.float64]]


class TrainMetrics:
    """Collects figures by group of curves and step; a step that comes again (after a resume) replaces the first.

    Example::

        metrics = TrainMetrics.ofRun(folder)
        metrics.take({"step": 20, "epoch": 0.5, "anatomy": 0.8, "detail": 0.7})
        metrics.columns(LOSS)    # {"epoch": [...], "anatomy": [...], "detail": [...]}
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[float, dict[str, float]]] = {}
        self._scored: Mapping[str, Any] = {}

    @classmethod
    def ofRun(cls, run: Path) -> TrainMetrics:
        """Read what a training has written so far; lines that are damaged, or being written, are left out."""
        metrics = cls()
        for name in FILES:
            for values in _lines(run / name):
                metrics.take(values, isFidelity=name.startswith(_FIDELITY))
        return metrics

    def take(self, values: Mapping[str, Any], *, isFidelity: bool = False) -> bool:
        """Add the figures of one moment.

        :param values: "step", "epoch" and curves by name; what else is in it is ignored.
        :param isFidelity: whether all its figures are fidelity scores.
        :return: whether there was anything for a curve.

        Fidelity scores of another feature extractor than those before take their place: they have no common scale.
        """
        epoch, step = _number(values.get("epoch")), _number(values.get("step"))
        place = step if step is not None else epoch
        if epoch is None or place is None:
            return False
        if isFidelity:
            scored = {name: values[name] for name in _SAME if name in values}
            if any(scored[name] != self._scored.get(name, scored[name]) for name in scored):
                self._rows.pop(FRECHET, None)
                self._scored = {}
            self._scored = {**self._scored, **scored}
        isTaken = False
        for name, value in values.items():
            number = _number(value)
            isScore = isFidelity and _isCurve(name)
            group = FRECHET if isScore or name.startswith(_FIDELITY) else _GROUP_OF.get(name)
            if group is not None and number is not None:
                self._rows.setdefault(group, {}).setdefault(place, {"epoch": epoch})[name] = number
                isTaken = True
        return isTaken

    def groups(self) -> list[str]:
        """Return the groups that have figures."""
        return [group for group in (LOSS, HELD_OUT, FRECHET) if group in self._rows]

    def columns(self, group: str) -> Columns:
        """Return "epoch" and the curves of a group, ordered by step; NaN where a curve has no figure.

        Long ones are thinned: each point is the mean of some neighbours.
        """
        rows = [row for _place, row in sorted(self._rows.get(group, {}).items())]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: _thinned(np.array([row.get(name, math.nan) for row in rows])) for name in names}


def _isCurve(name: str) -> bool:
    return not name.startswith(_NO_CURVES) and not name.endswith(_NO_CURVE_ENDINGS)


def _number(value: Any) -> float | None:
    isNumber = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if isNumber else None


def _thinned(values: NDArray[np.float64]) -> NDArray[np.float64]:
    of = math.ceil(len(values) / MAX_POINTS)
    if of <= 1:
        return values
    starts = np.arange(0, len(values), of)
    return np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    lines = text.splitlines()
    every = math.ceil(len(lines) / (4 * MAX_POINTS))  # of many lines some will do, so that reading stays quick
    for number, line in enumerate(lines):
        if number % every and "_held_out" not in line and _FIDELITY not in line:
            continue
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict):
            yield values
