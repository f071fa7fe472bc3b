"""The bundled feature network: what its file is, and which faults it sees.

It must see blur, noise, an offset of HU, wrong spacing and mirrored bodies; the more of a fault, the farther the
features are. It need not see what does not show within one image (shuffled slices show in coronal images).
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from CTDiffusionLogic.fidelity.extractors import get_extractor
from CTDiffusionLogic.fidelity.extractors.ctfeatures import bundled_weights
from CTDiffusionLogic.fidelity.frechet import frechet_from_features
from CTDiffusionLogic.models import bundled_models
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.scan_search import find_scans
from CTDiffusionLogic.volume import to_standard_axes


@pytest.fixture(scope="module")
def extractor():
    return get_extractor()


def test_the_file_is_small_says_where_it_comes_from_and_names_no_place(extractor):
    assert bundled_weights().stat().st_size <= 4e6
    assert (extractor.name, len(extractor.sha256)) == ("ctfeatures", 64)
    training = extractor.card["training"]
    assert set(training["held_out_patients"]) == {"lidc0314", "cptacpda00189"}
    assert training["steps"] > 0
    assert training["command"].startswith("ctdiffusion train-features ")
    assert "CC BY" in training["data"]
    text = json.dumps(extractor.card)
    assert not any(f" {place}" in text or f'"{place}' in text for place in ("/", "~", "C:"))


def test_it_is_not_offered_as_a_model_that_generates():
    assert "ctfeatures" not in bundled_models()


def test_features_are_one_vector_per_image_whatever_is_beside_it(extractor):
    images = np.random.default_rng(0).uniform(-1200, 1200, (40, 48, 64)).astype(np.float32)
    found = extractor.features(images, 1.5)
    assert found.shape == (40, extractor.dimensions) == (40, 64)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(extractor.features(images, 1.5), found)
    np.testing.assert_allclose(extractor.features(images[33:34], 1.5), found[33:34], rtol=1e-3, atol=1e-3)
    assert extractor.features(images[:0], 1.5).shape == (0, 64)
    assert np.isfinite(extractor.features(np.full((1, 32, 32), -1000, np.float32), 1.0)).all()
    assert np.isfinite(extractor.features(np.zeros((1, 9, 200), np.float32), 1.0)).all()


def test_hu_beyond_the_window_are_cut(extractor):
    image = np.full((1, 48, 48), -3000, np.float32)
    np.testing.assert_array_equal(extractor.features(image, 1.0), extractor.features(image + 1900, 1.0))


@pytest.fixture(scope="module")
def phantom_slices():
    """Slices of three torsos, 2.6 mm pixels."""
    volumes = [torso_phantom(slices=30, spacing_mm=(2.6, 2.6, 10.0), size=160, seed=seed) for seed in range(3)]
    return np.concatenate([volume.hu[6:24] for volume in volumes]).astype(np.float32)


@pytest.fixture(scope="module")
def held_out_slices(ct_data):
    """Slices of a real scan that the network was not trained on."""
    volume = to_standard_axes(find_scans([ct_data / "nifti" / "chest_lidc0314.nii.gz"]).found[0].read())
    return volume.hu[10:130:4].astype(np.float32)


def _blurred(images, severity):
    return ndimage.gaussian_filter(images, (0, severity * 2, severity * 2))


def _noisy(images, severity):
    return images + 100 * severity * np.random.default_rng(1).standard_normal(images.shape, dtype=np.float32)


def _offset(images, severity):
    return images + 100 * severity


def _darker(images, severity):
    return images - 100 * severity


def _larger(images, severity):
    zoomed = [ndimage.zoom(image, 1 + 0.4 * severity, order=1) for image in images]
    height, width = images.shape[1:]
    top, left = ((full - part) // 2 for full, part in zip(zoomed[0].shape, (height, width), strict=True))
    return np.stack(zoomed)[:, top : top + height, left : left + width]


FAULTS = [_blurred, _noisy, _offset, _darker, _larger]


@pytest.fixture(scope="module", params=["phantom_slices", "held_out_slices"])
def images(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def clean(extractor, images):
    """The features of all images as they are."""
    return extractor.features(images, 2.0)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_more_of_a_fault_the_farther(extractor, images, clean, fault):
    distances = [
        frechet_from_features(clean, extractor.features(fault(images, severity).astype(np.float32), 2.0))
        for severity in (0.25, 0.5, 1.0)
    ]
    assert distances[0] > 0.2
    assert all(np.diff(distances) > 0), distances


def test_faults_are_farther_than_slices_of_the_same_bodies(extractor, images, clean):
    floor = frechet_from_features(clean[::2], clean[1::2])
    for fault in FAULTS:
        faulty = fault(images[1::2], 1.0).astype(np.float32)
        assert frechet_from_features(clean[::2], extractor.features(faulty, 2.0)) > 2 * floor


def test_mirrored_bodies_are_seen(extractor, held_out_slices):
    same, mirrored = held_out_slices[1::2], held_out_slices[1::2, :, ::-1].copy()
    reference = extractor.features(held_out_slices[::2], 2.0)
    near, far = (frechet_from_features(reference, extractor.features(images, 2.0)) for images in (same, mirrored))
    assert far > 1.05 * near
