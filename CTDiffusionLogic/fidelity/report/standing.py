"""Near real, off or far off: one word for a figure beside its floor, and one for a section.

The words follow one rule for all rooms (:data:`RULE` says it to readers), so that no room is kinder than another. A
section that knows better than the middle of its figures (one copy is one too many) says so in ``details["standing"]``,
and may put it in words of its own in ``details["standing_text"]``.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal, get_args

from CTDiffusionLogic.fidelity.results import Figure, Section

Standing = Literal["near real", "off", "far off", "not told"]
#: From best to worst; "not told" is no rank.
RANKS: tuple[Standing, ...] = ("near real", "off", "far off")
#: How far past the floor's bound "off" reaches, and how wide a floor without an interval is taken to be.
REACH, ASSUMED_WIDTH = 3.0, 0.1
#: A floor is never taken to be narrower than this part of its value: rounding is no fault.
LEAST_WIDTH = 0.01

RULE = (
    "The floor is what real scans of different patients reach against each other. A distance is near real up to "
    "the upper bound of the floor's 95 % interval, off up to three times that bound, and far off beyond. A "
    "quantity is near real inside the real scans' interval, off up to three times as far from their value as the "
    "interval's bound, and far off beyond; where more is better, only what lies below counts. Where the floor has "
    "no interval, 10 % of its value stand for it; where there is no floor, nothing is told. A section has the "
    "word in the middle of its figures' words, the worse of two. The words compare; they are no test of fitness "
    "for any use."
)


def standing_of(figure: Figure) -> Standing:
    """Return the word for one figure: see :data:`RULE`."""
    floor = figure.floor
    if floor is None:
        return "not told"
    value, middle = figure.synthetic.value, floor.value
    spare = LEAST_WIDTH * abs(middle)
    assumed = ASSUMED_WIDTH * abs(middle)
    above = max((floor.high if floor.high is not None else middle + assumed) - middle, spare)
    below = max(middle - (floor.low if floor.low is not None else middle - assumed), spare)
    if figure.better == "lower":
        # A floor around zero (KID is unbiased and may be negative) has no useful multiple: then its width counts.
        far = max(REACH * (middle + above), middle + REACH * above)
        return _word(value <= middle + above, value <= far)
    gap = value - middle
    if figure.better == "higher":
        return _word(gap >= -below, gap >= -REACH * below)
    width = above if gap > 0 else below
    return _word(abs(gap) <= width, abs(gap) <= REACH * width)


def standing_of_section(section: Section) -> Standing:
    """Return the section's word: what its room says, else the middle of its figures' words."""
    for word in get_args(Standing):
        if word == section.details.get("standing"):
            return word
    ranks = sorted(RANKS.index(word) for word in map(standing_of, section.figures) if word in RANKS)
    return RANKS[ranks[len(ranks) // 2]] if ranks else "not told"


def text_of_section(section: Section) -> str:
    """The section's word as people read it: its room's own, where it has one ("no copies found")."""
    return str(section.details.get("standing_text") or standing_of_section(section))


def counts_of_section(section: Section) -> str:
    """Return how many figures have which word: "6 far off, 2 off, 1 not told"."""
    counts = Counter(map(standing_of, section.figures))
    return ", ".join(f"{counts[word]} {word}" for word in (*reversed(RANKS), "not told") if counts[word])


def over_floor(figure: Figure) -> float | None:
    """How many times its floor a distance is; None for other figures and where the floor is not above zero."""
    if figure.better != "lower" or figure.floor is None or figure.floor.value <= 0 or figure.synthetic.value <= 0:
        return None
    ratio = figure.synthetic.value / figure.floor.value
    return ratio if math.isfinite(ratio) else None


def _word(near: bool, off: bool) -> Standing:
    return "near real" if near else "off" if off else "far off"
