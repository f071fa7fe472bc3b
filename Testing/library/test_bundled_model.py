"""The model that comes with the program: its file, its card, and that what it makes is a torso."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from CTDiffusionLogic.bundle import load_model, read_header
from CTDiffusionLogic.generation import GenerationRequest, generate
from CTDiffusionLogic.models import bundled_models


@pytest.fixture(scope="module")
def path():
    return bundled_models()["torso"]


@pytest.fixture(scope="module")
def volume(path):
    # The middle of the chest: lungs on both sides, the heart between them, the spine behind it.
    return generate(load_model(path), GenerationRequest(slices=12, spacing_mm=6.0, seed=7, body_mm=470.0))


def test_the_file_is_small_and_its_card_says_what_it_saw(path):
    assert path.stat().st_size <= 16_000_000, "a rule of this repository: its history must stay small"
    card = read_header(path).card
    training = card["training"]
    assert training["patients"] >= 11 and training["held_out_patients"] >= 2
    assert training["command"].startswith("ctdiffusion train")
    trainings = [training]  # and those of the models that it began with
    while "training" in (start := trainings[-1].get("started_from") or {}):
        trainings.append(start["training"])
    assert training["data"] and sum(part["slabs"]["anatomy"] for part in trainings) > 10_000
    assert card["plan"]["image_size"] == 256
    assert any("Not for diagnosis" in limit for limit in card["limits"])
    assert {"anatomy_held_out", "detail_held_out"} <= card["metrics"].keys()


def test_there_is_a_body_in_air(volume):
    hu = volume.hu
    assert volume.shape == (12, 256, 256) and volume.hu.dtype == np.int16
    corners = np.stack([hu[:, :24, :24], hu[:, :24, -24:]])
    assert np.median(corners) < -950
    body, count = ndimage.label(ndimage.gaussian_filter(hu.astype(np.float32), (0, 2, 2)) > -300)
    assert count
    sizes = np.bincount(body.ravel())[1:]
    largest = body == 1 + int(sizes.argmax())
    assert 0.08 < largest.mean() < 0.5, "a body fills a tenth to a half of the field of view"
    tissue = hu[ndimage.binary_erosion(largest, iterations=2)]
    assert -120 < np.median(tissue) < 120, "HU of fat to muscle"


def test_there_are_two_lungs_and_a_spine(volume):
    smooth = ndimage.gaussian_filter(volume.hu.astype(np.float32), (0.5, 3, 3))
    inside = ndimage.binary_fill_holes((smooth > -300).any(axis=0))
    lungs = (smooth < -500) & ndimage.binary_erosion(inside, iterations=20)
    per_side = [lungs[:, :, :128].mean(), lungs[:, :, 128:].mean()]
    assert min(per_side) > 0.005, f"lung on both sides of the middle, got {per_side}"
    middle = smooth[:, 128:, 96:160]
    assert np.percentile(middle, 99) > 150, "bone behind the middle"


def test_slices_hang_together(volume):
    smooth = ndimage.gaussian_filter(volume.hu.astype(np.float32), (0, 3, 3))
    near = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in itertools.pairwise(smooth)]
    assert min(near) > 0.95, "6 mm further there is nearly the same anatomy"
    # A slice that was made between two others is no stranger to them: half-way, but for what is new in it.
    second = np.abs(smooth[1:-1] - (smooth[2:] + smooth[:-2]) / 2).mean()
    assert second < 0.75 * np.abs(np.diff(smooth, axis=0)).mean()
