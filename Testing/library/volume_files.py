"""Volumes and files that the tests of reading and writing share."""

import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import CTVolume

FILES = (".nrrd", ".nii", ".nii.gz", ".mha")


OUTPUTS = (*FILES, "")  # "" is a folder of DICOM


def random_volume(number: int, shape: tuple[int, int, int] = (5, 7, 9), **metadata: str) -> CTVolume:
    rng = np.random.default_rng(number)
    hu = rng.integers(-1024, 3072, shape).astype(np.int16)
    direction = Rotation.random(random_state=number).as_matrix()
    geometry = Geometry(tuple(rng.uniform(0.3, 5, 3)), tuple(rng.uniform(-900, 900, 3)), direction)
    return CTVolume(hu, geometry, metadata)


def smooth_image(shape=(20, 30, 40)) -> sitk.Image:
    hu = np.linspace(-900, 1500, int(np.prod(shape))).reshape(shape)
    noise = np.random.default_rng(0).normal(0, 30, shape)
    return sitk.GetImageFromArray((hu + noise).astype(np.int16))
