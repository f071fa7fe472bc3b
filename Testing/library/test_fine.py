"""The fine stage: a larger matrix of the same volume, slice by slice as the volume comes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_model import write_random_fine_model
from tiny_generation import SIZE, Recorder, Wrapped, like_volume, real_slice, tiny_model

from CTDiffusionLogic.bundle import load_model
from CTDiffusionLogic.denoiser.coarse import upsample
from CTDiffusionLogic.denoiser.intensity import hu_to_intensity, intensity_to_hu
from CTDiffusionLogic.errors import Cancelled, ModelFileError, UsageError
from CTDiffusionLogic.fine import FineModel
from CTDiffusionLogic.generation import GenerationRequest, generate

FINE_SIZE = 2 * SIZE


@pytest.fixture(scope="module")
def fine(tmp_path_factory) -> FineModel:
    path = write_random_fine_model(tmp_path_factory.mktemp("fine") / "fine.safetensors", coarse_size=SIZE)
    return FineModel.from_file(load_model(path))


class AddsNothing(torch.nn.Module):
    """A fine denoiser that finds nothing beyond the coarse images."""

    def __init__(self, inner):
        super().__init__()
        self.config = inner.config

    def forward(self, x_t, t, conditions):
        return torch.zeros_like(x_t)


def watched(fine: FineModel, before) -> FineModel:
    return replace(fine, denoiser=Wrapped(fine.denoiser, before))


@pytest.mark.parametrize("slices", [1, 9, 40])
def test_a_larger_matrix_in_the_same_place(fine, slices):
    request = GenerationRequest(slices=slices, spacing_mm=2.0, seed=3)
    seen = Recorder()
    coarse, volume = generate(tiny_model(), request), generate(tiny_model(), request, fine=fine, **seen.callbacks())
    assert volume.shape == (slices, FINE_SIZE, FINE_SIZE)
    assert volume.hu.dtype == np.int16
    assert len(np.unique(volume.hu, axis=0)) == slices
    assert volume.spacing == (5.0, 5.0, 2.0)
    assert volume.geometry.origin == (-157.5, -157.5, 0.0)

    def edges(one):  # of the first pixel, and of the last one
        first = one.geometry.origin[0] - one.spacing[0] / 2
        return first, first + one.shape[2] * one.spacing[0]

    assert edges(volume) == edges(coarse) == (-160.0, 160.0)
    more = {"fine_model": "finer", "fine_model_sha256": fine.sha256, "fine_steps": "2"}
    assert volume.metadata == {**coarse.metadata, **more}
    # Slices: each once, from the feet up, as they are in the end. Progress: to the very end, never back.
    assert [first for first, _ in seen.blocks] == np.cumsum([0, *(len(hu) for _, hu in seen.blocks)])[:-1].tolist()
    assert np.array_equal(np.concatenate([hu for _, hu in seen.blocks]), volume.hu)
    done, totals = [event[0] for event in seen.progress], {event[1] for event in seen.progress}
    assert done == sorted(done)
    assert totals == {done[-1]}
    assert {event[3] for event in seen.progress} == {"anatomy", "detail", "fine"}
    assert seen.progress[-1][2] == 0


def test_it_rests_on_the_volume_that_the_model_makes_without_it(fine):
    request = GenerationRequest(slices=20, seed=5)
    coarse = generate(tiny_model(), request).hu
    volume = generate(tiny_model(), request, fine=replace(fine, denoiser=AddsNothing(fine.denoiser)))
    wanted = upsample(torch.from_numpy(hu_to_intensity(coarse)), (FINE_SIZE, FINE_SIZE))
    assert np.array_equal(volume.hu, intensity_to_hu(wanted))


def test_same_request_same_bytes(fine):
    request = GenerationRequest(slices=20, seed=5)
    first = generate(tiny_model(), request, fine=fine).hu
    assert np.array_equal(first, generate(tiny_model(), request, fine=fine).hu)
    other = generate(tiny_model(), replace(request, seed=6), fine=fine).hu
    assert (first != other).mean() > 0.5


def test_it_does_not_depend_on_its_batches(fine, monkeypatch):
    volumes = []
    for batch in (1, 50):
        monkeypatch.setattr("CTDiffusionLogic.stage_run.batch_size", lambda *_, n=batch: n)
        volumes.append(generate(tiny_model(), GenerationRequest(slices=40, seed=1), fine=fine).hu.astype(int))
    assert np.abs(volumes[1] - volumes[0]).max() <= 3  # kernels may round differently, and what is refined with them
    assert (volumes[1] != volumes[0]).mean() < 1e-3


def test_its_noise_is_not_that_of_detail(fine, monkeypatch):
    from CTDiffusionLogic import stage_slices

    drawn = []

    def noted(seed, stage, positions):
        drawn.append((stage, tuple(positions)))
        return original(seed, stage, positions)

    original = stage_slices.slice_generators
    monkeypatch.setattr(stage_slices, "slice_generators", noted)
    generate(tiny_model(), GenerationRequest(slices=8), fine=fine)
    assert drawn.count(("fine", tuple(range(8)))) == drawn.count(("detail", tuple(range(8)))) == 1


def test_slices_come_while_the_volume_is_made(fine, monkeypatch):
    monkeypatch.setattr("CTDiffusionLogic.stage_run.batch_size", lambda *_: 1)
    seen = Recorder()
    left = []

    def on_slices(first, hu):
        left.append((first + len(hu), [event[3] for event in seen.progress].count("detail")))

    generate(tiny_model(), GenerationRequest(slices=100), fine=fine, **{**seen.callbacks(), "on_slices": on_slices})
    assert left[0][0] < 40
    assert left[0][1] < left[-1][1], "detail goes on after the first fine slices"


def test_what_its_network_is_told(fine):
    told = []
    request = GenerationRequest(slices=64, spacing_mm=3.0, label="chest", body_mm=300.0)
    generate(tiny_model(), request, fine=watched(fine, lambda x, t, c: told.append(c)))
    assert all(torch.isnan(c.body_mm).all() and not c.label.any() for c in told)
    assert all(torch.allclose(c.pixel_mm, torch.tensor(0.9)) for c in told), "the largest pixels it has learnt"
    assert all(torch.allclose(c.coarse_noise, torch.tensor(0.01)) for c in told)
    assert all(torch.allclose(c.offsets_mm.diff(dim=1), torch.tensor(3.0)) for c in told)
    between = [c for c in told if c.mask.sum() > 0]
    assert between, "the second block knows slices of the first one"
    assert all(c.mask[:, 0].any() and not c.mask[:, -1].any() for c in between)


def test_its_own_steps_or_those_asked_for(fine):
    passes = []
    one = watched(fine, lambda x, t, c: passes.append(1))
    generate(tiny_model(), GenerationRequest(slices=1, steps=7, detail_steps=9), fine=one)
    assert len(passes) == 2
    volume = generate(tiny_model(), GenerationRequest(slices=1, fine_steps=5), fine=one)
    assert len(passes) == 2 + 5
    assert volume.metadata["fine_steps"] == "5"
    with pytest.raises(UsageError, match="steps must be 1 to 10000, got 0"):
        generate(tiny_model(), GenerationRequest(slices=1, fine_steps=0), fine=one)


def test_like_a_scan(fine):
    scan = like_volume(np.diag([1.0, -1.0, -1.0]))
    seen = Recorder()
    volume = generate(tiny_model(), GenerationRequest(like=scan, seed=4), fine=fine, **seen.callbacks())
    assert volume.shape == scan.shape
    assert volume.geometry.is_close(scan.geometry)
    coarse = generate(tiny_model(), GenerationRequest(like=scan, seed=4))
    assert (volume.hu != coarse.hu).mean() > 0.5
    assert [first for first, _ in seen.blocks] == sorted((first for first, _ in seen.blocks), reverse=True)


def test_cancelled_within_the_fine_stage(fine):
    seen = Recorder()

    def is_cancelled():
        return any(event[3] == "fine" for event in seen.progress)

    with pytest.raises(Cancelled):
        generate(
            tiny_model(), GenerationRequest(slices=40), fine=fine, **{**seen.callbacks(), "is_cancelled": is_cancelled}
        )
    assert [event[3] for event in seen.progress].count("fine") == 1


@pytest.mark.parametrize(
    "entry",
    [
        {"sampling": {"coarse_noise": "some"}},
        {"sampling": {"detail_steps": None}},
        {"sampling": 3},
        {"plan": {"pixel_mm_range": 0.7}},
        {"plan": {"pixel_mm_range": ["small", "large"]}},
    ],
)
def test_a_card_that_makes_no_sense_is_named(entry, tmp_path):
    model = load_model(write_random_fine_model(tmp_path / "fine.safetensors", coarse_size=SIZE))
    card = {**model.card, "plan": {**model.card["plan"], **entry.get("plan", {})}}
    card |= {key: value for key, value in entry.items() if key != "plan"}
    with pytest.raises(ModelFileError, match=r"fine.safetensors: its card does not say in numbers"):
        FineModel.from_file(replace(model, card=card))


def test_what_does_not_go_together(fine, tmp_path):
    with pytest.raises(UsageError, match="given slices is not refined"):
        generate(tiny_model(), GenerationRequest(slices=9, known={0: real_slice(0)}), fine=fine)
    other = load_model(write_random_fine_model(tmp_path / "other.safetensors", coarse_size=64))
    with pytest.raises(ModelFileError, match=r"refines images of 64 x 64 pixels; those of the model have 32 x 32"):
        generate(tiny_model(), GenerationRequest(slices=9), fine=other)
    unknown = load_model(write_random_fine_model(tmp_path / "new.safetensors", coarse_size=SIZE, sampler="guess"))
    with pytest.raises(ModelFileError, match="unknown sampler 'guess'"):
        generate(tiny_model(), GenerationRequest(slices=9), fine=unknown)
