"""The noise of flat soft tissue and of air: standard deviation, and in-plane noise power spectrum.

The noise power spectrum of ICRU Report 87 (J ICRU 2012; 12 (1)) and of the AAPM's Task Group 233 (Samei et al., Med
Phys 2019; 46: e735-e756), which are made for phantoms: square regions, their background taken out, squared Fourier
transform, mean over regions and over directions. A second image to subtract, the best way to take out the background
(Dolly et al., J Appl Clin Med Phys 2016; 17 (3): 392-407), there is none of a patient; a polynomial of second order
stands in. In patients regions are flat only as far as organs are: the lowest frequencies hold some anatomy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from CTDiffusionLogic.fidelity.body_grid import BodyGrid
from CTDiffusionLogic.fidelity.volumes import LabVolume
from CTDiffusionLogic.volume import AIR_HU

#: Side of a region.
SIDE_MM = 24.0
#: Pixels that a region must have per side, regions that a volume must have, and the most that are used.
LEAST_PIXELS, LEAST_REGIONS, MOST_REGIONS = 8, 6, 200
#: Most slices that are searched.
MOST_SLICES = 48
#: HU of soft tissue, of the means over a few mm.
SOFT_HU = (-20.0, 180.0)
#: Of the regions that hold nothing but soft tissue this part is taken, those whose means over a few mm (standard
#: deviation of the kernel) vary least. A limit in HU would leave out noise that is coarse and loud.
FLATTEST, FLAT_MM = 0.25, 4.0
#: Air further from the patient and the table than they are blurred.
AIR_BELOW_HU = -900.0
#: Where more than this part of a region is AIR_HU, it was not reconstructed.
MOST_PADDING = 0.9


@dataclass(frozen=True, eq=False)
class NoiseMeasures:
    """The noise of one volume.

    Args:
        frequencies: Cycles/mm, rising, up to the pixels' Nyquist; () where there are too few flat regions.
        power: Noise power in HU² mm², mean over directions; white noise of standard deviation s has s² dx dy.
        regions: Flat regions of soft tissue.
        soft_hu: Their standard deviation in HU; None where there are too few.
        air_regions, air_hu: Regions of air around the body, and the median of their standard deviations (some lie
            across the edge of what was reconstructed).
        air_level_hu: Median of their medians.
    """

    frequencies: NDArray[np.float64]
    power: NDArray[np.float64]
    regions: int
    soft_hu: float | None
    air_regions: int
    air_hu: float | None
    air_level_hu: float | None


def measure_noise(volume: LabVolume, grid: BodyGrid) -> NoiseMeasures:
    """Find flat regions on ``grid`` and measure them at the volume's own pixels."""
    _, dy, dx = volume.spacing_mm
    shape = round(SIDE_MM / dy), round(SIDE_MM / dx)
    nothing = np.zeros(0)
    if min(shape) < LEAST_PIXELS:
        return NoiseMeasures(nothing, nothing, 0, None, 0, None, None)
    soft_places, air_places = find_regions(grid)
    soft_regions = _detrended(_regions(volume, soft_places, shape))
    air_pixels = _regions(volume, air_places, shape)
    air_pixels = air_pixels[(air_pixels <= AIR_HU).mean(axis=(1, 2)) <= MOST_PADDING]
    air = air_level = None
    if len(air_pixels) >= LEAST_REGIONS:
        air = float(np.median(_detrended(air_pixels).std(axis=(1, 2))))
        air_level = float(np.median(np.median(air_pixels, axis=(1, 2))))
    frequencies, power = nothing, nothing
    if len(soft_regions) >= LEAST_REGIONS:
        frequencies, power = noise_power(soft_regions, dy=dy, dx=dx)
    soft = _deviation(soft_regions)
    return NoiseMeasures(frequencies, power, len(soft_regions), soft, len(air_pixels), air, air_level)


