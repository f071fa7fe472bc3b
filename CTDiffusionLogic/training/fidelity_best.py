"""Which measured model of a training is its best: bodies whole first, then near to real images.

A Fréchet distance can be good while bodies are torn (:mod:`~CTDiffusionLogic.training.fidelity_outline`). Over 20
epochs of one training distances fell from 128 to 57, while outlines went from 1.95 by way of 2.39 to 1.83 times the
length of a circle's, where real scans have 0.99 to 1.07. A finished model with 70 and 1.07 is better than all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

#: Bodies whose outline is outside of the range of real ones by no more than this count as whole: the mean of six short
#: volumes tells no finer.
WHOLE = 0.1
_OUTLINES = ("outline_real_low", "outline_real_high")


def best_of(lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The best of at least one line of ``fidelity.jsonl`` that may be set beside each other.

    The lowest :func:`grade` wins; of equal ones the lowest Fréchet distance, and of equal ones the first step. That
    puts any lines in one order, whenever they were written, so a resumed training chooses as an uninterrupted one.
    Where a line does not tell the outlines of real scans, all are compared by distance alone: so goes on a training
    that was begun before they were measured.
    """
    grades = [grade(line) for line in lines] if all(_range(line) for line in lines) else [0.0] * len(lines)
    keys = [(worse, line["frechet"], line["step"]) for worse, line in zip(grades, lines, strict=True)]
    return lines[keys.index(min(keys))]


def grade(line: Mapping[str, Any]) -> float:
    """How torn its bodies are: 0, 1, 2 and so on, infinite where no outline could be measured, as of mere noise.

    0 up to :data:`WHOLE` outside of the range of real outlines; each doubling is one more. Not finer, for two models
    whose outlines are about equally torn are told apart by their distance.
    """
    limits, outline = _range(line), _number(line.get("outline"))
    if limits is None or outline is None:
        return math.inf
    outside = max(limits[0] - outline, outline - limits[1])
    return float(math.ceil(math.log2(outside / WHOLE))) if outside > WHOLE else 0.0


def _range(line: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = (_number(line.get(key)) for key in _OUTLINES)
    return None if low is None or high is None else (low, high)


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else None
