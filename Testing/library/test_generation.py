"""From a request to a volume, with a real, tiny, untrained denoiser."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from tiny_generation import CARD, SIZE, Recorder, Wrapped, real_slice, replaced, tiny_denoisers, tiny_model

from CTDiffusionLogic.bundle import load_model, save_model
from CTDiffusionLogic.errors import ModelFileError
from CTDiffusionLogic.generation import GenerationRequest, generate
from CTDiffusionLogic.slab_plan import plan_detail


@pytest.fixture
def model():
    return tiny_model()


@pytest.mark.parametrize("slices", [1, 2, 8, 9, 64, 200])
def test_any_number_of_slices(model, slices):
    seen = Recorder()
    volume = generate(model, GenerationRequest(slices=slices, spacing_mm=2.5, seed=3), **seen.callbacks())
    assert volume.shape == (slices, SIZE, SIZE)
    assert volume.hu.dtype == np.int16
    assert -1024 <= volume.hu.min() < volume.hu.max() <= 3071
    assert len(np.unique(volume.hu, axis=0)) == slices
    # Progress: never back, to the very end.
    done = [event[0] for event in seen.progress]
    total = seen.progress[0][1]
    assert done == sorted(done)
    assert done[-1] == total
    assert {event[1] for event in seen.progress} == {total}
    assert all(event[2] >= 0 for event in seen.progress)
    assert seen.progress[-1][2] == 0
    assert [event[3] for event in seen.progress] == sorted(event[3] for event in seen.progress)
    # Slices: each once, in order, and what they were when handed out is what they are.
    assert [first for first, _ in seen.blocks] == np.cumsum([0, *(len(hu) for _, hu in seen.blocks)])[:-1].tolist()
    assert np.array_equal(np.concatenate([hu for _, hu in seen.blocks]), volume.hu)


def test_slices_come_long_before_the_end(model):
    seen = Recorder()
    delivered = []

    def on_slices(first, hu):
        delivered.append((seen.progress[-1][0] / seen.progress[-1][1], first + len(hu)))

    generate(model, GenerationRequest(slices=200), **{**seen.callbacks(), "on_slices": on_slices})
    assert len(delivered) > 5  # more where less memory is free
    assert max(stop for share, stop in delivered if share < 0.7) > 60


def test_the_default_place_in_space(model):
    volume = generate(model, GenerationRequest(slices=4, spacing_mm=2.0))
    assert volume.spacing == (10.0, 10.0, 2.0)
    assert volume.geometry.origin == (-155.0, -155.0, 0.0)
    assert np.array_equal(volume.geometry.direction, np.eye(3))


def test_provenance(model):
    volume = generate(model, GenerationRequest(slices=2, seed=11, label="abdomen", body_mm=300.0))
    wanted = {
        "synthetic": "yes",
        "model": "tiny",
        "model_sha256": "ab" * 32,
        "seed": "11",
        "sampler": "multistep",
        "steps": "3",
        "detail_steps": "2",
        "body_mm": "300.0",
        "label": "abdomen",
    }
    assert wanted.items() <= volume.metadata.items()
    assert volume.metadata["version"]


def test_same_request_same_bytes_other_seed_other_volume(model):
    def make(**request):
        return generate(model, GenerationRequest(slices=20, **request)).hu

    first = make(seed=5)
    assert np.array_equal(first, make(seed=5))
    assert (first != make(seed=6)).mean() > 0.5
    assert (first != make(seed=5, label="chest", body_mm=300.0)).mean() > 0.1
    stochastic = make(seed=5, sampler="ddpm", steps=4)
    assert np.array_equal(stochastic, make(seed=5, sampler="ddpm", steps=4))
    assert (stochastic != first).mean() > 0.5


def test_a_volume_does_not_depend_on_its_batches(model, monkeypatch):
    request = GenerationRequest(slices=60, seed=1, sampler="ddpm", steps=3)
    volumes = []
    for batch in (1, 3, 50):
        monkeypatch.setattr("CTDiffusionLogic.stage_run.batch_size", lambda *_, n=batch: n)
        volumes.append(generate(model, request).hu.astype(int))
    for other in volumes[1:]:
        assert np.abs(other - volumes[0]).max() <= 1  # kernels may round differently
        assert (other != volumes[0]).mean() < 1e-3


def test_slices_are_one_volume(model):
    # Neighbours share the anatomy and, across slabs, what they know of each other: unlike two other slices.
    hu = generate(model, GenerationRequest(slices=64, spacing_mm=1.0)).hu.astype(float)
    near = np.abs(np.diff(hu, axis=0)).mean(axis=(1, 2))
    far = np.abs(hu[:-32] - hu[32:]).mean()
    assert near.mean() < far


@pytest.mark.parametrize("spacing_mm", [1.25, 3.0, 7.0])
@pytest.mark.parametrize(
    "numbers", [range(12), [0, 29], range(0, 30, 2), [3, 4, 17], range(30), range(20, 30)], ids=str
)
def test_known_slices_come_out_unaltered(model, numbers, spacing_mm):
    known = {n: real_slice(n) for n in numbers}
    seen = Recorder()
    volume = generate(model, GenerationRequest(slices=30, spacing_mm=spacing_mm, known=known), **seen.callbacks())
    for number, pixels in known.items():
        assert np.array_equal(volume.hu[number], pixels)
    assert len(np.unique(volume.hu, axis=0)) == 30
    assert volume.metadata["given_slices"] == str(len(known))
    assert np.array_equal(np.concatenate([hu for _, hu in seen.blocks]), volume.hu)


def test_known_slices_reach_both_denoisers_in_their_own_space(model):
    known = {n: np.full((SIZE, SIZE), -500, dtype=np.int16) for n in range(0, 20, 2)}
    told = {"anatomy": [], "detail": []}

    def note(stage):
        return lambda x, t, c: told[stage].append(c)

    watched = replaced(
        model,
        anatomy=Wrapped(model.anatomy, note("anatomy")),
        detail=Wrapped(model.detail, note("detail")),
    )
    generate(watched, GenerationRequest(slices=20, spacing_mm=4.0, known=known, body_mm=300.0))
    level = -1.0 + (524 / 824) * 0.6  # the first segment of the intensity curve
    for c in told["anatomy"]:
        assert c.coarse is None
        assert torch.allclose(c.known[c.mask > 0], torch.tensor(level), atol=1e-6)
        assert torch.allclose(c.pixel_mm, torch.tensor(20.0))
    for c in told["detail"]:
        assert (c.mask.sum(1) > 0).all()
        full = c.known * 0.2 + c.coarse
        assert torch.allclose(full[c.mask > 0], torch.tensor(level), atol=1e-5)
        assert torch.allclose(c.pixel_mm, torch.tensor(10.0))
        assert torch.allclose(c.offsets_mm.diff(dim=1), torch.tensor(4.0))
        assert c.offsets_mm.mean().abs() < 1e-5
        assert ((c.body_mm - 300.0).abs() <= 38.0 - 14.0 + 1e-3).all()


def test_given_slices_show_where_they_lie(model):
    told = []
    watched = replaced(model, anatomy=Wrapped(model.anatomy, lambda x, t, c: told.append(c)))
    known = {0: real_slice(0)}
    volume = generate(watched, GenerationRequest(slices=12, known=known))
    assert "body_mm" not in volume.metadata
    assert all(torch.isnan(c.body_mm).all() for c in told)
    told.clear()
    assert generate(watched, GenerationRequest(slices=12, known=known, body_mm=310.0)).metadata["body_mm"] == "310.0"
    assert told
    assert all(torch.isfinite(c.body_mm).all() for c in told)


def test_the_body_position_rises_towards_the_head(model):
    told = []
    watched = replaced(model, detail=Wrapped(model.detail, lambda x, t, c: told.append(c)))
    generate(watched, GenerationRequest(slices=36, spacing_mm=5.0, body_mm=250.0))
    middles = sorted({float(b) for c in told for b in c.body_mm})
    (block,) = plan_detail(36, ())
    starts = {start for number in range(2) for start in block.windows(number)}
    assert middles == pytest.approx(sorted(250 + 5.0 * (start - 14) for start in starts))


def test_generated_neighbours_reach_the_block_after_them(model):
    told = []
    watched = replaced(model, detail=Wrapped(model.detail, lambda x, t, c: told.append(c)))
    volume = generate(watched, GenerationRequest(slices=64, spacing_mm=3.0))
    rows = [(c, row) for c in told for row in range(len(c.mask)) if c.mask[row].sum() > 0]
    assert rows
    from CTDiffusionLogic.denoiser.intensity import intensity_to_hu

    c, row = rows[0]  # the first pass: its first window begins one slice before the block
    assert c.mask[row].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    given = intensity_to_hu((c.known * 0.2 + c.coarse)[row, :1])
    assert np.abs(given.astype(int) - volume.hu[31]).max() <= 1


def test_a_model_file_generates(tmp_path):
    anatomy, detail = tiny_denoisers()
    stages = {"anatomy": anatomy, "detail": detail}
    tensors = {f"{stage}.{name}": t for stage, net in stages.items() for name, t in net.state_dict().items()}
    card = {**CARD, "stages": {stage: net.config.to_dict() for stage, net in stages.items()}}
    save_model(tmp_path / "m.safetensors", tensors, card)
    file = load_model(tmp_path / "m.safetensors")
    volume = generate(file, GenerationRequest(slices=3))
    assert volume.metadata["model_sha256"] == file.sha256
    plan = {k: v for k, v in CARD["plan"].items() if k != "fov_mm"}
    save_model(tmp_path / "bad.safetensors", tensors, {**card, "plan": plan})
    with pytest.raises(ModelFileError, match="fov_mm"):
        generate(load_model(tmp_path / "bad.safetensors"), GenerationRequest(slices=3))
    save_model(tmp_path / "odd.safetensors", tensors, {**card, "plan": {**CARD["plan"], "image_size": 33}})
    with pytest.raises(ModelFileError, match="33 pixels"):
        generate(load_model(tmp_path / "odd.safetensors"), GenerationRequest(slices=3))


def test_from_another_thread(model):
    result = []
    worker = threading.Thread(target=lambda: result.append(generate(model, GenerationRequest(slices=3, seed=8))))
    worker.start()
    worker.join()
    assert np.array_equal(result[0].hu, generate(model, GenerationRequest(slices=3, seed=8)).hu)