def find_regions(grid: BodyGrid) -> tuple[list[tuple[int, float, float]], list[tuple[int, float, float]]]:
    """Flat regions of soft tissue inside the body, and of air outside.

    Returns:
        Slice, and middle down and right in mm from the volume's corner, of up to :data:`MOST_REGIONS` of each.
    """
    _, dy, dx = grid.spacing_mm
    size = max(2, round(SIDE_MM / dy)), max(2, round(SIDE_MM / dx))
    if size[0] > grid.hu.shape[1] or size[1] > grid.hu.shape[2]:
        return [], []
    half = size[0] // 2, size[1] // 2
    lattice = np.s_[half[0] : grid.hu.shape[1] - half[0] : half[0], half[1] : grid.hu.shape[2] - half[1] : half[1]]
    soft: list[tuple[float, tuple[int, float, float]]] = []
    air: list[tuple[int, float, float]] = []
    for number in np.unique(np.linspace(0, len(grid.hu) - 1, MOST_SLICES).round().astype(int)):
        smooth = ndimage.gaussian_filter(grid.hu[number], (FLAT_MM / dy, FLAT_MM / dx))
        lowest = ndimage.minimum_filter(smooth, size)[lattice]
        highest = ndimage.maximum_filter(smooth, size)[lattice]
        uneven = _spread(smooth, size)[lattice]
        inside = ndimage.minimum_filter(grid.body[number].astype(np.uint8), size)[lattice] > 0
        outside = ndimage.maximum_filter(grid.body[number].astype(np.uint8), size)[lattice] == 0
        only_soft = inside & (lowest > SOFT_HU[0]) & (highest < SOFT_HU[1])
        only_air = outside & (highest < AIR_BELOW_HU)
        for row, column in np.argwhere(only_soft | only_air):
            place = (
                int(number),
                grid.corner_mm[0] + (half[0] * (row + 1) + 0.5) * dy,
                grid.corner_mm[1] + (half[1] * (column + 1) + 0.5) * dx,
            )
            if only_soft[row, column]:
                soft.append((float(uneven[row, column]), place))
            else:
                air.append(place)
    flat = [place for _, place in sorted(soft)[: max(LEAST_REGIONS, round(FLATTEST * len(soft)))]]
    return _thinned(flat), _thinned(air)


def _thinned(places: list[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    return places[:: max(1, -(-len(places) // MOST_REGIONS))]


def noise_power(regions: NDArray[np.float64], *, dy: float, dx: float) -> tuple[NDArray, NDArray]:
    """Noise power of regions without their trend: dx dy / (rows columns) |FFT|², mean over regions and directions.

    Args:
        regions: (n, rows, columns) in HU.
        dy, dx: Pixel size in mm.

    Returns:
        Frequencies in cycles/mm, from the second lowest (the trend took the lowest) to Nyquist; power in HU² mm².
    """
    _, rows, columns = regions.shape
    power = dx * dy / (rows * columns) * (np.abs(np.fft.fft2(regions)) ** 2).mean(axis=0)
    radius = np.hypot(np.fft.fftfreq(rows, dy)[:, None], np.fft.fftfreq(columns, dx)[None])
    step = 1 / SIDE_MM
    rings = np.rint(radius / step).astype(int)
    top = int(0.5 / max(dy, dx) / step + 1e-6)
    counts = np.bincount(rings.ravel(), minlength=top + 1)[2 : top + 1]
    sums = np.bincount(rings.ravel(), weights=power.ravel(), minlength=top + 1)[2 : top + 1]
    middles = np.bincount(rings.ravel(), weights=radius.ravel(), minlength=top + 1)[2 : top + 1] / np.maximum(
        counts, 1
    )
    return middles, np.maximum(sums / np.maximum(counts, 1), 1e-6)


def _spread(plane: NDArray, size: tuple[int, int]) -> NDArray:
    """Standard deviation around each pixel."""
    mean = ndimage.uniform_filter(plane, size)
    return np.sqrt(np.maximum(ndimage.uniform_filter(plane * plane, size) - mean * mean, 0))


def _regions(volume: LabVolume, places: list[tuple[int, float, float]], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Cut (n, rows, columns) out of the volume around ``places``."""
    _, dy, dx = volume.spacing_mm
    found = []
    for number, down, right in places:
        top, left = round(down / dy - shape[0] / 2), round(right / dx - shape[1] / 2)
        region = volume.hu[number, max(top, 0) : top + shape[0], max(left, 0) : left + shape[1]]
        if region.shape == shape:
            found.append(region)
    return np.array(found, dtype=float).reshape(-1, *shape)


def _detrended(regions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take out a polynomial of second order."""
    count, rows, columns = regions.shape
    if not count:
        return regions
    y, x = (axis.ravel() for axis in np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij"))
    basis, _ = np.linalg.qr(np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1))
    flat = regions.reshape(count, -1)
    return (flat - flat @ basis @ basis.T).reshape(regions.shape)


def _deviation(regions: NDArray[np.float64]) -> float | None:
    """Standard deviation over all regions, the six numbers of the trend accounted for; None for too few regions."""
    if len(regions) < LEAST_REGIONS:
        return None
    return float(np.sqrt((regions**2).sum() / (len(regions) * (regions[0].size - 6))))
