"""Radiomic features of mirp: known statistics, growing faults, and what is said where mirp is missing.

They must see blur, noise and an offset of HU; they need not see where in the image things are.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import ndimage

from CTDiffusionLogic.errors import ResourceError
from CTDiffusionLogic.fidelity.extractors import get_extractor


def test_without_mirp_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "mirp", None)
    with pytest.raises(ResourceError) as caught:
        get_extractor("radiomics")
    assert "mirp" in caught.value.message
    assert "ctdiffusion[radiomics]" in caught.value.remedy


@pytest.fixture(scope="module")
def extractor():
    pytest.importorskip("mirp", reason="mirp is not installed (the extra radiomics)")
    return get_extractor("radiomics")


@pytest.fixture(scope="module")
def image():
    """Soft tissue with some texture in air."""
    rows, columns = np.mgrid[:48, :48]
    tissue = 40 + 60 * ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((48, 48)), 1.0)
    return np.where(np.hypot(rows - 24, columns - 24) < 20, tissue, -1000).astype(np.float32)


def test_known_statistics(extractor, image):
    found = dict(zip(extractor.names, extractor.features(image[None], 1.0)[0], strict=True))
    inside = image[image > -950].astype(float)
    assert found["stat_mean"] == pytest.approx(np.arcsinh(inside.mean() / 100), rel=1e-3)
    assert found["stat_var"] == pytest.approx(np.arcsinh(inside.var() / 100), rel=1e-2)
    families = {name.partition("_")[0] for name in extractor.names}
    assert families == {"stat", "cm", "rlm", "ngt"}
    assert extractor.dimensions == len(extractor.names) > 60


def test_the_same_image_gives_the_same_and_air_gives_numbers(extractor, image):
    air = np.full_like(image, -1000)
    found = extractor.features(np.stack([image, air, image]), 2.0)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], found[2])
    assert extractor.features(image[None][:0], 1.0).shape == (0, extractor.dimensions)


def test_features_move_away_with_growing_faults(extractor, image):
    noise = np.random.default_rng(1).standard_normal(image.shape).astype(np.float32)
    for faulty in (
        [ndimage.gaussian_filter(image, sigma) for sigma in (0.5, 1.0, 2.0)],
        [np.where(image > -950, image + hu * noise, image) for hu in (10, 30, 90)],
        [np.where(image > -950, image + hu, image) for hu in (10, 30, 90)],
    ):
        found = extractor.features(np.stack([image, *faulty]).astype(np.float32), 1.0)
        distances = np.linalg.norm(found[1:] - found[0], axis=1)
        assert 0 < distances[0] < distances[1] < distances[2]
