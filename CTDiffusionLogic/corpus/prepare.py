"""From raw scans to a plan and cached slices: fingerprint, field of view, split, cache, body positions.

Each scan is read twice, one at a time: once to learn its size, once to put it on the grid that all
sizes together decide. Memory holds one scan, whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from CTDiffusionLogic.atomic import atomic_file, check_space, failures_named, remove_unfinished
from CTDiffusionLogic.corpus.body_position import (
    BODY_GRID,
    UNIT_MM,
    BodyPositionNet,
    fit_body_position,
    scan_position_mm,
)
from CTDiffusionLogic.corpus.plan import CorpusPlan, ScanPlan, spread_out
from CTDiffusionLogic.corpus.resample import BodyBox, GridSlices, find_body, orient, to_grid
from CTDiffusionLogic.corpus.split import held_out_patients
from CTDiffusionLogic.denoiser.coarse import downsample, interpolate_along_z, upsample
from CTDiffusionLogic.denoiser.intensity import hu_to_intensity
from CTDiffusionLogic.errors import CTDiffusionError, InputError
from CTDiffusionLogic.scan_search import ScanRef, SkippedScan
from CTDiffusionLogic.volume import CTVolume

#: Slices of training scans from which body positions and statistics are learnt, at most (about): they are held in
#: memory together, in 4 kB each, and twice as many are drawn of them.
MAX_LEARNT_SLICES = 25_000
#: Largest field of view a plan chooses, mm: a torso with its arms up fits, a table's ends need not.
MAX_FOV_MM = 512.0
#: Bytes of a file's header and the file system's share, generously.
_OVERHEAD = 8192
#: A fine model learns of scans whose pixels are at most so many times as large as those it makes of them.
FINE_MAX_COARSENESS = 1.3

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How a corpus is prepared.

    Args:
        image_size: Pixels per side of the final images.
        anatomy_size: Pixels per side of the anatomy stage.
        slices: K, the slices of a slab; shorter scans cannot be used.
        anatomy_gap_mm: Slices of the anatomy stage are about this far apart.
        max_gap_mm: Widest gap the model must bridge.
        hold_out: Patients to hold out; empty: a tenth, chosen by ``seed``.
        use_labels: Whether the index's regions become classes.
        seed: Of the split and the body position network.
        fine: Whether for a fine model (:mod:`CTDiffusionLogic.fine`). It learns texture, so every scan keeps its own
            field of view, and its pixels where its matrix is ``image_size``; scans of much coarser ones are left out.
            Its coarse images, of ``anatomy_size``, are there for every slice. Body positions stay unknown.
    """

    image_size: int = 256
    anatomy_size: int = 64
    slices: int = 8
    anatomy_gap_mm: float = 6.0
    max_gap_mm: float = 36.0
    hold_out: tuple[str, ...] = ()
    use_labels: bool = False
    seed: int = 0
    fine: bool = False


@dataclass(frozen=True)
class Fingerprint:
    """What one scan's first reading tells."""

    body: BodyBox
    fov_mm: float
    slices: int
    gap_mm: float


@dataclass(frozen=True)
class PreparedCorpus:
    """A plan, the folder of its cached slices and the network that names body positions.

    Of a corpus for a fine model the network has learnt nothing.

    Args:
        plan: Of the corpus.
        cache: Where the slices are, ``<scan's id>.npy``, HU, int16.
        body_net: As it was fitted.
        hu_step: What these HU were rounded to multiples of, above -1024, when they were packed; 1: they were not.
    """

    plan: CorpusPlan
    cache: Path
    body_net: BodyPositionNet
    hu_step: int = 1


def fingerprint(oriented: CTVolume) -> Fingerprint:
    """Measure an oriented scan."""
    slices, rows, columns = oriented.shape
    dx, dy, dz = oriented.spacing
    return Fingerprint(find_body(oriented), max(rows * dy, columns * dx), slices, dz)


def choose_fov_mm(fingerprints: Sequence[Fingerprint]) -> float:
    """Field of view that holds the widest body, rounded up to 16 mm."""
    widths = [min(f.body.side, f.fov_mm) for f in fingerprints]
    return min(MAX_FOV_MM, 16.0 * math.ceil(max(widths) / 16.0))


