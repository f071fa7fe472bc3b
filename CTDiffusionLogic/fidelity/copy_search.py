"""Is a volume closer to one training patient than people are to each other?

A distance alone does not tell: a blurred volume is far from everybody, and chests are nearer to each other than
pelves. So a piece of body is judged by the **ratio** of its distance to the nearest training patient and to the second
nearest (after Carlini et al. 2023, "Extracting training data from diffusion models", who set a distance against those
to other training images; the ratio of two neighbours is Lowe's, 2004). It is near 1 for a body of its own and falls
when one patient is much nearer than all others. It is averaged (geometrically) over 5 windows in a row, 60 mm along
the body, and the lowest such stretch speaks for the volume, since a copy may be of one slab only.

What is low is told by real scans of *other* patients: held-out scans against the training's, and each training scan
against the training without its patient.

The ratio is blind where one person was trained on under two names; so nearly no distance at all counts too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.fidelity.body_windows import BodyWindows

#: Every second window of a training scan is searched in: 10 mm steps; a volume's own windows have 5 mm steps.
REFERENCE_STEP = 2
#: Windows in a row that are averaged.
STRETCH = 5
#: Used where fewer than LEAST_REAL real scans tell what is low. Fifteen real torso scans of 13 patients had ratios of
#: 0.57 and more against other patients; flipped, shifted, scaled and noisy copies of them 0.14 (median of 51).
DEFAULT_RATIO = 0.5
LEAST_REAL = 4
#: No ratio above this is called a copy, however alike the real scans' ratios are.
HIGHEST_RATIO = 0.75
#: Distances below are set to this: rounding of stored numbers is about as large.
_LEAST_DISTANCE = 0.1
#: A distance is nearly none below this part of what is usual between people.
_NEARLY_NONE = 0.25
#: So many (robust) standard deviations below the real scans' median log ratio lies the limit. Robust, because real
#: data have people under two names, and these must not make everything pass.
_DEVIATIONS, _LEAST_DEVIATION = 3.0, 0.05


@dataclass(frozen=True, eq=False)
class ScanWindows:
    """A scan as the search sees it.

    Args:
        id, patient: Of the scan; a synthetic volume is its own patient.
        windows: Numbers and places of its windows.
    """

    id: str
    patient: str
    windows: BodyWindows


@dataclass(frozen=True, eq=False)
class Reference:
    """Windows to search in.

    Args:
        numbers: float32 (windows, n) as :mod:`body_windows` gives them, or restored from a model file.
        patients: int (windows,): a number for each patient.
        middle, spread: float32 (n,): mean and standard deviation of each number; distances are in units of spread.
    """

    numbers: NDArray[np.float32]
    patients: NDArray[np.integer]
    middle: NDArray[np.float32]
    spread: NDArray[np.float32]

    @classmethod
    def from_numbers(cls, numbers: NDArray[np.float32], patients: Sequence[int] | NDArray) -> Reference:
        """Take the spread from the numbers themselves."""
        spread = np.maximum(numbers.std(axis=0), 1e-3) if len(numbers) else np.ones(numbers.shape[1])
        middle = numbers.mean(axis=0) if len(numbers) else np.zeros(numbers.shape[1])
        return cls(numbers, np.asarray(patients), middle.astype(np.float32), spread.astype(np.float32))


@dataclass(frozen=True)
class Closest:
    """The stretch of a volume that is most like one training patient.

    Args:
        ratio: Distance to that patient over the distance to the next; 1 where there is no other patient.
        distance: Lowest mean distance of any stretch to one patient, in units of the reference's spread per number.
        patient: That patient's number.
        window: Of the volume: the one in the stretch with the lowest ratio.
        match: The reference's window nearest to it.
    """

    ratio: float
    distance: float
    patient: int
    window: int
    match: int


@dataclass(frozen=True)
class Limits:
    """Below which a volume is called a copy, and where that comes from.

    Args:
        ratio: Limit of :attr:`Closest.ratio`.
        distance: Limit of :attr:`Closest.distance`; 0 where no real scan tells.
        real_ratios, real_distances: Of real scans against patients that are not theirs, sorted.
        calibrated: Whether the ratio's limit rests on real scans.
    """

    ratio: float
    distance: float
    real_ratios: tuple[float, ...] = ()
    real_distances: tuple[float, ...] = ()
    calibrated: bool = False

    def is_copy(self, closest: Closest) -> bool:
        """Whether the volume lies below a limit."""
        return closest.ratio < self.ratio or closest.distance < self.distance


def find_closest(numbers: NDArray[np.float32], reference: Reference, *, without: int | None = None) -> Closest | None:
    """Search for the stretch of a volume that is most like one patient of the reference.

    Args:
        numbers: float32 (windows, n) of the volume, in order along the body.
        reference: Where to search.
        without: Leave this patient out.

    Returns:
        None where there are no windows on one of the sides.
    """
    from scipy.spatial.distance import cdist  # here: slow to import, and generate imports this file

    order = np.argsort(reference.patients, kind="stable")  # of thousands of patients each is a piece of one array
    order = order[reference.patients[order] != (-1 if without is None else without)]
    patients, starts = np.unique(reference.patients[order], return_index=True)
    if not len(numbers) or not len(patients):
        return None
    distances = cdist(numbers / reference.spread, reference.numbers / reference.spread) / np.sqrt(numbers.shape[1])
    distances = np.maximum(distances, _LEAST_DISTANCE / np.sqrt(numbers.shape[1]))
    nearest = np.log(np.minimum.reduceat(distances[:, order], starts, axis=1))
    alone = len(patients) == 1
    if alone:
        scores = nearest
    else:
        two = np.partition(nearest, 1, axis=1)
        scores = nearest - np.where(nearest == two[:, :1], two[:, 1:2], two[:, :1])
    smooth = _moving_mean(scores)
    stretch, column = np.unravel_index(int(smooth.argmin()), smooth.shape)
    length = len(scores) - len(smooth) + 1
    window = int(stretch + scores[stretch : stretch + length, column].argmin())
    own = np.flatnonzero(reference.patients == patients[column])
    return Closest(
        ratio=1.0 if alone else float(np.exp(smooth[stretch, column])),
        distance=float(np.exp(_moving_mean(nearest).min())),
        patient=int(patients[column]),
        window=window,
        match=int(own[distances[window, own].argmin()]),
    )


def reference_from(training: Sequence[ScanWindows]) -> Reference:
    """The training's windows to search in, patients numbered in the order of their names."""
    place = {name: number for number, name in enumerate(sorted({m.patient for m in training}))}
    numbers = np.concatenate([m.windows.numbers[::REFERENCE_STEP] for m in training])
    owners = [place[m.patient] for m in training for _ in m.windows.numbers[::REFERENCE_STEP]]
    return Reference.from_numbers(numbers, owners)


