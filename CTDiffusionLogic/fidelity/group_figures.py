"""Figures and curves from one row of numbers per volume: distances between groups, quantities of a group.

A room measures each volume into a row (a histogram, a spectrum, a number). A distance compares the mean rows of two
groups; a quantity is what one group has. Intervals and floors resample whole patients, see
:mod:`CTDiffusionLogic.fidelity.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.fidelity.bootstrap import bootstrap_interval, floor_interval
from CTDiffusionLogic.fidelity.results import Curve, Figure, Interval

#: From this many volumes on the range of a group is drawn.
LEAST_FOR_BAND = 3


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How intervals are found.

    Args:
        seed: Same seed, same intervals.
        rounds: How often patients are drawn anew.
    """

    seed: int = 0
    rounds: int = 200


@dataclass(frozen=True, eq=False)
class Rows:
    """What was measured, one row per volume.

    Args:
        values: float (volumes, ...).
        patients: Whose volume each is; of a synthetic one, its id.
    """

    values: NDArray[np.float64]
    patients: tuple[str, ...]

    @classmethod
    def of(cls, measures: Sequence[Any], value: Callable[[Any], Any]) -> Rows:
        """Rows of those volumes of which ``value`` gives one; None: it cannot be told of this volume."""
        told = [(row, m.patient) for m in measures if (row := value(m)) is not None]
        return cls(np.array([row for row, _ in told], dtype=float), tuple(patient for _, patient in told))

    def __len__(self) -> int:
        return len(self.patients)

    def from_decibel(self) -> Rows:
        """The same as powers."""
        return Rows(10 ** (self.values / 10), self.patients) if len(self) else self

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean row; numbers that are missing (NaN) are left out."""
        return np.nanmean(self.values, axis=0)


def distance_figure(
    real: Rows,
    synthetic: Rows,
    distance: Callable[[NDArray, NDArray], float],
    *,
    draw: Draw = Draw(),
    **texts: Any,
) -> Figure | None:
    """How far the synthetic volumes' mean row is from the real ones', and real halves from each other.

    Args:
        real, synthetic: One row per volume.
        distance: Of two mean rows; 0 if they are equal.
        draw: How to resample.
        texts: Key, title, unit, meaning of the figure.

    Returns:
        None where a group is empty.
    """
    if not len(real) or not len(synthetic):
        return None

    def between(a: Rows, b: Rows) -> Callable[[list[int], list[int]], float]:
        return lambda one, other: float(distance(a.values[one].mean(axis=0), b.values[other].mean(axis=0)))

    return Figure(
        synthetic=bootstrap_interval(
            between(real, synthetic),
            real.patients,
            synthetic.patients,
            rounds=draw.rounds,
            seed=draw.seed,
            bounds=(0.0, np.inf),
        ),
        floor=floor_interval(between(real, real), real.patients, seed=draw.seed),
        better="lower",
        counts=_counts(real, synthetic),
        **texts,
    )


def quantity_figure(
    real: Rows,
    synthetic: Rows,
    quantity: Callable[[NDArray], float] = lambda rows: float(np.mean(rows)),
    *,
    draw: Draw = Draw(),
    **texts: Any,
) -> Figure | None:
    """What the synthetic volumes have, beside what the real ones have.

    Args:
        real, synthetic: One row per volume.
        quantity: Of a group's rows; the mean by default.
        draw: How to resample.
        texts: Key, title, unit, meaning of the figure.

    Returns:
        None without synthetic volumes.
    """
    if not len(synthetic):
        return None
    return Figure(
        synthetic=_quantity(synthetic, quantity, draw),
        floor=_quantity(real, quantity, draw) if len(real) else None,
        better="near-floor",
        counts=_counts(real, synthetic),
        **texts,
    )


def group_curve(groups: Mapping[str, Rows], x: Sequence[float] | NDArray, **texts: Any) -> Curve | None:
    """The mean row of each group over ``x``, and where 95 % of its volumes lie; None where all are empty.

    Args:
        groups: Name ("real", "synthetic", "independent slices") to rows of ``len(x)`` numbers; empty ones are left
            out.
        x: Positions.
        texts: Key, title and axes of the curve.
    """
    lines = {name: rows.mean.tolist() for name, rows in groups.items() if len(rows)}
    if not lines:
        return None
    bands = {}
    for name, rows in groups.items():
        if len(rows) >= LEAST_FOR_BAND:
            low, high = np.nanpercentile(rows.values, [2.5, 97.5], axis=0)
            bands[name] = (low.tolist(), high.tolist())
    return Curve(x=np.asarray(x, dtype=float).tolist(), lines=lines, bands=bands, **texts)


def spectrum_figure(real: Rows, synthetic: Rows, *, draw: Draw = Draw(), **texts: Any) -> Figure | None:
    """:func:`distance_figure` of power spectra, rows in dB: the mean distance in dB."""
    return distance_figure(real, synthetic, lambda a, b: float(np.abs(a - b).mean()), draw=draw, unit="dB", **texts)


def spectrum_curve(groups: Mapping[str, Rows], frequencies: NDArray, **texts: Any) -> Curve | None:
    """:func:`group_curve` of power spectra over cycles/mm.

    Args:
        groups: Name to rows in dB; means and ranges are of powers.
        frequencies: Of the rows' columns, cycles/mm.
        texts: Key and title of the curve, and ``y_unit``, that of powers.
    """
    return group_curve(
        {name: rows.from_decibel() for name, rows in groups.items()},
        frequencies,
        x_title="Frequency",
        x_unit="cycles/mm",
        y_title="Power",
        y_log=True,
        **texts,
    )


def _quantity(rows: Rows, quantity: Callable[[NDArray], float], draw: Draw) -> Interval:
    def of_real(one: list[int], _other: list[int]) -> float:
        return float(quantity(rows.values[one]))

    return bootstrap_interval(of_real, rows.patients, [], rounds=draw.rounds, seed=draw.seed)


def _counts(real: Rows, synthetic: Rows) -> dict[str, int]:
    return {
        "real_patients": len(set(real.patients)),
        "real_volumes": len(real),
        "synthetic_volumes": len(synthetic),
    }
