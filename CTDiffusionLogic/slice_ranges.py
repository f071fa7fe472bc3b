"""Sets of slice numbers as short texts, for people and for headers: ``1-40``, ``3,7-9``, ``1-201:4``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

_PART = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
#: Numbers beyond this are typing errors.
_LARGEST = 1_000_000


def format_slices(numbers: Iterable[int]) -> str:
    """Return ``numbers`` as a text that :func:`parse_slices` reads; "" for none.

    Example:
        >>> format_slices([3, 7, 8, 9]), format_slices(range(1, 202, 4))
        ('3,7-9', '1-201:4')
    """
    ordered = sorted(set(numbers))
    steps = {b - a for a, b in pairwise(ordered)}
    if len(ordered) > 2 and len(steps) == 1 and (step := steps.pop()) > 1:
        return f"{ordered[0]}-{ordered[-1]}:{step}"
    runs: list[list[int]] = []
    for number in ordered:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def parse_slices(text: str) -> list[int]:
    """Read numbers and ranges separated by commas; rising, each once.

    Args:
        text: Such as ``12``, ``12-15``, ``3,7-9`` or ``1-201:4`` (every fourth).

    Raises:
        ValueError: If it is none of these; the message carries the text.
    """
    numbers: set[int] = set()
    for part in text.replace(" ", "").split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"needs slice numbers such as 12, 12-15 or 3,7-9, got {text!r}")
        first = int(match[1])
        last, step = int(match[2] or first), int(match[3] or 1)
        if not first <= last <= _LARGEST or step < 1:
            raise ValueError(f"has a range that runs backwards or too far, got {part!r}")
        numbers.update(range(first, last + 1, step))
    return sorted(numbers)
