"""Volumes of known properties for the tests of the image metrics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from CTDiffusionLogic.fidelity.volumes import LabVolume, to_lab_volume
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.volume import CTVolume, to_hu_int16


def lab(hu, *, spacing_mm=(3.0, 2.0, 2.0), id="v", **metadata) -> LabVolume:
    """A volume of these HU (any real type); ``spacing_mm`` of slices, rows, columns."""
    geometry = Geometry(spacing_mm[::-1], (0.0, 0.0, 0.0))
    return to_lab_volume(CTVolume(to_hu_int16(np.asarray(hu)), geometry, metadata), id=id)


def phantom(seed=0, *, slices=64, spacing_mm=3.0, pixel_mm=4.4, size=88) -> LabVolume:
    """A torso in 387 mm, without any mark of its origin."""
    volume = torso_phantom(slices=slices, spacing_mm=(pixel_mm, pixel_mm, spacing_mm), size=size, seed=seed)
    return to_lab_volume(CTVolume(volume.hu, volume.geometry, {}), id=f"phantom-{seed}")


def changed(volume: LabVolume, hu, **changes) -> LabVolume:
    """The same volume with other HU; its body stays where it was found."""
    return replace(volume, hu=to_hu_int16(np.asarray(hu)), **changes)


def blurred(volume: LabVolume, sigma) -> LabVolume:
    """Blurred by a Gaussian of ``sigma`` voxels along slices, rows, columns."""
    return changed(volume, ndimage.gaussian_filter(volume.hu.astype(np.float32), sigma))


def noisy(volume: LabVolume, sigma_hu: float, *, per_slice: bool = False, seed=1) -> LabVolume:
    """With white noise, or with an offset of its own for every slice."""
    rng = np.random.default_rng(seed)
    shape = (len(volume.hu), 1, 1) if per_slice else volume.hu.shape
    return changed(volume, volume.hu + sigma_hu * rng.standard_normal(shape))
