"""What readers see: oriented, on one grid, around the origin."""

from __future__ import annotations

import numpy as np
import pytest

from CTDiffusionLogic.fidelity.reader_images import common_grid, cut_slice, stand, to_common_grid
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import CTVolume

BODY = np.s_[:, 20:60, 30:70]


def volume(*, spacing=(1.0, 1.0, 3.0), size=(10, 80, 100), origin=(13.0, 7.0, -900.0), flip=False) -> CTVolume:
    hu = np.full(size, -1000, np.int16)
    hu[BODY] = (40 + np.arange(size[0]))[:, None, None]
    direction = np.diag([1.0, 1.0, 1.0])
    if flip:
        hu, direction = hu[::-1, ::-1].copy(), np.diag([1.0, -1.0, -1.0])
    return CTVolume(hu, Geometry(spacing, origin, direction), {"patient": "Doe", "source": "/data/Doe"})


@pytest.mark.parametrize("flip", [False, True])
def test_images_stand_alike_and_lie_around_the_origin(flip):
    image = stand(volume(flip=flip))
    np.testing.assert_array_equal(image.hu, volume().hu)
    assert image.spacing_mm == (3.0, 1.0, 1.0)
    assert image.centre_mm == pytest.approx((40, 50), abs=2.5)
    corners = image.ijk_to_ras @ np.array([[0, 0, 0, 1], [99, 79, 9, 1]]).T
    np.testing.assert_allclose(corners[:3].sum(axis=1), 0, atol=1e-9)
    assert "Doe" not in repr(vars(image))


def test_slices_by_height():
    image = stand(volume())
    assert [int(cut_slice(image, h).hu[0, 40, 50]) for h in (0, 0.5, 1)] == [40, 44, 49]
    assert cut_slice(image, 0.3).hu.shape == (1, 80, 100)


def test_the_common_grid_is_the_coarsest_pixel_and_the_smallest_field():
    images = [stand(volume()), stand(volume(spacing=(2.0, 2.0, 3.0))), stand(volume(size=(4, 64, 90)))]
    assert common_grid(images) == (2.0, 64.0)
    made = [to_common_grid(image, 2.0, 64.0) for image in images]
    assert {image.hu.shape[1:] for image in made} == {(32, 32)}
    assert {image.spacing_mm for image in made} == {(3.0, 2.0, 2.0)}


def test_the_body_stays_in_the_middle_and_keeps_its_size():
    made = to_common_grid(stand(volume()), 2.0, 64.0)
    body = made.hu[0] > -480
    rows, columns = np.nonzero(body)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 20)  # 40 mm at 2 mm
    assert rows.mean() == pytest.approx(15.5, abs=1.5)
    assert columns.mean() == pytest.approx(15.5, abs=1.5)
    assert int(made.hu[3, 15, 15]) == 43


def test_the_same_pixels_are_cut_and_not_interpolated():
    noise = CTVolume(
        np.random.default_rng(2).integers(-1000, 1000, (3, 50, 60), dtype=np.int16), Geometry((0.7, 0.7, 2.0))
    )
    made = to_common_grid(stand(noise), 0.7, 0.7 * 40)
    windows = np.lib.stride_tricks.sliding_window_view(noise.hu[0], (40, 40)).reshape(-1, 1600)
    assert (windows == made.hu[0].ravel()).all(axis=1).any()


def test_fine_noise_is_not_aliased():
    """White noise at half the pixel size must come out as weak as averaging makes it, not as strong as picking."""
    noise = CTVolume(
        np.rint(np.random.default_rng(3).normal(0, 100, (2, 200, 200))).astype(np.int16), Geometry((0.5, 0.5, 2.0))
    )
    made = to_common_grid(stand(noise), 1.5, 90.0)
    assert 20 < made.hu.std() < 55  # boxes of 3 x 3 give 33; picking gives 100


def test_beyond_a_small_field_there_is_air():
    made = to_common_grid(stand(volume()), 1.0, 120.0)
    assert made.hu.shape == (10, 120, 120)
    assert (made.hu[:, 0] == -1024).all()
    assert int(made.hu[0, 60, 60]) == 40
