"""What the detail stage learns from: patches of scans, and what the anatomy network makes of the anatomy around."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from CTDiffusionLogic.bundle import load_model
from CTDiffusionLogic.corpus.patches import PatchStream, draw_example
from CTDiffusionLogic.corpus.prepare import PrepareOptions, prepare
from CTDiffusionLogic.corpus.slabs import intensity_table
from CTDiffusionLogic.denoiser.coarse import downsample, from_residual
from CTDiffusionLogic.errors import UsageError
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.scan_search import find_scans
from CTDiffusionLogic.training.batches import PatchBatch, ReadyBatch
from CTDiffusionLogic.training.options import PRESETS, TrainOptions
from CTDiffusionLogic.training.run import train
from CTDiffusionLogic.training.stage import StageTrainer
from CTDiffusionLogic.volume_io import write_volume

pytestmark = pytest.mark.usefixtures("rough_body_positions")

SIZE, PATCH = 128, 32
RUN = {
    "preset": "tiny",
    "image_size": 64,
    "device": "cpu",
    "epochs": 1,
    "hold_out": ("sub-1",),
    "fidelity_every": "off",
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(3):
        volume = torso_phantom(slices=30, size=96, spacing_mm=(4.2, 4.2, 3.0), seed=seed)
        write_volume(volume, folder / f"sub-{seed}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def prepared(scans, rough_body_positions, tmp_path_factory):
    search = find_scans([scans])
    run = tmp_path_factory.mktemp("prepared")
    return prepare(search.found, search.skipped, run, PrepareOptions(image_size=SIZE, hold_out=("sub-1",)))


def stream_of(prepared, **changes) -> PatchStream:
    options = {"stage": "detail", "batch": 6, "slices": 8, "patch": PATCH, "seed": 3} | changes
    return PatchStream(prepared.plan, prepared.cache, **options)


def refined(patches, estimate, sigma=0.3):
    levels = torch.full((len(patches.images),), sigma)
    return patches.refining(estimate, levels, image_size=SIZE, scale=0.2)


def test_coarse_images_and_residuals_add_up_to_the_patch(prepared):
    patches = stream_of(prepared).patches(0)
    estimate = patches.around + 0.1 * torch.randn(patches.around.shape)
    x0, told = refined(patches, estimate)
    assert x0.shape == told.coarse.shape == told.known.shape == (6, 8, PATCH, PATCH)
    images = from_residual(x0, told.coarse, 0.2)
    for made, real, is_mirrored in zip(images, patches.images, patches.mirrored, strict=True):
        assert torch.allclose(made, real.flip(-1) if is_mirrored else real, atol=1e-5)
    assert any(patches.mirrored) and not all(patches.mirrored)
    assert torch.equal(told.coarse_noise, torch.full((6,), 0.3))


def test_coarse_images_are_cut_from_where_the_patch_was(prepared):
    """A patch averaged to the anatomy grid is what its coarse images show, right way round, slice for slice."""
    patches = stream_of(prepared, batch=24).patches(1)
    _, told = refined(patches, patches.around)
    fold = SIZE // prepared.plan.anatomy_size
    for coarse, images, is_mirrored in zip(told.coarse, patches.images, patches.mirrored, strict=True):
        small = downsample(images.flip(-1) if is_mirrored else images, (PATCH // fold,) * 2)
        seen = downsample(coarse, (PATCH // fold,) * 2)
        inside = np.s_[:, 2:-2, 2:-2]  # the filter reaches beyond the patch
        assert float((small - seen)[inside].abs().mean()) < 0.08
        turned = float((small.flip(-1) - seen)[inside].abs().mean())
        assert turned > 1.3 * float((small - seen)[inside].abs().mean()) or turned < 0.03, "or nothing is to be seen"


def test_slices_lie_between_those_of_the_anatomy_grid(prepared):
    plan = prepared.plan
    scan = plan.train[0]
    hu = np.load(prepared.cache / f"{scan.id}.npy")
    for seed in range(60):
        made = draw_example(hu, scan, plan, np.random.default_rng(seed), slices=8, patch=PATCH)
        assert np.allclose(made.between.sum(1), 1.0) and (made.between >= 0).all()
        places = made.around.offsets_mm + made.around.body_mm
        wanted = made.detail.offsets_mm + made.detail.body_mm
        assert np.allclose(made.between @ places, wanted, atol=1e-3), "mm along the body"
        assert np.allclose(np.diff(places), np.diff(places)[0], atol=1e-3)


def test_batches_depend_on_seed_and_number_alone(prepared):
    first, again, other = (
        stream_of(prepared).patches(5),
        stream_of(prepared).patches(5),
        stream_of(prepared).patches(6),
    )
    assert torch.equal(first.images, again.images) and torch.equal(first.around, again.around)
    assert first.corners == again.corners and torch.equal(first.told.known, again.told.known)
    assert not torch.equal(first.images, other.images)
    table = intensity_table(np.random.default_rng(0))
    assert len(table) == 4096 and (np.diff(table) >= 0).all()


def test_the_anatomy_network_sees_noise_of_the_level_that_detail_is_told(prepared):
    patches = stream_of(prepared).patches(2)
    generator = torch.Generator().manual_seed(0)
    sigma = torch.linspace(0.2, 0.8, 6)
    batch = PatchBatch(
        patches,
        torch.randn(patches.images.shape, generator=generator),
        torch.rand(6, generator=generator),
        torch.randn(patches.around.shape, generator=generator),
        sigma,
    )
    seen = {}

    def anatomy(x_t, t, conditions):
        seen.update(x_t=x_t, t=t, conditions=conditions)
        return patches.around

    ready = batch.refining(anatomy, image_size=SIZE, scale=0.2)
    assert torch.allclose(seen["t"] / (1 - seen["t"]), sigma)
    noise = seen["x_t"] / (1 - seen["t"])[:, None, None, None] - patches.around
    assert torch.allclose(noise.std(dim=(1, 2, 3)), sigma, rtol=0.05)
    assert seen["conditions"].body_box is not None and seen["conditions"].coarse is None
    assert torch.equal(ready.conditions.coarse_noise, sigma)
    assert torch.equal(ready.x0, refined(patches, patches.around)[0])


def test_detail_refines_what_the_averaged_anatomy_makes_now(prepared):
    accelerator = Accelerator(cpu=True)
    anatomy = StageTrainer("anatomy", PRESETS["tiny"], prepared.plan, prepared.cache, accelerator, seed=0)
    detail = StageTrainer(
        "detail", PRESETS["tiny"], prepared.plan, prepared.cache, accelerator, seed=0, anatomy=anatomy
    )
    batch = detail.ready(0)
    assert isinstance(batch, PatchBatch)
    before = detail._on_device(batch)
    assert isinstance(before, ReadyBatch)
    with torch.no_grad():
        for weight in anatomy.network.parameters():
            weight.add_(torch.randn(weight.shape))
    assert torch.equal(detail._on_device(batch).x0, before.x0), (
        "the weights that learn are not those that make volumes"
    )
    for weight in anatomy.ema.shadow_params:
        weight.add_(torch.randn(weight.shape))
    assert not torch.equal(detail._on_device(batch).x0, before.x0)
    loss, _ = detail.train_step(0, batch)
    assert torch.isfinite(loss)
    assert all(weight.grad is None for weight in anatomy.network.parameters()), "detail does not teach anatomy"


def stages_of(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in load_model(path).tensors.items():
        found.setdefault(name.split(".")[0], {})[name] = tensor
    return found


def test_only_one_stage_learns_where_the_rest_is_to_stay(scans, tmp_path, monkeypatch):
    monkeypatch.setattr("CTDiffusionLogic.training.loop.write_sheet", lambda *_arguments, **_options: "")
    monkeypatch.setattr("CTDiffusionLogic.training.stage.GUIDE_READY", 2)
    start = train(TrainOptions(data=(scans,), run=tmp_path / "all", **RUN))
    monkeypatch.setattr("CTDiffusionLogic.training.stage.GUIDE_READY", 10**6)
    other = (scans / "sub-1.nii.gz", scans / "sub-2.nii.gz")  # without the lowest scan positions would shift
    options = TrainOptions(data=other, run=tmp_path / "detail", init=start.model, only="detail", **RUN)
    events = []
    tuned = train(options, on_event=lambda name, facts: events.append(SimpleNamespace(name=name, facts=facts)))
    before, after = stages_of(start.model), stages_of(tuned.model)
    assert before.keys() == after.keys() >= {"anatomy", "detail", "guide"}
    for stage in ("anatomy", "guide", "body"):
        assert all(torch.equal(after[stage][name], value) for name, value in before[stage].items()), stage
    assert any(not torch.equal(after["detail"][name], value) for name, value in before["detail"].items())
    measured = [event.facts for event in events if event.name == "metric"]
    assert sum("detail_held_out" in facts for facts in measured) > 1, "what learns is measured"
    assert sum("anatomy_held_out" in facts for facts in measured) == 1, "what stays is measured once"
    first, card = load_model(start.model).card, load_model(tuned.model).card
    for key in ("sigma_data", "residual_scale"):
        assert all(card["stages"][name][key] == first["stages"][name][key] for name in card["stages"]), "its units"
    boxes = {tuple(box[2:]): box[:2] for box in first["plan"]["body_boxes_mm"]}
    for box in card["plan"]["body_boxes_mm"]:
        assert np.allclose(boxes[tuple(box[2:])], box[:2], atol=0.3), "the places along the body that the model knows"
    assert card["training"]["slabs"]["detail"] == tuned.steps * PRESETS["tiny"].detail.batch, "at every step"
    assert {"anatomy_held_out", "detail_held_out", "guide_held_out"} <= card["metrics"].keys()
    begun = {"file": start.model.name, "sha256": load_model(start.model).sha256, "training": first["training"]}
    assert card["training"]["started_from"] == begun and "resumed_with" not in card["training"]

    monkeypatch.setattr("sys.argv", ["ctdiffusion", "train", "--resume", "--run", "my runs"])
    again = train(TrainOptions(data=(), run=tmp_path / "detail", resume=True, only="anatomy", **{**RUN, "epochs": 2}))
    facts = load_model(again.model).card["training"]
    assert facts["started_from"] == begun and facts["resumed_with"] == ["ctdiffusion train --resume --run 'my runs'"]
    assert facts["command"] == card["training"]["command"]
    last = stages_of(again.model)
    assert all(torch.equal(last["detail"][name], value) for name, value in after["detail"].items())
    assert all(any(not torch.equal(last[s][n], v) for n, v in after[s].items()) for s in ("anatomy", "guide"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"only": "detail"}, "stay as random"),
        ({"only": "guide", "resume": True}, "anatomy or detail, got 'guide'"),
        ({"only": "detail", "resume": True, "preset": "fine"}, "one stage"),
    ],
)
def test_senseless_wishes_are_refused(change, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        TrainOptions(data=(tmp_path,), run=tmp_path, **change).check()


def test_a_network_with_a_refiner_starts_from_one_without(prepared):
    accelerator = Accelerator(cpu=True)
    tiny = PRESETS["tiny"]
    larger = replace(tiny, detail=replace(tiny.detail, refiner_channels=8, refiner_blocks=1))
    plain, refining = (
        StageTrainer("detail", preset, prepared.plan, prepared.cache, accelerator, seed=seed)
        for seed, preset in enumerate((tiny, larger))
    )
    refining.load_weights(plain.network.state_dict())
    batch = plain.ready(0)
    arguments = batch.x0, batch.t, batch.conditions
    with torch.no_grad():
        assert torch.allclose(refining.network(*arguments), plain.network(*arguments), atol=1e-6)
    with pytest.raises(RuntimeError, match="refiner"):
        plain.load_weights(refining.network.state_dict())
    few = {name: value for name, value in plain.network.state_dict().items() if "conv_out" not in name}
    with pytest.raises(RuntimeError, match="conv_out"):
        refining.load_weights(few)


def test_the_averaged_network_goes_on_with_the_training(prepared):
    stage = StageTrainer("anatomy", PRESETS["tiny"], prepared.plan, prepared.cache, Accelerator(cpu=True), seed=0)
    lent = stage.averaged().to(memory_format=torch.channels_last)  # as generation lays it out
    for step in range(3):
        before = [parameter.clone() for parameter in stage.averaged().parameters()]
        stage.train_step(step, stage.ready(step))
        after = dict(stage.averaged().named_parameters())
        assert any(not torch.equal(was, now) for was, now in zip(before, after.values(), strict=True))
        assert all(torch.equal(value, after[name]) for name, value in stage.averaged_weights().items())
    assert stage.averaged() is lent and not lent.training and stage.network.training
