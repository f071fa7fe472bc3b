"""Figures of a reader study against published ones, and against scipy."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from CTDiffusionLogic.cli.main import main
from CTDiffusionLogic.fidelity.reader_files import Answer, create_study
from CTDiffusionLogic.fidelity.reader_statistics import (
    auc_of_ratings,
    chance_p_value,
    d_prime_pairs,
    d_prime_yes_no,
    exact_interval,
    interval_text,
    reader_figures,
    reader_section,
    summary,
)
from CTDiffusionLogic.fidelity.reader_study import Source, plan_study


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 5 (Clopper-Pearson).
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_exact_intervals_are_the_published_ones(successes, trials, low, high):
    interval = exact_interval(successes, trials)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)
    mirrored = exact_interval(trials - successes, trials)
    assert mirrored.low == pytest.approx(1 - interval.high)


def test_the_exact_interval_covers_at_least_as_often_as_it_says():
    n = 25
    intervals = [exact_interval(k, n) for k in range(n + 1)]
    for p in np.linspace(0.02, 0.98, 49):
        covered = sum(stats.binom.pmf(k, n, p) for k, i in enumerate(intervals) if i.low <= p <= i.high)
        assert covered >= 0.95


@pytest.mark.parametrize(("correct", "trials"), [(20, 40), (29, 40), (0, 7), (40, 40), (13, 25)])
def test_the_test_against_chance_is_scipys(correct, trials):
    tail = sum(stats.binom.pmf(k, trials, 0.5) for k in range(trials + 1) if k >= max(correct, trials - correct))
    assert chance_p_value(correct, trials) == pytest.approx(min(1.0, 2 * tail))


@pytest.mark.parametrize(
    ("share", "d_prime"),
    # Macmillan and Creelman, Detection Theory (2005), table A5.7, M = 2.
    [(50, 0.0), (60, 0.36), (70, 0.74), (76, 1.0), (80, 1.19), (90, 1.81), (95, 2.33), (40, -0.36)],
)
def test_d_prime_of_pairs_is_the_published_one(share, d_prime):
    assert d_prime_pairs(share, 100).value == pytest.approx(d_prime, abs=0.005)


def test_d_prime_of_pairs_has_the_interval_of_the_accuracy():
    interval, accuracy = d_prime_pairs(30, 40), exact_interval(30, 40)
    for ours, share in ((interval.low, accuracy.low), (interval.high, accuracy.high)):
        assert ours == pytest.approx(math.sqrt(2) * stats.norm.ppf(share))
    perfect = d_prime_pairs(40, 40)
    assert perfect.high is None
    assert perfect.low < perfect.value == pytest.approx(math.sqrt(2) * stats.norm.ppf(40.5 / 41))


def test_d_prime_one_by_one():
    # Hits 20 of 25 and false alarms 10 of 25 (Macmillan and Creelman's first example): 1.095 without correction.
    interval, criterion = d_prime_yes_no(20, 25, 10, 25)
    z = stats.norm.ppf
    assert interval.value == pytest.approx(z(20.5 / 26) - z(10.5 / 26))
    assert interval.value == pytest.approx(1.095, abs=0.06)
    assert criterion == pytest.approx(-(z(20.5 / 26) + z(10.5 / 26)) / 2)
    assert interval.low < 0.3
    assert d_prime_yes_no(12, 24, 12, 24)[0].value == pytest.approx(0.0, abs=1e-12)
    assert d_prime_yes_no(20, 20, 0, 20)[0].high is None
    # Saying "synthetic" always is no skill, but a bias.
    always, biased = d_prime_yes_no(20, 20, 20, 20)
    assert (always.value, biased < -1.5) == (0.0, True)


def test_the_interval_of_d_prime_covers_the_truth():
    n, truth = 8, 1.0
    chances = [stats.binom.pmf(range(n + 1), n, stats.norm.cdf(z)) for z in (truth / 2, -truth / 2)]
    covered = 0.0
    for hits in range(n + 1):
        for alarms in range(n + 1):
            interval, _ = d_prime_yes_no(hits, n, alarms, n)
            is_above = interval.low is None or interval.low <= truth
            is_below = interval.high is None or interval.high >= truth
            covered += chances[0][hits] * chances[1][alarms] * (is_above and is_below)
    assert 0.95 <= covered < 0.9999


def test_the_area_under_the_curve_is_the_published_one():
    # Hanley and McNeil, Radiology 143 (1982), table I: 58 normal and 51 abnormal CT images rated 1 to 5; the area is
    # 0.893. Stata's manual (roctab) has the standard error of DeLong et al. and the interval for them.
    normal = np.repeat([1, 2, 3, 4, 5], [33, 6, 6, 11, 2])
    abnormal = np.repeat([1, 2, 3, 4, 5], [3, 2, 2, 11, 33])
    area = auc_of_ratings(normal, abnormal)
    assert round(area.value, 4) == 0.8932
    assert (round(area.low, 5), round(area.high, 5)) == (0.83295, 0.95339)
    assert area.value == pytest.approx(stats.mannwhitneyu(abnormal, normal).statistic / (58 * 51))


def test_the_area_where_everything_or_nothing_is_told_apart():
    area = auc_of_ratings([-5, -4, -4], [3, 4, 5, 5])
    assert (area.value, area.high) == (1.0, 1.0)
    assert area.low == pytest.approx(exact_interval(3, 3).low)
    assert auc_of_ratings([2, 2, 2], [2, 2]).value == 0.5
    turned = auc_of_ratings([3, 4, 5, 5], [-5, -4, -4])
    assert (turned.value, turned.low, turned.high) == (0.0, 0.0, pytest.approx(1 - area.low))


def study(mode, items=40):
    sources = [Source(f"v{n}", n >= 12) for n in range(24)]
    return plan_study(sources[:12], sources[12:], items=items, mode=mode, seed=3)


def answers(plan, right, *, reader="R1", confidence=4):
    """Answers of which a share is right, in the reader's order."""
    other = dict(zip(plan.choices, reversed(plan.choices), strict=True))
    return [
        Answer(plan.study_id, reader, i.code, i.truth if n in right else other[i.truth], confidence, 2.0 + n, "350/40")
        for n, i in enumerate(plan.order_for(reader))
    ]


