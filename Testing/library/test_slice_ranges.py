"""Slice numbers as text and back."""

from __future__ import annotations

import pytest

from CTDiffusionLogic.slice_ranges import format_slices, parse_slices


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([5], "5"),
        ([4, 5], "4-5"),
        ([1, 3], "1,3"),
        ([9, 3, 7, 8, 8], "3,7-9"),
        (range(1, 202, 4), "1-201:4"),
    ],
)
def test_there_and_back(numbers, text):
    assert format_slices(numbers) == text
    if text:
        assert parse_slices(text) == sorted(set(numbers))


@pytest.mark.parametrize("text", ["", "a", "5-", "-5", "7-3", "1,,2", "1-9:0", "1-9999999999", "1.5"])
def test_nonsense_is_named(text):
    with pytest.raises(ValueError, match="got "):
        parse_slices(text)
