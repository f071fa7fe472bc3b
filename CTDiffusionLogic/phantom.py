"""A torso drawn with formulas, for demonstrations and tests where no real scan is at hand.

It is a schematic, not a simulation: ellipsoids and tubes in mm, smooth along the body, with plausible HU
and noise. Whatever shows it must call it a phantom; its metadata do.

Coordinates are LPS mm with the origin in the middle of the diaphragm: x to the patient's left, y to the
back, z to the head. The body model reaches from the pelvis (z = -230) to the shoulders (z = 210).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import CTVolume, to_hu_int16

Plane = NDArray[np.floating]  # one slice, (rows, columns)

AIR, LUNG, FAT, WATER, MUSCLE, BONE, MARROW = -1000.0, -860.0, -105.0, 5.0, 55.0, 650.0, 180.0

#: Solid organs: centre x, y, z and half axes in mm, HU. Later ones cover earlier ones.
ORGANS = {
    "liver": ((-62.0, -8.0, -32.0), (82.0, 72.0, 66.0), 105.0),
    "liver, left lobe": ((8.0, -48.0, -26.0), (62.0, 32.0, 40.0), 105.0),
    "spleen": ((98.0, 38.0, -32.0), (26.0, 42.0, 44.0), 115.0),
    "stomach": ((62.0, -30.0, -44.0), (44.0, 34.0, 46.0), 25.0),
    "gas in the stomach": ((58.0, -50.0, -38.0), (26.0, 12.0, 30.0), AIR),
    "right kidney": ((-66.0, 52.0, -112.0), (27.0, 24.0, 54.0), 165.0),
    "right renal pelvis": ((-58.0, 50.0, -112.0), (11.0, 9.0, 24.0), -40.0),
    "left kidney": ((68.0, 54.0, -100.0), (27.0, 24.0, 54.0), 165.0),
    "left renal pelvis": ((60.0, 52.0, -100.0), (11.0, 9.0, 24.0), -40.0),
    "pancreas": ((18.0, 4.0, -84.0), (52.0, 12.0, 15.0), 90.0),
    "heart": ((28.0, -32.0, 52.0), (58.0, 46.0, 50.0), 55.0),
    "left ventricle": ((44.0, -30.0, 44.0), (30.0, 25.0, 30.0), 150.0),
    "right ventricle": ((8.0, -44.0, 50.0), (24.0, 20.0, 30.0), 150.0),
    "left atrium": ((12.0, -4.0, 68.0), (28.0, 15.0, 18.0), 150.0),
    "right atrium": ((-18.0, -28.0, 60.0), (16.0, 20.0, 26.0), 150.0),
}
#: Noise of the scanner in HU.
NOISE_HU = 11.0
#: Distance of ribs and of vertebrae along z in mm.
RIB_PITCH, VERTEBRA_PITCH = 25.0, 29.0


def torso_phantom(
    *,
    slices: int = 64,
    spacing_mm: tuple[float, float, float] = (1.6, 1.6, 3.0),
    size: int = 256,
    seed: int = 0,
) -> CTVolume:
    """Draw a torso phantom, centred on the diaphragm.

    Args:
        slices: Number of slices, from the feet towards the head.
        spacing_mm: Voxel size along x, y, z. The body is 350 mm wide: 256 pixels of 1.6 mm hold it.
        size: Rows and columns.
        seed: Varies the sizes and places of organs by some percent, lung vessels, and noise.

    Returns:
        HU int16 of shape (slices, size, size); its metadata call it a phantom. Same seed, same voxels.

    Raises:
        ValueError: If ``slices`` or ``size`` is not positive.
    """
    if slices < 1 or size < 1:
        raise ValueError(f"slices and size must be positive, got {slices} and {size}")
    rng = np.random.default_rng(seed)
    extent = np.array(spacing_mm) * (size - 1, size - 1, slices - 1)
    geometry = Geometry(spacing_mm, (-extent[0] / 2, -extent[1] / 2 + 8.0, -extent[2] / 2))
    x = (geometry.origin[0] + spacing_mm[0] * np.arange(size, dtype=np.float32))[None, :]
    y = (geometry.origin[1] + spacing_mm[1] * np.arange(size, dtype=np.float32))[:, None]
    torso = _Torso(x, y, pixel=math.sqrt(spacing_mm[0] * spacing_mm[1]), rng=rng)
    vessels = _smooth_noise(rng, slices, size, spacing_mm, scale_mm=7.0, fields=2)
    bowel = _smooth_noise(rng, slices, size, spacing_mm, scale_mm=11.0, fields=1)
    hu = np.empty((slices, size, size), np.int16)
    for k, (vessel, loops) in enumerate(zip(vessels, bowel, strict=True)):
        plane = torso.slice_at(float(geometry.origin[2] + k * spacing_mm[2]), vessel, loops[0])
        noise = ndimage.gaussian_filter(rng.standard_normal((size, size), dtype=np.float32), 0.7)
        plane += NOISE_HU / 0.4 * noise  # the filter leaves 0.4 of the standard deviation
        hu[k] = to_hu_int16(plane)
    metadata = {"phantom": "yes", "synthetic": "yes", "model": "procedural torso phantom", "seed": str(seed)}
    return CTVolume(hu, geometry, metadata)


class _Torso:
    """The body model; draws one slice at a time on the plane of pixel centres ``x``, ``y`` (mm)."""

    def __init__(self, x: Plane, y: Plane, *, pixel: float, rng: np.random.Generator) -> None:
        self.x, self.y, self.pixel = x, y, pixel
        # Plain floats throughout: numpy's own would turn the float32 planes into float64.
        self.scale = (1 + 0.03 * rng.uniform(-1, 1, 2)).tolist()  # of the body, sideways and front to back
        self.organs = [
            (
                (np.array(c) + rng.uniform(-5, 5, 3)).tolist(),
                (np.array(r) * rng.uniform(0.94, 1.06, 3)).tolist(),
                value,
            )
            for c, r, value in ORGANS.values()
        ]
        self.rib_phase, self.vertebra_phase = float(rng.uniform(0, RIB_PITCH)), float(rng.uniform(0, VERTEBRA_PITCH))

    def slice_at(self, z: float, vessel: Plane, loops: Plane) -> Plane:
        """HU of the plane at ``z`` mm. ``vessel`` (2, rows, columns) and ``loops`` are smooth noise."""
        plane = np.full(np.broadcast_shapes(self.x.shape, self.y.shape), AIR, np.float32)
        wide, deep = self._body(z)
        self._table(plane)
        skin = self._radius(0, 0, wide, deep, power=2.4)
        self._paint(plane, self._inside(skin, deep), 30.0)
        self._paint(plane, self._inside(self._radius(0, 0, wide - 2.5, deep - 2.5, power=2.4), deep), FAT)
        fat = 14 + 5 * _step(-z, 60, 60)
        wall = (wide - fat, deep - fat, 0.0, 1.5)
        self._paint(plane, self._ellipse(wall[2], wall[3], wall[0], wall[1], power=2.3), MUSCLE)
        cavity = (wide - fat - 13, deep - fat - 12)
        inner = self._ellipse(0, -4, cavity[0], cavity[1], power=2.2)
        self._paint(plane, inner, FAT)
        if z < -40:
            self._bowel(plane, inner, loops, z)
        for centre, radii, value in self.organs[:10]:
            self._ellipsoid(plane, centre, radii, value, z, clip=inner)
        self._lungs(plane, cavity, vessel, z)
        for centre, radii, value in self.organs[10:]:
            self._ellipsoid(plane, centre, radii, value, z)
        self._vessels_and_airways(plane, z)
        self._muscles_of_the_back(plane, z, deep)
        self._ribs(plane, cavity, z)
        self._spine(plane, z)
        return plane

    def _body(self, z: float) -> tuple[float, float]:
        """Half width and half depth at ``z``: narrow waist, wide chest and pelvis."""
        wide = 158 + 16 * _step(z, -40, 90) + 12 * _step(-z, 120, 60) + 8 * _step(z, 150, 50)
        deep = 104 + 8 * _step(z, -60, 80) - 12 * _step(z, 130, 70) + 4 * _step(-z, 130, 60)
        return wide * self.scale[0], deep * self.scale[1]

    def _table(self, plane: Plane) -> None:
        """A curved couch under the back: a thin shell with foam in it."""
        curve = self.y - (122.0 - self.x**2 / 1500.0)
        width = np.clip((205.0 - np.abs(self.x)) / self.pixel, 0, 1)
        for low, high, value in ((0.0, 22.0, -930.0), (0.0, 2.5, -250.0), (19.5, 22.0, -250.0)):
            inside = np.clip(np.minimum(curve - low, high - curve) / self.pixel + 0.5, 0, 1)
            self._paint(plane, inside * width, value)

    def _bowel(self, plane: Plane, inner: Plane, loops: Plane, z: float) -> None:
        """Loops of bowel between the fat of the belly, some with gas that rises to the front."""
        belly = inner * self._ellipse(0, -26, 118, 66) * _step(-z, 85, 40)
        wall = np.clip((loops - 0.25) * 4 + 0.5, 0, 1)
        self._paint(plane, belly * wall, 40.0)
        gas = np.clip((loops - 1.35 - 0.012 * (self.y + 26)) * 5 + 0.5, 0, 1)
        self._paint(plane, belly * gas, -900.0)

    def _lungs(self, plane: Plane, cavity: tuple[float, float], vessel: Plane, z: float) -> None:
        """Two lungs around the mediastinum, their bases hollowed by the domes of the diaphragm."""
        top = math.sqrt(max(1 - (max(z - 40, 0) / 150) ** 2, 0))
        if top <= 0:
            return
        chest = self._ellipse(
            0, 2, (cavity[0] - 4) * (0.45 + 0.55 * top), (cavity[1] - 4) * (0.4 + 0.6 * top), power=2.2
        )
        # The mediastinum: widest at the heart's height, narrow behind the sternum, around the spine at the back.
        half_width = (
            13
            + (24 - 8 * _step(z, 120, 60)) * np.exp(-(((self.y + 8) / 42) ** 2))
            + 12 * np.clip((self.y - 25) / 25, 0, 1)
        )
        middle = np.clip((np.abs(self.x - 3) - half_width) / self.pixel + 0.5, 0, 1)
        for side, dome in ((-1, 14.0), (1, 2.0)):
            half = np.clip(side * self.x / self.pixel + 0.5, 0, 1)
            # Height of the diaphragm: a dome that falls off to the sides and, deep, to the back.
            away = ((self.x - side * 70) / 85) ** 2 + ((self.y + 20) / 95) ** 2
            base = dome - 62 * np.clip(away, 0, 1.6)
            air = np.clip((z - base) / 3, 0, 1) * chest * middle * half
            self._paint(plane, air, LUNG + 25 * np.clip(self.y / 80, -1, 1))  # denser towards the back
            # Where two smooth fields are both near zero there are curves in space: vessels.
            near = np.hypot(vessel[0], vessel[1])
            hilum = np.hypot(self.x - side * 42, self.y - 4) + 0.6 * abs(z - 70)
            width = np.clip(0.40 - 0.0017 * hilum, 0.15, 0.40)
            self._paint(plane, air * np.clip((width - near) / 0.10, 0, 1), 40.0)

    def _vessels_and_airways(self, plane: Plane, z: float) -> None:
        top = 1 - _step(z, 118, 8)
        self._tube(plane, 24, 36 - 12 * _step(-z, 40, 60) - 4, 11.5, 165.0, weight=top)  # descending aorta
        self._tube(
            plane, -24 * _step(-z, 10, 60) - 8, 16 - 12 * _step(z, 0, 40), 11, 130.0, weight=1 - _step(z, 40, 8)
        )
        if z > 78:
            rise = _step(z, 80, 6)
            self._tube(plane, -12, -38, 15, 165.0, weight=rise * top)  # ascending aorta
            self._tube(plane, -34, -26, 9, 150.0, weight=rise)  # superior vena cava
            self._tube(plane, 14, -34, 13, 155.0, weight=rise * (1 - _step(z, 100, 6)))  # pulmonary trunk
        if 112 < z < 132:  # the arch
            arch = _step(z, 112, 4) * (1 - _step(z, 132, 4))
            blend = self._ellipse(5, -2, 24, 38) * (1 - self._ellipse(-12, 10, 16, 26)) * arch
            self._paint(plane, blend, 165.0)
        if z > 126:
            for x, y in ((-18, -34), (2, -28), (18, -20)):
                self._tube(plane, x, y, 5.5, 165.0, weight=_step(z, 130, 5))
        if z > 88:  # trachea and main bronchi
            if z > 100:
                self._tube(plane, 0, -4, 11, 40.0)
                self._tube(plane, 0, -4, 8.5, AIR)
            else:
                for side in (-1, 1):
                    self._tube(plane, side * (100 - z) * 2.2, 0, 9, 40.0)
                    self._tube(plane, side * (100 - z) * 2.2, 0, 6.5, AIR)
        if z > -20:
            self._tube(plane, 6, 20, 7, 40.0)  # oesophagus
            self._tube(plane, 6, 20, 2, -300.0)

    def _muscles_of_the_back(self, plane: Plane, z: float, deep: float) -> None:
        for side in (-1, 1):
            self._paint(plane, self._ellipse(side * 34, min(deep - 34, 78), 27, 17), MUSCLE)
            psoas = _step(-z, 70, 30)
            if psoas > 0:
                self._paint(plane, self._ellipse(side * 38, 46, 8 + 13 * psoas, 6 + 14 * psoas) * psoas, MUSCLE)

    def _ribs(self, plane: Plane, cavity: tuple[float, float], z: float) -> None:
        """Rings in the wall that sink towards the front, so that a slice cuts each rib obliquely."""
        weight = _step(z, -75, 10)
        if weight <= 0:
            return
        radius = self._radius(0, 1, cavity[0] + 4, cavity[1] + 4, power=2.2)
        depth = (1 - radius) * cavity[1]
        across = ((z + self.rib_phase - 0.55 * (self.y - 60)) % RIB_PITCH) - RIB_PITCH / 2
        distance = np.hypot(depth / 4.5, across / 6.5)
        front = np.clip((self.y + 0.92 * cavity[1]) / 12, 0, 1)  # cartilage takes over at the sternum
        self._paint(plane, weight * front * np.clip((1 - distance) * 4.5 / self.pixel + 0.5, 0, 1), BONE * 0.85)
        self._paint(plane, weight * front * np.clip((0.55 - distance) * 4.5 / self.pixel + 0.5, 0, 1), MARROW)
        if z > 25:
            y = -cavity[1] - 3
            self._paint(plane, self._ellipse(0, y, 19, 6.5) * _step(z, 30, 8), BONE * 0.6)
            self._paint(plane, self._ellipse(0, y, 16, 4) * _step(z, 30, 8), MARROW * 0.7)

    def _spine(self, plane: Plane, z: float) -> None:
        """Vertebral bodies and discs in turn, the canal, arch, and processes that come and go."""
        wide = 17 + 5 * _step(-z, 0, 120)
        phase = (z + self.vertebra_phase) % VERTEBRA_PITCH - VERTEBRA_PITCH / 2  # 0: the middle of a body
        bone = 1 - _step(abs(phase), 11.5, 1.5)
        end_plate = _step(abs(phase), 9.0, 1.5) * bone
        self._paint(plane, self._ellipse(0, 48, wide, 15.5), 85.0)  # disc
        self._paint(plane, bone * self._ellipse(0, 48, wide, 15.5), BONE * 0.75)
        self._paint(plane, bone * self._ellipse(0, 48, wide - 2.2, 13.3), MARROW + 150 * end_plate)
        arch = 1 - 0.8 * _step(abs(phase), 9.0, 4.0)
        self._paint(plane, arch * self._ellipse(0, 70, 16, 12), BONE * 0.7)
        spinous = 1 - _step(abs(phase + 4), 8.0, 3.0)
        self._paint(plane, spinous * self._ellipse(0, 88, 4, 14), BONE * 0.65)
        transverse = 1 - _step(abs(phase - 2), 5.0, 3.0)
        self._paint(plane, transverse * self._ellipse(0, 71, 37, 5), BONE * 0.6)
        self._paint(plane, self._ellipse(0, 69, 10, 8.5), 15.0)  # canal
        self._paint(plane, self._ellipse(0, 69, 5.5, 4.5), 45.0)  # cord

    def _ellipsoid(
        self,
        plane: Plane,
        centre: list[float],
        radii: list[float],
        value: float,
        z: float,
        *,
        clip: Plane | float = 1.0,
    ) -> None:
        height = 1 - ((z - centre[2]) / radii[2]) ** 2
        if height > 0:
            shrink = math.sqrt(height)
            self._paint(plane, clip * self._ellipse(centre[0], centre[1], radii[0] * shrink, radii[1] * shrink), value)

    def _tube(self, plane: Plane, x: float, y: float, radius: float, value: float, *, weight: float = 1.0) -> None:
        if weight > 0:
            self._paint(plane, weight * self._ellipse(x, y, radius, radius), value)

    def _ellipse(self, x: float, y: float, rx: float, ry: float, *, power: float = 2.0) -> Plane:
        """How much of each pixel lies in the ellipse, 0 to 1."""
        return self._inside(self._radius(x, y, rx, ry, power=power), min(rx, ry))

    def _radius(self, x: float, y: float, rx: float, ry: float, *, power: float = 2.0) -> Plane:
        """1 on the (super)ellipse, 0 in its middle."""
        u, v = np.abs(self.x - x) / max(rx, 1e-3), np.abs(self.y - y) / max(ry, 1e-3)
        if power == 2:
            return np.sqrt(u * u + v * v)
        return (u**power + v**power) ** np.float32(1 / power)

    def _inside(self, radius: Plane, size: float) -> Plane:
        return np.clip((1 - radius) * (size / self.pixel) + 0.5, 0, 1)

    @staticmethod
    def _paint(plane: Plane, weight: Plane, value: float | Plane) -> None:
        plane += weight * (value - plane)


def _step(value: float, at: float, width: float) -> float:
    """Smooth step from 0 to 1 around ``at``, ``width`` wide on either side."""
    t = min(max((value - at + width) / (2 * width), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def _smooth_noise(
    rng: np.random.Generator,
    slices: int,
    size: int,
    spacing_mm: tuple[float, float, float],
    *,
    scale_mm: float,
    fields: int,
) -> Iterator[Plane]:
    """Per slice, ``fields`` planes of noise that is smooth in space (``scale_mm``), standard deviation about 1."""
    step = scale_mm / 2  # a coarse grid is enough for smooth noise
    counts = [
        max(4, int(np.ceil(n * s / step)) + 4) for n, s in zip((slices, size, size), spacing_mm[::-1], strict=True)
    ]
    coarse = ndimage.gaussian_filter(rng.standard_normal((fields, *counts), dtype=np.float32), (0, 2, 2, 2))
    coarse /= coarse.std()
    rows, columns = (_between(counts[2 - axis], 1 + np.arange(size) * spacing_mm[axis] / step) for axis in (1, 0))
    for k in range(slices):
        z = 1 + k * spacing_mm[2] / step
        low = int(z)
        plane = coarse[:, low] + (z - low) * (coarse[:, low + 1] - coarse[:, low])
        yield rows @ plane @ columns.T


def _between(count: int, places: NDArray) -> Plane:
    """Matrix (places, count) that interpolates linearly between ``count`` samples at fractional ``places``."""
    low = places.astype(int)
    weights = np.zeros((len(places), count), np.float32)
    np.put_along_axis(weights, low[:, None], (1 - (places - low))[:, None], axis=1)
    np.put_along_axis(weights, low[:, None] + 1, (places - low)[:, None], axis=1)
    return weights
