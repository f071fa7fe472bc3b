"""The worker's protocol: what one end writes the other reads, whatever comes between."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from CTDiffusionLogic.cli.events import (
    Failed,
    Finished,
    Metric,
    Progress,
    Slices,
    Started,
    Warned,
    parse_line,
    to_line,
)

EVERY_KIND = [
    Started("generate", "0.1.0", {"shape": [64, 256, 256]}),
    Progress(3, 12, 8.5, "detail"),
    Progress(0, 12),
    Slices(0, 8, "/tmp/a b/ü.npy", 2),
    Metric("loss", {"train": 0.25}),
    Warned('one "quoted" line\nand another'),
    Finished(("/data/a.nrrd", "/data/b.nrrd"), {"seconds": 61.5}),
    Failed("bad-model", "It is broken.", "Get another.", 1),
]


@pytest.mark.parametrize("event", EVERY_KIND, ids=lambda e: e.event)
def test_round_trip_on_one_ascii_line(event):
    line = to_line(event)
    assert "\n" not in line
    assert line.isascii()
    assert json.loads(line)["event"] == event.event
    assert parse_line(line) == event
    assert parse_line(line.encode() + b"\r\n") == event


def test_numbers_of_numpy_and_paths_become_plain():
    values = {
        "a": np.float32(0.5),
        "b": np.int64(3),
        "c": np.eye(2),
        "d": Path("x"),
        "e": float("nan"),
        "f": (1, None),
    }
    event = parse_line(to_line(Metric("m", values)))
    assert event == Metric("m", {"a": 0.5, "b": 3, "c": [[1.0, 0.0], [0.0, 1.0]], "d": "x", "e": None, "f": [1, None]})


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Loading model...",
        "{",
        "[]",
        "3",
        "null",
        '"progress"',
        '{"event": "from the future", "x": 1}',
        '{"event": ["progress"]}',
        '{"event": "progress", "done": 1}',
        '{"event": "finished", "outputs": 7}',
        b"\xff\xfe",
        "[" * 100_000,
    ],
)
def test_anything_else_is_no_event(line):
    assert parse_line(line) is None


def test_unknown_fields_are_ignored():
    assert parse_line('{"event": "progress", "done": 1, "of": 2, "new": true}') == Progress(1, 2)


def test_standard_library_only():
    script = (
        "import sys; before = set(sys.modules); import CTDiffusionLogic.cli.events;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - sys.stdlib_module_names - {'CTDiffusionLogic'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