@pytest.mark.parametrize("mode", ["pairs", "one by one"])
def test_figures_of_each_reader(mode):
    plan = study(mode)
    given = answers(plan, range(30)) + answers(plan, range(20), reader="R2")
    first, second = reader_figures(plan, given)
    assert (first.reader, first.correct, first.answered, second.reader, second.correct) == ("R1", 30, 40, "R2", 20)
    assert first.accuracy == exact_interval(30, 40)
    assert first.p_value == pytest.approx(stats.binomtest(30, 40).pvalue)
    assert second.p_value == 1
    assert first.d_prime.value > 0.9
    assert abs(second.d_prime.value) < 0.5
    assert first.median_seconds == 21.5
    assert "better than guessing" in summary(first)
    assert "not told from guessing" in summary(second)
    if mode == "pairs":
        assert first.auc == first.accuracy
        assert "area theorem" in first.auc_method
        assert (first.criterion, 0 < first.left_share < 1) == (None, True)
    else:
        assert 0.6 < first.auc.low < first.auc.value < first.auc.high <= 1
        assert first.left_share is None


def test_ratings_count_certainty():
    """Being certain where right and unsure where wrong gives a larger area at the same accuracy."""
    plan = study("one by one")
    right = range(30)
    areas = []
    for sure, unsure in ((5, 1), (3, 3), (1, 5)):
        given = [
            Answer(**{**vars(one), "confidence": sure if n in right else unsure})
            for n, one in enumerate(answers(plan, right))
        ]
        areas.append(reader_figures(plan, given)[0].auc.value)
    assert areas[0] > areas[1] + 0.05 > areas[2] + 0.1


def test_what_cannot_be_told_is_left_out_and_said():
    plan = study("one by one")
    (one,) = reader_figures(plan, [a for a in answers(plan, range(40)) if plan.item(a.item).truth == "real"][:3])
    assert (one.d_prime, one.auc, one.criterion) == (None, None, None)
    assert interval_text(one.d_prime) == "-"
    assert "Only 3 of 40" in one.notes[0]
    few = plan_study([Source("a", False)], [Source("b", True)], items=20)
    (one,) = reader_figures(few, answers(few, range(10)))
    assert "1 real and 1 synthetic volumes only" in one.notes[0]


def test_the_section_of_the_report_has_chance_as_floor():
    plan = study("pairs")
    section = reader_section(plan, answers(plan, range(30)))
    floors = {figure.key: figure.floor.value for figure in section.figures}
    assert floors == {"readers.R1.accuracy": 0.5, "readers.R1.d_prime": 0.0, "readers.R1.auc": 0.5}
    assert "30 of 40 right (75 %, 95 % interval 59 to 87 %): better than guessing" in section.verdict
    assert section.to_dict()["details"]["study"] == plan.study_id
    assert reader_section(plan, []).verdict == "Nobody has answered yet."
    assert interval_text(section.figures[0].synthetic) == "0.75 (0.59 to 0.87)"


def test_the_command_says_it_and_writes_nothing(tmp_path, capfd):
    plan = study("pairs")
    made = create_study(tmp_path / "a.csv", plan)
    for given in answers(plan, range(30)):
        made.append(**{key: value for key, value in vars(given).items() if key != "study"})
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["reader-results", str(tmp_path / "a.csv")]) == 0
    said = capfd.readouterr().out
    assert "R1: 30 of 40 right (75 %, 95 % interval 59 to 87 %): better than guessing" in said
    assert "d' 0.95 (0.31 to 1.61), AUC 0.75 (0.59 to 0.87) (share of right answers (area theorem))" in said
    assert main(["reader-results", str(tmp_path / "a.csv"), "--events", "json"]) == 0
    last = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert last["details"]["studies"][0]["key"] == "readers"
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files
    (tmp_path / "a.key.json").unlink()
    assert main(["reader-results", str(tmp_path / "a.csv")]) == 1
    assert "The key a.key.json is not beside the results" in capfd.readouterr().err
