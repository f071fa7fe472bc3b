"""Confidence intervals and splits that keep a patient's scans together.

Images of one patient resemble each other, so an interval that resamples images is far too narrow, and a floor between
two halves of the same patients far too low. All resampling here moves whole patients (synthetic: whole volumes).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.fidelity.results import Interval

#: Share of the resampled values inside the interval.
CONFIDENCE = 0.95
#: With fewer values than this no bounds are told.
LEAST_VALUES = 3

Bounds = tuple[float, float]
ANY: Bounds = (-math.inf, math.inf)


def bootstrap_interval(
    statistic: Callable[[list[int], list[int]], float],
    real_groups: Sequence[str],
    synthetic_groups: Sequence[str],
    *,
    rounds: int = 200,
    seed: int = 0,
    bounds: Bounds = ANY,
) -> Interval:
    """A statistic of real and synthetic volumes with its 95 % interval.

    Args:
        statistic: Gets indices of real and of synthetic volumes, with repetitions when resampled.
        real_groups: Patient of each real volume; may be empty for a statistic of synthetic volumes alone.
        synthetic_groups: Group of each synthetic volume, usually its id; may be empty.
        rounds: How often to resample.
        seed: Same seed, same interval.
        bounds: Values the statistic can take at all, such as (0, inf) for a distance; the interval is cut there.

    Returns:
        The statistic of all volumes; bounds are None where neither side has two groups. A side with a single group
        is not resampled: the interval then lacks that side's part.

    Raises:
        ValueError: If the statistic of all volumes is not a finite number.

    Resampled sets hold some patients twice and lack others, so a distance between them is larger on average than
    between the sets themselves. Therefore the deviations from the resampled median, not the resampled values, are
    put around the statistic (the bootstrap's bias is left out, Efron & Tibshirani 1993, chapter 10).
    """

    def one(real: list[int], synthetic: list[int]) -> list[float]:
        return [statistic(real, synthetic)]

    return bootstrap_intervals(one, real_groups, synthetic_groups, rounds=rounds, seed=seed, bounds=bounds)[0]


def bootstrap_intervals(
    statistics: Callable[[list[int], list[int]], Sequence[float] | NDArray],
    real_groups: Sequence[str],
    synthetic_groups: Sequence[str],
    *,
    rounds: int = 200,
    seed: int = 0,
    bounds: Bounds = ANY,
    centres: Sequence[float] | None = None,
) -> list[Interval]:
    """Several statistics of the same resampled volumes; see :func:`bootstrap_interval`.

    Args:
        statistics: As there, but gives a sequence of numbers, always as many.
        real_groups, synthetic_groups, rounds, seed, bounds: As there.
        centres: Put the intervals around these values instead of the statistics of all volumes.

    Returns:
        One interval per number.
    """
    real, synthetic = _members(real_groups), _members(synthetic_groups)
    if centres is None:
        centres = np.asarray(statistics(list(range(len(real_groups))), list(range(len(synthetic_groups))))).tolist()
    if max(len(real), len(synthetic)) < 2:
        return [Interval(value=float(value)) for value in centres]
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [statistics(_resampled(real, rng), _resampled(synthetic, rng)) for _ in range(rounds)], dtype=float
    )
    drawn = drawn.reshape(rounds, len(centres))
    return [_around(float(value), drawn[:, n], bounds) for n, value in enumerate(centres)]


def patient_halves(patients: Sequence[str], *, rounds: int = 10, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Splits of volumes into two halves that share no patient, for the real-against-real floor.

    Args:
        patients: Patient of each volume.
        rounds: Most splits to return; fewer where there are fewer different ones (two patients: one split).
        seed: Same seed, same splits.

    Returns:
        Different splits as (indices, indices) of volumes, patients as even as can be, the larger half first and
        second in turn; empty with fewer than two patients.
    """
    members = _members(patients)
    count = len(members)
    if count < 2:
        return []
    rng = np.random.default_rng(seed)
    halves = _different_halves(count, rounds, rng)
    splits = []
    for turn, half in enumerate(halves):
        sides = [
            sorted(i for group, indices in enumerate(members) if (group in half) == inside for i in indices)
            for inside in (True, False)
        ]
        splits.append((sides[turn % 2], sides[1 - turn % 2]))
    return splits


def floor_interval(
    statistic: Callable[[list[int], list[int]], float],
    patients: Sequence[str],
    *,
    rounds: int = 10,
    seed: int = 0,
) -> Interval | None:
    """The mean of ``statistic`` between halves of disjoint patients, and the range of 95 % of the splits.

    None with fewer than two patients; no bounds with fewer than three splits.
    """
    splits = patient_halves(patients, rounds=rounds, seed=seed)
    return interval_of_values([statistic(one, other) for one, other in splits])


def interval_of_values(values: Sequence[float] | NDArray) -> Interval | None:
    """Mean and the range of 95 % of ``values``; None if there are none; no bounds with fewer than three."""
    if not len(values):
        return None
    mean = float(np.mean(values))
    if len(values) < LEAST_VALUES:
        return Interval(value=mean)
    low, high = _quantiles(np.asarray(values, dtype=float))
    return Interval(value=mean, low=low, high=high)


def _members(groups: Sequence[str]) -> list[list[int]]:
    """Indices of each group's volumes, groups in order of appearance."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    return list(members.values())


def _resampled(members: list[list[int]], rng: np.random.Generator) -> list[int]:
    """Indices of as many groups as there are, drawn with replacement."""
    return [index for group in rng.integers(len(members), size=len(members)) for index in members[group]]


def _different_halves(count: int, rounds: int, rng: np.random.Generator) -> list[frozenset[int]]:
    """Different ways to take the smaller half of ``count`` groups; of two equal halves the one with group 0."""
    size = count // 2
    ways = math.comb(count, size) // (2 if count % 2 == 0 else 1)
    if ways <= max(4 * rounds, 64):  # few: take from the list of all
        every = [half for half in combinations(range(count), size) if count % 2 or 0 in half]
        return [frozenset(every[n]) for n in rng.permutation(len(every))[:rounds]]
    halves: dict[frozenset[int], None] = {}
    while len(halves) < rounds:
        half = frozenset(rng.permutation(count)[:size].tolist())
        halves[half if count % 2 or 0 in half else frozenset(range(count)) - half] = None
    return list(halves)


def _around(value: float, drawn: NDArray, bounds: Bounds) -> Interval:
    """Deviations of the finite drawn values from their median, put around ``value``."""
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < LEAST_VALUES:
        return Interval(value=value)
    low, high = (value + bound - float(np.median(drawn)) for bound in _quantiles(drawn))
    return Interval(value=value, low=max(low, min(bounds[0], value)), high=min(high, max(bounds[1], value)))


def _quantiles(values: NDArray) -> tuple[float, float]:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
