"""Axial, coronal and sagittal images of a volume, cut the same way from real and synthetic volumes.

The protocol decides once for all volumes of a comparison; :func:`cut_planes` then obeys it for each. What differs
between two groups only by the grid they were stored on must not look like a fault of the model:

- *Resolution.* Everything is brought to the coarsest grid among the volumes, with anti-aliasing. A scan of 1 mm slices
  and a synthetic volume of 3 mm slices are compared at 3 mm along z: three slices of the scan are averaged to one, as
  thick slices are made, so both carry the same blur. Coronal and sagittal images have square pixels of that size.
  Axial images keep the coarsest *in-plane* pixel, since the texture of a model is judged there and thick slices
  need not hide it; their slices are averaged to the same thickness.
- *Windows.* All images of a plane have one physical size, centred on the body. Beyond a scan there is air. Coronal and
  sagittal images are no higher than the shortest volume; from longer ones windows are cut at several heights.
- *Counts.* Each volume gives the same number of images; a short one fewer axial ones, for no image is used twice.
- *Outliers.* One scan of 8 mm slices, or one 40 mm high, would spoil the comparison for all; such volumes give no
  coronal and sagittal images (and volumes of coarse pixels no axial ones). The protocol's notes say how many.

The 2.5D protocol of MAISI (Guo et al. 2024) is near: 1 mm, [-1000, 1000] HU, the central 40 % of the slices of each
plane; ``Protocol(pixel_mm=1.0, axial_pixel_mm=1.0, central_part=0.4)``, whatever the volumes' own spacing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity.results import Plane
from CTDiffusionLogic.fidelity.volumes import LabVolume
from CTDiffusionLogic.volume import AIR_HU

#: Finest pixel worth comparing.
FINEST_MM = 1.0
#: Coarser volumes than these are outliers where most are finer: slices (or pixels), and pixels of axial images.
COARSE_MM, COARSE_AXIAL_MM = 5.0, 2.5
#: Largest side and height of images, the side below which narrow volumes are filled up with air instead.
SIDE_MM, HEIGHT_MM, LEAST_SIDE_MM = 384.0, 192.0, 200.0
#: Volumes lower than the first are outliers where most are higher; below the second there is nothing to compare.
SHORT_MM, LEAST_HEIGHT_MM = 96.0, 24.0
#: Spacings this much larger than a limit still keep it (rounded headers).
_TOLERANCE = 1.01
#: Fractions of the golden ratio spread windows evenly over the height whatever their number.
_GOLDEN = (math.sqrt(5) - 1) / 2

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How images are cut; plain data for the report. None: :func:`choose_protocol` decides.

    Args:
        pixel_mm: Edge of a pixel of coronal and sagittal images, and thickness of the slices of axial ones.
        axial_pixel_mm: Edge of a pixel of axial images.
        hu_window: Values are cut to this range of HU.
        side_mm: Width of all images, and height of axial ones.
        height_mm: Height of coronal and sagittal images, along z.
        images_per_volume: Most images of each plane.
        central_part: Images come from this central part of the body's box (coronal, sagittal) or of the slices
            (axial). The outermost parts of the box hold skin and arms, the outermost slices are where scans stop at
            will. 60 % of the body is about the 40 % of a usual field of view that MAISI takes.
        coarsest_mm, coarsest_axial_mm: Volumes with larger spacing give no coronal and sagittal, or no axial images;
            None: all do.
        notes: What limits the comparison, in sentences.
    """

    pixel_mm: float | None = None
    axial_pixel_mm: float | None = None
    hu_window: tuple[float, float] = (-1000.0, 1000.0)
    side_mm: float | None = None
    height_mm: float | None = None
    images_per_volume: int = 16
    central_part: float = 0.6
    coarsest_mm: float | None = None
    coarsest_axial_mm: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("pixel_mm", "axial_pixel_mm", "side_mm", "height_mm", "coarsest_mm", "coarsest_axial_mm"):
            number = getattr(self, name)
            if number is not None and not (number > 0 and math.isfinite(number)):
                raise ValueError(f"{name} must be positive, got {number}")
        if not self.hu_window[0] < self.hu_window[1]:
            raise ValueError(f"hu_window must rise, got {self.hu_window}")
        if self.images_per_volume < 1 or not 0 < self.central_part <= 1:
            raise ValueError(
                "images_per_volume must be positive and central_part in (0, 1], "
                f"got {self.images_per_volume} and {self.central_part}"
            )

    def pixel_of(self, plane: Plane) -> float:
        """Edge of a pixel of ``plane``'s images in mm; extractors need it.

        Raises:
            ValueError: If it has not been chosen yet.
        """
        pixel = self.axial_pixel_mm if plane == "axial" else self.pixel_mm
        if pixel is None or self.side_mm is None or self.height_mm is None:
            raise ValueError("the protocol has not been chosen yet: choose_protocol decides what is None")
        return pixel

    def shape_of(self, plane: Plane) -> tuple[int, int]:
        """Rows and columns of ``plane``'s images."""
        pixel = self.pixel_of(plane)
        assert self.side_mm is not None and self.height_mm is not None  # pixel_of has checked
        height = self.side_mm if plane == "axial" else self.height_mm
        # Rounded down: a row more would lie outside the shortest volume.
        return max(1, math.floor(height / pixel + 1e-6)), max(1, round(self.side_mm / pixel))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self) | {"hu_window": list(self.hu_window), "notes": list(self.notes)}


