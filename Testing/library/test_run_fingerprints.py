"""Fingerprints of a training's scans are taken once, kept in the run folder, and never used for other scans."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from CTDiffusionLogic.corpus.body_position import BodyPositionNet
from CTDiffusionLogic.corpus.plan import CorpusPlan, ScanPlan
from CTDiffusionLogic.corpus.prepare import PreparedCorpus
from CTDiffusionLogic.fidelity.fingerprints import corpus_fingerprints, to_card, to_tensors
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.training.run_fingerprints import FILE, fingerprints_of_run, forget_fingerprints

SIZE, SPACING = 48, (8.0, 8.0, 8.0)


def corpus_of(cache, slices) -> PreparedCorpus:
    for number in range(3):
        np.save(cache / f"{number}.npy", torso_phantom(slices=slices, size=SIZE, spacing_mm=SPACING, seed=number).hu)
    scans = [
        ScanPlan(
            id=str(number), patient=f"p{number}", label=0, split="train" if number else "held-out", slices=slices,
            gap_mm=8.0, pixel_mm=8.0, native_pixel_mm=1.0, body_rows=(0, SIZE), body_columns=(0, SIZE),
            body_box=(0.1, 0.9, 0.1, 0.9), body_mm=float(number), source=f"{number}.nii.gz",
        )
        for number in range(3)
    ]  # fmt: skip
    plan = CorpusPlan(
        image_size=SIZE, anatomy_size=32, fov_mm=384.0, anatomy_gap_mm=6.0, max_gap_mm=36.0, labels=(),
        sigma_data={"anatomy": 0.5, "detail": 0.5}, residual_scale=1.0, scans=tuple(scans), skipped=(),
    )  # fmt: skip
    return PreparedCorpus(plan, cache, BodyPositionNet())


@pytest.fixture
def corpus(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    return corpus_of(cache, slices=10)


def looked_at(corpus, run) -> list[tuple[int, int]]:
    looks: list[tuple[int, int]] = []
    fingerprints_of_run(corpus, run, on_progress=lambda done, of: looks.append((done, of)))
    return looks


def test_they_are_taken_once_and_read_back_as_they_were(corpus, tmp_path):
    made = fingerprints_of_run(corpus, tmp_path)
    direct = corpus_fingerprints(corpus.plan.scans, lambda scan: np.load(corpus.cache / f"{scan.id}.npy"))
    assert direct is not None and made.entry == to_card(direct) and made.entry["patients"] == 2
    corpus.plan.save(tmp_path / "plan.json")
    resumed = replace(corpus, plan=CorpusPlan.load(tmp_path / "plan.json"), cache=tmp_path / "none")
    again = fingerprints_of_run(resumed, tmp_path)  # there is nothing that it could look at
    assert again.entry == made.entry
    assert again.tensors.keys() == to_tensors(direct).keys()
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in to_tensors(direct).items())


@pytest.mark.parametrize("change", [{"patient": "another"}, {"split": "train"}, {"source": "else.nii.gz"}])
def test_those_of_other_scans_are_not_used(corpus, tmp_path, change):
    assert looked_at(corpus, tmp_path) == [(0, 3), (1, 3), (2, 3)]
    assert looked_at(corpus, tmp_path) == []
    first, *others = corpus.plan.scans
    changed = replace(corpus, plan=replace(corpus.plan, scans=(replace(first, **change), *others)))
    assert len(looked_at(changed, tmp_path)) == 3
    assert looked_at(changed, tmp_path) == [], "they took the place of the old ones"
    fewer = replace(corpus, plan=replace(corpus.plan, scans=tuple(others)))
    assert len(looked_at(fewer, tmp_path)) == 2


def test_a_file_that_is_damaged_foreign_or_gone_is_made_anew(corpus, tmp_path):
    looked_at(corpus, tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"what is this"):
        (tmp_path / FILE).write_bytes(content)
        assert len(looked_at(corpus, tmp_path)) == 3
        assert looked_at(corpus, tmp_path) == []
    forget_fingerprints(tmp_path)
    forget_fingerprints(tmp_path)
    assert len(looked_at(corpus, tmp_path)) == 3


def test_that_there_are_none_is_kept_too(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    short = corpus_of(cache, slices=2)  # 16 mm
    made = fingerprints_of_run(short, tmp_path)
    assert (made.tensors, made.entry) == ({}, None)
    assert looked_at(short, tmp_path) == []
