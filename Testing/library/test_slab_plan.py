"""Properties that every plan must have, whatever is asked for and whatever is known."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from CTDiffusionLogic.slab_plan import detail_passes, plan_detail, plan_volume

K = 8


def check(plan, spacing_mm, *, gap_mm=6.0, max_gap_mm=36.0):
    every = max(1, round(gap_mm / spacing_mm))
    longest = max(every, int(max_gap_mm / spacing_mm + 1e-6))
    known = set(plan.known)
    check_detail(plan.detail, plan.count, known)
    check_stage(plan.anatomy, set(plan.grid) - known, known)
    check_anatomy(plan, longest, every)


def check_stage(slabs, wanted, known):
    made = Counter(p for slab in slabs for p in slab.new)
    assert set(made) == wanted
    assert set(made.values()) <= {1}
    level_of = dict.fromkeys(known, -1) | {p: slab.level for slab in slabs for p in slab.new}
    assert [s.level for s in slabs] == sorted(s.level for s in slabs)
    for slab in slabs:
        assert len(slab.positions) == K
        assert list(slab.positions) == sorted(set(slab.positions))
        assert slab.new
        assert set(slab.known) | set(slab.new) <= set(slab.positions)
        assert not set(slab.known) & set(slab.new)
        # Slabs of a level are independent: what is known was made before.
        assert all(level_of[p] < slab.level for p in slab.known)
        # And nothing that exists already is made again or left unsaid.
        assert all(p in slab.known for p in slab.positions if level_of.get(p, 99) < slab.level)


def check_detail(blocks, count, known):
    made = [p for block in blocks for p in block.new]
    assert made == sorted(set(made)), "from the feet up, each slice once"
    spare = {p for p in made if not 0 <= p < count}
    assert set(made) - spare == set(range(count)) - known
    assert not spare or len(known) + len(made) == K, "only where a volume has less than one window"
    done, kept = set(known), set()
    for block in blocks:
        covered = set(range(block.first, block.stop))
        assert len(covered) >= K and set(block.new) <= covered <= done | set(block.new)
        assert covered - set(block.new) <= known | kept, "what windows cover is given, or kept of the block before"
        assert set(block.kept) <= set(block.new)
        # Windows see what is there on either side, up to K - 1 slices.
        for side, near in ((-1, block.new[0]), (1, block.new[-1])):
            beside = itertools.takewhile(lambda p, there=done: p in there, (near + side * n for n in range(1, K)))
            assert set(beside) <= covered
        for number in range(K + 1):
            windows = block.windows(number)
            assert all(block.first <= start <= block.stop - K for start in windows)
            seen = [set(range(start, start + K)) for start in windows]
            for here, beside in ((block.new[0], block.new[0] - 1), (block.new[-1], block.new[-1] + 1)):
                assert beside not in covered or any({here, beside} <= one for one in seen), "it rests on what is known"
            if block.new[-1] - block.new[0] + 3 <= K:
                assert len(windows) == 1
            assert set(block.new) <= set().union(*seen) and all(not one.isdisjoint(block.new) for one in seen)
        done |= set(block.new)
        kept = set(block.kept)


def check_anatomy(plan, longest, every):
    needed = {p for block in plan.detail for p in range(block.first, block.stop)}
    if needed:
        assert plan.grid[0] <= min(needed)
        assert plan.grid[-1] >= max(needed)
    for p in needed:  # what detail interpolates between is at most one step of the grid wide
        right = bisect_left(plan.grid, p)
        assert plan.grid[right] == p or plan.grid[right] - plan.grid[right - 1] <= every
    available = sorted(plan.known)
    for level in sorted({s.level for s in plan.anatomy}):
        slabs = [s for s in plan.anatomy if s.level == level]
        for slab in slabs:
            assert max(b - a for a, b in pairwise(slab.positions)) <= longest
            for p in slab.new:
                right = bisect_right(available, p)
                if 0 < right < len(available) and available[right] - available[right - 1] <= longest:
                    assert available[right - 1] in slab.known
                    assert available[right] in slab.known
        available = sorted([*available, *(p for s in slabs for p in s.new)])
    made = sum(len(s.new) for s in plan.anatomy)
    assert len(plan.anatomy) <= 1 + made  # linear; the usual is a third of it:
    if not plan.known:
        assert len(plan.anatomy) <= 2 + 0.45 * made


SPACINGS = [0.5, 0.7, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0]


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_from_nothing(spacing_mm):
    for count in [*range(1, 120), 200, 333, 512, 1000]:
        check(plan_volume(count, spacing_mm), spacing_mm)


def test_every_count_up_to_a_thousand():
    for count in range(1, 1001):
        blocks = plan_detail(count, ())
        check_detail(blocks, count, set())
        assert detail_passes(blocks, K) <= K * max(1, count / 6 + 1)
        if count % 13 == 0:
            check(plan_volume(count, 3.0), 3.0)


@pytest.mark.parametrize("spacing_mm", [0.5, 1.25, 3.0, 5.0, 10.0])
def test_extension_and_filling(spacing_mm):
    for count in [2, 3, 7, 8, 9, 10, 15, 16, 17, 23, 31, 64, 97, 300]:
        shapes = [
            [0],
            [count - 1],
            [0, count - 1],
            range(count // 2),
            range(count // 3, count),
            range(count // 3, 2 * count // 3),
            range(0, count, 2),
            range(1, count, 2),
            range(0, count, 5),
            [p for p in range(count) if p % 7 not in (2, 3)],
            range(count - 1),
            range(1, count),
        ]
        for known in shapes:
            check(plan_volume(count, spacing_mm, known=known), spacing_mm)


@pytest.mark.parametrize("seed", range(8))
def test_known_slices_anywhere(seed):
    rng = np.random.default_rng(seed)
    for _ in range(60):
        count = int(np.exp(rng.uniform(0, np.log(400))))
        spacing_mm = float(np.exp(rng.uniform(np.log(0.5), np.log(10))))
        if rng.random() < 0.5:
            known = np.flatnonzero(rng.random(count) < rng.uniform(0, 1) ** 2)
        else:  # runs of known slices
            edges = np.cumsum(rng.integers(1, 30, size=2 * count))
            known = [p for a, b in zip(edges[::2], edges[1::2], strict=True) for p in range(a, min(b, count))]
        check(plan_volume(count, spacing_mm, known=[int(p) for p in known]), spacing_mm)


def test_other_gaps_and_slab_sizes():
    for slices in (4, 6, 8, 12):
        for count in (1, 3, 20, 61, 150):
            plan = plan_volume(count, 2.0, slices=slices, anatomy_gap_mm=4.0, max_gap_mm=20.0)
            assert [p for b in plan.detail for p in b.new if 0 <= p < count] == list(range(count))
            assert sorted(p for s in plan.anatomy for p in s.new) == list(plan.grid)
            assert all(len(s.positions) == slices for s in plan.anatomy)
            for block in plan.detail:
                places = {start % slices for number in range(slices) for start in block.windows(number)}
                assert len(places) >= slices - 1 or len(block.new) < 2 * slices, "every place has its turn"


def test_nothing_to_make():
    plan = plan_volume(12, 3.0, known=range(12))
    assert plan.anatomy == ()
    assert plan.detail == ()
    assert plan.grid == ()


def test_the_drawings_of_the_docstring():
    (block,) = plan_detail(32, ())
    assert [block.windows(number) for number in range(3)] == [
        [0, 8, 16, 24],
        [0, 5, 13, 21, 24],
        [0, 2, 10, 18, 24],
    ]
    first, second = plan_detail(64, ())
    assert first.kept == tuple(range(25, 32)) and second.first == 25
    assert [second.windows(number)[0] for number in range(8)] == [31, 29, 27, 25, 30, 28, 26, 31], "it reaches back"
    (extension,) = plan_detail(30, range(10))
    assert extension.first == 3 and extension.windows(1) == [7, 15, 22]
    (gap,) = plan_detail(40, [*range(10), *range(16, 40)])
    assert {*gap.windows(0), *gap.windows(1)} == {9}, "known, six to be made, known"
    (filling,) = plan_detail(31, range(0, 31, 2))
    assert filling.new == tuple(range(1, 31, 2)) and filling.windows(0) == [0, 8, 16, 23]
    assert [block.new for block in plan_detail(40, range(3, 37))] == [(0, 1, 2), (37, 38, 39)]


def test_usual_volume_is_cheap():
    plan = plan_volume(64, 3.0)
    assert len(plan.anatomy) == 9
    assert detail_passes(plan.detail, 12) == 118
    assert max(s.level for s in plan.anatomy) == 2
    assert plan.anatomy[0].known == ()
    assert len(plan.anatomy[0].new) == 8


def test_cost_grows_with_the_number_of_slices():
    for spacing_mm in (1.0, 3.0, 5.0):
        slabs = {n: plan_volume(n, spacing_mm) for n in (128, 256, 512)}
        for cost in (lambda plan: len(plan.anatomy), lambda plan: detail_passes(plan.detail, 8)):
            small, middle, large = (cost(slabs[n]) for n in (128, 256, 512))
            assert middle <= 2.2 * small
            assert large <= 2.2 * middle


@pytest.mark.parametrize(
    ("count", "spacing_mm", "known"), [(0, 3.0, ()), (5, 0.0, ()), (5, -1.0, ()), (5, 3.0, (5,)), (5, 3.0, (-1,))]
)
def test_impossible_requests_are_refused(count, spacing_mm, known):
    with pytest.raises(ValueError, match=r"\d"):
        plan_volume(count, spacing_mm, known=known)
