"""What the README says to type is understood, and what it quotes is what the program says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from CTDiffusionLogic.cli.main import COMMANDS, _parser

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
TYPED = [
    re.split(r"  +", line)[0]  # without the comment
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("ctdiffusion ") and not re.search(r"\b[A-Z_]{3,}\b", line)
]
GENERATE = README.split("## Generate")[1].split("\n## ")[0]
ADDED = re.findall(r"^\| [^|]+ \| [^|]*?`(--[^`]+)`", GENERATE, re.MULTILINE)
QUOTED = re.findall(r"^\| `([^`]+)` \|", README.split("## Troubleshooting")[1].split("\n## ")[0], re.MULTILINE)
SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for path in [*(ROOT / "CTDiffusionLogic").rglob("*.py"), *(ROOT / "CTDiffusion").rglob("*.py"), ROOT / "Makefile"]
)


def test_there_is_something_to_test():
    assert len(TYPED) >= 5
    assert len(ADDED) >= 5
    assert len(QUOTED) >= 10


@pytest.mark.parametrize("line", TYPED)
def test_commands(line):
    _parser().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize("options", ADDED)
def test_options(options):
    words = shlex.split(options)
    out = [] if "--out" in words else ["--out", "a.nrrd"]
    _parser().parse_args(["generate", *out, *words])


@pytest.mark.parametrize("text", QUOTED)
def test_messages(text):
    for part in text.split("…"):
        assert part.strip() in SOURCES, part


def test_every_command_is_there():
    for name in COMMANDS:
        assert re.search(rf"^ctdiffusion {name}\b", README, re.MULTILINE)