def prepare(
    scans: Sequence[ScanRef],
    skipped: Sequence[SkippedScan],
    run: Path,
    options: PrepareOptions,
    *,
    on_progress: Progress | None = None,
    body_net: BodyPositionNet | None = None,
) -> PreparedCorpus:
    """Read the scans, write ``run/plan.json`` and ``run/cache/``.

    With a ``body_net``, that of a model that is trained on, scans are placed along the body by it, for the model's
    networks know no other positions; without one it is fitted.

    Raises:
        InputError: If no scan can be used; the message has the reasons.
        OutputError: If the run folder cannot be written, or its disk has too little space.
    """
    report = on_progress or _ignore
    left_out = [(str(s.path), s.reason) for s in skipped]
    usable: list[tuple[ScanRef, Fingerprint]] = []
    for number, scan in enumerate(scans):
        report(number, 2 * len(scans), f"measuring {scan.id}")
        try:
            oriented = orient(scan.read())
            if options.fine:
                _require_matrix(oriented, options.image_size)
            seen = fingerprint(oriented)
            _require_slices(seen, options.slices)
            usable.append((scan, seen))
        except CTDiffusionError as error:
            left_out.append((str(scan.path), error.message))
    if not usable:
        raise InputError(
            "None of the scans can be used. " + " ".join(f"{Path(p).name}: {why}" for p, why in left_out[:5]),
            remedy=f"Give CT scans of at least {options.slices} slices.",
        )
    measured = [seen for _, seen in usable]
    fov_mm = max(seen.fov_mm for seen in measured) if options.fine else choose_fov_mm(measured)
    held_out = held_out_patients([s.patient for s, _ in usable], named=options.hold_out, seed=options.seed)
    labels = tuple(sorted({s.label for s, _ in usable if s.label})) if options.use_labels else ()
    cache = run / "cache"
    make_cache(cache, {scan.id: seen.slices for scan, seen in usable}, size=options.image_size)
    planned: list[ScanPlan] = []
    for number, (scan, seen) in enumerate(usable):
        report(len(scans) + number, 2 * len(scans), f"resampling {scan.id}")
        oriented = orient(scan.read())
        grid = to_grid(oriented, size=options.image_size, fov_mm=fov_mm, body=seen.body)
        with atomic_file(cache / f"{scan.id}.npy") as temporary:
            np.save(temporary, grid.hu)
        label = 1 + labels.index(scan.label) if scan.label in labels else 0
        split = "held-out" if scan.patient in held_out else "train"
        planned.append(_scan_plan(scan, oriented, grid, label=label, split=split))
    plan = CorpusPlan(
        image_size=options.image_size,
        anatomy_size=options.anatomy_size,
        fov_mm=fov_mm,
        anatomy_gap_mm=0.0 if options.fine else options.anatomy_gap_mm,
        max_gap_mm=options.max_gap_mm,
        labels=labels,
        sigma_data={},
        residual_scale=1.0,
        scans=tuple(planned),
        skipped=tuple(left_out),
    )
    if options.fine:
        body_net = BodyPositionNet()
    elif body_net is not None:
        plan = placed_by(body_net, plan, cache)
    else:
        learning = partial(report, 2 * len(scans), 2 * len(scans), "learning body positions")
        learning()
        plan, body_net = _place_along_body(plan, cache, seed=options.seed, on_steps=learning)
    plan = _measure_statistics(plan, cache)
    plan.save(run / "plan.json")
    return PreparedCorpus(plan, cache, body_net)


def make_cache(cache: Path, slices: Mapping[str, int], *, size: int) -> None:
    """Make the folder of cached slices, if there is room for them; what is there of them already is replaced.

    Args:
        cache: The folder.
        slices: How many each scan has, by its id.
        size: Rows and columns.

    Raises:
        OutputError: If it cannot be written, or its disk has too little space; then no folder is made.
    """
    with failures_named(cache):
        remove_unfinished(cache)
        there = [path.stat().st_size for path in (cache / f"{name}.npy" for name in slices) if path.is_file()]
    sizes = [2 * count * size**2 + _OVERHEAD for count in slices.values()]
    beside = max(sizes) if there else 0  # the old one of a scan is there until the new one is whole
    check_space(cache, sum(sizes) - sum(there) + beside)
    with failures_named(cache):
        cache.mkdir(parents=True, exist_ok=True)


def coarse_slices(hu: NDArray[np.int16], size: int) -> NDArray[np.float32]:
    """Average HU slices (n, H, W) down to (n, size, size) intensities, a few at a time."""
    parts = [
        downsample(torch.from_numpy(hu_to_intensity(hu[i : i + 16])), (size, size)).numpy()
        for i in range(0, len(hu), 16)
    ]
    return np.concatenate(parts)


def _ignore(_done: int, _total: int, _phase: str) -> None:
    """Take a report of progress and do nothing."""


def _require_slices(seen: Fingerprint, slices: int) -> None:
    if seen.slices < slices:
        raise InputError(f"has {seen.slices} slices; at least {slices} are needed.")


def _require_matrix(oriented: CTVolume, size: int) -> None:
    _, rows, columns = oriented.shape
    least = math.ceil(size / FINE_MAX_COARSENESS)
    if max(rows, columns) < least:
        raise InputError(
            f"has {columns} x {rows} pixels; a fine model of {size} x {size} learns nothing from fewer than {least}."
        )


