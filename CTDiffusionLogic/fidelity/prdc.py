"""Precision, recall, density and coverage of feature vectors.

Precision and recall after Kynkäänniemi et al. 2019, "Improved precision and recall metric for assessing generative
models" (the k-NN balls of one set, asked for the members of the other); density and coverage after Naeem et al. 2020,
"Reliable fidelity and diversity metrics for generative models".

With groups, people are counted and not images: a ball reaches to the k-th nearest *other* person, told by the nearest
image of each. Images of one scan are so alike that balls sized by them hold nothing but their own scan: with some
dozen scans all four would be near 0 for perfect images. Without groups these are the published definitions.

Written here because the published package (prdc 0.2, 2020) knows no groups, is no longer kept and asks for
scikit-learn; on ungrouped data the tests hold it to the definitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

#: Neighbours that size a ball, as in Kynkäänniemi et al.; Naeem et al. use 5, which a dozen patients do not bear.
NEIGHBOURS = 3


@dataclass(frozen=True)
class Prdc:
    """Four shares; NaN where they cannot be told.

    Args:
        precision: Share of synthetic images inside a ball of real ones: low when images look like no real one.
        recall: Share of real images inside a ball of synthetic ones: low when kinds of images are missing.
        density: How many real balls hold a synthetic image, as a part of ``neighbours``: like precision, but not
            fooled by one odd real image; about 1 for perfect images, and not bounded by 1.
        coverage: Share of real balls that hold a synthetic image: like recall, but not fooled by odd synthetic ones.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(
    real: NDArray[np.floating],
    synthetic: NDArray[np.floating],
    *,
    neighbours: int = NEIGHBOURS,
    real_groups: Sequence[str] | None = None,
    synthetic_groups: Sequence[str] | None = None,
) -> Prdc:
    """Compare two sets of feature vectors.

    Args:
        real, synthetic: (n, D) and (m, D).
        neighbours: k; less where there are fewer other groups.
        real_groups, synthetic_groups: Of each vector: its patient, its volume. None: each its own.

    Raises:
        ValueError: If a set is empty or the dimensions differ.
    """
    if not len(real) or not len(synthetic) or real.shape[1:] != synthetic.shape[1:]:
        raise ValueError(f"feature vectors of shape {real.shape} and {synthetic.shape} cannot be compared")
    return prdc_from_distances(
        cdist(real, real),
        cdist(synthetic, synthetic),
        cdist(real, synthetic),
        real_groups=np.arange(len(real)) if real_groups is None else real_groups,
        synthetic_groups=np.arange(len(synthetic)) if synthetic_groups is None else synthetic_groups,
        neighbours=neighbours,
    )


def prdc_from_distances(
    real: NDArray[np.float64],
    synthetic: NDArray[np.float64],
    between: NDArray[np.float64],
    *,
    real_groups: Sequence[str] | NDArray,
    synthetic_groups: Sequence[str] | NDArray,
    neighbours: int = NEIGHBOURS,
) -> Prdc:
    """The same from distances.

    Args:
        real, synthetic: (n, n) and (m, m), within the sets.
        between: (n, m).
        real_groups, synthetic_groups: Of each row; what is there twice (resampled) has the same group.
        neighbours: k.
    """
    real_radii, real_k, per_group = _radii(real, real_groups, neighbours)
    synthetic_radii, _, _ = _radii(synthetic, synthetic_groups, neighbours)
    nan = float("nan")
    precision = density = coverage = recall = nan
    if real_radii is not None:
        inside = between <= real_radii[:, None]
        precision, coverage = float(inside.any(axis=0).mean()), float(inside.any(axis=1).mean())
        density = float(inside.sum(axis=0).mean() / (real_k * per_group))
    if synthetic_radii is not None:
        recall = float((between <= synthetic_radii[None, :]).any(axis=1).mean())
    return Prdc(precision, recall, density, coverage)


def _radii(
    distances: NDArray[np.float64], groups: Sequence[str] | NDArray, neighbours: int
) -> tuple[NDArray[np.float64] | None, int, float]:
    """Distance to the k-th nearest other group of each vector, k, and vectors per group; None with one group."""
    _, own, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    k = min(neighbours, len(sizes) - 1)
    if not k:
        return None, 0, 0.0
    order = np.argsort(own, kind="stable")
    nearest = np.minimum.reduceat(distances[:, order], np.concatenate([[0], np.cumsum(sizes)[:-1]]), axis=1)
    nearest[np.arange(len(own)), own] = np.inf
    return np.partition(nearest, k - 1, axis=1)[:, k - 1], k, len(own) / len(sizes)