def real_against_others(
    scans: Sequence[ScanWindows], training: Sequence[ScanWindows], reference: Reference
) -> list[Closest]:
    """What real scans reach against training patients that are not theirs, where that can be told.

    A training scan leaves one patient fewer to search in: with two patients it says nothing of ratios.
    """
    place = {name: number for number, name in enumerate(sorted({m.patient for m in training}))}
    results = []
    for scan in scans:
        own = place.get(scan.patient)
        if own is not None and len(place) < 3:
            continue
        closest = find_closest(scan.windows.numbers, reference, without=own)
        if closest is not None:
            results.append(closest)
    return results


def limits_from(real: Sequence[Closest], *, patients: int) -> Limits:
    """Set the limits by real scans; single ones may lie below them: one person under two names.

    Args:
        real: What was found for real scans against patients that are not theirs.
        patients: In the reference; with one there are no ratios.
    """
    distances = tuple(sorted(c.distance for c in real))
    ratios = tuple(sorted(c.ratio for c in real)) if patients > 1 else ()
    distance = float(np.median(distances)) * _NEARLY_NONE if distances else 0.0
    if patients < 2:
        return Limits(0.0, distance, ratios, distances)
    if len(ratios) < LEAST_REAL:
        return Limits(DEFAULT_RATIO, distance, ratios, distances)
    logs = np.log(ratios)
    middle = float(np.median(logs))
    deviation = 1.4826 * float(np.median(np.abs(logs - middle)))  # of a normal distribution, outliers left aside
    low = float(np.exp(middle - _DEVIATIONS * max(deviation, _LEAST_DEVIATION)))
    return Limits(min(low, HIGHEST_RATIO), distance, ratios, distances, calibrated=True)


def _moving_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each STRETCH rows in a row; of all rows where there are fewer."""
    length = min(STRETCH, len(values))
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    return (sums[length:] - sums[:-length]) / length
