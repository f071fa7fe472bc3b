"""Which slices are made when, and given what: the volume as two lists of slabs.

Pure functions on slice numbers. A slab has K slices (8): some *known* (real, or made by an earlier slab),
some *new* (made and kept), and where neither fills it *spare* ones (made and thrown away).

Anatomy is made at every m-th slice, the anatomy grid, coarse to fine. N new, k known, s spare; one
column is one slice of the grid::

    level 0   N       N       N       N       N       N       N       N     the whole extent at once
    level 1   k   N   k   N   k   N   k       k                             midpoints, three a slab,
                          k       k   N   k   N   k   N   k                 and one slice of context
    level 2   k N k N k N k   k                                             and so on until the grid is full;
                        k N k N k N k   k                                   two neighbours at once where no
                                                                            more are missing

Where eight slices at the largest gap (36 mm) do not span the extent, level 0 is a chain of slabs that share
three slices. Known slices take the place of made ones: an extension begins with the chain, a gap between
known slices that is not too wide with the midpoints.

Detail is made at every slice, in blocks of about 4 K neighbours, from the feet up. A block goes through the sampler
as a whole; at each noise level the denoiser sees it in windows of K slices, which lie elsewhere at the next level, so
that no border of a window stays a border in the volume::

    level 0   |-------|-------|-------|-------|
    level 1   |--|-------|-------|-------|----|         three slices further; at the ends windows overlap
    level 2   |-----|-------|-------|-------|-|         and so on

Windows of a later block reach back over slices of the one before, and over given slices: those are known. No window
begins or ends where they do, so that what is made always rests on them; what has room in one window is made in one.
Windows without a slice to be made are left out. (Windows that are finished one by one, those between resting on the
last slices of their neighbours, show a step at every border: neighbours there differed by 35 HU instead of 25. A
smaller one is left at the borders of blocks; slices of the block before that are seen as noisy as they were at that
level, not as known ones, make it larger.)

All slabs of one level of anatomy, and all windows of one noise level, are independent of each other: they can share a
batch.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import gcd

#: Windows that a block of detail is long, about: longer ones take fewer passes, shorter ones are sooner final.
BLOCK_WINDOWS = 4
#: Known slices that chained slabs share.
CHAIN_CONTEXT = 3


@dataclass(frozen=True)
class Slab:
    """K slices that are made together.

    Args:
        level: Slabs of a level need only slices known from the start or new in lower levels.
        positions: Slice numbers, rising; below 0 or past the last slice where a volume has fewer than K.
        known: Those that are given to the denoiser.
        new: Those that are kept; the rest of ``positions`` is spare.
    """

    level: int
    positions: tuple[int, ...]
    known: tuple[int, ...]
    new: tuple[int, ...]

    @property
    def mask(self) -> tuple[float, ...]:
        """1.0 where a slice is known, as the denoiser wants it."""
        known = set(self.known)
        return tuple(float(p in known) for p in self.positions)


@dataclass(frozen=True)
class Block:
    """Neighbouring slices whose detail is made together.

    Args:
        slices: K, slices of a window.
        new: Slice numbers that are made, rising; below 0 or past the last slice where a volume has fewer than K.
        first, stop: What windows may cover: ``new``, given slices, and slices of the block before.
        kept: Those of ``new`` that windows of the next block cover, and know.
    """

    slices: int
    new: tuple[int, ...]
    first: int
    stop: int
    kept: tuple[int, ...] = ()

    def windows(self, number: int) -> list[int]:
        """First slices of the windows of the denoiser's pass ``number`` over the block; they cover all of ``new``."""
        begin, end, last = self.new[0], self.new[-1] + 1, self.stop - self.slices
        left, right = int(self.first < begin), int(end < self.stop)  # whether slices beside are known
        low, high = max(self.first, end + right - self.slices), min(last, begin - left)
        if low <= high:  # all of it in one window, with what is known beside
            return [low + number * _stride(high - low + 1) % (high - low + 1)]
        places = self.slices - left
        starts = set(range(begin - left - number * _stride(places) % places, end, self.slices))
        if right and end - self.slices in starts:
            starts.add(end - self.slices // 2)
        made = set(self.new)
        within = {min(max(start, self.first), last) for start in starts}
        return sorted(start for start in within if not made.isdisjoint(range(start, start + self.slices)))


def detail_passes(blocks: Collection[Block], passes: int) -> int:
    """How many windows the denoiser sees of blocks that it passes over so often."""
    return sum(len(block.windows(number)) for block in blocks for number in range(passes))


def _stride(places: int) -> int:
    """How much further windows lie at the next level: about 3/8 of a window, and all places before one comes again."""
    return next(step for step in range(max(1, 3 * places // 8), places + 2) if gcd(step, places) == 1)


@dataclass(frozen=True)
class VolumePlan:
    """How a volume is made.

    Args:
        count: Slices of the volume, numbered 0 to ``count - 1``.
        known: Slices that are given.
        anatomy: Slabs of the anatomy stage, levels rising.
        grid: Slice numbers of the anatomy that the detail stage interpolates between, rising.
        detail: Blocks of the detail stage, from the feet up.
    """

    count: int
    known: tuple[int, ...]
    anatomy: tuple[Slab, ...]
    grid: tuple[int, ...]
    detail: tuple[Block, ...]


def plan_volume(
    count: int,
    spacing_mm: float,
    *,
    known: Collection[int] = (),
    slices: int = 8,
    anatomy_gap_mm: float = 6.0,
    max_gap_mm: float = 36.0,
) -> VolumePlan:
    """Plan a volume.

    Args:
        count: Slices of the volume, at least 1.
        spacing_mm: Their distance.
        known: Slices that are given.
        slices: K, slices of a slab; at least 4.
        anatomy_gap_mm: Distance of the anatomy grid; rounded to whole slices, at least one.
        max_gap_mm: Largest distance of neighbours in an anatomy slab (or one step of the grid, if that is more).

    Raises:
        ValueError: If a number is out of its range; the message carries it.
    """
    if count < 1 or slices < 4 or not spacing_mm > 0:
        raise ValueError(f"cannot plan {count} slices at {spacing_mm} mm in slabs of {slices}")
    given = sorted(set(known))
    if given and (given[0] < 0 or given[-1] >= count):
        raise ValueError(f"known slices must lie in 0 to {count - 1}, got {given[0]} to {given[-1]}")
    detail = plan_detail(count, given, slices=slices)
    if not detail:
        return VolumePlan(count, tuple(given), (), (), ())
    every = max(1, round(anatomy_gap_mm / spacing_mm))
    covered = {p for block in detail for p in range(block.first, block.stop)}
    grid = _grid(covered, every, *_extent(count, slices))
    longest = max(every, int(max_gap_mm / spacing_mm + 1e-6))
    anatomy = plan_anatomy(grid, given, slices=slices, longest=longest)
    return VolumePlan(count, tuple(given), tuple(anatomy), grid, tuple(detail))


def _extent(count: int, slices: int) -> tuple[int, int]:
    """First and last slice number that is ever made: those of the volume, or of one slab around it."""
    first = min(0, -((slices - count) // 2))
    return first, first + max(count, slices) - 1


def _grid(positions: Collection[int], every: int, first: int, last: int) -> tuple[int, ...]:
    """Multiples of ``every`` that bracket all ``positions``; beyond the ends, the first and the last slice."""
    multiples = {p // every for p in positions} | {-(-p // every) for p in positions}
    return tuple(sorted({min(max(every * n, first), last) for n in multiples}))


# Detail ---------------------------------------------------------------------------------------------------------


def plan_detail(count: int, known: Sequence[int], *, slices: int = 8) -> list[Block]:
    """Blocks that make every slice not in ``known`` exactly once, from the feet up."""
    first, last = _extent(count, slices)
    given = set(known)
    blocks: list[Block] = []
    for group in _groups([p for p in range(first, last + 1) if p not in given], slices):
        made = set(given)
        for new in _parts(group, slices):
            start = stop = new[0]
            while start - 1 in made and start - 1 >= first and new[0] - start < slices - 1:
                start -= 1
            stop = new[-1] + 1
            while stop in given and stop <= last and stop - new[-1] < slices:
                stop += 1
            if blocks and made != given:
                before = blocks[-1]
                blocks[-1] = replace(before, kept=tuple(p for p in before.new if p >= start))
            blocks.append(Block(slices, new, start, stop))
            made.update(new)
    return blocks


def _groups(missing: Sequence[int], slices: int) -> Iterator[list[int]]:
    """Missing slices, cut where no window could cover the slices on both sides."""
    group: list[int] = []
    for position in missing:
        if group and position - group[-1] >= slices:
            yield group
            group = []
        group.append(position)
    if group:
        yield group


def _parts(group: Sequence[int], slices: int) -> list[tuple[int, ...]]:
    """A group cut into spans of about the same length, :data:`BLOCK_WINDOWS` windows if it is long."""
    low, length = group[0], group[-1] + 1 - group[0]
    count = max(1, round(length / (BLOCK_WINDOWS * slices)))
    edges = [low + length * n // count for n in range(count + 1)]
    return [tuple(group[bisect_left(group, a) : bisect_left(group, b)]) for a, b in pairwise(edges)]


# Anatomy --------------------------------------------------------------------------------------------------------


def plan_anatomy(wanted: Sequence[int], known: Sequence[int], *, slices: int = 8, longest: int) -> list[Slab]:
    """Slabs that make all of ``wanted`` that is not in ``known``; levels rising.

    Args:
        wanted: Slice numbers of the anatomy grid, rising.
        known: Slice numbers that are given, rising; on the grid or not.
        slices: K.
        longest: Largest distance of neighbours in a slab, in slices of the volume.
    """
    given = set(known)
    missing = [p for p in wanted if p not in given]
    slabs = [slab for run in _gaps(missing, known) for slab in _chain(*run, list(known), slices, longest)]
    slabs.sort(key=lambda slab: slab.level)
    level = 1 + max((slab.level for slab in slabs), default=-1)
    made = sorted(given | {p for slab in slabs for p in slab.new})
    while True:
        done = set(made)
        missing = [p for p in missing if p not in done]
        if not missing:
            return slabs
        groups = _group(_midpoints(missing, made), slices, longest)
        slabs += [_fill_up(level, ends, new, made, slices, longest) for ends, new in groups]
        made = sorted(done.union(*(new for _, new in groups)))
        level += 1


def _gaps(missing: Sequence[int], known: Sequence[int]) -> Iterator[tuple[list[int], int | None, int | None]]:
    """Runs of missing grid slices with the known slices before and after them (None: there is none)."""
    edges = [None, *known, None]
    for before, after in pairwise(edges):
        low = 0 if before is None else bisect_right(missing, before)
        high = len(missing) if after is None else bisect_left(missing, after)
        if low < high:
            yield list(missing[low:high]), before, after


def _chain(
    run: list[int], before: int | None, after: int | None, known: list[int], slices: int, longest: int
) -> list[Slab]:
    """Slabs that bring the distances in a run down to ``longest``, each resting on the one before."""
    if before is None and after is not None:  # downwards from a known slice: the mirror image
        mirrored = _chain([-p for p in reversed(run)], -after, None, [-p for p in reversed(known)], slices, longest)
        return [
            Slab(s.level, *(tuple(-p for p in reversed(part)) for part in (s.positions, s.known, s.new)))
            for s in mirrored
        ]
    room = slices if before is None else slices - CHAIN_CONTEXT
    chosen = _spread(run, before, after, longest, room - (after is not None))
    made = list(known)
    slabs: list[Slab] = []
    while chosen:
        room = slices - (CHAIN_CONTEXT if slabs else min(CHAIN_CONTEXT, len(known)) if before is not None else 0)
        last = len(chosen) <= room - (after is not None)
        new = chosen if last else chosen[: min(room, len(chosen) - 1)]
        ends = {new[0], new[-1]}
        if slabs or before is not None:
            ends.add(made[bisect_left(made, new[0]) - 1])
        if last and after is not None:
            ends.add(after)
        slabs.append(_fill_up(len(slabs), ends, new, made, slices, longest, backwards_first=True))
        made = sorted([*made, *new])
        chosen = chosen[len(new) :]
    return slabs


def _spread(run: Sequence[int], before: int | None, after: int | None, longest: int, room: int) -> list[int]:
    """Choose the fewest slices of a run that leave no distance above ``longest``, but up to ``room``, evenly."""

    def greedy(step: int) -> list[int]:
        chosen = [] if before is not None else [run[0]]
        place = run[0] if before is None else before
        while (after is None and place < run[-1]) or (after is not None and after - place > step):
            reached = bisect_right(run, place + step) - 1
            if reached < 0 or run[reached] <= place:  # the grid itself is wider than the step
                reached += 1
            if reached >= len(run):
                break
            place = run[reached]
            chosen.append(place)
        return chosen

    if before is not None and after is not None and after - before <= longest:
        return []
    fewest = greedy(longest)
    count = min(max(len(fewest), room), len(run))
    start = run[0] if before is None else before
    stop = run[-1] if after is None else after
    parts = count - 1 + (before is not None) + (after is not None)
    skip = int(before is not None)
    targets = [start + (stop - start) * (n + skip) / max(parts, 1) for n in range(count)]
    even = sorted({min(run, key=lambda p, t=t: abs(p - t)) for t in targets})  # type: ignore[misc]
    path = [p for p in (before, *even, after) if p is not None]
    return even if all(b - a <= longest for a, b in pairwise(path)) else fewest


def _midpoints(missing: Sequence[int], made: Sequence[int]) -> Iterator[tuple[int, list[int], int]]:
    """Intervals of ``made`` that miss slices: the ends, and what to make next, the middle one or the last two."""
    for low, high in pairwise(made):
        inside = missing[bisect_right(missing, low) : bisect_left(missing, high)]
        if len(inside) > 2:
            inside = [min(inside, key=lambda p: abs(2 * p - low - high))]
        if inside:
            yield low, list(inside), high


def _group(intervals: Iterator[tuple[int, list[int], int]], slices: int, longest: int) -> list[tuple[set, list[int]]]:
    """Pack neighbouring intervals into slabs: (ends of the intervals, new slices)."""
    groups: list[tuple[set, list[int]]] = []
    for low, inside, high in intervals:
        if groups:
            ends, new = groups[-1]
            joined, more = ends | {low, high}, [*new, *inside]
            if len(joined) + len(more) <= slices and len(more) <= slices // 2 and low - max(ends) <= longest:
                groups[-1] = joined, more
                continue
        groups.append(({low, high}, inside))
    return groups


def _fill_up(
    level: int,
    ends: Collection[int],
    new: Sequence[int],
    made: Sequence[int],
    slices: int,
    longest: int,
    *,
    backwards_first: bool = False,
) -> Slab:
    """Complete a slab with context: made slices beyond its ends at about its own distances, else spare ones."""
    positions = sorted({*ends, *new})
    known = {p for p in positions if p not in set(new)}
    step = max(1, round((positions[-1] - positions[0]) / max(len(positions) - 1, 1)))
    if len(positions) > 1:
        step = min(step, longest)
    sides = [-1, 1] if backwards_first else [1, -1]
    while len(positions) < slices and sides:
        side = sides[0]
        end = positions[-1] if side > 0 else positions[0]
        context = _beyond(made, end, side, step, longest)
        if context is None:
            sides.pop(0)
            continue
        known.add(context)
        positions = sorted([*positions, context])
        if not backwards_first:
            sides.reverse()
    taken = set(made)
    side = 1
    while len(positions) < slices:  # spare slices, outwards on both sides
        place = positions[-1] + step if side > 0 else positions[0] - step
        while place in taken:
            place += side
        positions = sorted([*positions, place])
        side = -side
    return Slab(level, tuple(positions), tuple(sorted(known)), tuple(sorted(new)))


def _beyond(made: Sequence[int], end: int, side: int, step: int, longest: int) -> int | None:
    """The made slice beyond ``end`` at a distance nearest to ``step``, at most ``longest``; None if there is none."""
    if side < 0:
        inside = made[bisect_left(made, end - longest) : bisect_left(made, end)]
    else:
        inside = made[bisect_right(made, end) : bisect_right(made, end + longest)]
    return min(inside, key=lambda p: abs(abs(p - end) - step), default=None)
