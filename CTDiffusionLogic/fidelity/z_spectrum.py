"""How fast HU change from slice to slice: the power spectrum along z, mean over columns of the body.

Smooth anatomy has little power at high frequencies; slices that know nothing of each other have as much there as
anywhere, up to Nyquist. Stretches of equal length in mm are compared, so that all volumes have the same resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from CTDiffusionLogic.fidelity.body_grid import BodyGrid

#: Length of a stretch: shorter volumes have no spectrum.
STRETCH_MM = 64.0
#: Fewest slices of a stretch, fewest columns inside the body all along it.
LEAST_SLICES, LEAST_COLUMNS = 8, 50
#: Most stretches per volume, and most columns of a stretch.
MOST_STRETCHES, MOST_COLUMNS = 8, 4096


@dataclass(frozen=True, eq=False)
class ZSpectrum:
    """Power spectrum along z of one volume.

    Args:
        frequencies: Cycles/mm, rising, without zero and Nyquist.
        power: One-sided density in HU² mm: white noise of variance s² at a gap g has 2 s² g.
        nyquist: 1 / (2 gap) in cycles/mm.
        columns: How many columns were averaged.
    """

    frequencies: NDArray[np.float64]
    power: NDArray[np.float64]
    nyquist: float
    columns: int


def measure_z_spectrum(grid: BodyGrid) -> ZSpectrum | None:
    """Mean periodogram (Hann window, linear trend removed; Welch 1967) of columns inside the body.

    None where the volume is shorter than :data:`STRETCH_MM`, or the body has too few columns.
    """
    gap, slices = grid.spacing_mm[0], len(grid.hu)
    length = round(STRETCH_MM / gap)
    if length < LEAST_SLICES or length > slices:
        return None
    count = min(MOST_STRETCHES, 1 + (slices - length) * 2 // length)
    starts = np.unique(np.linspace(0, slices - length, count).round().astype(int))
    sums = np.zeros(length // 2 + 1)
    columns = 0
    for start in starts:
        inside = np.flatnonzero(grid.body[start : start + length].all(axis=0))
        inside = inside[:: max(1, -(-len(inside) // MOST_COLUMNS))]
        stretch = grid.hu[start : start + length].reshape(length, -1)[:, inside]
        if not len(inside):
            continue
        frequencies, power = signal.periodogram(
            stretch.astype(np.float64), fs=1 / gap, window="hann", detrend="linear", axis=0
        )
        sums += power.sum(axis=1)
        columns += len(inside)
    if columns < LEAST_COLUMNS:
        return None
    kept = (frequencies > 0) & (frequencies < 0.5 / gap * (1 - 1e-9))
    # A perfectly constant stretch has no power at all; its logarithm must still be a number.
    return ZSpectrum(frequencies[kept], np.maximum(sums[kept] / columns, 1e-6), 0.5 / gap, columns)


def common_frequencies(spectra: Sequence[ZSpectrum]) -> NDArray[np.float64]:
    """Frequencies that all spectra have: up to the Nyquist of the coarsest slices, in cycles/mm."""
    top = min(s.frequencies[-1] for s in spectra)
    bottom = max(s.frequencies[0] for s in spectra)
    step = 1 / STRETCH_MM
    inside = np.arange(1, 10_000) * step
    inside = inside[(inside >= bottom * (1 - 1e-9)) & (inside <= top * (1 + 1e-9))]
    return inside if len(inside) else np.array([top])


def decibels(spectrum: ZSpectrum, frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Power at ``frequencies`` in dB re 1 HU² mm, interpolated between the spectrum's own."""
    return np.interp(frequencies, spectrum.frequencies, 10 * np.log10(spectrum.power))


def fast_share(decibel: NDArray[np.float64], frequencies: NDArray[np.float64]) -> float:
    """Part of the power, 0 to 1, in the upper half of ``frequencies``."""
    power = 10 ** (np.asarray(decibel) / 10)
    return float(power[frequencies > frequencies[-1] / 2].sum() / power.sum())
