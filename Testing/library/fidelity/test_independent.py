"""Independent slices: the same request, every slice alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from CTDiffusionLogic.bundle import load_model
from CTDiffusionLogic.cli.main import main
from CTDiffusionLogic.errors import Cancelled, UsageError
from CTDiffusionLogic.fidelity.independent import independent_slices, settings_of_slice
from CTDiffusionLogic.generation import GenerationModel, GenerationRequest, generate
from CTDiffusionLogic.generation_request import resolve
from CTDiffusionLogic.volume_io import read_volume

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from random_model import write_random_model

REQUEST = GenerationRequest(slices=5, spacing_mm=3.0, seed=7)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = write_random_model(tmp_path_factory.mktemp("model") / "noise.safetensors", steps=2)
    return GenerationModel.from_file(load_model(path))


@pytest.fixture(scope="module")
def volume(model):
    return independent_slices(model, REQUEST)


def test_the_volume_has_the_geometry_and_facts_of_the_request(model, volume):
    slabs = generate(model, REQUEST)
    assert volume.shape == slabs.shape
    assert volume.geometry == slabs.geometry or np.array_equal(volume.geometry.ijk_to_lps, slabs.geometry.ijk_to_lps)
    assert volume.metadata == {**slabs.metadata, "independent_slices": "yes"}


def test_the_same_seed_gives_the_same_volume_and_another_seed_another(model, volume):
    again = independent_slices(model, REQUEST)
    assert np.array_equal(again.hu, volume.hu)
    other = independent_slices(model, GenerationRequest(slices=5, spacing_mm=3.0, seed=8))
    assert not np.array_equal(other.hu, volume.hu)


def test_a_slice_does_not_depend_on_the_others(model, volume):
    """Slice 2 of 5 is made as the one slice of a volume at its place, with its own noise: nothing else goes in."""
    settings = resolve(REQUEST, model.card, slices=5, spacing_mm=3.0)
    alone = settings_of_slice(settings, 3)
    assert alone.body_mm == pytest.approx(settings.body_mm + 3.0)
    assert alone.body_box == settings.body_box or np.isnan(alone.body_box).all()
    request = GenerationRequest(slices=1, spacing_mm=3.0, seed=alone.seed, body_mm=alone.body_mm)
    assert np.array_equal(generate(model, request).hu[0], volume.hu[3])


def test_every_slice_has_noise_of_its_own(model):
    settings = resolve(REQUEST, model.card, slices=5, spacing_mm=3.0)
    seeds = {settings_of_slice(settings, n).seed for n in range(5)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_given_slices_are_refused(model):
    with pytest.raises(UsageError, match="1 slices that are given"):
        independent_slices(model, GenerationRequest(slices=4, known={0: np.zeros((64, 64))}))


def test_progress_counts_all_slices_and_cancelling_works(model):
    told = []
    independent_slices(model, REQUEST, on_progress=lambda *event: told.append(event))
    done = [event[0] for event in told]
    assert done == sorted(done)
    assert done[-1] == told[-1][1]
    assert len({event[1] for event in told}) == 1
    with pytest.raises(Cancelled):
        independent_slices(model, REQUEST, is_cancelled=lambda: True)


def test_slices_are_handed_out_as_they_are_final(model, volume):
    told = []
    independent_slices(model, REQUEST, on_slices=lambda first, hu: told.append((first, hu)))
    assert [first for first, _ in told] == list(range(5))
    assert np.array_equal(np.concatenate([hu for _, hu in told]), volume.hu)


def test_the_command_makes_the_same(volume, tmp_path):
    path = write_random_model(tmp_path / "noise.safetensors", steps=2)
    words = f"generate --model {path} --out {tmp_path / 'a.nrrd'} --slices 5 --spacing-mm 3 --seed 7 --threads 1"
    assert main([*words.split(), "--independent-slices"]) == 0
    made = read_volume(tmp_path / "a.nrrd")
    assert made.metadata["independent_slices"] == "yes"
    assert np.abs(made.hu.astype(int) - volume.hu).max() <= 1
