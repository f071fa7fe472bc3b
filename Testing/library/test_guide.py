"""A guide: a weaker network away from which anatomy is made; from the training to the model file and the volume."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_generation import CARD, Wrapped, tiny_denoisers, tiny_model

from CTDiffusionLogic.bundle import load_model, save_model
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.denoiser.network import SlabDenoiser
from CTDiffusionLogic.errors import ModelFileError
from CTDiffusionLogic.generation import GenerationModel, GenerationRequest, generate
from CTDiffusionLogic.guidance import GUIDED_TO, guided_estimate
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.training import stage as training_stage
from CTDiffusionLogic.training.checkpoint import load_newest, save_checkpoint
from CTDiffusionLogic.training.options import PRESETS, TrainOptions
from CTDiffusionLogic.training.run import train
from CTDiffusionLogic.volume_io import write_volume

REQUEST = GenerationRequest(slices=8, seed=2, body_mm=300.0, steps=6)


def tiny_guide():
    torch.manual_seed(5)
    guide = SlabDenoiser(dataclasses.replace(tiny_denoisers()[0].config, channels=(8,)))
    torch.nn.init.normal_(guide.unet.conv_out.weight, std=0.1)
    return guide.eval().requires_grad_(False)


def guided_model(strength=1.5):
    card = {**CARD, "sampling": {**CARD["sampling"], "guidance": strength}}
    return dataclasses.replace(tiny_model(), guide=tiny_guide(), card=card)


def nothing_known(count=1):
    return SlabConditions(
        known=torch.zeros(count, 8, 4, 4),
        mask=torch.zeros(count, 8),
        offsets_mm=torch.zeros(count, 8),
        body_mm=torch.zeros(count),
        pixel_mm=torch.ones(count),
        label=torch.zeros(count, dtype=torch.int64),
    )


@pytest.mark.parametrize(("strength", "expected"), [(0.0, 1.0), (1.0, 3.0), (1.5, 4.0)])
def test_the_estimate_lies_beyond_the_better_one_seen_from_the_worse(strength, expected):
    def estimate(t):
        return guided_estimate(
            lambda x, *_: torch.full_like(x, 3.0),
            torch.zeros(1, 8, 4, 4),
            t,
            nothing_known(),
            strength=strength,
            guide=lambda x, *_: torch.full_like(x, 1.0),
        )

    assert torch.allclose(estimate(0.1), torch.tensor(expected))
    assert torch.allclose(estimate(GUIDED_TO), torch.tensor(expected))
    assert torch.equal(estimate(0.99), torch.full((1, 8, 4, 4), 3.0)), "at high noise the better one alone"


def test_slabs_with_known_slices_are_not_guided():
    conditions = nothing_known(3)
    conditions.mask[1, 2] = 1.0
    made = guided_estimate(
        lambda x, *_: torch.full_like(x, 3.0),
        torch.zeros(3, 8, 4, 4),
        0.3,
        conditions,
        strength=1.5,
        guide=lambda x, *_: torch.full_like(x, 1.0),
    )
    assert made[:, 0, 0, 0].tolist() == [4.0, 3.0, 4.0]
    guided = []
    model = guided_model()
    watched = dataclasses.replace(model, guide=Wrapped(model.guide, lambda x, t, c: guided.append(c.mask.clone())))
    generate(watched, dataclasses.replace(REQUEST, slices=40, spacing_mm=3.0))
    assert guided and all((mask.sum(dim=1) == 0).any() for mask in guided), "no pass where all would be thrown away"


def test_a_guide_takes_one_pass_of_its_own_where_it_acts_and_the_denoiser_none_more():
    told, guided = [], []
    model = guided_model()
    watched = dataclasses.replace(
        model,
        anatomy=Wrapped(model.anatomy, lambda x, t, c: told.append((float(t[0]), c))),
        guide=Wrapped(model.guide, lambda x, t, c: guided.append(float(t[0]))),
    )
    generate(watched, REQUEST)
    assert len(told) == 6
    assert guided == [t for t, _ in told if t <= GUIDED_TO] and 0 < len(guided) < 6
    assert all(torch.isfinite(c.body_mm).all() for _, c in told), "nothing is hidden from the denoiser"


def test_a_guide_changes_the_volume_and_the_request_can_switch_it_off():
    model = guided_model()
    guided, again = generate(model, REQUEST), generate(model, REQUEST)
    assert np.array_equal(guided.hu, again.hu)
    assert guided.metadata["guidance"] == "1.5"
    off = generate(model, dataclasses.replace(REQUEST, guidance=1.0))
    assert not np.array_equal(off.hu, guided.hu)
    assert np.array_equal(off.hu, generate(tiny_model(), REQUEST).hu)


def test_a_guide_goes_through_the_model_file(tmp_path):
    model = guided_model()
    networks = {"anatomy": model.anatomy, "detail": model.detail, "guide": model.guide}
    tensors = {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}
    card = {**model.card, "stages": {name: net.config.to_dict() for name, net in networks.items()}}
    save_model(tmp_path / "guided.safetensors", tensors, card)
    loaded = GenerationModel.from_file(load_model(tmp_path / "guided.safetensors"))
    for name, value in loaded.guide.state_dict().items():
        assert torch.equal(value, model.guide.state_dict()[name].half().float()), name
    few = {name: value for name, value in tensors.items() if name != "guide.unet.conv_out.weight"}
    save_model(tmp_path / "less.safetensors", few, card)
    with pytest.raises(ModelFileError, match=r"guide\.unet\.conv_out\.weight"):
        GenerationModel.from_file(load_model(tmp_path / "less.safetensors"))
    card["stages"]["guide"] = {**card["stages"]["guide"], "slices": 4}
    shorter = SlabDenoiser(dataclasses.replace(model.guide.config, slices=4))
    other = {name: value for name, value in tensors.items() if not name.startswith("guide.")}
    other |= {f"guide.{key}": value for key, value in shorter.state_dict().items()}
    save_model(tmp_path / "shorter.safetensors", other, card)
    with pytest.raises(ModelFileError, match="4 slices"):
        GenerationModel.from_file(load_model(tmp_path / "shorter.safetensors"))


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(2):
        volume = torso_phantom(slices=40, size=96, spacing_mm=(4.2, 4.2, 5.0), seed=seed)
        write_volume(volume, folder / f"scan{seed}.nii.gz")
    return folder


@pytest.mark.usefixtures("rough_body_positions")
def test_a_training_has_a_guide_in_its_model_once_it_knows_something(scans, tmp_path, monkeypatch):
    options = {"preset": "tiny", "image_size": 64, "device": "cpu", "data": (scans,), "fidelity_every": "off"}
    run = tmp_path / "run"
    guide = PRESETS["tiny"].stages["guide"]
    first = train(TrainOptions(run=run, epochs=1, **options))
    card = load_model(first.model).card
    assert "guide" not in card["stages"], "it has learnt next to nothing"
    checkpoint = load_newest(run / "checkpoints")
    assert int(checkpoint.tensors["guide.ema_step"]) == -(-first.steps // guide.every)

    # A run of a version without guides goes on, and its guide begins now.
    folder = tmp_path / "old" / "checkpoints"
    (tmp_path / "old").mkdir()
    for name in ("plan.json", "options.json", "metrics.jsonl", "body.safetensors"):
        (tmp_path / "old" / name).write_bytes((run / name).read_bytes())
    (tmp_path / "old" / "cache").symlink_to(run / "cache")
    without = {name: value for name, value in checkpoint.tensors.items() if not name.startswith("guide.")}
    save_checkpoint(folder, without, step=checkpoint.step, facts=checkpoint.facts)
    monkeypatch.setattr(training_stage, "GUIDE_READY", 2)
    last = train(TrainOptions(run=tmp_path / "old", epochs=2, resume=True, **options))
    model = load_model(last.model)
    assert last.steps == 2 * first.steps
    learnt = sum(step % guide.every == 0 for step in range(first.steps, last.steps))
    assert model.card["training"]["slabs"]["guide"] == learnt * guide.batch
    assert GenerationModel.from_file(model).guide is not None
