"""CTVolume: what it accepts, rounding to HU, and turning its axes without moving a voxel."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import CTVolume, flip_slices, to_hu_int16, to_standard_axes

HU = np.random.default_rng(0).integers(-1024, 3072, (4, 5, 6)).astype(np.int16)


@pytest.mark.parametrize("bad", [HU.astype(np.float32), HU[0], HU[:0], HU.tolist()])
def test_only_int16_volumes(bad):
    with pytest.raises(ValueError, match="int16"):
        CTVolume(bad, Geometry((1, 1, 1)))


def test_shape_and_spacing():
    volume = CTVolume(HU, Geometry((1, 2, 3)))
    assert (volume.shape, volume.spacing) == ((4, 5, 6), (1, 2, 3))


def test_facts_about_where_it_came_from_stay_here():
    volume = CTVolume(HU, Geometry((1, 1, 1)), {"source": "Doe_Jane.nii", "patient": "x", "id": "y", "seed": "3"})
    assert volume.portable_metadata == {"seed": "3"}


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64, np.float32, np.float64]
)
def test_every_real_type_becomes_hu(dtype):
    values = np.array([[[0, 7, 100]]], dtype)
    np.testing.assert_array_equal(to_hu_int16(values), [[[0, 7, 100]]])


def test_padding_becomes_air_and_metal_is_cut_off():
    values = np.array([[[-32768, -3024, -2000, -1024, -1023, 3071, 3072, 30000]]], np.int16)
    np.testing.assert_array_equal(to_hu_int16(values), [[[-1024, -1024, -1024, -1024, -1023, 3071, 3071, 3071]]])
    large = np.array([[[60000.0, -1e9, 1e9]]])
    np.testing.assert_array_equal(to_hu_int16(large), [[[3071, -1024, 3071]]])
    np.testing.assert_array_equal(to_hu_int16(np.full((1, 1, 1), 65535, np.uint16)), [[[3071]]])


def test_fractions_are_rounded_not_cut():
    np.testing.assert_array_equal(to_hu_int16(np.array([[[-0.6, 0.6, 40.4, -999.7]]])), [[[-1, 1, 40, -1000]]])


def test_values_that_are_not_numbers_are_counted():
    values = np.zeros((2, 2, 2))
    values[0, 0, 0], values[1, 1, 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"scan\.nii has 2 voxels"):
        to_hu_int16(values, source="scan.nii")


def as_itk(volume: CTVolume) -> sitk.Image:
    image = sitk.GetImageFromArray(volume.hu)
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.geometry.origin)
    image.SetDirection(volume.geometry.direction.ravel().tolist())
    return image


@pytest.mark.parametrize("seed", range(8))
def test_standard_axes_agree_with_itk(seed):
    """ITK's own reorientation is the judge, for permuted, flipped and slightly oblique grids."""
    rng = np.random.default_rng(seed)
    tilt = Rotation.from_rotvec(rng.uniform(-0.25, 0.25, 3)).as_matrix()
    direction = tilt @ (np.eye(3)[:, rng.permutation(3)] * rng.choice([-1.0, 1.0], 3))
    volume = CTVolume(HU, Geometry((0.7, 1.1, 2.5), (12.0, -7.0, 33.0), direction))
    expected = sitk.DICOMOrient(as_itk(volume), "LPS")
    turned = to_standard_axes(volume)
    np.testing.assert_array_equal(turned.hu, sitk.GetArrayFromImage(expected))
    np.testing.assert_allclose(turned.spacing, expected.GetSpacing())
    np.testing.assert_allclose(turned.geometry.origin, expected.GetOrigin(), atol=1e-9)
    np.testing.assert_allclose(turned.geometry.direction.ravel(), expected.GetDirection(), atol=1e-12)


def test_standard_volume_is_returned_as_it_is():
    volume = CTVolume(HU, Geometry((1, 1, 1)))
    assert to_standard_axes(volume) is volume


def test_flipped_slices_stay_where_they_are():
    volume = CTVolume(HU, Geometry((1, 1, 2.5), (0, 0, 10)))
    flipped = flip_slices(volume)
    assert flipped.geometry.origin == (0, 0, 17.5)
    np.testing.assert_array_equal(flipped.geometry.normal, [0, 0, -1])
    np.testing.assert_array_equal(flipped.hu, HU[::-1])
    assert flip_slices(flipped).geometry.is_close(volume.geometry)
