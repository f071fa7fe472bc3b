"""Thousands of scans: no file stays open for each, and nothing that grows with them is held in memory."""

from __future__ import annotations

import gc
import os
import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from CTDiffusionLogic.corpus import prepare as preparing
from CTDiffusionLogic.corpus.body_position import BodyPositionNet
from CTDiffusionLogic.corpus.plan import MAX_BODIES, CorpusPlan, ScanPlan
from CTDiffusionLogic.corpus.stream import SlabStream
from CTDiffusionLogic.fidelity import fingerprints
from CTDiffusionLogic.fidelity.body_windows import NUMBERS, BodyWindows
from CTDiffusionLogic.fidelity.copy_search import ScanWindows
from CTDiffusionLogic.training.fidelity_scans import scans_of_run

SLICES, SIZE = 10, 64


def simulated(cache: Path, count: int) -> CorpusPlan:
    """A plan of ``count`` scans, whose slices are links to one file."""
    hu = np.random.default_rng(0).integers(-200, 200, size=(SLICES, SIZE, SIZE)).astype(np.int16)
    np.save(cache / "0.npy", hu)
    for number in range(1, count):
        os.link(cache / "0.npy", cache / f"{number}.npy")
    scans = [
        ScanPlan(
            id=str(number), patient=f"p{number // 2}", label=0, split="held-out" if number % 5 == 0 else "train",
            slices=SLICES, gap_mm=5.0, pixel_mm=6.0, native_pixel_mm=1.0, body_rows=(0, SIZE), body_columns=(0, SIZE),
            body_box=(0.1, 0.9, 0.1, 0.9), body_mm=float(number), source=f"{number}.nii.gz",
        )
        for number in range(count)
    ]  # fmt: skip
    return CorpusPlan(
        image_size=SIZE, anatomy_size=32, fov_mm=384.0, anatomy_gap_mm=6.0, max_gap_mm=36.0, labels=(),
        sigma_data={"anatomy": 0.5, "detail": 0.5}, residual_scale=1.0, scans=tuple(scans), skipped=(),
    )  # fmt: skip


@pytest.fixture
def few_files():
    """Two dozen files may be opened, those that are open aside: a stream keeps 16 mapped, each with its file."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # what earlier tests left open would be closed in the middle of this one, or never
    numbers = [int(name) for name in os.listdir("/dev/fd")]  # noqa: PTH208 # with the one that lists them
    limit = max(numbers) + 25
    between = [os.dup(0) for _ in range(limit - (len(numbers) - 1) - 24)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    yield
    for number in between:
        os.close(number)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_hundreds_of_scans_are_read_with_two_dozen_open_files(tmp_path, few_files):
    plan = simulated(tmp_path, 200)
    scans = scans_of_run(plan, tmp_path)
    assert len(scans) == 200 and all(len(scan.hu) == SLICES and scan.hu.shape[1:] == (SIZE, SIZE) for scan in scans)
    pieces = [scan.hu[2:8:3] for scan in scans]
    assert {piece.shape for piece in pieces} == {(2, SIZE, SIZE)}
    stream = SlabStream(plan, tmp_path, stage="anatomy", batch=100, slices=8)
    assert stream.batch(0)[0].shape == (100, 8, 32, 32)


def test_slabs_of_many_scans_leave_no_memory_behind(tmp_path):
    stream = SlabStream(simulated(tmp_path, 100), tmp_path, stage="anatomy", batch=20, slices=8)
    for number in range(3):  # what libraries keep for themselves
        stream.batch(number)
    tracemalloc.start()
    try:
        for number in range(3, 12):
            stream.batch(number)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * SLICES * SIZE * SIZE, "less than a single scan"


def test_body_positions_are_learnt_from_some_scans_and_told_of_all(tmp_path, monkeypatch):
    learnt = []

    def fit(scans, *, seed, on_steps):
        learnt.extend(scans)
        return BodyPositionNet().eval()

    monkeypatch.setattr(preparing, "fit_body_position", fit)
    monkeypatch.setattr(preparing, "MAX_LEARNT_SLICES", 7 * SLICES)
    plan, _ = preparing._place_along_body(simulated(tmp_path, 100), tmp_path, seed=0)
    assert len(learnt) == 7
    assert len({scan.body_mm for scan in plan.scans}) == 1, "the same slices, the same place"
    assert preparing._measure_statistics(plan, tmp_path).residual_scale > 0


def test_a_card_tells_of_so_many_bodies_and_no_more(tmp_path):
    plan = simulated(tmp_path, 2)
    many = [plan.scans[1]] * (2 * MAX_BODIES)
    card = CorpusPlan(**{**vars(plan), "scans": tuple(many)}).card()
    assert len(card["body_boxes_mm"]) == MAX_BODIES


def test_limits_are_set_by_some_scans_and_all_can_be_recognised(monkeypatch):
    rng = np.random.default_rng(0)
    scans = [
        ScanWindows(
            str(n), f"patient {n}",
            BodyWindows(rng.normal(size=(6, NUMBERS)).astype(np.float32), np.zeros(6, np.float32),
                        np.zeros((6, 3), np.float32)),
        )
        for n in range(12)
    ]  # fmt: skip
    monkeypatch.setattr(fingerprints, "MOST_REAL", 5)
    taken = fingerprints.take_fingerprints(scans)
    assert taken is not None
    assert len(taken.limits.real_ratios) == 5
    assert taken.patients == 12
