"""The torso phantom looks like a torso to the eye (see its picture in the docs) and to these numbers."""

import time

import numpy as np
import pytest
from scipy import ndimage

from CTDiffusionLogic.image_files import check_hu
from CTDiffusionLogic.phantom import torso_phantom


@pytest.fixture(scope="module")
def phantom():
    return torso_phantom()


def test_shape_geometry_and_name(phantom):
    assert phantom.shape == (64, 256, 256)
    assert phantom.spacing == (1.6, 1.6, 3.0)
    assert phantom.hu.dtype == np.int16
    assert phantom.metadata["phantom"] == "yes"
    assert phantom.metadata["synthetic"] == "yes"
    check_hu(phantom.hu, "phantom")


def test_tissues_have_their_hu(phantom):
    middle = phantom.hu[34]
    share = {
        "lung": ((phantom.hu > -950) & (phantom.hu < -750)).mean(),
        "fat": ((phantom.hu > -150) & (phantom.hu < -60)).mean(),
        "soft": ((phantom.hu > 0) & (phantom.hu < 200)).mean(),
        "bone": (phantom.hu > 300).mean(),
        "air": (phantom.hu < -960).mean(),
    }
    least = {"lung": 0.03, "fat": 0.05, "soft": 0.08, "bone": 0.005, "air": 0.4}
    assert all(share[name] > least[name] for name in least), share
    assert middle[:20, :20].mean() == pytest.approx(-1000, abs=15)


def test_one_body_with_two_lungs(phantom):
    body = ndimage.binary_opening(phantom.hu[44] > -500, iterations=2)
    labels, count = ndimage.label(body)
    sizes = ndimage.sum_labels(body, labels, range(1, count + 1))
    assert max(sizes) > 0.95 * (sizes.sum() - min(sizes)) or count == 1
    filled = ndimage.binary_fill_holes(labels == 1 + int(np.argmax(sizes)))
    lungs, count = ndimage.label(ndimage.binary_opening(filled & (phantom.hu[44] < -600), iterations=2))
    sizes = np.sort(ndimage.sum_labels(lungs > 0, lungs, range(1, count + 1)))[::-1]
    assert sizes[1] > 0.4 * sizes[0] > 400
    assert count == 2 or sizes[2] < 0.05 * sizes[0]


def test_right_and_left_are_right(phantom):
    """Columns run to the patient's left: the liver lies in low columns, the heart's bulk in high ones."""
    columns = np.arange(256)[None, :]
    liver = (phantom.hu[18] > 80) & (phantom.hu[18] < 140)
    assert (liver * columns).sum() / liver.sum() < 118
    blood = (phantom.hu[46] > 130) & (phantom.hu[46] < 180)
    assert (blood * columns).sum() / blood.sum() > 130


def test_smooth_along_the_body(phantom):
    """Neighbouring slices differ by little more than noise, as in a real scan of this slice distance."""
    step = np.abs(np.diff(phantom.hu.astype(float), axis=0)).mean(axis=(1, 2))
    assert step.max() < 60
    assert step.max() < 2.5 * np.median(step)


def test_same_seed_same_voxels():
    first, again, other = (torso_phantom(slices=8, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.hu, again.hu)
    assert (other.hu != first.hu).mean() > 0.5


@pytest.mark.parametrize(
    ("slices", "spacing", "size"), [(1, (2, 2, 5), 64), (120, (6, 6, 1.25), 64), (9, (3, 3, 60), 96)]
)
def test_other_grids(slices, spacing, size):
    volume = torso_phantom(slices=slices, spacing_mm=spacing, size=size)
    assert volume.shape == (slices, size, size)
    assert volume.spacing == spacing
    assert volume.hu.max() > 200


def test_it_is_quick():
    start = time.process_time()
    torso_phantom()
    assert time.process_time() - start < 6  # measured 1.2 s; CI machines are slower


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="0 and 256"):
        torso_phantom(slices=0)
