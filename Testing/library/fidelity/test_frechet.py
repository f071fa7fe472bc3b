"""The Fréchet distance: closed forms, the arithmetic of others on the same features, and weights that mean repetition.

It must see a shift of the mean and any change of the covariance. It need not see anything beyond these two moments
(the last test shows a set that it takes for the same), nor the order of images.
"""

import numpy as np
import pytest
import torch
from monai.metrics.fid import compute_frechet_distance, get_fid_score
from scipy import linalg

from CTDiffusionLogic.fidelity.frechet import frechet_distance, frechet_from_features


def features(count, length, *, seed=0, scale=1.0, shift=0.0):
    """Correlated, skewed and never negative, as features after a ReLU are."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(length, length)) / np.sqrt(length)
    return np.maximum(scale * rng.normal(size=(count, length)) @ mix + shift, 0).astype(np.float32)


def textbook(one, two):
    """What torch-fidelity 0.4.0 computes (metric_fid.py): roots of the eigenvalues of the covariances' product."""
    mean1, mean2 = one.mean(axis=0), two.mean(axis=0)
    cov1, cov2 = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(cov1 @ cov2).astype(complex)).real
    return ((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * roots.sum()


def test_gaussians_in_closed_form():
    mean1, mean2 = np.array([0.0, 1.0, 2.0]), np.array([3.0, 1.0, -2.0])
    assert frechet_distance(mean1, np.eye(3), mean2, np.eye(3)) == pytest.approx(25)
    # Covariances that commute: the sum of squared differences of standard deviations.
    deviations1, deviations2 = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 0.5])
    turn = linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    cov1, cov2 = (turn @ np.diag(d**2) @ turn.T for d in (deviations1, deviations2))
    assert frechet_distance(mean1, cov1, mean1, cov2) == pytest.approx(1 + 0 + 6.25)
    assert frechet_distance(mean1, cov1, mean2, cov2) == pytest.approx(25 + 7.25)
    # Covariances that do not commute, 2 x 2: tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det AB)).
    a, b = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.8], [-0.8, 3.0]])
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    assert frechet_distance([0, 0], a, [0, 0], b) == pytest.approx(np.trace(a + b) - 2 * root)
    assert frechet_distance([1.0], [[4.0]], [4.0], [[1.0]]) == pytest.approx(9 + 1)


def test_samples_of_gaussians_approach_the_closed_form():
    rng = np.random.default_rng(1)
    one, two = rng.normal(0, 1, (20000, 4)), rng.normal(1, 2, (20000, 4))
    assert frechet_from_features(one, two) == pytest.approx(4 * (1 + 1), rel=0.03)


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")  # MONAI's call of scipy
@pytest.mark.parametrize(("one", "two", "length"), [(300, 200, 64), (60, 50, 128), (40, 200, 96), (200, 40, 96)])
def test_parity_with_monai_and_torch_fidelity(one, two, length):
    """More images than features, fewer, and mixed: the same numbers as the usual programs."""
    a, b = features(one, length), features(two, length, seed=1, scale=1.2, shift=0.1)
    ours = frechet_from_features(a, b)
    assert ours == pytest.approx(get_fid_score(torch.from_numpy(a), torch.from_numpy(b)).item(), rel=1e-5)
    assert ours == pytest.approx(textbook(a.astype(float), b.astype(float)), rel=1e-5)
    moments = [m for f in (a.astype(float), b.astype(float)) for m in (f.mean(axis=0), np.cov(f, rowvar=False))]
    assert frechet_distance(*moments) == pytest.approx(ours, rel=1e-5)
    assert ours == pytest.approx(compute_frechet_distance(*map(torch.from_numpy, moments)).item(), rel=1e-5)


@pytest.mark.parametrize("length", [16, 500])
def test_identical_and_shuffled_sets_are_at_zero(length):
    a = features(100, length)
    assert frechet_from_features(a, a) == pytest.approx(0, abs=1e-8)
    assert frechet_from_features(a, a[np.random.default_rng(0).permutation(100)]) == pytest.approx(0, abs=1e-8)


def test_distance_is_symmetric_and_grows_with_shift_and_scale():
    a = features(80, 100)
    distances = [frechet_from_features(a, a + shift) for shift in (0.0, 0.1, 0.2, 0.4)]
    np.testing.assert_allclose(distances, [0, 1, 4, 16], atol=1e-4)
    scaled = [frechet_from_features(a, a * scale) for scale in (1.0, 1.1, 1.3, 2.0)]
    assert np.all(np.diff(scaled) > 0)
    b = features(60, 100, seed=2)
    assert frechet_from_features(a, b) == pytest.approx(frechet_from_features(b, a))


def test_small_sets_of_one_distribution_are_far_apart():
    """The known bias, about as 1/n: why counts must be equal before numbers are compared."""
    few, many = (
        np.mean([frechet_from_features(features(n, 32, seed=s), features(n, 32, seed=s + 50)) for s in range(4)])
        for n in (50, 400)
    )
    assert 6 < few / many < 11


@pytest.mark.parametrize("length", [8, 90])
def test_weights_are_repetitions(length):
    a, b = features(30, length), features(25, length, seed=3)
    weights = np.random.default_rng(4).integers(0, 4, 30)
    repeated = frechet_from_features(np.repeat(a, weights, axis=0), b)
    assert frechet_from_features(a, b, weights1=weights) == pytest.approx(repeated, rel=1e-9)
    assert frechet_from_features(b, a, weights2=weights) == pytest.approx(repeated, rel=1e-9)


def test_only_mean_and_covariance_are_seen():
    """Two clouds at +1 and -1, or one Gaussian: the same to this distance; other metrics must see it."""
    rng = np.random.default_rng(5)
    clouds = np.repeat([[1.0], [-1.0]], 500, axis=0)
    gaussian = rng.normal(size=(1000, 1))
    gaussian = (gaussian - gaussian.mean()) / gaussian.std()
    assert frechet_from_features(clouds, gaussian) == pytest.approx(0, abs=1e-9)


def test_wrong_features_are_refused():
    a = features(10, 4)
    with pytest.raises(ValueError, match="two images"):
        frechet_from_features(a, a[:1])
    with pytest.raises(ValueError, match="lengths"):
        frechet_from_features(a, a[:, :3])
    with pytest.raises(ValueError, match="finite"):
        frechet_from_features(a, a * np.nan)
    with pytest.raises(ValueError, match="weights"):
        frechet_from_features(a, a, weights1=[1, 2])
    with pytest.raises(ValueError, match="fit"):
        frechet_distance([0.0], [[1.0]], [0.0, 1.0], np.eye(2))
