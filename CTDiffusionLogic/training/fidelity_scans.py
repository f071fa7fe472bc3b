"""Real scans to measure a model against while it learns: short stretches at fixed places along the body.

Generated volumes of a measurement are short, and lie at a few places that never change. What they are compared with
is cut to the same: a stretch of each real scan around each place, with slices about as far apart (every n-th one;
slices are never interpolated). So neither the region of the body nor the grid tells the two apart.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.bundle import ModelFile, load_body_net
from CTDiffusionLogic.corpus.body_position import BODY_GRID, scan_position_mm
from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.corpus.prepare import coarse_slices
from CTDiffusionLogic.corpus.resample import orient, to_grid
from CTDiffusionLogic.errors import CTDiffusionError, InputError
from CTDiffusionLogic.fidelity.volumes import LabVolume, to_lab_volume
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.scan_search import find_scans
from CTDiffusionLogic.volume import CTVolume

#: A stretch may lie this part of its length off its place, where the scan ends; places are chosen with the first
#: if there are any, else with the second.
NEAR, SLACK = 0.05, 0.25
#: Scans whose slices are this much farther apart or nearer than most are left out, where there are others.
UNLIKE = 1.5
#: Places that are tried along the body.
_CANDIDATES = 401


@dataclass(frozen=True)
class CachedSlices:
    """Slices in a .npy file that is open only while they are read: of thousands of scans few are looked at.

    Args:
        path: The file.
        shape: (slices, rows, columns).
    """

    path: Path
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: slice) -> NDArray[np.int16]:
        return np.array(np.load(self.path, mmap_mode="r")[places])


@dataclass(frozen=True, eq=False)
class GridScan:
    """A real scan on the model's grid, placed along the body.

    Args:
        id: Short name.
        patient: Whose scan.
        held_out: Whether the model never saw this patient.
        hu: int16 (slices, size, size), slices to the head.
        gap_mm: Distance of its slices.
        pixel_mm: Edge of its pixels.
        body_mm: Anatomical body position of its first slice.
    """

    id: str
    patient: str
    held_out: bool
    hu: NDArray[np.int16] | CachedSlices
    gap_mm: float
    pixel_mm: float
    body_mm: float

    def every(self, spacing_mm: float) -> int:
        """Every which slice is taken, for a distance as near to ``spacing_mm`` as can be (in ratio)."""
        few = max(1, math.floor(spacing_mm / self.gap_mm))
        return min((few, few + 1), key=lambda n: abs(math.log(n * self.gap_mm / spacing_mm)))


@dataclass(frozen=True)
class Stretch:
    """Slices of a scan around a place: ``first``, ``first + every``, ..., ``count`` of them.

    Args:
        scan: Number of the scan in its list.
        place: Number of the place.
    """

    scan: int
    place: int
    first: int
    every: int
    count: int


def scans_of_run(plan: CorpusPlan, cache: Path) -> list[GridScan]:
    """The scans of a training, from its cache; synthetic ones are left out unless there are no others."""
    scans = [scan for scan in plan.scans if not scan.synthetic] or plan.scans
    return [
        GridScan(
            id=scan.id,
            patient=scan.patient,
            held_out=scan.split != "train",
            hu=CachedSlices(cache / f"{scan.id}.npy", (scan.slices, plan.image_size, plan.image_size)),
            gap_mm=scan.gap_mm,
            pixel_mm=scan.pixel_mm,
            body_mm=scan.body_mm,
        )
        for scan in scans
    ]


def scans_of_files(paths: Sequence[Path], model: ModelFile) -> list[GridScan]:
    """Scans from files, on the grid of ``model`` and placed by its own network; all count as unseen by it.

    Raises:
        InputError: If no scan can be used, or the model cannot tell where along the body they lie.
    """
    plan, net = model.card["plan"], load_body_net(model)
    if net is None:
        raise InputError(
            f"{model.path} has no network that tells where along the body a scan lies.",
            remedy="Measure with --run, the folder of its training.",
        )
    search = find_scans(paths)
    reasons, found = [f"{skipped.path.name}: {skipped.reason}" for skipped in search.skipped], []
    size = int(plan["image_size"])
    for ref in search.found:
        try:
            volume = ref.read()
        except CTDiffusionError as error:
            reasons.append(f"{ref.path.name}: {error.message}")
            continue
        if volume.metadata.get("synthetic") == "yes":
            reasons.append(f"{ref.path.name}: is synthetic.")
            continue
        grid = to_grid(orient(volume), size=size, fov_mm=float(plan["fov_mm"]))
        coarse = coarse_slices(grid.hu, BODY_GRID)
        place = scan_position_mm(net, coarse, grid.gap_mm, grid.pixel_mm * size / BODY_GRID)
        found.append(GridScan(ref.id, ref.patient, True, grid.hu, grid.gap_mm, grid.pixel_mm, place))
    if not found:
        raise InputError(f"No real scans can be used. {' '.join(reasons[:3])}".strip(), remedy="Name other scans.")
    return found


def common_spacing_mm(scans: Sequence[GridScan], wanted_mm: float) -> float:
    """The distance of slices near ``wanted_mm`` that most scans offer as they are."""
    return statistics.median_low([scan.every(wanted_mm) * scan.gap_mm for scan in scans])


def choose_places(
    scans: Sequence[GridScan], *, low_mm: float, high_mm: float, spacing_mm: float, extent_mm: float, count: int
) -> list[float]:
    """Middles of ``count`` stretches, spread evenly over where there is at least one scan.

    Args:
        scans: To be compared with.
        low_mm, high_mm: Body positions the model knows.
        spacing_mm: Distance of slices.
        extent_mm: Length of a stretch.
        count: Places.

    Returns:
        Rising body positions in mm; [] where no scan is long enough. They may coincide where scans are short.
    """
    half = min(extent_mm, high_mm - low_mm) / 2
    candidates = np.linspace(low_mm + half, high_mm - half, _CANDIDATES)
    for slack in (NEAR, SLACK):
        possible = [
            middle
            for middle in candidates.tolist()
            if any(_stretch(scan, 0, 0, middle, spacing_mm, extent_mm, slack=slack) for scan in scans)
        ]
        if possible:
            ranks = (np.arange(count) + 0.5) / count * (len(possible) - 1)
            return [possible[round(rank)] for rank in ranks.tolist()]
    return []


def find_stretches(
    scans: Sequence[GridScan], places: Sequence[float], *, spacing_mm: float, extent_mm: float
) -> list[Stretch]:
    """A stretch of every scan at every place it covers.

    Scans with slices much farther apart (or nearer, after some are left out) serve only where there are no others.
    """
    fits = [1 / UNLIKE < scan.every(spacing_mm) * scan.gap_mm / spacing_mm < UNLIKE for scan in scans]
    for chosen in (fits, [True] * len(scans)):
        found = [
            stretch
            for number, scan in enumerate(scans)
            if chosen[number]
            for place, middle in enumerate(places)
            if (stretch := _stretch(scan, number, place, middle, spacing_mm, extent_mm)) is not None
        ]
        if found:
            return found
    return []


def cut_stretch(scan: GridScan, stretch: Stretch) -> LabVolume:
    """The volume of a stretch."""
    last = stretch.first + (stretch.count - 1) * stretch.every
    hu = np.ascontiguousarray(scan.hu[stretch.first : last + 1 : stretch.every])
    spacing = (scan.pixel_mm, scan.pixel_mm, stretch.every * scan.gap_mm)
    return to_lab_volume(
        CTVolume(hu, Geometry(spacing)), id=f"{scan.id} at {stretch.place}", patient=scan.patient or scan.id
    )


def thinned(stretches: Sequence[Stretch], scans: Sequence[GridScan], *, per_place: int, seed: int) -> list[Stretch]:
    """At most ``per_place`` stretches at each place, of different patients first; the same at every call."""
    rng = np.random.default_rng(seed)
    kept: list[Stretch] = []
    for place in sorted({stretch.place for stretch in stretches}):
        here = [stretch for stretch in stretches if stretch.place == place]
        drawn = [here[n] for n in rng.permutation(len(here))]
        seen: dict[str, int] = {}
        ranked: list[tuple[int, int, Stretch]] = []
        for stretch in drawn:
            patient = scans[stretch.scan].patient
            seen[patient] = seen.get(patient, 0) + 1
            ranked.append((seen[patient], len(ranked), stretch))
        kept += [stretch for _, _, stretch in sorted(ranked, key=lambda entry: entry[:2])[:per_place]]
    return kept


def _stretch(
    scan: GridScan,
    number: int,
    place: int,
    middle: float,
    spacing_mm: float,
    extent_mm: float,
    *,
    slack: float = SLACK,
) -> Stretch | None:
    every = scan.every(spacing_mm)
    count = math.ceil(extent_mm / (every * scan.gap_mm) - 1e-6)
    spare = len(scan.hu) - ((count - 1) * every + 1)
    if spare < 0:
        return None
    # The middle of the slices, each of them as thick as it stands from the next, should be the place.
    wanted = (middle - scan.body_mm) / scan.gap_mm - (count - 1) * every / 2
    first = min(max(round(wanted), 0), spare)
    if abs(first - wanted) * scan.gap_mm > slack * extent_mm:
        return None
    return Stretch(number, place, first, every, count)