def _scan_plan(scan: ScanRef, oriented: CTVolume, grid: GridSlices, *, label: int, split: str) -> ScanPlan:
    # The body box again, on the grid: where patches are worth drawing from.
    body = np.flatnonzero((grid.hu[:, ::4, ::4] > -300).mean(axis=(0, 2)) > 0.02) * 4
    across = np.flatnonzero((grid.hu[:, ::4, ::4] > -300).mean(axis=(0, 1)) > 0.02) * 4
    size = grid.hu.shape[1]
    rows = (int(body[0]), int(body[-1]) + 4) if len(body) else (0, size)
    columns = (int(across[0]), int(across[-1]) + 4) if len(across) else (0, size)
    return ScanPlan(
        id=scan.id,
        patient=scan.patient,
        label=label,
        split=split,
        slices=len(grid.hu),
        gap_mm=grid.gap_mm,
        pixel_mm=grid.pixel_mm,
        native_pixel_mm=oriented.spacing[0],
        body_rows=rows,
        body_columns=columns,
        body_box=grid.body_box,
        body_mm=math.nan,
        source=str(scan.path),
        synthetic=oriented.metadata.get("synthetic") == "yes",
    )


def placed_by(net: BodyPositionNet, plan: CorpusPlan, cache: Path) -> CorpusPlan:
    """The plan with its scans where a network that was fitted before places them along the body."""
    return plan.with_body_positions([scan_position_mm(net, *_coarsest(scan, plan, cache)) for scan in plan.scans])


def _place_along_body(
    plan: CorpusPlan, cache: Path, *, seed: int, on_steps: Callable[[], None] | None = None
) -> tuple[CorpusPlan, BodyPositionNet]:
    """Fit the position network on the training scans and place every scan; the lowest training slice is at 0."""
    learnt = {scan.id: _coarsest(scan, plan, cache) for scan in _learnt_from(plan)}
    net = fit_body_position([*learnt.values()], seed=seed, on_steps=on_steps)
    placed = [scan_position_mm(net, *(learnt.get(scan.id) or _coarsest(scan, plan, cache))) for scan in plan.scans]
    lowest = min(b for b, s in zip(placed, plan.scans, strict=True) if s.split == "train")
    with torch.no_grad():
        net.head.bias.sub_(lowest / UNIT_MM)
    return plan.with_body_positions([b - lowest for b in placed]), net


def _coarsest(scan: ScanPlan, plan: CorpusPlan, cache: Path) -> tuple[NDArray[np.float32], float, float]:
    """What the position network sees of a scan: its slices, their gap and their pixel size in mm."""
    coarse = coarse_slices(np.load(cache / f"{scan.id}.npy", mmap_mode="r"), BODY_GRID)
    return coarse, scan.gap_mm, scan.pixel_mm * plan.image_size / BODY_GRID


def _learnt_from(plan: CorpusPlan) -> list[ScanPlan]:
    """Training scans of about :data:`MAX_LEARNT_SLICES` slices."""
    scans = plan.train
    return spread_out(scans, max(1, len(scans) * MAX_LEARNT_SLICES // sum(s.slices for s in scans)))


def _measure_statistics(plan: CorpusPlan, cache: Path) -> CorpusPlan:
    """Standard deviations the preconditioning needs, from some slices of the training scans."""
    anatomy, residual = [], []
    for scan in _learnt_from(plan):
        hu = np.load(cache / f"{scan.id}.npy", mmap_mode="r")
        slices = torch.from_numpy(hu_to_intensity(hu[:: max(1, len(hu) // 16)]))
        coarse = downsample(slices, (plan.anatomy_size, plan.anatomy_size))
        anatomy.append(float(coarse.var()))
        if plan.is_fine:
            residual.append(_body_variance(slices - upsample(coarse, (plan.image_size, plan.image_size)), scan))
            continue
        every = max(1, round(plan.anatomy_gap_mm / scan.gap_mm))
        block = torch.from_numpy(hu_to_intensity(hu[: min(len(hu), 3 * every + 1)]))
        positions = torch.arange(0, len(block), every, dtype=torch.float32)
        small = downsample(block, (plan.anatomy_size, plan.anatomy_size))
        between = interpolate_along_z(small[::every], positions, torch.arange(len(block), dtype=torch.float32))
        residual.append(_body_variance(block - upsample(between, (plan.image_size, plan.image_size)), scan))
    scale = math.sqrt(float(np.mean(residual))) / 0.5
    return replace(
        plan,
        sigma_data={"anatomy": math.sqrt(float(np.mean(anatomy))), "detail": 0.5},
        residual_scale=max(scale, 1e-3),
    )


def _body_variance(images: torch.Tensor, scan: ScanPlan) -> float:
    """Variance of (n, size, size) images of a scan where there is body or table."""
    return float(images[:, slice(*scan.body_rows), slice(*scan.body_columns)].var())
