"""The benchmarks run and print what the README quotes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_generation_cost_prints_both_routes_and_the_growth():
    options = ["--preset", "tiny", "--slices", "5", "--compare", "5", "--seed-passes", "1"]
    command = [sys.executable, str(BENCHMARKS / "generation_cost.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ours = re.search(r"ours, multistep 28 \+ 10 +38 +[\d.]+ +[\d.]+ +[\d.]+ [MG]B", done.stdout)
    seed = re.search(r"the seed, slice by slice +5000 +\d+ +[\d.]+ +[\d.]+ [MG]B", done.stdout)
    assert ours, done.stdout
    assert seed, done.stdout
    assert re.search(r"^ +5 +[\d.]+ +[\d.]+ +38 ", done.stdout, re.MULTILINE), done.stdout
