"""Pictures of volumes for the report: three planes through the body's middle, all at one scale and in one window."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.fidelity.results import PLANES, Plane
from CTDiffusionLogic.fidelity.volumes import LabVolume
from CTDiffusionLogic.volume import AIR_HU

#: Pixel size of all pictures, and the longest side of what they show, in mm.
PIXEL_MM, SIDE_MM = 2.0, 400.0
#: HU shown as black and as white: wide enough for lung and soft tissue in one picture.
BLACK_HU, WHITE_HU = -1000, 400
#: Synthetic volumes that are shown at most.
SHOWN = 6
#: How pictures begin inside HTML.
PNG_URI = "data:image/png;base64,"
#: Side in pixels of the coarse picture by which volumes are called alike.
COARSE = 16


@dataclass(frozen=True, eq=False)
class VolumePictures:
    """Three pictures of one volume; about 100 kB.

    Args:
        id: Of the volume.
        patient: Of the volume.
        images: uint8 (rows, columns) by plane, 0 black; head and front up, the patient's right on the left.
        coarse: float32 (3, COARSE, COARSE) in HU, the planes in a box around the body: what nearness is told by.
    """

    id: str
    patient: str
    images: Mapping[Plane, NDArray[np.uint8]]
    coarse: NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """A synthetic volume and the real one that is most like it; ids."""

    synthetic: str
    real: str


def take_pictures(volume: LabVolume) -> VolumePictures:
    """Cut three planes through the middle of the body, at most ``SIDE_MM`` high and wide, and grey them."""
    images, coarse = {}, []
    for plane in PLANES:
        hu, spacing = middle_plane(volume, plane)
        images[plane] = to_grey(_crop(_resized(hu, _pixels(hu, spacing)), _centre(volume, plane)))
        coarse.append(_resized(_around_body(volume, hu, spacing, plane), (COARSE, COARSE)))
    return VolumePictures(volume.id, volume.patient, images, np.stack(coarse).astype(np.float32))


def middle_plane(volume: LabVolume, plane: Plane) -> tuple[NDArray[np.int16], tuple[float, float]]:
    """HU (rows, columns) of the plane through the body's middle as it is shown, and its spacing (rows, columns)."""
    dz, dy, dx = volume.spacing_mm
    slices, rows, columns = volume.hu.shape
    row = min(int(volume.body.centre[0] / dy), rows - 1)
    column = min(int(volume.body.centre[1] / dx), columns - 1)
    if plane == "axial":
        return volume.hu[slices // 2], (dy, dx)
    if plane == "coronal":
        return volume.hu[::-1, row], (dz, dx)
    return volume.hu[::-1, :, column], (dz, dy)


def to_grey(hu: NDArray) -> NDArray[np.uint8]:
    """Grey values of the report's window."""
    return np.rint(255 * np.clip((hu - BLACK_HU) / (WHITE_HU - BLACK_HU), 0, 1)).astype(np.uint8)


def pair_with_nearest(
    synthetic: Sequence[VolumePictures], real: Sequence[VolumePictures], *, shown: int = SHOWN
) -> list[Pair]:
    """Choose at most ``shown`` synthetic volumes, evenly over the list, and the real one nearest to each.

    Nearness is the mean square difference in HU of coarse pictures: it finds the same part of the body at the same
    size, so that one can compare by eye. It is no measure of copying.
    """
    if not real:
        return []
    places = np.unique(np.linspace(0, len(synthetic) - 1, min(shown, len(synthetic))).round().astype(int))
    return [Pair(synthetic[n].id, min(real, key=lambda r: _distance(synthetic[n], r)).id) for n in places]


def png_data_uri(image: NDArray[np.uint8]) -> str:
    """The picture as ``data:image/png;base64,...``."""
    return f"{PNG_URI}{base64.b64encode(png_bytes(image)).decode('ascii')}"


def png_bytes(image: NDArray[np.uint8]) -> bytes:
    """The picture as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def beside(left: NDArray[np.uint8], right: NDArray[np.uint8], *, gap: int = 6) -> NDArray[np.uint8]:
    """Two pictures in one, centred on each other's height, a light line between them."""
    rows = max(left.shape[0], right.shape[0])
    parts = [_pad(picture, (rows, picture.shape[1])) for picture in (left, right)]
    return np.concatenate([parts[0], np.full((rows, gap), 255, np.uint8), parts[1]], axis=1)


def _distance(a: VolumePictures, b: VolumePictures) -> float:
    return float(np.mean((a.coarse - b.coarse) ** 2))


def _pixels(hu: NDArray, spacing: tuple[float, float]) -> tuple[int, int]:
    rows, columns = (max(1, round(n * d / PIXEL_MM)) for n, d in zip(hu.shape, spacing, strict=True))
    return rows, columns


def _around_body(volume: LabVolume, hu: NDArray, spacing: tuple[float, float], plane: Plane) -> NDArray:
    """Cut in-plane axes to the body's bounding box; the axis of slices stays whole."""
    body = volume.body
    ranges = {"axial": [(body.top, body.bottom), (body.left, body.right)]}.get(
        plane, [None, (body.left, body.right) if plane == "coronal" else (body.top, body.bottom)]
    )
    cuts = []
    for edges, step, count in zip(ranges, spacing, hu.shape, strict=True):
        if edges is None:
            cuts.append(slice(None))
        else:
            first = min(max(int(edges[0] / step), 0), count - 1)
            cuts.append(slice(first, max(first + 1, min(count, round(edges[1] / step)))))
    return hu[tuple(cuts)]


def _resized(hu: NDArray, size: tuple[int, int]) -> NDArray[np.float32]:
    """Bilinear, with anti-aliasing where it shrinks."""
    import torch
    from torch.nn import functional

    image = torch.from_numpy(np.ascontiguousarray(hu, dtype=np.float32))[None, None]
    return functional.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)[0, 0].numpy()


def _centre(volume: LabVolume, plane: Plane) -> tuple[float, float]:
    """Of the body in the shown plane, in mm from the picture's first row and column."""
    row, column = volume.body.centre
    middle = volume.extent_mm[0] / 2
    return {"axial": (row, column), "coronal": (middle, column), "sagittal": (middle, row)}[plane]


def _crop(hu: NDArray[np.float32], centre_mm: tuple[float, float]) -> NDArray[np.float32]:
    """At most SIDE_MM of rows and columns around the body's centre, within the scan."""
    side = round(SIDE_MM / PIXEL_MM)
    firsts = [
        min(max(0, round(c / PIXEL_MM) - side // 2), max(0, n - side))
        for c, n in zip(centre_mm, hu.shape, strict=True)
    ]
    return hu[firsts[0] : firsts[0] + side, firsts[1] : firsts[1] + side]


def _pad(picture: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    extra = [n - m for n, m in zip(shape, picture.shape, strict=True)]
    widths = [(n // 2, n - n // 2) for n in extra]
    return np.pad(picture, widths, constant_values=int(to_grey(np.array(AIR_HU))))
