"""Which model of a training is kept as its best: with figures of real trainings."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from CTDiffusionLogic.training.fidelity_best import WHOLE, best_of, grade
from CTDiffusionLogic.training.fidelity_log import FidelityLog

REAL = {"outline_real": 1.02689, "outline_real_low": 0.986078, "outline_real_high": 1.06976}
#: Step, Fréchet distance and outline, as measured: a training's first hour, and the model that was bundled.
HOUR = [(186, 127.829, 1.94789), (496, 110.929, 2.38931), (1028, 74.0316, 2.16367), (1535, 58.497, 2.0967)]
HOUR_ENDS, BUNDLED = (1859, 57.2298, 1.83376), (15772, 70.3707, 1.07)
#: Of a training before outlines were measured.
OLD = [(285, 112.066), (570, 90.356), (855, 84.9794), (1140, 85.9661)]


def line_of(step, frechet, outline=None, **more):
    told = {"step": step, "epoch": step / 95, "frechet": frechet, "extractor_sha256": "e", "against": "held-out"}
    return told | (REAL if outline is not None else {}) | ({"outline": outline} if outline else {}) | more


LINES = [line_of(*one) for one in (*HOUR, HOUR_ENDS, BUNDLED)]


def test_a_whole_body_is_better_than_a_lower_distance():
    assert best_of(LINES)["step"] == BUNDLED[0], "57 with torn bodies is not better than 70 with whole ones"
    assert best_of([LINES[0], line_of(99, 200.0, 1.0)])["step"] == 99


def test_models_that_are_torn_alike_are_told_apart_by_distance():
    """Outlines of a young model come and go; that is no reason to keep its first measurement for an hour."""
    kept = [best_of(LINES[:count])["step"] for count in range(1, 6)]
    assert kept == [186, 496, 1028, 1535, 1859]


def test_whole_bodies_are_told_apart_by_distance():
    low, high = REAL["outline_real_low"], REAL["outline_real_high"]
    outlines = (high + 0.9 * WHOLE, 1.03, low - 0.9 * WHOLE)
    lines = [line_of(n, 60.0 - n, outline) for n, outline in enumerate(outlines)]
    assert [grade(line) for line in lines] == [0, 0, 0]
    assert best_of(lines)["step"] == 2


@pytest.mark.parametrize("side", [-1, 1])
def test_each_doubling_is_a_grade(side):
    edge = REAL["outline_real_high"] if side > 0 else REAL["outline_real_low"]
    outside = [0.5, 1.5, 2.5, 5.0, 9.0]
    assert [grade(line_of(1, 1.0, edge + side * WHOLE * part)) for part in outside] == [0, 1, 2, 3, 4]


def test_the_order_of_measurements_decides_nothing():
    assert {best_of(lines)["step"] for lines in itertools.permutations(LINES)} == {BUNDLED[0]}
    twins = [line_of(2, 60.0, 1.0), line_of(1, 60.0, 1.05)]
    assert best_of(twins)["step"] == best_of(twins[::-1])["step"] == 1, "the first of equal ones stays"


def test_a_model_without_bodies_is_the_worst():
    noise = line_of(1, 20.0, outline=0)
    assert "outline" not in noise and math.isinf(grade(noise))
    assert best_of([noise, LINES[0]])["step"] == LINES[0]["step"]
    assert best_of([noise, {**noise, "step": 2, "frechet": 19.0}])["step"] == 2


def test_lines_from_before_outlines_are_compared_by_distance():
    old = [line_of(*one) for one in OLD]
    assert [best_of(old[:count])["step"] for count in range(1, 5)] == [285, 570, 855, 855]
    assert best_of([*old, line_of(1425, 60.0, 1.9), line_of(1710, 61.0, 1.0)])["step"] == 1425, "as it was begun"


@pytest.mark.parametrize("damage", [{"outline": "long"}, {"outline": math.nan}, {"outline_real_low": None}])
def test_what_is_no_number_is_as_if_it_were_not_there(damage):
    assert math.isinf(grade(line_of(1, 1.0, 1.0) | damage))


def test_a_resumed_training_keeps_what_an_uninterrupted_one_keeps(tmp_path):
    lines = [*LINES[:3], line_of(1200, 90.0, 1.15), line_of(1300, 80.0, 1.16), *LINES[3:5], line_of(1900, 50.0, 1.3)]
    straight, kept = FidelityLog(tmp_path / "a.jsonl"), []
    for line in lines:
        straight.write(line)
        kept.append(straight.is_best(line))
    assert [line["step"] for line, is_kept in zip(lines, kept, strict=True) if is_kept] == [186, 496, 1028, 1200, 1300]
    for stop in range(1, len(lines)):
        path = tmp_path / f"{stop}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines[: stop + 1]))
        resumed = FidelityLog(path, step=lines[stop - 1]["step"])  # what came after its checkpoint is measured again
        for line, is_kept in zip(lines[stop:], kept[stop:], strict=True):
            resumed.write(line)
            assert resumed.is_best(line) is is_kept
