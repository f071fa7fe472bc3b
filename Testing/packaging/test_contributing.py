"""The picture of the house in CONTRIBUTING.md names what is there, and nothing else."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("| Room |")[1].split("\n\n")[0]
#: Not rooms: what every package has.
COMMON = ("__init__.py", "__main__.py", "__pycache__", "CMakeLists.txt")


def named(room: str) -> list[str]:
    """What the table names of a room: the first cells of the rows below it, or the second cell of its own."""
    rows = HOUSE.splitlines()
    (start,) = (n for n, row in enumerate(rows) if row.startswith(f"| `{room}` |"))
    below = []
    for row in rows[start + 1 :]:
        if not row.startswith("| &nbsp;"):
            break
        below += re.findall(r"`([^`]+)`", row.split("|")[1])
    return below or re.findall(r"`(\w+)`", rows[start].split("|")[2])


def there(folder: Path) -> list[str]:
    """Modules by name, packages with a slash."""
    found = [path for path in folder.iterdir() if path.name not in COMMON and not path.name.startswith(".")]
    return [f"{path.name}/" if path.is_dir() else path.stem for path in found if path.is_dir() or path.suffix == ".py"]


@pytest.mark.parametrize(("room", "folder"), [("CTDiffusionLogic/", "CTDiffusionLogic"),
                                              ("CTDiffusion/", "CTDiffusion/CTDiffusionLib")])  # fmt: skip
def test_every_module_has_its_room(room, folder):
    names, files = named(room), there(ROOT / folder)
    assert len(files) > 20
    assert [file for file in files if not any(fnmatchcase(file, name) for name in names)] == []
    assert [name for name in names if not any(fnmatchcase(file, name) for file in files)] == []


def test_every_folder_of_tests_is_named():
    folders = {name.rstrip("/") for name in there(ROOT / "Testing") if name.endswith("/")}
    assert folders == set(named("Testing/"))
