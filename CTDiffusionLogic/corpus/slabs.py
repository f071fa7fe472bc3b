"""Cut training slabs out of cached scans: which slices, which of them known, which part of the image.

The patterns mirror what generation asks for (see the slab plan): slabs from nothing at wide gaps,
slices between known ones, continuations of known ones; one model learns all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from CTDiffusionLogic.corpus.augment import crop_box, draw_crop, draw_height, jitter_hu
from CTDiffusionLogic.corpus.plan import CorpusPlan, ScanPlan
from CTDiffusionLogic.corpus.resample import BODY_HU
from CTDiffusionLogic.denoiser.coarse import downsample, interpolate_along_z, to_residual, upsample
from CTDiffusionLogic.denoiser.intensity import hu_to_intensity
from CTDiffusionLogic.volume import AIR_HU, MAX_HU

#: Slices whose gap is wider than this teach no detail between neighbours, mm.
DETAIL_MAX_GAP_MM = 10.0
#: Largest standard deviation of the noise on the anatomy of a detail slab, in intensities.
COARSE_NOISE = 0.12
#: Coarse pixels around a detail patch that its coarse version needs to be the same as in the whole image: one to be
#: interpolated with, one more for the blur, half of one more for the filter that averages pixels.
_MARGIN = 3


@dataclass(frozen=True)
class Slab:
    """One training example; see :class:`~CTDiffusionLogic.denoiser.conditions.SlabConditions` for the fields."""

    x0: NDArray[np.float32]
    known: NDArray[np.float32]
    mask: NDArray[np.float32]
    offsets_mm: NDArray[np.float32]
    body_mm: float
    pixel_mm: float
    label: int
    body_box: tuple[float, float, float, float] | None = None
    coarse: NDArray[np.float32] | None = None
    coarse_noise: float = 0.0


def anatomy_slab(
    hu: NDArray[np.int16], scan: ScanPlan, plan: CorpusPlan, rng: np.random.Generator, *, slices: int
) -> Slab:
    """Cut a whole-image slab for the anatomy stage out of a scan's cached slices (n, size, size)."""
    positions, mask = draw_anatomy_positions(len(hu), scan.gap_mm, plan.max_gap_mm, rng, slices=slices)
    crop = draw_crop(plan.image_size, rng)
    images = torch.from_numpy(jittered_intensity(crop.cut(hu, positions), rng))
    x0 = downsample(images, (plan.anatomy_size, plan.anatomy_size)).numpy()
    offsets = (positions - positions.mean()) * scan.gap_mm * draw_height(rng)
    body = scan.body_mm + positions.mean() * scan.gap_mm + rng.normal(0, 8.0)
    pixel = scan.pixel_mm * plan.image_size / plan.anatomy_size * crop.pixel_factor
    return Slab(
        x0=x0,
        known=corrupt_known(x0, mask, rng),
        mask=mask,
        offsets_mm=offsets.astype(np.float32),
        body_mm=body,
        pixel_mm=pixel,
        label=scan.label,
        body_box=crop_box(scan.body_box, crop, plan.image_size),
    )