def choose_protocol(
    spacings_mm: Sequence[Triple],
    extents_mm: Sequence[Triple],
    *,
    groups: Sequence[str] | None = None,
    wanted: Protocol | None = None,
) -> Protocol:
    """Fill in what ``wanted`` leaves open, so that all volumes can be compared.

    Args:
        spacings_mm: Distance of slices, rows, columns of every volume of all groups, mm.
        extents_mm: Size along slices, rows, columns of the same, mm.
        groups: Group of each volume ("real", "synthetic"): at least half of each group can be measured in each plane.
        wanted: What is decided already.

    Raises:
        InputError: If there are no volumes or they are too low for a comparison.
    """
    wanted = wanted or Protocol()
    if not spacings_mm or len(spacings_mm) != len(extents_mm):
        raise InputError(
            f"There are {len(spacings_mm)} spacings and {len(extents_mm)} sizes of volumes to compare.",
            remedy="Name real and synthetic volumes.",
        )
    spacing, extent = np.asarray(spacings_mm, dtype=float), np.asarray(extents_mm, dtype=float)
    members = np.asarray(groups if groups is not None else [""] * len(spacing))
    finest, widest = spacing.max(axis=1), extent[:, 1:].max(axis=1)
    slack, heights = spacing[:, 1:].max(axis=1), extent[:, 0]

    coarse = max(COARSE_MM, *_medians(finest, members))
    coarse_axial = max(COARSE_AXIAL_MM, *_medians(slack, members))
    pixel = wanted.pixel_mm or max(FINEST_MM, _largest_below(finest, coarse))
    axial_pixel = wanted.axial_pixel_mm or max(FINEST_MM, _largest_below(slack, coarse_axial))
    # A pixel size that was asked for holds for all volumes, also by interpolation.
    coarsest = wanted.coarsest_mm or (None if wanted.pixel_mm else pixel)
    coarsest_axial = wanted.coarsest_axial_mm or (None if wanted.axial_pixel_mm else axial_pixel)

    short = min(SHORT_MM, *_medians(heights, members))
    height = wanted.height_mm or min(HEIGHT_MM, float(heights[heights >= short].min()))
    if height < max(LEAST_HEIGHT_MM, 4 * pixel):
        raise InputError(
            f"The volumes are too low for coronal and sagittal images: {height:.0f} mm of {pixel:.1f} mm slices.",
            remedy=f"Leave out volumes lower than {LEAST_HEIGHT_MM:.0f} mm or than four slices.",
        )
    side = wanted.side_mm or min(SIDE_MM, max(float(widest.min()), min(LEAST_SIDE_MM, float(widest.max()))))
    chosen = replace(
        wanted,
        pixel_mm=pixel,
        axial_pixel_mm=axial_pixel,
        side_mm=side,
        height_mm=height,
        coarsest_mm=coarsest,
        coarsest_axial_mm=coarsest_axial,
    )
    fits = np.array([_fits(chosen, s, e) for s, e in zip(spacing, extent, strict=True)])
    return replace(chosen, notes=wanted.notes + tuple(_notes(chosen, fits, widest, finest)))


