"""The words near real, off and far off: one rule, its borders, and what it cannot tell."""

from __future__ import annotations

import pytest

from CTDiffusionLogic.fidelity.report.standing import (
    RULE,
    counts_of_section,
    over_floor,
    standing_of,
    standing_of_section,
)
from CTDiffusionLogic.fidelity.results import Figure, Interval, Section


def figure(value, floor, better="lower", key="k"):
    if isinstance(floor, tuple):
        floor = Interval(value=floor[0], low=floor[1], high=floor[2])
    elif floor is not None:
        floor = Interval(value=floor)
    return Figure(key=key, title="T", synthetic=Interval(value=value), floor=floor, better=better)


@pytest.mark.parametrize(
    ("value", "word"), [(0.0, "near real"), (6.0, "near real"), (6.1, "off"), (18.0, "off"), (18.1, "far off")]
)
def test_a_distance_by_the_upper_bound_of_its_floor(value, word):
    assert standing_of(figure(value, (5.0, 4.0, 6.0))) == word


@pytest.mark.parametrize(("value", "word"), [(0.002, "near real"), (0.005, "off"), (0.02, "far off")])
def test_a_floor_around_zero_counts_by_its_width(value, word):
    assert standing_of(figure(value, (-0.001, -0.005, 0.003))) == word  # KID is unbiased: it may be below zero


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (50, "near real"),
        (47, "near real"),
        (46, "off"),
        (41, "off"),
        (40, "far off"),
        (54, "near real"),
        (63, "far off"),
    ],
)
def test_a_quantity_on_either_side(value, word):
    assert standing_of(figure(value, (50.0, 47.0, 54.0), "near-floor")) == word


@pytest.mark.parametrize(("value", "word"), [(0.95, "near real"), (0.7, "near real"), (0.6, "off"), (0.4, "far off")])
def test_more_is_better(value, word):
    assert standing_of(figure(value, (0.8, 0.7, 0.9), "higher")) == word


def test_without_an_interval_ten_percent_stand_for_it_and_without_a_floor_nothing_is_told():
    assert standing_of(figure(5.4, 5.0)) == "near real"
    assert standing_of(figure(5.6, 5.0)) == "off"
    assert standing_of(figure(5.0, None)) == "not told"
    assert standing_of(figure(-104.0, -100.0, "near-floor")) == "near real"  # a width is never negative


def test_a_floor_of_no_width_forgives_rounding_only():
    assert standing_of(figure(100.5, (100.0, 100.0, 100.0), "near-floor")) == "near real"
    assert standing_of(figure(110.0, (100.0, 100.0, 100.0), "near-floor")) == "far off"


def section(*figures, **details):
    return Section(key="s", title="S", verdict="V.", figures=list(figures), details=details)


def test_a_section_has_the_middle_word_the_worse_of_two():
    near, off, far = (figure(value, (5.0, 4.0, 6.0)) for value in (5, 10, 50))
    assert standing_of_section(section(near, near, far)) == "near real"
    assert standing_of_section(section(near, far)) == "far off"
    assert standing_of_section(section(near, off, far, figure(5, None))) == "off"
    assert standing_of_section(section(figure(5, None))) == "not told"
    assert standing_of_section(section()) == "not told"
    assert counts_of_section(section(near, off, far, far)) == "2 far off, 1 off, 1 near real"


def test_a_section_that_knows_better_says_so():
    near = figure(5, (5.0, 4.0, 6.0))
    assert standing_of_section(section(near, near, standing="far off")) == "far off"
    assert standing_of_section(section(near, standing="splendid")) == "near real"  # not one of the words


def test_multiples_of_floors_are_of_distances_only():
    assert over_floor(figure(10, (5.0, 4.0, 6.0))) == 2
    assert over_floor(figure(10, (5.0, 4.0, 6.0), "near-floor")) is None
    assert over_floor(figure(10, -0.1)) is None
    assert over_floor(figure(10, None)) is None


def test_the_rule_says_the_numbers_it_uses():
    for words in ("three times", "10 %", "95 %", "the worse of two"):
        assert words in RULE
