"""From a request to a volume, with a real, tiny, untrained denoiser."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch

from CTDiffusionLogic.bundle import load_model, save_model
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.denoiser.network import DenoiserConfig, SlabDenoiser
from CTDiffusionLogic.errors import Cancelled, CTDiffusionError, InputError, ModelFileError, ResourceError, UsageError
from CTDiffusionLogic.generation import GenerationModel, GenerationRequest, generate
from CTDiffusionLogic.generation_request import choose_body_box, choose_body_mm
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.guidance import guided_estimate
from CTDiffusionLogic.volume import CTVolume

SIZE = 32
CARD = {
    "name": "tiny",
    "plan": {
        "image_size": SIZE,
        "anatomy_size": 16,
        "fov_mm": 320.0,
        "anatomy_gap_mm": 6.0,
        "max_gap_mm": 36.0,
        "spacing_mm_range": [1.0, 8.0],
        "body_mm_range": [100.0, 500.0],
    },
    "labels": ["chest", "abdomen"],
    "sampling": {"sampler": "multistep", "anatomy_steps": 3, "detail_steps": 2},
}


class Recorder:
    """Collects what a generation tells."""

    def __init__(self, cancel_after=None):
        self.progress, self.blocks, self.warnings = [], [], []
        self.cancel_after = cancel_after

    def callbacks(self):
        return {
            "on_progress": lambda *event: self.progress.append(event),
            "on_slices": lambda first, hu: self.blocks.append((first, hu.copy())),
            "on_warning": self.warnings.append,
            "is_cancelled": self.is_cancelled,
        }

    def is_cancelled(self):
        return self.cancel_after is not None and len(self.progress) >= self.cancel_after


@pytest.fixture(scope="module")
def denoisers():
    torch.manual_seed(0)
    common = {"slices": 8, "channels": (8, 16), "layers": 1, "attention": False, "labels": 2}
    anatomy = SlabDenoiser(DenoiserConfig(stage="anatomy", **common))
    detail = SlabDenoiser(DenoiserConfig(stage="detail", residual_scale=0.2, **common))
    for network in (anatomy, detail):
        torch.nn.init.normal_(
            network.unet.conv_out.weight, std=0.1
        )  # zero before training: nothing would depend on it
        torch.nn.init.normal_(network.embed_label.weight)
        network.eval().requires_grad_(False)
    return anatomy, detail


@pytest.fixture
def model(denoisers):
    return GenerationModel(*denoisers, CARD, "tiny", "ab" * 32, torch.device("cpu"))


def replaced(model, **changes):
    return dataclasses.replace(model, **changes)


class Wrapped(torch.nn.Module):
    """A denoiser whose calls are seen, and may fail."""

    def __init__(self, inner, before):
        super().__init__()
        self.inner, self.config, self.before = inner, inner.config, before

    def forward(self, x_t, t, conditions):
        self.before(x_t, t, conditions)
        return self.inner(x_t, t, conditions)


def real_slice(number):
    rng = np.random.default_rng(number)
    return rng.integers(-1024, 3072, size=(SIZE, SIZE)).astype(np.int16)


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
    assert len(delivered) > 10
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
    assert middles == pytest.approx([250 + 5 * d for d in (-14, -7, 0, 7, 14)])


def test_generated_neighbours_reach_the_slabs_between_them(model):
    told = []
    watched = replaced(model, detail=Wrapped(model.detail, lambda x, t, c: told.append(c)))
    volume = generate(watched, GenerationRequest(slices=36, spacing_mm=3.0))
    between = [c for c in told if c.mask.sum() > 0]
    assert between
    from CTDiffusionLogic.denoiser.intensity import intensity_to_hu

    c = between[0]
    given = intensity_to_hu((c.known * 0.2 + c.coarse)[0, 0])
    assert np.abs(given.astype(int) - volume.hu[7]).max() <= 1
    assert set(c.mask[0, [0, -1]].tolist()) == {1.0}
    assert c.mask[0, 1:-1].sum() == 0


@pytest.mark.parametrize("after", [0, 1, 7, 12])
def test_cancel_between_passes(model, after):
    seen = Recorder(cancel_after=after)
    passes = []
    watched = replaced(
        model,
        anatomy=Wrapped(model.anatomy, lambda *_: passes.append(0)),
        detail=Wrapped(model.detail, lambda *_: passes.append(0)),
    )
    with pytest.raises(Cancelled):
        generate(watched, GenerationRequest(slices=64), **seen.callbacks())
    assert len(passes) == after
    if not after:
        assert seen.blocks == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_batches_are_halved_until_they_fit(model, monkeypatch, error):
    monkeypatch.setattr("CTDiffusionLogic.stage_run.batch_size", lambda *_: 8)
    request = GenerationRequest(slices=120, seed=2)
    whole = generate(model, request).hu
    tried = []

    def fail(x, t, c):
        tried.append((len(x), float(t[0])))
        if len(x) > 2 and t[0] < 0.5:  # after some passes: what they did is lost
            raise error

    seen = Recorder()
    volume = generate(replaced(model, detail=Wrapped(model.detail, fail)), request, **seen.callbacks())
    assert np.abs(volume.hu.astype(int) - whole).max() <= 1
    assert {8, 4, 2} <= {n for n, _ in tried} <= {8, 4, 2, 1}
    assert sum(n > 2 for n, _ in tried) == 4  # once halved, it stays so
    assert [w for w in seen.warnings if "8 slabs" in w and "going on with 4" in w]
    assert [w for w in seen.warnings if "4 slabs" in w and "going on with 2" in w]
    done = [event[0] for event in seen.progress]
    assert done == sorted(done)
    assert done[-1] == seen.progress[-1][1]


def test_no_memory_for_a_single_slab(model):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ResourceError, match="single slab of 32 x 32"):
        generate(replaced(model, detail=Wrapped(model.detail, fail)), GenerationRequest(slices=8))


def test_other_errors_are_not_taken_for_lack_of_memory(model):
    def fail(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        generate(replaced(model, detail=Wrapped(model.detail, fail)), GenerationRequest(slices=8))


def test_a_broken_model_is_named(model):
    class Broken(Wrapped):
        def forward(self, x_t, t, conditions):
            return x_t * torch.nan

    with pytest.raises(CTDiffusionError, match="anatomy stage gave values that are not numbers"):
        generate(replaced(model, anatomy=Broken(model.anatomy, None)), GenerationRequest(slices=8))


def like_volume(direction, shape=(10, 40, 50), spacing=(3.0, 4.0, 5.0)):
    geometry = Geometry(spacing, (7.0, -3.0, 11.0), np.array(direction, dtype=float))
    return CTVolume(np.zeros(shape, dtype=np.int16), geometry)


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


def test_the_body_position_lies_where_the_model_knows_most():
    plan = {"body_mm_range": [0.0, 400.0], "body_mm_coverage": [1] * 10 + [5] * 8 + [2] * 2}
    chosen = [choose_body_mm(plan, 100.0, seed) for seed in range(50)]
    assert min(chosen) >= 250.0 - 1e-6
    assert max(chosen) <= 310.0 + 1e-6
    assert len(set(chosen)) > 5
    assert chosen[3] == choose_body_mm(plan, 100.0, 3)
    assert choose_body_mm(plan, 400.0, 1) == 200.0
    assert choose_body_mm(plan, 900.0, 1) == 200.0
    assert 50 <= choose_body_mm({"body_mm_range": [0.0, 400.0]}, 100.0, 0) <= 350


def test_the_body_is_as_large_as_that_of_a_patient_seen_there():
    pelvis, chest = [0.0, 200.0, -100.0, 110.0, -160.0, 150.0], [250.0, 500.0, -120.0, 120.0, -220.0, 220.0]
    plan = {"body_boxes_mm": [pelvis, chest]}
    box = choose_body_box(plan, 400.0, 150.0, 3, side_mm=448.0)
    width_mm = (box[3] - box[2]) * 448.0
    assert 0.96 * 440 <= width_mm <= 1.04 * 440
    assert box == choose_body_box(plan, 400.0, 150.0, 3, side_mm=448.0)
    assert len({choose_body_box(plan, 220.0, 400.0, seed, side_mm=448.0) for seed in range(20)}) == 20
    widths = [np.ptp(choose_body_box(plan, 230.0, 440.0, seed, side_mm=448.0)[2:]) for seed in range(20)]
    assert min(widths) < 0.75 < 0.9 < max(widths), "both patients where both have been seen"
    for nothing in ({"body_boxes_mm": []}, {}):
        assert np.isnan(choose_body_box(nothing, 400.0, 150.0, 3, side_mm=448.0)).all()


@pytest.mark.parametrize("body_mm", [-3000.0, 0.0, 300.0, 3000.0])
@pytest.mark.parametrize("extent_mm", [0.0, 200.0, 2000.0])
def test_the_body_box_is_a_patients_wherever_the_volume_lies(body_mm, extent_mm):
    rows = [[0.0, 300.0, -100.0, 100.0, -150.0, 150.0], [200.0, 600.0, -120.0, 110.0, -200.0, 190.0]]
    found = choose_body_box({"body_boxes_mm": rows}, body_mm, extent_mm, 3, side_mm=400.0)
    edges = (np.array(found) - 0.5) * 400.0
    assert any(np.allclose(edges / row[2:], edges[0] / row[2]) and 0.96 <= edges[0] / row[2] <= 1.04 for row in rows)


def test_the_user_is_told_what_lies_beyond_the_model(model):
    seen = Recorder()
    generate(model, GenerationRequest(slices=60, spacing_mm=12.0), **seen.callbacks())
    assert any("along the body" in w for w in seen.warnings)
    assert any("12 mm" in w for w in seen.warnings)
    seen = Recorder()
    generate(model, GenerationRequest(slices=10, spacing_mm=3.0), **seen.callbacks())
    assert seen.warnings == []


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        ({"slices": 0}, UsageError, "got 0"),
        ({"slices": 1001}, UsageError, "got 1001"),
        ({"spacing_mm": -1.0}, UsageError, "-1"),
        ({"spacing_mm": float("nan")}, UsageError, "nan"),
        ({"steps": 0}, UsageError, "got 0"),
        ({"detail_steps": -3}, UsageError, "got -3"),
        ({"sampler": "magic"}, UsageError, "'magic'"),
        ({"label": "knee"}, UsageError, "'knee'"),
        ({"body_mm": float("inf")}, UsageError, "inf"),
        ({"pixel_mm": -2.0}, UsageError, "-2"),
        ({"slices": 3, "guidance": -1.0}, UsageError, "guidance must be 0 to 10"),
        ({"slices": 3, "guidance": np.nan}, UsageError, "guidance must be 0 to 10"),
        ({"slices": 3, "known": {3: np.zeros((SIZE, SIZE))}}, UsageError, "Known slice 3"),
        ({"slices": 3, "known": {0: np.zeros((SIZE, 7))}}, InputError, "7"),
        ({"slices": 3, "known": {0: np.full((SIZE, SIZE), np.nan)}}, InputError, "known slice 0 has 1024 voxels"),
        ({"like": like_volume(np.eye(3)), "known": {0: np.zeros((SIZE, SIZE))}}, UsageError, "exclude"),
    ],
)
def test_impossible_requests_are_refused(model, request_, error, words):
    with pytest.raises(error) as caught:
        generate(model, GenerationRequest(**request_))
    assert words in str(caught.value)


def test_steps_come_from_the_request_the_card_or_the_sampler(model):
    def steps(card=CARD, **request):
        facts = generate(replaced(model, card=card), GenerationRequest(slices=1, **request)).metadata
        return facts["sampler"], int(facts["steps"]), int(facts["detail_steps"])

    assert steps() == ("multistep", 3, 2)
    assert steps(steps=5) == ("multistep", 5, 2)
    assert steps(detail_steps=5) == ("multistep", 3, 5)
    assert steps(sampler="heun") == ("heun", 20, 10)  # the card's numbers mean the card's sampler
    assert steps(sampler="ddpm", steps=6) == ("ddpm", 6, 6)
    assert steps({**CARD, "sampling": {"sampler": "heun", "anatomy_steps": 2, "detail_steps": 1}}) == ("heun", 2, 1)
    bare = {k: v for k, v in CARD.items() if k != "sampling"}
    assert steps(bare) == ("multistep", 28, 10)


def test_guidance_widens_what_the_conditions_make(model):
    told = []
    watched = replaced(model, anatomy=Wrapped(model.anatomy, lambda x, t, c: told.append((float(t[0]), c))))

    def anatomy(**request):
        told.clear()
        return generate(watched, GenerationRequest(slices=8, seed=2, body_mm=300.0, steps=6, **request))

    plain, again = anatomy(), anatomy(guidance=1.0)
    assert np.array_equal(plain.hu, again.hu)
    assert plain.metadata["guidance"] == "1"
    assert len(told) == 6, "no second pass without guidance"
    guided = anatomy(guidance=2.0)
    assert guided.metadata["guidance"] == "2"
    assert not np.array_equal(guided.hu, plain.hu)
    high = [t for t, c in told if torch.isnan(c.body_mm).all()]
    assert high and min(high) >= 0.5, "untold passes at high noise only"
    assert len(told) == 6 + len(high)
    card = {**CARD, "sampling": {**CARD["sampling"], "guidance": 2.0}}
    by_card = generate(replaced(model, card=card), GenerationRequest(slices=8, seed=2, body_mm=300.0, steps=6))
    assert np.array_equal(by_card.hu, guided.hu), "a model's card can ask for it"


@pytest.mark.parametrize(("strength", "expected"), [(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)])
def test_guidance_is_linear_in_its_strength(strength, expected):
    def denoiser(x, t, conditions):  # 3 where the body position is known, 1 where not
        return torch.full_like(x, 1.0) + 2 * torch.isfinite(conditions.body_mm)[:, None, None, None]

    conditions = SlabConditions(
        known=torch.zeros(2, 8, 4, 4),
        mask=torch.zeros(2, 8),
        offsets_mm=torch.zeros(2, 8),
        body_mm=torch.zeros(2),
        pixel_mm=torch.ones(2),
        label=torch.ones(2, dtype=torch.int64),
        body_box=torch.zeros(2, 4),
    )
    made = guided_estimate(denoiser, torch.zeros(2, 8, 4, 4), 0.8, conditions, strength=strength)
    assert torch.allclose(made, torch.tensor(expected))
    low = guided_estimate(denoiser, torch.zeros(2, 8, 4, 4), 0.3, conditions, strength=strength)
    assert torch.allclose(low, torch.tensor(3.0)), "not at low noise"


def test_a_model_file_generates(denoisers, tmp_path):
    anatomy, detail = denoisers
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
