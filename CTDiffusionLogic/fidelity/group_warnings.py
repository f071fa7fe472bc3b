"""What limits a comparison of groups of volumes, in sentences that the rooms share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

#: Said where there is nothing on one of the sides.
EMPTY = "One of the groups is empty: nothing can be compared."


def volume_warnings(groups: Mapping[str, Sequence[Any]]) -> list[str]:
    """What the volumes' measures warn of, each sentence once a group, with the number of its volumes.

    Args:
        groups: Name to measures, which have ``warnings`` (sentences without a full stop).
    """
    found = []
    for name, group in groups.items():
        said: dict[str, int] = {}
        for m in group:
            for warning in m.warnings:
                said[warning] = said.get(warning, 0) + 1
        found += [f"{name}: {warning}" + (f" ({n} volumes)" if n > 1 else "") + "." for warning, n in said.items()]
    return found


def unlike_warnings(
    groups: Mapping[str, Sequence[Any]],
    length_mm: Callable[[Any], float],
    *,
    limit: float,
    what: str,
    digits: str,
    meaning: str,
) -> list[str]:
    """A sentence where the groups' medians of a length are more than ``limit`` times apart; none where they are not.

    Args:
        groups: Name to measures; empty ones are left out.
        length_mm: Of one volume's measures.
        limit: Largest ratio of two medians that are called alike.
        what: Begins the sentence: "Pixels differ".
        digits: How lengths are written, as a format: ".2g".
        meaning: Ends the sentence: what that does to the comparison.
    """
    medians = {name: float(np.median([length_mm(m) for m in group])) for name, group in groups.items() if group}
    if not medians or max(medians.values()) <= limit * min(medians.values()):
        return []
    lengths = ", ".join(f"{name} {median:{digits}} mm" for name, median in medians.items())
    return [f"{what} ({lengths}): {meaning}"]
