"""The curve of a training from its model files, and the command that makes it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from random_model import write_random_model

from CTDiffusionLogic.bundle import load_model, save_model
from CTDiffusionLogic.cli.events import Finished, Metric, parse_line
from CTDiffusionLogic.cli.main import main
from CTDiffusionLogic.corpus.body_position import BodyPositionNet
from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity import extractors
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.training.fidelity_curve import measure_curve, place_of
from CTDiffusionLogic.training.fidelity_meter import MeterOptions
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import write_volume

SMALL = MeterOptions(volumes=2, steps=1, detail_steps=1, draws=3, rounds=4)


class Moments:
    """A cheap extractor: what an image's grey values are like."""

    name = "moments"
    sha256 = "0" * 64
    dimensions = 2

    def features(self, images, pixel_mm):
        scaled = images / 500.0
        return np.stack([scaled.mean(axis=(1, 2)), scaled.std(axis=(1, 2))], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Path]:
    """Two models of one training, with cards that say so, the later one first."""
    folder = tmp_path_factory.mktemp("models")
    start = load_model(write_random_model(folder / "noise.safetensors"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = {f"body.{name}": t for name, t in BodyPositionNet().state_dict().items()}
    paths = []
    for step in (200, 100):
        facts = {"steps": step, "epochs": step / 50, "hours": step / 1000}
        tensors = {name: t * (1 + step / 1e4) for name, t in start.tensors.items()} | body
        paths.append(folder / f"step-{step}.safetensors")
        save_model(paths[-1], tensors, {**start.card, "training": facts})
    return paths


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """Phantoms in the place of real scans: files that do not say what they are."""
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(2):
        volume = torso_phantom(slices=24, size=64, spacing_mm=(6.0, 6.0, 6.0), seed=seed)
        write_volume(CTVolume(volume.hu, volume.geometry), folder / f"scan{seed}.nii.gz")
    return folder


def test_models_are_measured_in_their_order_and_only_once(models, scans, tmp_path):
    told: list[str] = []
    shared = {
        "real": [scans], "extractor": Moments(), "device": torch.device("cpu"), "options": SMALL,
        "on_event": lambda name, _: told.append(name),
    }  # fmt: skip
    lines = measure_curve(models, tmp_path, **shared)
    assert [(line["step"], line["epoch"], line["hours"]) for line in lines] == [(100, 2.0, 0.1), (200, 4.0, 0.2)]
    assert lines[0]["frechet"] != lines[1]["frechet"] and lines[0]["frechet_floor"] == lines[1]["frechet_floor"]
    assert lines[0]["counts"]["real_patients"] == 2
    assert [json.loads(text) for text in (tmp_path / "fidelity.jsonl").read_text().splitlines()] == lines
    assert Image.open(tmp_path / "fidelity.png").size[0] > 400
    assert told.count("fidelity") == 2 and "progress" in told
    told.clear()
    assert measure_curve(models, tmp_path, **shared) == lines
    assert told == ["fidelity", "fidelity"], "nothing was made again"


def test_models_of_different_trainings_have_no_curve(models, scans, tmp_path):
    other = write_random_model(tmp_path / "other.safetensors", image_size=128)
    with pytest.raises(InputError, match="different trainings"):
        measure_curve(
            [models[0], other], tmp_path, real=[scans], extractor=Moments(), device=torch.device("cpu"), options=SMALL
        )


@pytest.mark.parametrize(
    ("facts", "place"),
    [
        ({"steps": 50, "epochs": 2.5, "hours": 0.5}, (50, 2.5, 0.5)),
        ({"steps": 190, "preset": "standard", "slices": 1140}, (190, 2.0, 0.0)),
        ({}, (0, 0.0, 0.0)),
    ],
)
def test_a_card_says_where_in_its_training_a_model_is(facts, place):
    assert place_of({"training": facts}) == place


def test_the_command(models, scans, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(extractors, "get_extractor", lambda _name: Moments())
    monkeypatch.setattr(MeterOptions, "__init__", lambda self: self.__dict__.update(vars(SMALL)))
    words = ["fidelity-curve", *map(str, models), "--real", str(scans), "--out", str(tmp_path / "out")]
    assert main([*words, "--device", "cpu", "--events", "json"]) == 0
    events = [parse_line(line) for line in capfd.readouterr().out.splitlines()]
    assert [e.values["file"] for e in events if isinstance(e, Metric)] == [
        "step-100.safetensors",
        "step-200.safetensors",
    ]
    assert isinstance(events[-1], Finished) and len(events[-1].outputs) == 2
    assert main([*words, "--device", "cpu"]) == 0
    table = capfd.readouterr().out.splitlines()
    assert table[0].split()[:3] == ["step", "epoch", "frechet"] and [row.split()[0] for row in table[1:3]] == [
        "100",
        "200",
    ]
    copy = tmp_path / "published.safetensors"
    model = load_model(models[0])
    save_model(copy, model.tensors, {**model.card, "name": "published"})
    assert main([*words, "--device", "cpu", "--into-card", str(copy)]) == 0
    assert f"The card of {copy} has the figures" in capfd.readouterr().out
    entry = load_model(copy).card["metrics"]["fidelity"]
    assert (entry["step"], entry["model_sha256"]) == (200, model.sha256)
    assert {"frechet", "frechet_floor", "extractor", "extractor_sha256", "counts"} <= entry.keys()
    assert main([*words[:-4], "--out", "x"]) == 2, "--run or --real is missing"
    assert main(["fidelity-curve", "nowhere", "--run", str(tmp_path), "--out", "x"]) == 1
