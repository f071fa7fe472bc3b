"""One extractor's distances between real and synthetic volumes, from features alone.

A Fréchet distance falls with the number of images, so a distance and its floor are told at equal counts. The real
patients are split into halves A and B, several times. The floor is the distance of A and B; the figure is that of A
and as many synthetic volumes as B has; where there are fewer synthetic volumes, B is cut to as many. The figure for
all images, which others publish, is told beside it without a floor. Kernel distances need none of this: they are
without bias, so the figure takes all images and its floor lies around zero. It takes three patients (two against one).

Intervals come from resampling patients and synthetic volumes; those of floors from the splits. Processor time of 200
rounds and ten splits of three planes, one thread: 4 s for 512 images a side with 128 features, 10 s with 256, and 8 s
for 256 images with 2048 features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity.bootstrap import bootstrap_intervals, interval_of_values, patient_halves
from CTDiffusionLogic.fidelity.extractors.base import Extractor
from CTDiffusionLogic.fidelity.frechet import frechet_from_features
from CTDiffusionLogic.fidelity.kernel_distance import KernelSums, kernel_distance_of_volumes, kernel_sums
from CTDiffusionLogic.fidelity.results import PLANES, Figure, Interval, Plane

_NAMES = {"frechet": "Fréchet distance", "kernel": "Kernel distance"}
_MEANINGS = {
    "frechet": (
        "How far the images' features are from those of real scans, by mean and covariance (FID); 0 is equal. Compare "
        "it with its floor, made from as many images, and never with numbers of other extractors or counts."
    ),
    "all": (
        "The same with all images, as others publish it. More images make it smaller, so it has no floor here; "
        "compare only equal extractors, protocols and counts."
    ),
    "kernel": (
        "How far the images' features are from those of real scans, by a cubic kernel (KID), without the bias of "
        "small counts: equal distributions give 0 on average, so it may be negative."
    ),
}

#: From this many patients on the splits of a kernel distance's floor are many enough not to be spoken of.
_PATIENTS_FOR_FLOOR = 6

Volumes = list[int]


class FeatureComparison:
    """One extractor's numbers; volumes are counted through, real ones first.

    Args:
        extractor: What made the features; only its name and facts are used.
        features: Per plane the features (n, D) of every volume, real ones first; n may be 0.
        patients: Patient of each real volume.
        synthetic: Id of each synthetic volume.
        rounds, splits, seed: Of resampling for intervals, and of the real patients for floors.

    Raises:
        InputError: If there is no plane of which both sides have images.
    """

    def __init__(
        self,
        extractor: Extractor,
        features: Mapping[Plane, Sequence[NDArray[np.float32]]],
        patients: Sequence[str],
        synthetic: Sequence[str],
        *,
        rounds: int = 200,
        splits: int = 10,
        seed: int = 0,
    ) -> None:
        self.extractor = extractor
        self.groups = [f"patient {name}" for name in patients] + [f"synthetic {name}" for name in synthetic]
        self.real, self.synthetic = list(range(len(patients))), list(range(len(patients), len(self.groups)))
        self.images = {plane: np.array([len(f) for f in features[plane]]) for plane in PLANES}
        self.planes = [p for p in PLANES if min(self.images[p][s].sum() for s in (self.real, self.synthetic)) >= 2]
        if not self.planes:
            raise InputError(
                f"There is no plane of which both sides have images: {len(patients)} real and {len(synthetic)} "
                "synthetic volumes.",
                remedy="Give volumes of similar spacing and height.",
            )
        self.frechet_of = {plane: _frechet(features[plane]) for plane in self.planes}
        sums = {plane: kernel_sums(features[plane], self.groups) for plane in self.planes}
        self.kernel_of = {plane: _kernel(sums[plane]) for plane in self.planes}
        self.kernel_within_real = {plane: _kernel(sums[plane], of_one_kind=True) for plane in self.planes}
        self.whole = {plane: self.frechet_of[plane](self.real, self.synthetic) for plane in self.planes}
        self.paired = {plane: self._paired(plane, splits, seed) for plane in self.planes}
        self.frechet = self._intervals(self.frechet_of, self._equal_counts(), rounds, seed, lowest=0.0)
        kernels = {p: self.kernel_of[p](self.real, self.synthetic) for p in self.planes}
        told = {plane: value for plane, value in kernels.items() if np.isfinite(value)}
        self.kernel = self._intervals(self.kernel_of, told, rounds, seed) if told else {}
        self.kernel_floors = {p: self._kernel_floor(p, splits, seed) for p in told}

    @property
    def complete(self) -> bool:
        """Whether all planes are there; else there is no mean over them."""
        return len(self.planes) == len(PLANES)

    @property
    def all_images(self) -> dict[str, float]:
        """Fréchet distance of all images by plane, and their mean."""
        every: dict[str, float] = dict(self.whole.items())
        return every | ({"mean": float(np.mean(list(every.values())))} if self.complete else {})

    def figures(self) -> list[Figure]:
        """Figures of both distances."""
        names: list[Plane | None] = [*self.planes, *([None] if self.complete else [])]
        figures = [self._figure("frechet", p, self.frechet[p or "mean"], self.floor(p)) for p in names]
        if self.complete and self.floor(None) is not None:
            whole = self._intervals(self.frechet_of, self.whole, 0, 0)["mean"]
            shift = whole.value - self.frechet["mean"].value  # the spread is that of all images, put elsewhere
            low, high = self.frechet["mean"].low, self.frechet["mean"].high
            if low is not None and high is not None:
                whole = Interval(value=whole.value, low=max(0.0, low + shift), high=high + shift)
            figures.append(self._figure("frechet", None, whole, None, all_images=True))
        if self.kernel:
            told = [p for p in names if (p or "mean") in self.kernel]
            figures += [self._figure("kernel", p, self.kernel[p or "mean"], self._kernel_floor_of(p)) for p in told]
        return figures

    def floor(self, plane: Plane | None) -> Interval | None:
        """The Fréchet distance between real patients of a plane, or its mean over the planes."""
        floors = [self.paired[p][0] for p in ([plane] if plane else self.planes)]
        return _mean_of_splits(floors)

    def verdict(self, *, named: bool) -> str:
        """One or two plain sentences."""
        plane = None if self.complete else self.planes[0]
        figure, floor = self.frechet[plane or "mean"], self.floor(plane)
        what = "Mean over three planes" if self.complete else f"{self.planes[0].capitalize()} images only: distance"
        text = f"{self.extractor.name}: {what[0].lower()}{what[1:]}" if named else what
        text += f" {_short(figure.value)}"
        if figure.low is not None and figure.high is not None:
            text += f" (95 % {_short(figure.low)} to {_short(figure.high)})"
        if floor is None:
            return f"{text}; there are too few real patients to say how far they are from each other."
        text += f"; real scans against each other {_short(floor.value)}: synthetic images are "
        ratio = figure.value / floor.value if floor.value > 0 else np.inf
        times = (
            "about as"
            if ratio < 1.15
            else f"{_short(ratio, digits=2)} times as"
            if ratio < 1000
            else "far more than as"
        )
        return f"{text}{times} far from real ones as real patients are from each other."

    def warnings(self) -> list[str]:
        """What limits the numbers."""
        name, length = self.extractor.name, self.extractor.dimensions
        warnings = []
        missing = [plane for plane in PLANES if plane not in self.planes]
        if missing:
            warnings.append(f"{name}: too few {' and '.join(missing)} images; the mean over the planes is left out.")
        fewest = min(int(self._counts("frechet", p)["images_per_side"]) for p in self.planes)
        if fewest <= length:
            warnings.append(
                f"{name}: Fréchet distances of {fewest} images with {length} features are too large, the more so the "
                "fewer images; read them only beside their floor, which is made of as many. Kernel distances are not."
            )
        patients, volumes = (self._counts("kernel", None)[key] for key in ("real_patients", "synthetic_volumes"))
        if len(self.kernel_floors) < len(self.planes):
            warnings.append(
                f"{name}: kernel distances are not told: of each plane they need images of two patients and of two "
                f"synthetic volumes, for volumes are compared with each other ({patients} and {volumes} were given)."
            )
        if any(not floor for floor in self.kernel_floors.values()):
            warnings.append(
                f"{name}: kernel distances have no floor, which takes three patients; {patients} were given."
            )
        elif self.kernel_floors and patients < _PATIENTS_FOR_FLOOR:
            splits = min(map(len, self.kernel_floors.values()))
            warnings.append(
                f"{name}: the floor of kernel distances rests on {splits} splits of {patients} patients; a distance a "
                "little beyond its interval says little."
            )
        return warnings

    def _paired(self, plane: Plane, splits: int, seed: int) -> tuple[list[float], list[float], int]:
        """Per split the floor and the distance at equal counts; and the images on the smaller side."""
        has = self.images[plane] > 0
        real, synthetic = ([n for n in side if has[n]] for side in (self.real, self.synthetic))
        rng = np.random.default_rng(seed)
        floors, distances, images = [], [], []
        for one, other in patient_halves([self.groups[n] for n in real], rounds=splits, seed=seed):
            a, b = [real[n] for n in one], [real[n] for n in other]
            count = min(len(b), len(synthetic))
            b, s = (rng.permutation(side)[:count].tolist() for side in (b, synthetic))
            pair = self.frechet_of[plane](a, b), self.frechet_of[plane](a, s)
            if np.isfinite(pair).all():
                floors.append(pair[0])
                distances.append(pair[1])
                images.append(min(int(self.images[plane][side].sum()) for side in (a, b, s)))
        whole = min(int(self.images[plane][side].sum()) for side in (real, synthetic))
        return floors, distances, min(images, default=whole)

    def _equal_counts(self) -> dict[Plane, float]:
        """Distances at the floor's counts where there is a floor, else of all images."""
        return {
            plane: float(np.mean(self.paired[plane][1])) if self.paired[plane][1] else self.whole[plane]
            for plane in self.planes
        }

    def _kernel_floor(self, plane: Plane, splits: int, seed: int) -> list[float]:
        """KID of halves of the real patients that have images of the plane; none of two patients."""
        real = [n for n in self.real if self.images[plane][n]]
        halves = patient_halves([self.groups[n] for n in real], rounds=splits, seed=seed)
        distance = self.kernel_within_real[plane]
        values = [distance([real[n] for n in one], [real[n] for n in other]) for one, other in halves]
        return [value for value in values if np.isfinite(value)]

    def _kernel_floor_of(self, plane: Plane | None) -> Interval | None:
        return _mean_of_splits([self.kernel_floors[p] for p in ([plane] if plane else self.planes)])

    def _intervals(
        self,
        distances: Mapping[Plane, Callable[[Volumes, Volumes], float]],
        values: Mapping[Plane, float],
        rounds: int,
        seed: int,
        *,
        lowest: float = -np.inf,
    ) -> dict[str, Interval]:
        """Intervals around ``values``, and around their mean where all planes are there."""
        mean = len(values) == len(PLANES)

        def statistics(real: Volumes, synthetic: Volumes) -> list[float]:
            drawn = [distances[plane](real, [n + len(self.real) for n in synthetic]) for plane in values]
            return [*drawn, float(np.mean(drawn))] if mean else drawn

        centres = [*values.values(), *([float(np.mean(list(values.values())))] if mean else [])]
        intervals = bootstrap_intervals(
            statistics,
            [self.groups[n] for n in self.real],
            [self.groups[n] for n in self.synthetic],
            rounds=rounds,
            seed=seed,
            bounds=(lowest, np.inf),
            centres=centres,
        )
        return dict(zip([*values, *(["mean"] if mean else [])], intervals, strict=True))

    def _figure(
        self,
        kind: str,
        plane: Plane | None,
        value: Interval,
        floor: Interval | None,
        *,
        all_images: bool = False,
    ) -> Figure:
        suffix, tail = (".all_images", ", all images") if all_images else ("", "")
        return Figure(
            key=f"{kind}.{self.extractor.name}.{plane or 'mean'}{suffix}",
            title=f"{_NAMES[kind]}, {plane or 'mean over the planes'}{tail}",
            synthetic=value,
            floor=floor,
            better="lower",
            plane=plane,
            extractor=self.extractor.name,
            extractor_sha256=self.extractor.sha256,
            counts=self._counts("all" if all_images else kind, plane),
            meaning=_MEANINGS["all" if all_images else kind],
        )

    def _counts(self, kind: str, plane: Plane | None) -> dict[str, int]:
        planes = [plane] if plane else self.planes
        images = np.sum([self.images[p] for p in planes], axis=0)
        used = images > 0
        counts = {
            "real_patients": len({self.groups[n] for n in self.real if used[n]}),
            "real_volumes": int(used[self.real].sum()),
            "real_images": int(images[self.real].sum()),
            "synthetic_volumes": int(used[self.synthetic].sum()),
            "synthetic_images": int(images[self.synthetic].sum()),
        }
        if kind == "frechet":
            counts["images_per_side"] = min(self.paired[p][2] for p in planes)
            counts["splits"] = min(len(self.paired[p][0]) for p in planes)
        elif kind == "kernel" and all(p in self.kernel_floors for p in planes):
            counts["splits"] = min(len(self.kernel_floors[p]) for p in planes)
        return counts


