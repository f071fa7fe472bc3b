"""The kernel distance (KID) of two sets of features: Bińkowski et al. (2018), arXiv:1801.01401.

The squared maximum mean discrepancy with the kernel ``(x.y / D + 1)^3``, estimated without bias: a vector is never
paired with itself. It is zero on average between two samples of one distribution, however small, and may be negative.

Images of one volume resemble each other, so pairs within it count much like a vector with itself. With groups, pairs
within a group are left out as well: then the estimate is without bias for volumes (or patients) drawn at random,
where the usual one is too large. A side of one patient has no such pairs, so three patients cannot be split in two
for a floor. But for the floor both sides are of one kind, and what the other side's pairs say stands for both: without
bias again, only less certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from CTDiffusionLogic.errors import InputError

Array = NDArray[np.float64]
_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class KernelSums:
    """Sums of the kernel over all pairs of images, by volume: all that resampling of volumes needs.

    Args:
        sums: (volumes, volumes).
        counts: Images of each volume, (volumes,).
        groups: Group of each volume, (volumes,) whole numbers: volumes of one group are never paired within a side.
    """

    sums: Array
    counts: Array
    groups: NDArray[np.int64]


def kernel_distance(
    features1: ArrayLike,
    features2: ArrayLike,
    *,
    groups1: Sequence[str] | None = None,
    groups2: Sequence[str] | None = None,
) -> float:
    """Unbiased KID of two sets.

    Args:
        features1, features2: (n, D) and (m, D).
        groups1, groups2: Volume or patient of each vector; None: each vector for itself, the usual KID.

    Returns:
        The squared distance. Others often give it times 1000.

    Raises:
        ValueError: If shapes do not fit or numbers are not finite.
        InputError: If a side has fewer than two groups.
    """
    one, two = _checked(features1), _checked(features2)
    if one.shape[1] != two.shape[1]:
        raise ValueError(f"features are of different lengths: {one.shape[1]} and {two.shape[1]}")
    labels = [f"a{g}" for g in (groups1 if groups1 is not None else range(len(one)))]
    labels += [f"b{g}" for g in (groups2 if groups2 is not None else range(len(two)))]
    if len(labels) != len(one) + len(two):
        raise ValueError(f"there are {len(one)} and {len(two)} vectors but {len(labels)} groups")
    volumes = [vector[None] for vector in np.concatenate([one, two])]
    sums = kernel_sums(volumes, labels)
    return kernel_distance_of_volumes(sums, range(len(one)), range(len(one), len(one) + len(two)))


def kernel_sums(volumes: Sequence[NDArray[np.floating]], groups: Sequence[str]) -> KernelSums:
    """Sums of the kernel between volumes.

    Args:
        volumes: Features (n, D) of each volume of both sides; n may be 0.
        groups: Group of each volume; those of the two sides must have different names.
    """
    counts = np.array([len(features) for features in volumes])
    features = np.concatenate([np.asarray(values, dtype=np.float64) for values in volumes])
    images, length = features.shape
    owner = np.repeat(np.arange(len(volumes)), counts)
    shape = (len(volumes), images)
    belongs = sparse.csr_array((np.ones(images), (owner, np.arange(images))), shape=shape)
    sums = np.zeros((len(volumes), len(volumes)))
    for start in range(0, images, _CHUNK):  # never the whole kernel in memory
        part = slice(start, start + _CHUNK)
        kernel = (features[part] @ features.T / length + 1.0) ** 3
        sums += belongs[:, part] @ (belongs @ kernel.T).T
    return KernelSums(sums, counts.astype(np.float64), np.unique(np.asarray(groups), return_inverse=True)[1])


def kernel_distance_of_volumes(
    sums: KernelSums, first: Sequence[int], second: Sequence[int], *, of_one_kind: bool = False
) -> float:
    """Unbiased KID of two lists of volumes, which may be repeated (a volume is never paired with itself).

    Args:
        sums: Of all volumes.
        first, second: Indices.
        of_one_kind: Both lists are drawn from one kind of volumes (real patients, for a floor): a side of a single
            group then borrows what the other side's pairs say.

    Raises:
        InputError: If a side has images of fewer than two groups; with ``of_one_kind`` if both have.
    """
    sides = [np.bincount(np.asarray(side, dtype=int), minlength=len(sums.counts)) for side in (first, second)]
    found: list[float] = []
    for weights in sides:
        used = np.flatnonzero(weights)
        groups, weights, counts = sums.groups[used], weights[used], sums.counts[used]
        other = (groups[:, None] != groups[None, :]).astype(np.float64)
        number = float((weights * counts) @ other @ (weights * counts))
        if number:
            found.append(float(weights @ (other * sums.sums[np.ix_(used, used)]) @ weights) / number)
    number = float((sides[0] @ sums.counts) * (sides[1] @ sums.counts))
    if not number or len(found) < (1 if of_one_kind else 2):
        raise InputError(
            "A kernel distance needs images of at least two volumes of different patients on each side.",
            remedy="Name more volumes.",
        )
    within = 2 * float(np.mean(found))
    return within - 2 * float(sides[0] @ sums.sums @ sides[1]) / number


def _checked(features: ArrayLike) -> Array:
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"features must be finite numbers (images, length), got shape {values.shape}")
    return values
