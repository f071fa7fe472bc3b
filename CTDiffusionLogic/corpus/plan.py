"""The plan of a training: everything the data decided, in one readable file (after nnU-Net's fingerprint and plan)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from CTDiffusionLogic.atomic import atomic_file
from CTDiffusionLogic.errors import InputError

PLAN_VERSION = 2
#: Synthetic scans that a warning names one by one.
MAX_NAMES = 10
#: Bodies that a model's card tells of, at most, from all over the training scans: generation draws one of them.
MAX_BODIES = 1000


@dataclass(frozen=True, kw_only=True)
class ScanPlan:
    """One usable scan on the model's grid.

    Args:
        id: Unique name; the cached slices are ``<id>.npy``.
        patient: Pseudonym; a patient is never in both splits.
        label: Class index, 0 for none.
        split: "train" or "held-out".
        slices: Number of slices.
        gap_mm: Distance of slices.
        pixel_mm: Pixel size on the grid.
        native_pixel_mm: Pixel size as acquired; scans much coarser than the grid teach no detail.
        body_rows, body_columns: Where there is body or table, in grid pixels, (first, last + 1).
        body_box: Edges of the body itself (front, back, right, left) as parts of the grid's side.
        body_mm: Anatomical body position of the first slice; NaN until it is known.
        source: Where the scan was read from.
        stamp: Size and time of the source, to notice that it changed.
        synthetic: Whether the source says that it is synthetic (phantoms do).
    """

    id: str
    patient: str
    label: int
    split: str
    slices: int
    gap_mm: float
    pixel_mm: float
    native_pixel_mm: float
    body_rows: tuple[int, int]
    body_columns: tuple[int, int]
    body_box: tuple[float, float, float, float]
    body_mm: float
    source: str
    stamp: str = ""
    synthetic: bool = False


@dataclass(frozen=True, kw_only=True)
class CorpusPlan:
    """What training obeys and the model's card repeats; see the fields of :class:`ScanPlan` for scans."""

    image_size: int
    anatomy_size: int
    fov_mm: float
    anatomy_gap_mm: float
    max_gap_mm: float
    labels: tuple[str, ...]
    sigma_data: dict[str, float]
    residual_scale: float
    scans: tuple[ScanPlan, ...]
    skipped: tuple[tuple[str, str], ...]

    @property
    def is_fine(self) -> bool:
        """Whether it is for a fine model: coarse images are there of every slice, with no gap between them."""
        return not self.anatomy_gap_mm

    @property
    def train(self) -> list[ScanPlan]:
        """Scans to learn from."""
        return [s for s in self.scans if s.split == "train"]

    @property
    def held_out(self) -> list[ScanPlan]:
        """Scans of patients the model never sees."""
        return [s for s in self.scans if s.split != "train"]

    @property
    def synthetic_warning(self) -> str:
        """A sentence that counts and names the scans that are synthetic; "" if there are none."""
        names = [Path(s.source).name for s in self.scans if s.synthetic]
        if not names:
            return ""
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        are = "is" if len(names) == 1 else "are"
        return (
            f"{len(names)} of {len(self.scans)} scans {are} synthetic: {', '.join(names[:MAX_NAMES])}{more}. "
            "A model learns their faults with them."
        )

    @property
    def body_range_mm(self) -> tuple[float, float]:
        """Lowest and highest anatomical body position of the training slices, mm."""
        ends = [(s.body_mm, s.body_mm + (s.slices - 1) * s.gap_mm) for s in self.train]
        return min(e[0] for e in ends), max(e[1] for e in ends)

    def card(self) -> dict[str, Any]:
        """Return what a model file must know about its grid and range (no names of files or patients)."""
        low, high = self.body_range_mm
        gaps = sorted(s.gap_mm for s in self.train)
        return {
            "image_size": self.image_size,
            "anatomy_size": self.anatomy_size,
            "fov_mm": self.fov_mm,
            "pixel_mm": self.fov_mm / self.image_size,
            "pixel_mm_range": [min(s.pixel_mm for s in self.train), max(s.pixel_mm for s in self.train)],
            "anatomy_gap_mm": self.anatomy_gap_mm,
            "max_gap_mm": self.max_gap_mm,
            "spacing_mm_range": [gaps[0], 8.0],
            "body_mm_range": [low, high],
            "body_mm_coverage": coverage(self.train, low, high),
            "body_boxes_mm": [self._box_mm(s) for s in spread_out(self.train, MAX_BODIES)],
        }

    def fine_card(self) -> dict[str, Any]:
        """The same for a fine model, which knows neither fields of view nor bodies."""
        pixels = [s.pixel_mm for s in self.train]
        return {
            "image_size": self.image_size,
            "anatomy_size": self.anatomy_size,
            "pixel_mm_range": [min(pixels), max(pixels)],
            "spacing_mm_range": [min(s.gap_mm for s in self.train), 10.0],
        }

    def _box_mm(self, scan: ScanPlan) -> list[float]:
        """Lowest and highest body position of a scan, and its body's edges from the image's middle; all in mm."""
        side = scan.pixel_mm * self.image_size
        ends = (scan.body_mm, scan.body_mm + (scan.slices - 1) * scan.gap_mm)
        return [round(v, 1) for v in (*ends, *((edge - 0.5) * side for edge in scan.body_box))]

    def to_json(self) -> str:
        """The plan as readable text."""
        return json.dumps({"version": PLAN_VERSION, **asdict(self)}, indent=1)

    def save(self, path: Path) -> None:
        """Write the plan as readable JSON, atomically."""
        with atomic_file(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> CorpusPlan:
        """Read a plan; raises :class:`InputError` when it is missing, broken or of another version."""
        remedy = "Start the training anew with another --run folder."
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as a training plan ({error}).", remedy=remedy) from error
        return cls.parse(text, source=path, remedy=remedy)

    @classmethod
    def parse(cls, text: str, *, source: Path | str, remedy: str) -> CorpusPlan:
        """Inverse of :meth:`to_json`; raises :class:`InputError`, which names ``source``, as :meth:`load` does."""
        try:
            values = json.loads(text)
            if values.pop("version") != PLAN_VERSION:
                raise InputError(f"{source} was written by another version of CTDiffusion.", remedy=remedy)
            scans = tuple(_scan_plan(row) for row in values.pop("scans"))
            skipped = tuple((str(a), str(b)) for a, b in values.pop("skipped"))
            return cls(**{**values, "labels": tuple(values["labels"])}, scans=scans, skipped=skipped)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{source} cannot be read as a training plan ({error}).", remedy=remedy) from error

    def with_body_positions(self, body_mm: Sequence[float]) -> CorpusPlan:
        """Return the plan with the anatomical position of each scan's first slice filled in."""
        scans = tuple(replace(s, body_mm=b) for s, b in zip(self.scans, body_mm, strict=True))
        return replace(self, scans=scans)

    def unfitted(self) -> CorpusPlan:
        """Return the plan without what a network or a measurement decided: places along the body, and units."""
        plain = self.with_body_positions([0.0] * len(self.scans))
        return replace(plain, sigma_data={}, residual_scale=1.0)


def spread_out(scans: Sequence[ScanPlan], most: int) -> list[ScanPlan]:
    """All scans in their order, or ``most`` of them from all over the list."""
    if len(scans) <= most:
        return list(scans)
    return [scans[n * len(scans) // most] for n in range(most)]


def _scan_plan(row: dict[str, Any]) -> ScanPlan:
    """Rebuild from JSON, which has lists for tuples."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return ScanPlan(**values)


def coverage(scans: Sequence[ScanPlan], low: float, high: float, *, bins: int = 20) -> list[int]:
    """Count the patients seen in each of ``bins`` equal parts of the body range: where the model knows much."""
    width = (high - low) / bins
    seen: list[set[str]] = [set() for _ in range(bins)]
    for scan in scans:
        first = int((scan.body_mm - low) / width)
        last = int((scan.body_mm + (scan.slices - 1) * scan.gap_mm - low) / width)
        for part in range(max(first, 0), min(last, bins - 1) + 1):
            seen[part].add(scan.patient)
    return [len(s) for s in seen]