def cut_planes(volume: LabVolume, protocol: Protocol) -> dict[Plane, NDArray[np.float32]]:
    """Images of ``volume``.

    Args:
        volume: Real or synthetic.
        protocol: From :func:`choose_protocol`.

    Returns:
        Per plane float32 (n, rows, columns) in HU, cut to the window; rows run to the back (axial) or to the *feet*
        (coronal, sagittal: as radiologists look at them), columns to the patient's left (axial, coronal) or to the
        back (sagittal). n is 0 where the volume is too coarse or too low for a plane.
    """
    protocol.pixel_of("axial")  # says so if nothing has been chosen
    has = dict(
        zip(("axial", "coronal", "sagittal"), _fits(protocol, volume.spacing_mm, volume.extent_mm), strict=True)
    )
    cutters = {"axial": _axial, "coronal": _coronal, "sagittal": _sagittal}
    planes: dict[Plane, NDArray[np.float32]] = {}
    for plane, cut in cutters.items():
        shape = protocol.shape_of(plane)  # type: ignore[arg-type]
        images = cut(volume, protocol, shape) if has[plane] else np.empty((0, *shape), np.float32)
        planes[plane] = np.clip(images + AIR_HU, *protocol.hu_window, dtype=np.float32)  # type: ignore[index]
    return planes


def axis_weights(
    count: int, spacing_mm: float, starts_mm: NDArray | Sequence[float], pixel_mm: float, *, slices: bool = False
) -> NDArray[np.float32]:
    """Matrix (outputs, count) that resamples one axis, with anti-aliasing; zeros stand for what lies outside.

    Args:
        count, spacing_mm: Samples and their distance; the first begins at 0 mm.
        starts_mm: Where each output pixel begins.
        pixel_mm: Size of output pixels.
        slices: Average what lies within the output pixel, as thick slices of CT are made. Else: a triangle of twice
            the larger of both pixel sizes, the anti-aliased linear interpolation of torch and Pillow.

    torch's ``interpolate(antialias=True)`` does the same for a whole axis; here a few planes at given places are
    needed, and the whole volume would be resampled for them (a test holds both to equal values).
    """
    starts = np.asarray(starts_mm, dtype=float)[:, None]
    reach = math.ceil(max(pixel_mm, spacing_mm) / spacing_mm) + 1
    edges = np.arange(-reach, count + reach) * spacing_mm  # a margin, for weights to sum to 1 within reach of the edge
    if slices:
        overlap = np.minimum(starts + pixel_mm, edges + spacing_mm) - np.maximum(starts, edges)
        weights = np.clip(overlap, 0, None) / pixel_mm
    else:
        width = max(pixel_mm, spacing_mm)
        away = np.abs(edges + spacing_mm / 2 - starts - pixel_mm / 2)
        weights = np.clip(1 - away / width, 0, None)
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return weights[:, reach : reach + count].astype(np.float32)


def _axial(volume: LabVolume, protocol: Protocol, shape: tuple[int, int]) -> NDArray[np.float32]:
    (dz, dy, dx), (slices, rows, columns) = volume.spacing_mm, volume.hu.shape
    pixel, thick = protocol.pixel_of("axial"), protocol.pixel_of("coronal")
    starts = _places(0.0, slices * dz, dz, thick, protocol)
    top, left = _window(volume, shape, pixel)
    down = axis_weights(rows, dy, top + np.arange(shape[0]) * pixel, pixel)
    across = axis_weights(columns, dx, left + np.arange(shape[1]) * pixel, pixel)
    images = _averages(volume.hu, 0, axis_weights(slices, dz, starts, thick, slices=True))
    return np.asarray(down @ images @ across.T, dtype=np.float32)


def _coronal(volume: LabVolume, protocol: Protocol, shape: tuple[int, int]) -> NDArray[np.float32]:
    (_, dy, dx), (_, rows, columns) = volume.spacing_mm, volume.hu.shape
    pixel = protocol.pixel_of("coronal")
    starts = _places(volume.body.top, volume.body.bottom, dy, pixel, protocol)
    _, left = _window(volume, (shape[1], shape[1]), pixel)
    across = axis_weights(columns, dx, left + np.arange(shape[1]) * pixel, pixel)
    return _upright(volume, _averages(volume.hu, 1, axis_weights(rows, dy, starts, pixel)), across, pixel, shape[0])


def _sagittal(volume: LabVolume, protocol: Protocol, shape: tuple[int, int]) -> NDArray[np.float32]:
    (_, dy, dx), (_, rows, columns) = volume.spacing_mm, volume.hu.shape
    pixel = protocol.pixel_of("sagittal")
    starts = _places(volume.body.left, volume.body.right, dx, pixel, protocol)
    top, _ = _window(volume, (shape[1], shape[1]), pixel)
    across = axis_weights(rows, dy, top + np.arange(shape[1]) * pixel, pixel)
    return _upright(volume, _averages(volume.hu, 2, axis_weights(columns, dx, starts, pixel)), across, pixel, shape[0])


