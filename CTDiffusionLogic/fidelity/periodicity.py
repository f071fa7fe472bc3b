"""Whether slices come in groups: periods along z, and steps at the borders of slabs.

A volume that is made slab by slab may step from one slab to the next, or its slices may be sharp and blurred in turn.
Both show as a period in a profile along z. Periods are sought without knowing how the volume was made; if the slabs
are known, their borders are compared with the rest as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, stats

from CTDiffusionLogic.fidelity.body_grid import BodyGrid

#: Periods that are tried, in slices.
PERIODS = tuple(range(2, 17))
#: Anatomy changes along z as well; what is slower than this many slices is taken out.
SLOW = 24
#: A period must fit this often into the profile.
LEAST_REPEATS = 3
#: Slices of a slab, where the volume does not say.
SLAB_SLICES = 8


@dataclass(frozen=True, eq=False)
class Periods:
    """How strongly a profile repeats itself, for each of :data:`PERIODS`; NaN for those that do not fit in.

    Args:
        modulation: Standard deviation of what repeats, in % of the profile; what chance alone would give is taken off.
        evidence: -log10 of the probability that a profile without a period would show as much (F test).
    """

    modulation: NDArray[np.float64]
    evidence: NDArray[np.float64]


def difference_profile(grid: BodyGrid) -> NDArray[np.float64]:
    """Mean |dHU| inside the body between each slice and the next, (slices - 1,), in HU."""
    return np.array(
        [
            np.abs(above - below)[mask].mean() if (mask := one & other).any() else np.nan
            for below, above, one, other in zip(grid.hu, grid.hu[1:], grid.body, grid.body[1:], strict=False)
        ]
    )


def sharpness_profile(grid: BodyGrid) -> NDArray[np.float64]:
    """Mean |dHU| inside the body between neighbouring pixels of each slice, (slices,), in HU."""
    found = []
    for plane, body in zip(grid.hu, grid.body, strict=True):
        across = np.abs(np.diff(plane, axis=1))[body[:, 1:] & body[:, :-1]]
        down = np.abs(np.diff(plane, axis=0))[body[1:] & body[:-1]]
        found.append((across.sum() + down.sum()) / (len(across) + len(down)) if len(across) + len(down) else np.nan)
    return np.array(found)


def find_periods(profile: NDArray[np.float64]) -> Periods | None:
    """Fold a profile along z at every period: one-way analysis of variance of its logarithm by phase.

    Args:
        profile: Positive numbers; slices without any (no body) are NaN and left out.

    Returns:
        None where fewer than three of the shortest period fit in, or the profile does not vary.
    """
    places = np.flatnonzero(np.isfinite(profile) & (profile > 0))
    if len(places) < LEAST_REPEATS * PERIODS[0] + 2 or np.ptp(profile[places]) == 0:
        return None
    residual, slow = without_anatomy(profile[places])
    modulation, evidence = np.full(len(PERIODS), np.nan), np.full(len(PERIODS), np.nan)
    for n, period in enumerate(PERIODS):
        if len(places) < LEAST_REPEATS * period or len(places) - period - slow < 2:
            continue
        phase = places % period
        counts = np.bincount(phase, minlength=period).astype(float)
        means = np.bincount(phase, weights=residual, minlength=period) / np.maximum(counts, 1)
        free = int((counts > 0).sum()) - 1
        between = (counts * means**2).sum() / free
        within = max(((residual - means[phase]) ** 2).sum() / (len(places) - free - slow), 1e-12)
        each = (counts.sum() - (counts**2).sum() / counts.sum()) / free
        modulation[n] = 100 * np.sqrt(max(0.0, between - within) / each)
        evidence[n] = -stats.f.logsf(between / within, free, len(places) - free - slow) / np.log(10)
    return Periods(modulation, np.minimum(evidence, 300.0))


def without_anatomy(profile: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Logarithm of a profile without all waves longer than :data:`SLOW` slices, and how many were taken out.

    The waves are those of the discrete cosine transform, as in the high-pass filter for fMRI (Friston et al. 1995).
    """
    waves = fft.dct(np.log(profile), norm="ortho")
    slow = 1 + int(2 * len(profile) / SLOW)
    waves[:slow] = 0
    return fft.idct(waves, norm="ortho"), slow


def strongest(rows: NDArray[np.float64]) -> tuple[int, float, float]:
    """The period with most evidence in a group of volumes.

    Args:
        rows: (volumes, 2, periods) modulation and evidence.

    Returns:
        Period in slices, mean modulation in %, mean evidence; (0, 0, 0) if there is none.
    """
    usable = np.isfinite(rows[:, 0]).any(axis=0)
    if not usable.any():
        return 0, 0.0, 0.0
    modulation, evidence = np.nanmean(rows[:, :, usable], axis=0)
    best = int(np.argmax(evidence))
    return int(np.array(PERIODS)[usable][best]), float(modulation[best]), float(evidence[best])


def slab_slices(metadata: Mapping[str, str], *, synthetic: bool) -> int:
    """Slices of the slabs that a volume was made of, as it says; 0 where that is not known.

    Volumes of this project's models that do not say it were made of :data:`SLAB_SLICES`, unless slices were given.
    Real scans are cut into slabs of as many, to see what anatomy alone does at such places.
    """
    if synthetic and ("model_sha256" not in metadata or "given_slices" in metadata):
        return 0
    said = metadata.get("slab_slices", "")
    return int(said) if said.isdecimal() and int(said) >= 4 else SLAB_SLICES


def border_excess(profile: NDArray[np.float64], slices: int) -> float | None:
    """How much more neighbours differ across slab borders than inside slabs, in %, anatomy taken out.

    Borders are taken to be where windows of the detail stage join at its first noise level; in a volume of 64 slices
    one of them is that of its two blocks.

    Args:
        profile: From :func:`difference_profile`.
        slices: Of a slab of the detail stage.

    Returns:
        None where there are fewer than two borders, or the body is not in all slices.
    """
    if not np.isfinite(profile).all() or not (profile > 0).all():
        return None
    border = np.diff(np.arange(len(profile) + 1) // slices) != 0
    if border.sum() < 2 or border.all():
        return None
    residual, _ = without_anatomy(profile)
    return float(100 * np.expm1(residual[border].mean() - residual[~border].mean()))
