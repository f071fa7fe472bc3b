"""Figures in a model's card: written without touching weights, and told in plain words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from CTDiffusionLogic.bundle import describe, load_model, read_header, save_model
from CTDiffusionLogic.card_figures import (
    EARLIER,
    EVALUATION,
    FIDELITY,
    MOST_EARLIER,
    card_entry,
    digests_of,
    in_plain_words,
    line_of_weights,
    weights_digest,
    write_figures,
)
from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity.findings import InputVolume, Report
from CTDiffusionLogic.fidelity.report.card_entry import evaluation_entry
from CTDiffusionLogic.fidelity.results import Figure, Interval, Section

LINE = {
    "step": 12740, "epoch": 134.1, "hours": 3.8, "seconds": 14.0, "model_sha256": "a" * 64,
    "frechet": 82.4, "frechet_low": 50.2, "frechet_high": 217.0, "frechet_axial": 120.0, "frechet_coronal": 60.0,
    "frechet_sagittal": 67.0, "frechet_floor": 44.0, "frechet_floor_low": 30.0, "frechet_floor_high": 58.0,
    "frechet_training": 42.0, "frechet_training_floor": 32.0, "kid": 0.123, "kid_floor": -0.004,
    "against": "held-out", "extractor": "ctfeatures", "extractor_sha256": "84613683751c" + "0" * 52,
    "protocol_sha256": "feedbeef1234" + "0" * 52,
    "counts": {
        "synthetic_volumes": 6, "synthetic_images": 252, "real_patients": 2, "real_volumes": 9, "real_images": 378,
        "training_patients": 11, "training_volumes": 24,
    },
}  # fmt: skip


def write(path: Path, *, scale: float = 1.0, card: dict | None = None) -> Path:
    tensors = {
        "anatomy.w": scale * torch.arange(12.0).reshape(3, 4),
        "detail.n": torch.tensor(7),
        "fingerprints.numbers": torch.arange(6, dtype=torch.int16),
    }
    save_model(path, tensors, {"name": "m", "stages": {"anatomy": {}, "detail": {}}, **(card or {})})
    return path


def test_figures_go_into_the_card_and_weights_stay(tmp_path):
    path = write(tmp_path / "m.safetensors", card={"metrics": {"anatomy": 0.5}, "limits": ["Little."]})
    before = load_model(path)
    sha256 = write_figures(path, FIDELITY, card_entry(LINE))
    after = load_model(path)
    assert after.sha256 == sha256 != before.sha256
    assert after.card["metrics"] == {"anatomy": 0.5, "fidelity": card_entry(LINE)}
    assert {k: v for k, v in after.card.items() if k not in ("metrics", EARLIER)} == {
        k: v for k, v in before.card.items() if k != "metrics"
    }
    assert after.tensors.keys() == before.tensors.keys()
    for name, tensor in after.tensors.items():
        assert tensor.dtype == before.tensors[name].dtype
        assert torch.equal(tensor, before.tensors[name])
    assert weights_digest(after) == weights_digest(before)
    assert digests_of(path) == (sha256, before.sha256)
    assert write_figures(path, FIDELITY, card_entry(LINE)) == sha256, "said already"
    third = write_figures(path, EVALUATION, {"created": "today"})
    assert digests_of(path) == (third, sha256, before.sha256)
    for n in range(10):
        newest = write_figures(path, FIDELITY, {"frechet": float(n)})
    assert digests_of(path)[0] == newest and len(digests_of(path)) == 1 + MOST_EARLIER


def test_a_card_keeps_figure_floor_counts_extractor_and_hash():
    entry = card_entry(LINE)
    for key in ("frechet", "frechet_low", "frechet_floor", "frechet_floor_high", "kid", "kid_floor", "counts"):
        assert entry[key] == LINE[key]
    assert entry["extractor_sha256"] == LINE["extractor_sha256"] and entry["extractor"] == "ctfeatures"
    assert entry["model_sha256"] == "a" * 64
    assert "seconds" not in entry and "hours" not in entry


def test_the_line_of_the_same_weights_is_found_whatever_the_card_says(tmp_path):
    one, other = write(tmp_path / "1.safetensors"), write(tmp_path / "2.safetensors", scale=2.0)
    copy = write(tmp_path / "copy.safetensors", scale=2.0, card={"name": "renamed"})
    lines = [(one, {"step": 1}), (other, {"step": 2})]
    assert line_of_weights(lines, one) == {"step": 1}
    assert line_of_weights(lines, copy) == {"step": 2}
    with pytest.raises(InputError, match="None of the measured models"):
        line_of_weights(lines, write(tmp_path / "3.safetensors", scale=3.0))


def test_a_card_tells_its_figures_in_plain_words(tmp_path):
    path = write(tmp_path / "m.safetensors")
    write_figures(path, FIDELITY, {**card_entry(LINE), "news": 5})
    text = " ".join(describe(read_header(path)).split())
    for words in (
        "real scans of patients it never saw after 12740 steps: 82.4 (95 %: 50.2 to 217)",
        "Floor, what real scans of other patients reach in place of its images: 44 (95 %: 30 to 58).",
        "1.9 times as far from real ones as real ones are from each other",
        "axial 120, coronal 60, sagittal 67",
        "patients it learnt from: 42 (floor 32)",
        "Kernel distance (KID), without the bias of small counts: 0.123 (floor -0.004)",
        "6 short volumes (252 images) beside 9 stretches of 2 patients (378 images)",
        "24 of 11 patients",
        "Features: ctfeatures 84613683751c; protocol feedbeef1234. Compare with no figures of other",
        "news: 5",
    ):
        assert words in text, text
    assert "frechet low" not in text


def test_what_is_missing_is_not_told_and_what_is_odd_is_shown_as_it_is():
    told = in_plain_words({"fidelity": {"frechet": 10.0, "against": "training"}})["fidelity"]
    assert told[0].startswith("Fréchet distance of its images to real scans of the patients it learnt from: 10.")
    assert "no floor" in told[1]
    for odd in ({"fidelity": {"frechet": "low"}}, {"fidelity": 3}, {"fidelity": {}}, {"evaluation": {"created": 4}}):
        assert in_plain_words(odd) == odd


def report(sha256: str = "b" * 64, **origin: str) -> Report:
    def volume(name, group, facts=None):
        return InputVolume(
            id=name, patient=name, groups=(group,), sha256="0" * 64, shape=(4, 4, 4), spacing_mm=(3.0, 2.0, 2.0),
            origin=facts or {},
        )  # fmt: skip

    figure = Figure(
        key="frechet.ctfeatures.mean", title="Fréchet distance, mean over the planes", better="lower",
        synthetic=Interval(value=82.4321987, low=50.0, high=217.0), floor=Interval(value=44.0, low=30.0, high=58.0),
        extractor="ctfeatures", counts={"images_per_side": 48, "splits": 3, "real_patients": 3},
    )  # fmt: skip
    return Report(
        created="2024-05-06T07:08:09Z", command="ctdiffusion evaluate --real secret/smith.nrrd", seed=0,
        versions={"CTDiffusion": "1", "Python": "3.12"}, machine="CPU",
        protocol={"images": {"pixel_mm": 1.5}, "extractors": {"ctfeatures": "84" * 32}},
        inputs=(volume("smith", "real"), volume("made", "synthetic", {"model_sha256": sha256, **origin})),
        left_out=(),
        sections=(
            Section(key="frechet", title="Distance of images", verdict="Like smith's.", figures=[figure]),
            Section(key="copies", title="Copies", verdict="Not told: smith is missing."),
        ),
        warnings=(), seconds={},
    )  # fmt: skip


def test_an_evaluation_goes_into_the_card_of_the_model_that_made_the_volumes(tmp_path):
    path = write(tmp_path / "m.safetensors")
    made_by = read_header(path).sha256
    write_figures(path, FIDELITY, card_entry(LINE))  # the digest changes: volumes name the earlier one
    entry = evaluation_entry(report(made_by), digests_of(path))
    assert "smith" not in json.dumps(entry), "no scan is named"
    assert entry["figures"]["frechet.ctfeatures.mean"] == {
        "value": 82.4322, "low": 50.0, "high": 217.0, "floor_value": 44.0, "floor_low": 30.0, "floor_high": 58.0,
        "standing": "off", "extractor": "ctfeatures", "images_per_side": 48, "splits": 3,
    }  # fmt: skip
    write_figures(path, EVALUATION, entry)
    text = " ".join(describe(read_header(path)).split())
    assert "Measured 2024-05-06 on 1 of its volumes beside 1 real scans of 1 patients." in text
    assert "Distance of images: off. 1 off; Fréchet distance, mean over the planes 82.4, real scans against" in text
    assert "Copies: not told." in text
    assert f"Features: ctfeatures {'84' * 6}." in text


def test_volumes_of_another_model_and_partly_real_ones_are_no_figures_of_this_one():
    with pytest.raises(InputError, match="made was not made by this model: it names bbbbbbbbbbbb"):
        evaluation_entry(report(), ["c" * 64])
    without = report()
    without = replace(without, inputs=(without.inputs[0], replace(without.inputs[1], origin={})))
    with pytest.raises(InputError, match="it names none"):
        evaluation_entry(without, ["c" * 64])
    with pytest.raises(InputError, match="partly real"):
        evaluation_entry(report(real_slices="1-4"), ["b" * 64])