def _upright(
    volume: LabVolume, images: NDArray[np.float32], across: NDArray[np.float32], pixel: float, height: int
) -> NDArray[np.float32]:
    """Resample images (n, slices, pixels), each in a window of its own height; the head comes up."""
    dz, slices = volume.spacing_mm[0], volume.hu.shape[0]
    spare = max(0.0, slices * dz - height * pixel)
    result = np.empty((len(images), height, len(across)), np.float32)
    for n, image in enumerate(images):
        start = math.floor(spare * ((0.5 + n * _GOLDEN) % 1) / dz + 1e-6) * dz
        along = axis_weights(slices, dz, start + np.arange(height) * pixel, pixel, slices=True)
        result[n] = (along @ image @ across.T)[::-1]
    return result


def _averages(hu: NDArray[np.int16], axis: int, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """HU above air of each output plane across ``axis``: (outputs, other axes). Only the planes in need are read."""
    planes = []
    for row in weights:
        used = np.flatnonzero(row)
        taken = np.moveaxis(hu.take(used, axis=axis), axis, 0).astype(np.float32) - AIR_HU
        planes.append(np.tensordot(row[used], taken, axes=1))
    return np.stack(planes).astype(np.float32)


def _places(low: float, high: float, spacing: float, pixel: float, protocol: Protocol) -> NDArray[np.float64]:
    """Starts of evenly spread output planes in the central part of low to high, on the volume's own grid.

    On its own grid, so that a volume that has the output's spacing already is not interpolated between its planes.
    """
    middle, part = (low + high) / 2, (high - low) * protocol.central_part
    count = max(1, min(protocol.images_per_volume, math.floor(part / max(pixel, spacing) + 1e-6)))
    centres = middle + ((np.arange(count) + 0.5) / count - 0.5) * part
    return np.round((centres - pixel / 2) / spacing) * spacing


def _window(volume: LabVolume, shape: tuple[int, int], pixel: float) -> tuple[float, float]:
    """Row and column, mm, where a window of ``shape`` pixels around the body begins; on the volume's own grid."""
    top, left = (
        round((centre - count * pixel / 2) / spacing) * spacing
        for centre, count, spacing in zip(volume.body.centre, shape, volume.spacing_mm[1:], strict=True)
    )
    return top, left


def _fits(protocol: Protocol, spacing: Sequence[float], extent: Sequence[float]) -> tuple[bool, bool, bool]:
    """Whether a volume gives axial, coronal and sagittal images."""
    assert protocol.height_mm is not None
    fine = protocol.coarsest_mm is None or max(spacing) <= protocol.coarsest_mm * _TOLERANCE
    axial = protocol.coarsest_axial_mm is None or max(spacing[1:]) <= protocol.coarsest_axial_mm * _TOLERANCE
    upright = fine and extent[0] >= protocol.height_mm - 1e-3  # rounding; a row of air would be a tell
    return axial, upright, upright


def _notes(protocol: Protocol, fits: NDArray, widest: NDArray, finest: NDArray) -> list[str]:
    assert protocol.side_mm is not None and protocol.pixel_mm is not None
    notes = []
    no_axial, not_upright = (~fits[:, :2]).sum(axis=0)
    if not_upright:
        notes.append(
            f"{not_upright} of {len(fits)} volumes are lower than {protocol.height_mm:.0f} mm or coarser than "
            f"{protocol.pixel_mm:.1f} mm; they give no coronal and sagittal images."
        )
    if no_axial:
        notes.append(
            f"{no_axial} of {len(fits)} volumes have pixels larger than {protocol.axial_pixel_mm:.1f} mm; they give "
            "no axial images."
        )
    narrow = int((widest * _TOLERANCE < protocol.side_mm).sum())
    if narrow:
        notes.append(
            f"{narrow} of {len(fits)} volumes are narrower than the images ({protocol.side_mm:.0f} mm) and are filled "
            "up with air."
        )
    coarse = int((finest > protocol.pixel_mm * _TOLERANCE).sum()) if protocol.coarsest_mm is None else 0
    if coarse:
        notes.append(
            f"{coarse} of {len(fits)} volumes are coarser than {protocol.pixel_mm:.1f} mm and are interpolated."
        )
    if protocol.pixel_mm >= COARSE_MM:
        notes.append(
            f"Coronal and sagittal images are coarse: {protocol.pixel_mm:.1f} mm, as the thickest slices are."
        )
    return notes


def _medians(values: NDArray, groups: NDArray) -> list[float]:
    """Median of each group: half of its volumes are on either side."""
    return [float(np.median(values[groups == group])) for group in np.unique(groups)]


def _largest_below(values: NDArray, limit: float) -> float:
    return float(values[values <= limit * _TOLERANCE].max())
