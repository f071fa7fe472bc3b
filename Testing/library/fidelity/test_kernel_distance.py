"""The kernel distance: the estimator as written in the paper, no bias at small counts, and groups that stay unpaired.

It must see any shift of features and clouds that a Fréchet distance cannot tell from one Gaussian if they are skewed
(third moments). It need not see the order of images.
"""

import numpy as np
import pytest

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity.kernel_distance import kernel_distance, kernel_distance_of_volumes, kernel_sums


def written_out(one, two):
    """Equation 4 of Bińkowski et al. (2018), sum by sum; the arithmetic of torch-fidelity's mmd2."""

    def kernel(x, y):
        return (x @ y / len(x) + 1) ** 3

    n, m = len(one), len(two)
    within1 = sum(kernel(one[i], one[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within2 = sum(kernel(two[i], two[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within1 + within2 - 2 * sum(kernel(x, y) for x in one for y in two) / (n * m)


def test_parity_with_the_paper():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(20, 7)), rng.normal(0.3, 1.2, size=(15, 7))
    assert kernel_distance(one, two) == pytest.approx(written_out(one, two))
    assert kernel_distance(one, two) == pytest.approx(kernel_distance(two, one))


def test_known_value_of_two_points():
    """All of one set at x, all of the other at y: k(x, x) + k(y, y) - 2 k(x, y)."""
    x, y = np.tile([1.0, 0.0], (5, 1)), np.tile([0.0, 2.0], (4, 1))
    assert kernel_distance(x, y) == pytest.approx(1.5**3 + 3**3 - 2)
    assert kernel_distance(x, x) == pytest.approx(0)


def test_no_bias_at_small_counts():
    rng = np.random.default_rng(1)
    values = [kernel_distance(rng.normal(size=(8, 6)), rng.normal(size=(12, 6))) for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(400)
    assert min(values) < 0 < max(values)


def test_it_grows_with_shift_and_noise():
    rng = np.random.default_rng(2)
    one, two, noise = (rng.normal(size=(60, 10)) for _ in range(3))
    assert np.all(np.diff([kernel_distance(one, two + shift) for shift in (0, 0.3, 0.6, 1.2)]) > 0)
    assert np.all(np.diff([kernel_distance(one, two + size * noise) for size in (0, 0.5, 1.0, 2.0)]) > 0)


def test_it_sees_skewness():
    rng = np.random.default_rng(3)
    skewed = rng.exponential(size=(500, 1)) - 1  # mean 0 and variance 1, as the Gaussian
    assert kernel_distance(skewed, rng.normal(size=(500, 1))) > 1


def test_volumes_of_one_patient_are_not_paired():
    """Ten images of each of six patients, all of one distribution: pairs within patients put the distance far off."""

    def patients(rng):
        return (rng.normal(size=(6, 1, 5)) + 0.1 * rng.normal(size=(6, 10, 5))).reshape(60, 5)

    rng = np.random.default_rng(4)
    groups = [str(n // 10) for n in range(60)]
    pairs = [(patients(rng), patients(rng)) for _ in range(80)]
    naive = np.array([kernel_distance(one, two) for one, two in pairs])
    grouped = np.array([kernel_distance(one, two, groups1=groups, groups2=groups) for one, two in pairs])
    error = grouped.std() / np.sqrt(80)
    assert abs(grouped.mean()) < 3 * error
    assert naive.mean() > 6 * error


def test_sums_of_volumes_give_the_same_and_weigh_repetitions():
    rng = np.random.default_rng(5)
    volumes = [rng.normal(size=(count, 4)) for count in (3, 5, 2, 4, 4, 0)]
    sums = kernel_sums(volumes, ["r1", "r1", "r2", "s1", "s2", "s3"])
    whole = kernel_distance_of_volumes(sums, [0, 1, 2], [3, 4, 5])
    expected = kernel_distance(
        np.concatenate(volumes[:3]),
        np.concatenate(volumes[3:5]),
        groups1=["1"] * 8 + ["2"] * 2,
        groups2=["1"] * 4 + ["2"] * 4,
    )
    assert whole == pytest.approx(expected)
    assert kernel_distance_of_volumes(sums, [0, 1, 2] * 2, [3, 4] * 3) == pytest.approx(whole)
    assert kernel_distance_of_volumes(sums, [0, 2, 2], [3, 4]) != pytest.approx(whole)


def test_what_cannot_be_told_is_refused():
    one = np.ones((4, 3))
    with pytest.raises(InputError, match="at least two"):
        kernel_distance(one, one[:1])
    with pytest.raises(InputError, match="at least two"):
        kernel_distance(one, one, groups1=["a"] * 4)
    with pytest.raises(ValueError, match="lengths"):
        kernel_distance(one, one[:, :2])
    with pytest.raises(ValueError, match="finite"):
        kernel_distance(one, one * np.inf)
    with pytest.raises(ValueError, match="groups"):
        kernel_distance(one, one, groups1=["a"])


def test_a_side_of_one_patient_borrows_only_between_volumes_of_one_kind():
    rng = np.random.default_rng(4)
    sums = kernel_sums([rng.normal(size=(6, 5)) for _ in range(3)], ["a", "b", "c"])
    with pytest.raises(InputError, match="on each side"):
        kernel_distance_of_volumes(sums, [0, 1], [2])
    within = sums.sums[0, 1] / 36
    across = (sums.sums[0, 2] + sums.sums[1, 2]) / 72
    assert kernel_distance_of_volumes(sums, [0, 1], [2], of_one_kind=True) == pytest.approx(2 * within - 2 * across)
    with pytest.raises(InputError, match="on each side"):
        kernel_distance_of_volumes(sums, [0], [1], of_one_kind=True)
