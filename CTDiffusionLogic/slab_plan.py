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

Detail is made at every slice, in windows of neighbours. Without known slices::

    A   NNNNNNNN      NNNNNNNN      NNNNNNNN        made independently, six slices apart
    B          kNNNNNNk      kNNNNNNk               fills the gaps

A run of unknown slices next to known ones begins and ends with an A that includes a known slice; short runs
share a window::

    extension   kNNNNNNN      NNNNNNNN              k, k: the last given slice
                       kNNNNNNk
    filling     kNkNkNks                            every second slice given: three new ones a window
                      kNkNkNks

All slabs of one level are independent of each other: they can share a batch.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

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
class VolumePlan:
    """How a volume is made.

    Args:
        count: Slices of the volume, numbered 0 to ``count - 1``.
        known: Slices that are given.
        anatomy: Slabs of the anatomy stage, levels rising.
        grid: Slice numbers of the anatomy that the detail stage interpolates between, rising.
        detail: Slabs of the detail stage, levels rising.
    """

    count: int
    known: tuple[int, ...]
    anatomy: tuple[Slab, ...]
    grid: tuple[int, ...]
    detail: tuple[Slab, ...]


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
    grid = _grid({p for slab in detail for p in slab.positions}, every, *_extent(count, slices))
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


def plan_detail(count: int, known: Sequence[int], *, slices: int = 8) -> list[Slab]:
    """Windows of ``slices`` neighbours that make every slice not in ``known`` exactly once; levels rising."""
    first, last = _extent(count, slices)
    pieces = [p for run in _runs(count, known) for p in _pieces(*run, count=count, slices=slices)]
    made = sorted(known)
    slabs: list[Slab] = []
    for level in sorted({p.level for p in pieces}):
        windows = list(_windows([p for p in pieces if p.level == level], slices, first, last))
        for start, new in windows:
            window = range(start, start + slices)
            inside = made[bisect_left(made, start) : bisect_left(made, start + slices)]
            slabs.append(Slab(level, tuple(window), tuple(inside), new))
        made = sorted([*made, *(p for _, new in windows for p in new)])
    return slabs


@dataclass(frozen=True)
class _Piece:
    """Neighbouring slices to be made at one level; ``left`` and ``right``: the slice beyond is known by then."""

    level: int
    start: int
    stop: int
    left: bool
    right: bool

    @property
    def outer(self) -> tuple[int, int]:
        return self.start - self.left, self.stop + self.right


def _runs(count: int, known: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Maximal runs [start, stop) of unknown slices."""
    edges = [-1, *known, count]
    return ((a + 1, b) for a, b in pairwise(edges) if b - a > 1)


def _pieces(start: int, stop: int, *, count: int, slices: int) -> list[_Piece]:
    """Cut a run into pieces A B A B ...: A holds up to K slices, B up to K - 2 between what is known by then."""
    left, right = start > 0, stop < count
    length, sizes = stop - start, [slices - left]
    while sum(sizes) - (right and len(sizes) % 2) < length:
        sizes.append(slices - 2 if len(sizes) % 2 else slices)
    if right and len(sizes) % 2:
        sizes[-1] -= 1
    excess = sum(sizes) - length
    for parity in (1, 0):  # B first: what it lacks in new slices it gains in known ones
        while excess and any(s > 1 for s in sizes[parity::2]):
            for n in range(parity, len(sizes), 2):
                cut = int(excess > 0 and sizes[n] > 1)
                sizes[n] -= cut
                excess -= cut
    pieces = []
    for n, size in enumerate(sizes):
        end = n == len(sizes) - 1
        pieces.append(
            _Piece(n % 2, start, start + size, n % 2 == 1 or (n == 0 and left), right if end else n % 2 == 1)
        )
        start += size
    return pieces


def _windows(pieces: Sequence[_Piece], slices: int, first: int, last: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Place windows [start, start + K) over pieces of one level; neighbouring pieces share one if they fit."""
    groups: list[list[_Piece]] = []
    for piece in pieces:
        # Only known slices may lie between: a piece that ends at a known slice, then one that begins at one.
        fits = groups and groups[-1][-1].right and piece.left and piece.level == 0
        if fits and piece.outer[1] - groups[-1][0].outer[0] <= slices:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    for group in groups:
        start, stop = group[0].outer[0], group[-1].outer[1]
        room = slices - (stop - start)
        left, right = group[0].left, group[-1].right
        # Room goes where slices are known: more context instead of spare slices.
        start -= room // 2 if left == right else room * left
        start = min(max(start, first), last + 1 - slices)
        yield start, tuple(p for piece in group for p in range(piece.start, piece.stop))


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