def _frechet(features: Sequence[NDArray[np.float32]]) -> Callable[[Volumes, Volumes], float]:
    """The Fréchet distance of two lists of volumes; NaN where a list has fewer than two images."""
    rows = np.concatenate(features).astype(np.float64)
    owner = np.repeat(np.arange(len(features)), [len(f) for f in features])

    def distance(first: Volumes, second: Volumes) -> float:
        sides = [np.bincount(side, minlength=len(features))[owner] for side in (first, second)]
        if min(weights.sum() for weights in sides) < 2:
            return float("nan")
        (one, weights1), (two, weights2) = ((rows[w > 0], w[w > 0]) for w in sides)
        return frechet_from_features(one, two, weights1=weights1, weights2=weights2)

    return distance


def _kernel(sums: KernelSums, *, of_one_kind: bool = False) -> Callable[[Volumes, Volumes], float]:
    """The kernel distance of two lists of volumes; NaN where it cannot be told."""

    def distance(first: Volumes, second: Volumes) -> float:
        try:
            return kernel_distance_of_volumes(sums, first, second, of_one_kind=of_one_kind)
        except InputError:
            return float("nan")

    return distance


def _mean_of_splits(values: Sequence[Sequence[float]]) -> Interval | None:
    """Interval over splits of the mean over planes; planes of fewer splits limit the others."""
    count = min(len(one) for one in values)
    return interval_of_values([float(np.mean(split)) for split in zip(*(v[:count] for v in values), strict=True)])


def _short(value: float, *, digits: int = 3) -> str:
    """A number for a sentence: three digits, no exponent unless tiny."""
    return f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"
