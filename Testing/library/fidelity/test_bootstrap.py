"""Intervals and splits move whole patients; known spreads come out, and the bootstrap's own bias does not."""

import numpy as np
import pytest

from CTDiffusionLogic.fidelity.bootstrap import (
    bootstrap_interval,
    bootstrap_intervals,
    floor_interval,
    interval_of_values,
    patient_halves,
)


def difference_of_means(values, others):
    return lambda real, synthetic: float(np.mean(others[synthetic]) - np.mean(values[real]))


def test_interval_of_a_difference_of_means_has_the_textbook_width():
    rng = np.random.default_rng(1)
    real, synthetic = rng.normal(0, 1, 60), rng.normal(3, 2, 40)
    interval = bootstrap_interval(
        difference_of_means(real, synthetic), [f"r{n}" for n in range(60)], [f"s{n}" for n in range(40)], rounds=800
    )
    error = np.sqrt(real.var() / 60 + synthetic.var() / 40)
    assert interval.value == pytest.approx(synthetic.mean() - real.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert interval.low < 3 < interval.high


def test_patients_are_resampled_not_volumes():
    """Twenty scans each of five patients: five independent values, so an interval of scans would be far too narrow."""
    rng = np.random.default_rng(2)
    patients = [f"p{n // 20}" for n in range(100)]
    values = np.repeat(rng.normal(0, 1, 5), 20)

    def mean(real, _):
        return float(np.mean(values[real]))

    whole = bootstrap_interval(mean, patients, [], rounds=400)
    single = bootstrap_interval(mean, [str(n) for n in range(100)], [], rounds=400)
    assert whole.high - whole.low > 3 * (single.high - single.low)


def test_resampled_groups_come_whole():
    seen = []

    def record(real, synthetic):
        seen.append((tuple(real), tuple(synthetic)))
        return 0.0

    bootstrap_interval(record, ["a", "b", "a", "c"], ["x", "y"], rounds=30)
    assert seen[0] == ((0, 1, 2, 3), (0, 1))
    assert all(real.count(0) == real.count(2) for real, _ in seen)
    assert len(set(seen)) > 10


def test_bias_of_resampling_is_left_out():
    """The variance of a resample is too small by 1 - 1/n; the interval must lie around the value all the same."""
    values = np.random.default_rng(3).normal(0, 1, 4)

    def spread(real, _):
        return float(np.var(values[real]))

    interval = bootstrap_interval(spread, list("abcd"), [], rounds=400, bounds=(0, np.inf))
    assert 0 <= interval.low < interval.value < interval.high


def test_bounds_cut_the_interval_and_never_the_value():
    interval = bootstrap_interval(
        difference_of_means(np.arange(6.0), np.arange(6.0) + 0.1), list("abcdef"), list("uvwxyz"), bounds=(0, 0.05)
    )
    assert (interval.low, interval.value, interval.high) == pytest.approx((0, 0.1, 0.1))


def test_no_bounds_without_two_groups_and_same_seed_same_interval():
    values = np.arange(4.0)
    statistic = difference_of_means(values, values)
    alone = bootstrap_interval(statistic, ["p"] * 4, ["s"] * 4)
    assert (alone.low, alone.high) == (None, None)
    first, again, other = (bootstrap_interval(statistic, list("abcd"), list("efgh"), seed=s) for s in (1, 1, 2))
    assert first == again != other


def test_values_that_are_not_numbers_are_left_out_or_refused():
    def only_with_all(real, _):
        return 1.0 if len(set(real)) == 3 else float("nan")

    assert bootstrap_interval(only_with_all, list("abc"), [], rounds=100).low == 1.0
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval(lambda *_: float("nan"), list("abc"), [], rounds=5)


def test_several_statistics_share_their_rounds_and_may_be_centred_elsewhere():
    values = np.random.default_rng(4).normal(size=8)

    def both(real, _):
        return [values[real].mean(), 2 * values[real].mean()]

    groups = list("abcdefgh")
    one, two = bootstrap_intervals(both, groups, [])
    assert two.high - two.low == pytest.approx(2 * (one.high - one.low))
    moved, _ = bootstrap_intervals(both, groups, [], centres=[10.0, 0.0])
    assert moved.value == 10
    assert moved.high - one.high == pytest.approx(10 - one.value)


@pytest.mark.parametrize(
    ("count", "splits"), [(0, 0), (1, 0), (2, 1), (3, 3), (4, 3), (5, 10), (6, 10), (13, 10), (40, 10)]
)
def test_halves_share_no_patient_and_are_different(count, splits):
    patients = [f"p{n % count}" for n in range(2 * count)]  # two scans each
    halves = patient_halves(patients)
    assert len(halves) == splits
    assert len({frozenset(map(frozenset, map(tuple, half))) for half in halves}) == splits
    for one, other in halves:
        assert sorted(one + other) == list(range(2 * count))
        assert not {patients[n] for n in one} & {patients[n] for n in other}
        assert abs(len(one) - len(other)) <= 2
    assert halves == patient_halves(patients)


def test_floor_is_the_mean_over_the_splits():
    values = np.array([0.0, 0.0, 1.0, 5.0])

    def gap(one, other):
        return float(abs(values[one].mean() - values[other].mean()))

    floor = floor_interval(gap, ["a", "a", "b", "c"])  # a|bc, b|ac, c|ab
    assert floor.value == pytest.approx(np.mean([3.0, 5 / 3 - 1, 5 - 1 / 3]))
    assert floor.low < floor.value < floor.high
    assert floor_interval(gap, ["a"] * 4) is None
    assert floor_interval(gap, ["a", "a", "b", "b"]).low is None
    assert interval_of_values([]) is None
