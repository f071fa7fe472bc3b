"""What a comparison says: figures with their intervals and floors, curves, and sections of them; plain JSON data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and its 95 % confidence interval; ``low`` and ``high`` are None where it cannot be told.

    Args:
        value: The figure; NaN is not allowed, a figure that cannot be told is left out.
        low, high: Bounds from resampling whole patients (or volumes), never single slices.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{name} of a figure must be a finite number, got {number}")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of a comparison.

    Args:
        key: Stable name for programs, such as "frechet.ctfeatures.coronal".
        title: For people, such as "Fréchet distance, coronal".
        synthetic: Synthetic against real (a distance), or of the synthetic volumes alone (a quantity).
        floor: The same between disjoint patients of the real scans (a distance), or of the real volumes (a
            quantity); None where there are too few patients.
        better: "lower" for distances; "near-floor" for quantities that should be what real scans have; "higher".
        unit: "HU", "mm", "%" or "".
        plane: Plane of the images, or None.
        extractor, extractor_sha256: What made the features, or "".
        counts: How much it rests on: {"real_patients": 5, "synthetic_volumes": 8, "real_images": 80, ...}.
        meaning: One plain sentence: what the number says and how to read it.
    """

    key: str
    title: str
    synthetic: Interval
    floor: Interval | None
    better: Literal["lower", "near-floor", "higher"]
    unit: str = ""
    plane: Plane | None = None
    extractor: str = ""
    extractor_sha256: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    meaning: str = ""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line over a quantity, for real, synthetic and other groups of volumes.

    Args:
        key, title: As of a figure.
        x: Positions, in ``x_unit``.
        lines: Group ("real", "synthetic", "independent slices") to values, one per position, in ``y_unit``.
        bands: Group to (low, high) values: where 95 % of the group's volumes lie; may be empty.
        x_title, x_unit, y_title, y_unit: For the axes.
        x_log, y_log: Whether an axis is better logarithmic.
    """

    key: str
    title: str
    x: list[float]
    lines: dict[str, list[float]]
    bands: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    x_title: str = ""
    x_unit: str = ""
    y_title: str = ""
    y_unit: str = ""
    x_log: bool = False
    y_log: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one room of the laboratory found.

    Args:
        key: "frechet", "coherence", "physics", "diversity", "copies", ...
        title: For people.
        verdict: One or two plain sentences, with the numbers in them.
        figures, curves: See there.
        warnings: What limits the figures (too few patients, slices too thick).
        details: Further plain data for the JSON report (the protocol, closest pairs).
    """

    key: str
    title: str
    verdict: str
    figures: list[Figure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)
