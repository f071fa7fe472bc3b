"""A fine model from scans: what it learns from, and what it leaves."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_generation import SIZE, tiny_model

from CTDiffusionLogic.bundle import load_model
from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.corpus.stream import SlabStream
from CTDiffusionLogic.denoiser.coarse import downsample, from_residual, upsample
from CTDiffusionLogic.denoiser.intensity import hu_to_intensity
from CTDiffusionLogic.errors import InputError, UsageError
from CTDiffusionLogic.generation import GenerationRequest, generate
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.training import options as training_options
from CTDiffusionLogic.training.contact_sheet import TILE
from CTDiffusionLogic.training.options import PRESETS, WHOLE_PRESETS, TrainOptions
from CTDiffusionLogic.training.run import train
from CTDiffusionLogic.volume_io import write_volume

#: A grid of 64 over one of 32; scans have 64 pixels, but for one of 40.
TINY = {"preset": "fine", "image_size": 2 * SIZE, "device": "cpu", "hold_out": ("scan2",)}


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    for seed, size in enumerate((64, 64, 64, 40)):
        spacing = (5.0 + seed, 5.0 + seed, 4.0)
        write_volume(torso_phantom(slices=16, size=size, spacing_mm=spacing, seed=seed), folder / f"scan{seed}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def trained(scans, tmp_path_factory):
    run = tmp_path_factory.mktemp("trained") / "run"
    events = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(training_options.PRESETS, "fine", replace(PRESETS["fine"], warmup_steps=1))
        options = TrainOptions(data=(scans,), run=run, epochs=3, cooldown=0.0, **TINY)
        result = train(options, on_event=lambda name, facts: events.append((name, facts)))
    return run, result, events


def test_presets_say_what_they_train():
    assert {name for name, preset in PRESETS.items() if name not in WHOLE_PRESETS} == {"fine"}
    assert PRESETS["fine"].stages.keys() == {"detail"}
    assert PRESETS["standard"].stages.keys() == {"anatomy", "detail", "guide"}
    assert TrainOptions(data=(), run=None, preset="fine").image_size == 512
    assert TrainOptions(data=(), run=None).image_size == 256
    assert PRESETS["fine"].coarse_size(512) == 256


def test_scans_of_few_pixels_teach_nothing(trained):
    run, _, events = trained
    [skipped] = [facts for name, facts in events if name == "skipped"]
    assert skipped["path"].endswith("scan3.nii.gz")
    assert "has 40 x 40 pixels; a fine model of 64 x 64 learns nothing from fewer than 50" in skipped["reason"]
    plan = CorpusPlan.load(run / "plan.json")
    assert plan.is_fine
    assert {scan.patient for scan in plan.train} == {"scan0", "scan1"}
    assert [scan.pixel_mm for scan in plan.scans] == [5.0, 6.0, 7.0], "their own pixels"


def test_only_coarse_scans_are_too_few(scans, tmp_path):
    with pytest.raises(InputError, match="learns nothing from fewer than 50"):
        train(TrainOptions(data=(scans / "scan3.nii.gz",), run=tmp_path / "run", **{**TINY, "hold_out": ()}))


def test_slabs_are_what_generation_shows(trained):
    run, _, _ = trained
    plan = CorpusPlan.load(run / "plan.json")
    stream = SlabStream(plan, run / "cache", stage="detail", batch=24, slices=8, patch=2 * SIZE, coarse_noise=0.03)
    x0, told = stream.batch(0)
    assert torch.isnan(told.body_mm).all() and not told.label.any()
    assert float(told.coarse_noise.max()) <= 0.03
    assert 0.25 < float(x0.std()) < 1.0
    # Where nothing was corrupted the coarse images are the slices themselves, averaged, at every slice of the slab.
    full = from_residual(x0, told.coarse, plan.residual_scale)
    again = [upsample(downsample(slab, (SIZE, SIZE)), (2 * SIZE, 2 * SIZE)) for slab in full]
    apart = torch.tensor([float((a - c).abs().max()) for a, c in zip(again, told.coarse, strict=True)])
    assert (apart < 1e-4).any() and (apart > 1e-2).any()


def test_the_loss_falls(trained):
    run, result, _ = trained
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    held_out = [line["detail_held_out"] for line in lines if "detail_held_out" in line]
    assert result.reason == "epochs" and result.epochs == pytest.approx(3)
    assert held_out[-1] < 0.97 * held_out[0]
    assert not any(key.startswith("anatomy") for line in lines for key in line)


def test_what_it_leaves(trained):
    run, _, events = trained
    model = load_model(run / "model.safetensors")
    assert model.is_fine and model.fine_sizes() == (SIZE, 2 * SIZE)
    assert {name.split(".")[0] for name in model.tensors} == {"detail"}
    assert model.card["training"]["patients"] == 2 and model.card["training"]["held_out_patients"] == 1
    assert model.card["plan"]["pixel_mm_range"] == [5.0, 6.0]
    assert "32 x 32 pixels" in model.card["description"]
    assert any("no super-resolution" in sentence for sentence in model.card["limits"])
    assert "scan0" not in json.dumps(model.card), "names of scans stay with their owner"
    assert not (run / "fidelity.jsonl").exists() or not (run / "fidelity.jsonl").read_text()
    picture = Image.open(next((run / "samples").glob("*.png")))
    assert picture.size == (8 * TILE, 9 * TILE)
    rows = np.asarray(picture).reshape(3, 3, TILE, 8 * TILE).astype(int)
    assert np.abs(rows[:, 0] - rows[:, 2]).mean() > 0.1, "coarse and real differ"
    assert "fidelity" not in [name for name, _ in events]


def test_it_goes_on_and_refines_a_volume(trained, scans):
    run, result, _ = trained
    further = train(TrainOptions(data=(), run=run, resume=True, epochs=4, **TINY))
    assert further.steps > result.steps
    volume = generate(tiny_model(), GenerationRequest(slices=9), fine=load_model(further.model))
    assert volume.shape == (9, 2 * SIZE, 2 * SIZE)
    coarse = generate(tiny_model(), GenerationRequest(slices=9)).hu
    small = downsample(torch.from_numpy(hu_to_intensity(volume.hu)), (SIZE, SIZE)).numpy()
    assert np.abs(small - hu_to_intensity(coarse)).mean() < 0.25


@pytest.mark.parametrize("change", [{"use_labels": True}, {"fidelity_every": 3}])
def test_what_a_fine_model_cannot_be_asked_for(change, tmp_path):
    with pytest.raises(UsageError, match="does not go with --preset fine"):
        TrainOptions(data=(tmp_path,), run=tmp_path, preset="fine", **change).check()
