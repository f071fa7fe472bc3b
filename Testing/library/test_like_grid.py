"""Volumes on the grid of another one."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_generation import Recorder, like_volume, tiny_model

from CTDiffusionLogic.generation import GenerationRequest, generate


@pytest.fixture
def model():
    return tiny_model()


def test_like_an_axial_scan(model):
    like = like_volume(np.eye(3))
    seen = Recorder()
    volume = generate(model, GenerationRequest(like=like, seed=4), **seen.callbacks())
    assert volume.shape == like.shape
    assert volume.geometry.is_close(like.geometry)
    assert np.array_equal(np.concatenate([hu for _, hu in seen.blocks]), volume.hu)
    assert volume.metadata["like_geometry"] == "yes"
    # The same volume on the model's own grid, looked up at the voxels' places: centre on centre.
    own = generate(model, GenerationRequest(slices=10, spacing_mm=5.0, seed=4)).hu
    rows = np.rint((np.arange(40) - 19.5) * 4.0 / 10.0 + 15.5).astype(int)
    columns = np.rint((np.arange(50) - 24.5) * 3.0 / 10.0 + 15.5).astype(int)
    nearest = own[:, rows[:, None], columns].astype(float)
    assert np.corrcoef(nearest.ravel(), volume.hu.ravel())[0, 1] > 0.9


def test_air_beyond_the_models_field_of_view(model):
    like = like_volume(np.eye(3), shape=(3, 100, 100), spacing=(5.0, 5.0, 3.0))  # 500 mm; the model has 320
    hu = generate(model, GenerationRequest(like=like)).hu
    inside = np.abs((np.arange(100) - 49.5) * 5.0) < 155
    assert (hu[:, ~inside][:, :10] == -1024).all()
    assert (hu[:, :, ~inside][:, :, :10] == -1024).all()
    assert (hu[:, inside][:, :, inside] != -1024).mean() > 0.9


@pytest.mark.parametrize(
    ("direction", "back"),
    [
        (np.diag([1, 1, -1]), lambda hu: hu[::-1]),
        (np.diag([-1, -1, 1]), lambda hu: hu[:, ::-1, ::-1]),
        ([[1, 0, 0], [0, 0, 1], [0, 1, 0]], lambda hu: hu.transpose(1, 0, 2)),  # coronal, slices to the back
        ([[0, 0, -1], [1, 0, 0], [0, 1, 0]], lambda hu: hu.transpose(1, 2, 0)[:, :, ::-1]),  # sagittal
    ],
    ids=["feet first", "rotated", "coronal", "sagittal"],
)
def test_like_scans_that_lie_otherwise(model, direction, back):
    like = like_volume(direction, shape=(12, 12, 12), spacing=(8.0, 8.0, 8.0))
    seen = Recorder()
    volume = generate(model, GenerationRequest(like=like, seed=9), **seen.callbacks())
    plain = generate(model, GenerationRequest(like=like_volume(np.eye(3), (12, 12, 12), (8.0, 8.0, 8.0)), seed=9))
    assert np.array_equal(back(volume.hu), plain.hu)
    assert volume.geometry.is_close(like.geometry)
    result = np.full(like.shape, 9999, dtype=np.int16)
    for first, hu in seen.blocks:
        assert (result[first : first + len(hu)] == 9999).all()
        result[first : first + len(hu)] = hu
    assert np.array_equal(result, volume.hu)


def test_like_with_other_slices(model):
    volume = generate(model, GenerationRequest(like=like_volume(np.eye(3)), slices=4, spacing_mm=2.0))
    assert volume.shape == (4, 40, 50)
    assert volume.spacing == (3.0, 4.0, 2.0)
    assert volume.geometry.origin == (7.0, -3.0, 11.0)


def test_fine_like_keeps_the_noise(model):
    like = like_volume(np.eye(3), shape=(4, 155, 155), spacing=(2.0, 2.0, 5.0))
    fine = generate(model, GenerationRequest(like=like, seed=4)).hu[:, 5:-5, 5:-5]
    own = generate(model, GenerationRequest(slices=4, spacing_mm=5.0, seed=4)).hu
    assert fine.std() == pytest.approx(own.std(), rel=0.25)