def detail_slab(
    hu: NDArray[np.int16],
    scan: ScanPlan,
    plan: CorpusPlan,
    rng: np.random.Generator,
    *,
    slices: int,
    patch: int,
    coarse_noise: float = COARSE_NOISE,
) -> Slab:
    """Cut a ``patch`` x ``patch`` slab for the detail stage, with its upsampled and corrupted anatomy."""
    fold = plan.image_size // plan.anatomy_size
    step = draw_step(len(hu), scan.gap_mm, DETAIL_MAX_GAP_MM, rng, slices=slices, power=1.5)
    start = int(rng.integers(len(hu) - (slices - 1) * step))
    positions = start + step * np.arange(slices)
    mask = draw_detail_mask(rng, slices)
    # The anatomy grid of this gap, in a random phase; beyond the scan's ends its end slices stand in.
    every = max(1, round(plan.anatomy_gap_mm / (step * scan.gap_mm)))
    first = -int(rng.integers(every))
    count = -(-(slices - 1 - first) // every) + 1
    grid = first + every * np.arange(count)
    sources = np.clip(start + step * grid, 0, len(hu) - 1)
    rows, columns = draw_patch(hu[positions[slices // 2]], scan, patch, fold, rng)
    needed, inverse = np.unique(np.concatenate([positions, sources]), return_inverse=True)
    margin = [_widen(r, patch, plan.image_size, _MARGIN * fold) for r in (rows, columns)]
    block = hu[needed, margin[0][0] : margin[0][1], margin[1][0] : margin[1][1]]
    images = torch.from_numpy(jittered_intensity(block, rng))
    height, width = images.shape[1:]
    small = downsample(images[inverse[slices:]], (height // fold, width // fold))
    small, noise = _corrupt_coarse(small, rng, coarse_noise)
    between = interpolate_along_z(small, torch.from_numpy(grid).float(), torch.arange(slices).float())
    coarse = upsample(between, (height, width))
    top, left = rows - margin[0][0], columns - margin[1][0]
    window = np.s_[:, top : top + patch, left : left + patch]
    coarse_patch = coarse[window]
    x0 = to_residual(images[inverse[:slices]][window], coarse_patch, plan.residual_scale).numpy()
    coarse_array = coarse_patch.numpy()
    if rng.random() < 0.5:  # a patch and its mirror image are equally good texture
        x0, coarse_array = x0[..., ::-1].copy(), coarse_array[..., ::-1].copy()
    offsets = (positions - positions.mean()) * scan.gap_mm
    return Slab(
        x0=x0,
        known=corrupt_known(x0, mask, rng),
        mask=mask,
        offsets_mm=offsets.astype(np.float32),
        body_mm=scan.body_mm + positions.mean() * scan.gap_mm,
        pixel_mm=scan.pixel_mm,
        label=scan.label,
        coarse=np.ascontiguousarray(coarse_array),
        coarse_noise=noise,
    )


def jittered_intensity(hu: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.float32]:
    """Intensities of cached HU (any shape, -1024 to 3071) after :func:`jitter_hu`.

    Each HU is changed once, in a table: the same values as pixel by pixel, in a fraction of the time, of which a
    CPU's training step has little to give away.
    """
    return np.take(intensity_table(rng), hu - np.int16(AIR_HU), mode="clip")


def intensity_table(rng: np.random.Generator) -> NDArray[np.float32]:
    """Intensity of each HU from -1024 to 3071 after :func:`jitter_hu`."""
    return hu_to_intensity(jitter_hu(np.arange(AIR_HU, MAX_HU + 1, dtype=np.int16), rng))


def draw_step(
    count: int, gap_mm: float, max_gap_mm: float, rng: np.random.Generator, *, slices: int, power: float
) -> int:
    """Draw the distance of a slab's slices, in slices of the scan; ``power`` above 1 favours short ones."""
    longest = max(1, min((count - 1) // (slices - 1), int(max_gap_mm / gap_mm)))
    return min(longest, int((longest + 1) ** (rng.random() ** power)))


def draw_anatomy_positions(
    count: int, gap_mm: float, max_gap_mm: float, rng: np.random.Generator, *, slices: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Draw rising slice indices (slices,) of a scan with ``count`` slices, and which of them are known.

    45 % nothing known, at all gaps; 35 % every second slice known, as when a gap is halved, with one
    slice of context beyond; 12 % a continuation of known slices; 8 % known slices anywhere.
    """
    step = draw_step(count, gap_mm, max_gap_mm, rng, slices=slices, power=0.7)
    pattern = rng.random()
    mask = np.zeros(slices, dtype=np.float32)
    shape = np.arange(slices)
    if 0.45 <= pattern < 0.80 and count > slices * step:
        shape = np.append(np.arange(slices - 1), slices)
        mask[::2] = 1
        mask[-1] = 1
        if rng.random() < 0.5:
            shape, mask = slices - shape[::-1], mask[::-1].copy()
    elif 0.80 <= pattern < 0.92:
        known = int(rng.integers(1, slices // 2 + 1))
        mask[slice(0, known) if rng.random() < 0.5 else slice(slices - known, slices)] = 1
    elif pattern >= 0.92:
        mask[rng.permutation(slices)[: int(rng.integers(1, slices))]] = 1
    positions = shape * step
    if step >= 4 and rng.random() < 0.5:  # plans round to whole slices, so gaps are rarely quite even
        positions[1:-1] += rng.integers(-(step // 4), step // 4 + 1, size=slices - 2)
    return positions + int(rng.integers(count - positions[-1])), mask


def draw_detail_mask(rng: np.random.Generator, slices: int) -> NDArray[np.float32]:
    """Draw what is known: 50 % nothing, 30 % both ends, 8 % the first or last few, 12 % anything."""
    mask = np.zeros(slices, dtype=np.float32)
    pattern = rng.random()
    if 0.5 <= pattern < 0.8:
        mask[[0, -1]] = 1
    elif 0.8 <= pattern < 0.88:
        known = int(rng.integers(1, slices // 2 + 1))
        mask[slice(0, known) if rng.random() < 0.5 else slice(slices - known, slices)] = 1
    elif pattern >= 0.88:
        mask[rng.permutation(slices)[: int(rng.integers(1, slices))]] = 1
    return mask


def corrupt_known(x0: NDArray[np.float32], mask: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return known slices with the small faults that generated ones have, half of the time."""
    if rng.random() < 0.5:
        return x0
    return with_faults(x0, mask, float(rng.uniform(0, 0.08)), rng)


def with_faults(
    x0: NDArray[np.float32], mask: NDArray[np.float32], level: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Slices (K, H, W) with noise of standard deviation ``level`` on the known ones; the others nobody sees."""
    faulty = x0.copy()
    known = np.flatnonzero(mask)
    faulty[known] += np.float32(level) * rng.standard_normal((len(known), *x0.shape[1:]), dtype=np.float32)
    return faulty


def _corrupt_coarse(small: torch.Tensor, rng: np.random.Generator, most: float) -> tuple[torch.Tensor, float]:
    """Noise (told to the network) and a slight blur (not told) on the anatomy, as generated anatomy has them."""
    if rng.random() < 0.3:
        blurred = torch.nn.functional.avg_pool2d(small[:, None], 3, stride=1, padding=1, count_include_pad=False)[:, 0]
        small = torch.lerp(small, blurred, float(rng.uniform(0, 0.7)))
    if rng.random() < 0.3:
        return small, 0.0
    level = float(rng.uniform(0, most))
    noise = torch.from_numpy(rng.standard_normal(tuple(small.shape), dtype=np.float32))
    return small + level * noise, level


def draw_patch(
    middle: NDArray[np.int16], scan: ScanPlan, patch: int, fold: int, rng: np.random.Generator
) -> tuple[int, int]:
    """First row and column of a patch, on the anatomy grid; of those with hardly any body one in four is kept."""
    size = middle.shape[0]
    while True:
        corner = []
        for low, high in (scan.body_rows, scan.body_columns):
            centre = rng.uniform(low, high) if rng.random() < 0.95 else rng.uniform(0, size)
            corner.append(int(np.clip(round((centre - patch / 2) / fold) * fold, 0, size - patch)))
        row, column = corner
        body = middle[row : row + patch : 4, column : column + patch : 4] > BODY_HU
        if body.mean() > 0.15 or rng.random() < 0.25:
            return row, column


def _widen(first: int, patch: int, size: int, margin: int) -> tuple[int, int]:
    return max(0, first - margin), min(size, first + patch + margin)
