"""Are synthetic volumes as different from each other as people are?

*Pairs*: MS-SSIM (Wang et al. 2003, MONAI's) of pairs of synthetic volumes, beside pairs of different patients, as is
usual for generated 3D images (Kwon et al. 2019). Volumes are compared where they show the same part of the body: their
coarse planes are shifted along each other to where they agree best. A model that makes one body again and again has
pairs more alike than people; noise makes pairs less alike, so that "lower" is not better.

*Features*: precision, recall, density and coverage (:mod:`prdc`) per extractor, mean over planes, with patients as
groups. The floor is what two halves of the real patients reach.

What it must see: fewer different bodies than there should be (recall, coverage, MS-SSIM of pairs); images like no real
one (precision, density). What it need not see: copies of training scans, which are as different as people are
(:mod:`copies`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity.bootstrap import (
    bootstrap_interval,
    bootstrap_intervals,
    interval_of_values,
    patient_halves,
)
from CTDiffusionLogic.fidelity.prdc import NEIGHBOURS, Prdc, prdc_from_distances
from CTDiffusionLogic.fidelity.results import Figure, Interval, Plane, Section
from CTDiffusionLogic.fidelity.volumes import LabVolume

TITLE = "Diversity"
#: Coarse volume: planes this far apart, so many pixels of this size around the body's middle.
PLANE_MM, PIXELS, PIXEL_MM = 10.0, 64, 7.0
#: HU that are black and white in it.
BLACK_HU, WHITE_HU = -1000.0, 400.0
#: MS-SSIM's first three scales (the paper's weights, scaled to 1): 64 pixels hold no more.
_WEIGHTS = (0.0448, 0.2856, 0.3001)
_KERNEL = 7
#: Planes of a pair that are compared at most, and pairs of each side.
MOST_PLANES, MOST_PAIRS = 12, 400
#: Images of each side and plane at most; more cost time and tell little more.
MOST_IMAGES = 600
#: Rounds of the intervals of precision and its kin.
ROUNDS = 100

Features = Mapping[tuple[str, Plane], NDArray[np.float32]]

_MEANINGS = {
    "precision": ("Precision", "Share of synthetic images that lie among real ones; low when they look like none."),
    "recall": ("Recall", "Share of real images that lie among synthetic ones; low when kinds of bodies are missing."),
    "density": ("Density", "How closely synthetic images lie among real ones; about 1 if they are of one kind."),
    "coverage": ("Coverage", "Share of real images with a synthetic one near; low when kinds of bodies are missing."),
}


@dataclass(frozen=True, eq=False)
class DiversityMeasures:
    """What is kept of a volume.

    Args:
        id, patient: Of the volume.
        planes: uint8 (n, PIXELS, PIXELS): coarse axial planes, from the feet up.
        features: (extractor, plane) to float32 (images, D), where there are any; those of
            :class:`~CTDiffusionLogic.fidelity.distances.FeatureMeasures` are put in with ``dataclasses.replace``.
    """

    id: str
    patient: str
    planes: NDArray[np.uint8]
    features: Features = field(default_factory=dict)


def measure_diversity(volume: LabVolume, *, features: Features | None = None) -> DiversityMeasures:
    """Average a volume to coarse planes.

    Args:
        volume: Real or synthetic.
        features: Of its images, if there are any.
    """
    dz, dy, dx = volume.spacing_mm
    length = len(volume.hu) * dz
    count = max(1, round(length / PLANE_MM))
    along = _overlap(len(volume.hu), dz, (np.arange(count) - count / 2) * PLANE_MM + length / 2, PLANE_MM)
    along /= along.sum(axis=1, keepdims=True)
    edges = (np.arange(PIXELS) - PIXELS / 2) * PIXEL_MM
    row, column = volume.body.centre
    down = _overlap(volume.hu.shape[1], dy, edges + row, PIXEL_MM) / PIXEL_MM
    across = _overlap(volume.hu.shape[2], dx, edges + column, PIXEL_MM) / PIXEL_MM
    # Above black, so that what lies beyond the image adds nothing and is black.
    small = np.stack([down @ (np.clip(plane, BLACK_HU, WHITE_HU) - BLACK_HU) @ across.T for plane in volume.hu])
    planes = np.tensordot(along, small, axes=1) / (WHITE_HU - BLACK_HU)
    grey = np.rint(255 * planes).clip(0, 255).astype(np.uint8)
    return DiversityMeasures(volume.id, volume.patient, grey, features or {})


def compare_diversity(
    real: Sequence[DiversityMeasures],
    synthetic: Sequence[DiversityMeasures],
    *,
    extractors: Mapping[str, str] | None = None,
    seed: int = 0,
    neighbours: int = NEIGHBOURS,
    rounds: int = ROUNDS,
) -> Section:
    """Set the diversity of synthetic volumes beside that of patients.

    Args:
        real, synthetic: As measured, with or without features.
        extractors: SHA-256 of the extractors by name.
        seed: Of the choice of pairs and of resampling.
        neighbours: k of precision and its kin, in patients (synthetic: volumes).
        rounds: Of resampling, for their intervals.

    Raises:
        InputError: If there are fewer than two synthetic volumes.
    """
    if len(synthetic) < 2:
        raise InputError("Diversity needs two synthetic volumes.", remedy="Generate more volumes.")
    figures = [_pairs_figure(real, synthetic, seed)]
    details: dict[str, dict[str, dict[str, float]]] = {}
    for name in sorted({key[0] for m in synthetic for key in m.features}):
        sha256 = (extractors or {}).get(name, "")
        more, details[name] = _feature_figures(
            real, synthetic, name, sha256, seed=seed, neighbours=neighbours, rounds=rounds
        )
        figures += more
    warnings = []
    if len({m.patient for m in real}) < 2:
        warnings.append("The real scans are of one patient: nothing tells how different people are.")
    if len(synthetic) < 8:
        warnings.append(f"With {len(synthetic)} synthetic volumes, what is missing cannot be told from chance.")
    return Section(
        key="diversity",
        title=TITLE,
        verdict=_verdict(figures),
        figures=figures,
        warnings=warnings,
        details={"neighbours": neighbours, "planes": details},
    )


def pair_ms_ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """MS-SSIM of two stacks of coarse planes where they agree best, 1 for equal ones.

    Args:
        a, b: uint8 (n, PIXELS, PIXELS) and (m, PIXELS, PIXELS). One is shifted along the other by whole planes; at
            least half of the shorter one must be shared.
    """
    import torch
    from monai.metrics.regression import compute_ms_ssim

    ka, kb, shared = _best_shift(a, b)
    chosen = np.unique(np.linspace(0, shared - 1, min(shared, MOST_PLANES)).round().astype(int))
    pair = [torch.from_numpy(x[first + chosen][:, None] / np.float32(255)) for x, first in ((a, ka), (b, kb))]
    values = compute_ms_ssim(
        pair[0],
        pair[1],
        spatial_dims=2,
        data_range=1.0,
        kernel_size=(_KERNEL, _KERNEL),
        kernel_sigma=(1.5, 1.5),
        weights=tuple(w / sum(_WEIGHTS) for w in _WEIGHTS),
    )
    return float(values.mean())


def _best_shift(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[int, int, int]:
    """First planes of both and the number of shared ones, where the planes' mean correlation is highest."""
    first, second = (_normalised(x) for x in (a, b))
    correlation = first @ second.T
    least = max(1, (min(len(a), len(b)) + 1) // 2)
    best, result = -np.inf, (0, 0, min(len(a), len(b)))
    for offset in range(-(len(a) - least), len(b) - least + 1):
        diagonal = np.diagonal(correlation, offset)
        if len(diagonal) >= least and diagonal.mean() > best:
            best, result = float(diagonal.mean()), (max(-offset, 0), max(offset, 0), len(diagonal))
    return result


def _normalised(planes: NDArray[np.uint8]) -> NDArray[np.float32]:
    flat = planes.reshape(len(planes), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _overlap(count: int, gap_mm: float, starts: NDArray[np.floating], size_mm: float) -> NDArray[np.float32]:
    """(cells, count): how many mm of each cell lie in each sample."""
    lower = np.arange(count) * gap_mm
    shared = np.minimum(lower + gap_mm, starts[:, None] + size_mm) - np.maximum(lower, starts[:, None])
    return np.clip(shared, 0, None).astype(np.float32)


def _pairs_figure(real: Sequence[DiversityMeasures], synthetic: Sequence[DiversityMeasures], seed: int) -> Figure:
    made, made_pairs = _pair_matrix(synthetic, [m.id for m in synthetic], seed)
    people, real_pairs = _pair_matrix(real, [m.patient for m in real], seed)
    value = bootstrap_interval(
        lambda _, drawn: _mean_of_pairs(made, drawn), [], [m.id for m in synthetic], seed=seed, bounds=(0.0, 1.0)
    )
    if len(synthetic) < 3:  # a single pair: resampling gives it again and again
        value = Interval(value=value.value)
    floor = None
    if real_pairs:
        patients = [m.patient for m in real]
        floor = bootstrap_interval(
            lambda drawn, _: _mean_of_pairs(people, drawn), patients, [], seed=seed, bounds=(0.0, 1.0)
        )
    return Figure(
        key="diversity.ms_ssim",
        title="Likeness of pairs of volumes (MS-SSIM)",
        synthetic=value,
        floor=floor,
        better="near-floor",
        counts={"synthetic_pairs": made_pairs, "real_pairs": real_pairs, **_counts(real, synthetic)},
        meaning="Structural similarity of two volumes at the same part of the body, beside two different patients: "
        "higher means that the model makes the same body again and again.",
    )


def _pair_matrix(
    measures: Sequence[DiversityMeasures], groups: Sequence[str], seed: int
) -> tuple[NDArray[np.float64], int]:
    """MS-SSIM of pairs of different groups, NaN where it was not computed; and how many were."""
    matrix = np.full((len(measures), len(measures)), np.nan)
    pairs = [(i, j) for i, j in combinations(range(len(measures)), 2) if groups[i] != groups[j]]
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:MOST_PAIRS]
    for i, j in (pairs[n] for n in chosen):
        matrix[i, j] = matrix[j, i] = pair_ms_ssim(measures[i].planes, measures[j].planes)
    return matrix, len(chosen)


def _mean_of_pairs(matrix: NDArray[np.float64], drawn: list[int]) -> float:
    """Mean over the pairs among ``drawn``; a volume drawn twice is no pair with itself (its entry is NaN)."""
    values = matrix[np.ix_(drawn, drawn)]
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _feature_figures(
    real: Sequence[DiversityMeasures],
    synthetic: Sequence[DiversityMeasures],
    extractor: str,
    sha256: str,
    *,
    seed: int,
    neighbours: int,
    rounds: int,
) -> tuple[list[Figure], dict[str, dict[str, float]]]:
    """Four figures of one extractor, and the values of each plane."""
    planes = {}
    for plane in sorted({key[1] for m in synthetic for key in m.features if key[0] == extractor}):
        side = [_PlaneSide.of(group, (extractor, plane)) for group in (real, synthetic)]
        if all(len(s.vectors) for s in side):
            planes[plane] = _PlaneDistances(side[0], side[1], neighbours)
    if not planes:
        return [], {}
    patients, volumes = [m.patient for m in real], [m.id for m in synthetic]
    each = {plane: asdict(d.compare(range(len(real)), range(len(synthetic)))) for plane, d in planes.items()}
    if any(not np.isfinite(list(values.values())).all() for values in each.values()):
        return [], {}  # one patient: its images have no neighbours of other people
    intervals = bootstrap_intervals(
        lambda r, s: _mean([d.compare(r, s) for d in planes.values()]),
        patients,
        volumes,
        rounds=rounds,
        seed=seed,
        bounds=(0.0, np.inf),
    )
    halves = np.array(
        [_mean([d.halves(one, other) for d in planes.values()]) for one, other in patient_halves(patients, seed=seed)]
    )
    halves = halves[np.isfinite(halves).all(axis=1)] if len(halves) else halves
    counts = {
        "synthetic_images": sum(len(d.synthetic.vectors) for d in planes.values()),
        "real_images": sum(len(d.real.vectors) for d in planes.values()),
        **_counts(real, synthetic),
    }
    figures = [
        Figure(
            key=f"diversity.{extractor}.{name}",
            title=f"{title} ({extractor})",
            synthetic=intervals[n] if name == "density" else _at_most_one(intervals[n]),
            floor=interval_of_values(halves[:, n]) if len(halves) else None,
            better="higher",
            extractor=extractor,
            extractor_sha256=sha256,
            counts=counts,
            meaning=meaning,
        )
        for n, (name, (title, meaning)) in enumerate(_MEANINGS.items())
    ]
    return figures, {plane: {k: round(v, 4) for k, v in values.items()} for plane, values in each.items()}


@dataclass(frozen=True, eq=False)
class _PlaneSide:
    """Images of one group in one plane: vectors, and for each the number and the group of its volume."""

    vectors: NDArray[np.float32]
    volumes: NDArray[np.intp]
    groups: NDArray[np.intp]

    @classmethod
    def of(cls, measures: Sequence[DiversityMeasures], key: tuple[str, Plane]) -> _PlaneSide:
        """The images, evenly fewer where they are too many."""
        names = sorted({m.patient for m in measures})
        owner = [names.index(m.patient) for m in measures]
        found = [(n, owner[n], vector) for n, m in enumerate(measures) for vector in m.features.get(key, ())]
        found = [found[n] for n in np.linspace(0, len(found) - 1, min(len(found), MOST_IMAGES)).round().astype(int)]
        vectors = np.array([vector for _, _, vector in found], np.float32)
        volumes, groups = (np.array([entry[k] for entry in found], np.intp) for k in (0, 1))
        return cls(vectors, volumes, groups)

    def rows(self, volumes: Sequence[int] | range) -> NDArray[np.intp]:
        """Rows of these volumes, repeated as they are."""
        return np.concatenate([np.flatnonzero(self.volumes == n) for n in volumes])


class _PlaneDistances:
    """Distances of all images of a plane, computed once for all rounds."""

    def __init__(self, real: _PlaneSide, synthetic: _PlaneSide, neighbours: int) -> None:
        self.real, self.synthetic = real, synthetic
        self._neighbours = neighbours
        self._real, self._synthetic = cdist(real.vectors, real.vectors), cdist(synthetic.vectors, synthetic.vectors)
        self._between = cdist(real.vectors, synthetic.vectors)

    def compare(self, real: Sequence[int] | range, synthetic: Sequence[int] | range) -> Prdc:
        """Of these real and synthetic volumes."""
        r, s = self.real.rows(real), self.synthetic.rows(synthetic)
        distances = self._real[np.ix_(r, r)], self._synthetic[np.ix_(s, s)], self._between[np.ix_(r, s)]
        return self._of(distances, self.real.groups[r], self.synthetic.groups[s])

    def halves(self, one: Sequence[int], other: Sequence[int]) -> Prdc:
        """Of two groups of real volumes."""
        a, b = self.real.rows(one), self.real.rows(other)
        distances = self._real[np.ix_(a, a)], self._real[np.ix_(b, b)], self._real[np.ix_(a, b)]
        return self._of(distances, self.real.groups[a], self.real.groups[b])

    def _of(self, distances: tuple[NDArray, NDArray, NDArray], first: NDArray, second: NDArray) -> Prdc:
        if not distances[2].size:
            return Prdc(*[float("nan")] * 4)
        return prdc_from_distances(*distances, real_groups=first, synthetic_groups=second, neighbours=self._neighbours)


def _mean(values: Sequence[Prdc]) -> NDArray[np.float64]:
    """Precision, recall, density, coverage, mean over planes."""
    return np.array([[v.precision, v.recall, v.density, v.coverage] for v in values]).mean(axis=0)


def _at_most_one(interval: Interval) -> Interval:
    high = None if interval.high is None else min(interval.high, 1.0)
    return Interval(value=interval.value, low=interval.low, high=high)


def _counts(real: Sequence[DiversityMeasures], synthetic: Sequence[DiversityMeasures]) -> dict[str, int]:
    return {"real_patients": len({m.patient for m in real}), "synthetic_volumes": len(synthetic)}


def _verdict(figures: Sequence[Figure]) -> str:
    pairs = figures[0]
    said = f"Two synthetic volumes have an MS-SSIM of {pairs.synthetic.value:.2f}"
    if pairs.floor is None:
        return f"{said}; there are no two patients to set it beside."
    low, high = pairs.floor.low, pairs.floor.high
    said += f", two patients {pairs.floor.value:.2f}"
    if high is not None and pairs.synthetic.value > high:
        said += ": they are more alike than people are."
    elif low is not None and pairs.synthetic.value < low:
        said += ": they are less alike than people are, as noise or broken bodies would make them."
    else:
        said += ": as different as people are."
    recall = next((f for f in figures if f.key.endswith(".recall")), None)
    if recall is not None:
        floor = f" (halves of the real patients: {recall.floor.value:.2f})" if recall.floor else ""
        said += f" Recall is {recall.synthetic.value:.2f}{floor}."
    return said
