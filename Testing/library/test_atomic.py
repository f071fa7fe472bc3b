"""Files and folders appear whole or not at all."""

import os
from pathlib import Path

import pytest

from CTDiffusionLogic.atomic import atomic_file, atomic_folder
from CTDiffusionLogic.errors import OutputError, UsageError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_file_takes_its_name_at_the_end(tmp_path):
    path = tmp_path / "new" / "a.nii.gz"
    with atomic_file(path) as part:
        assert part.name.endswith(".nii.gz")
        assert part.name.startswith(".")
        part.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(tmp_path / "new") == ["a.nii.gz"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, UsageError("no"), ZeroDivisionError])
def test_whatever_stops_a_write_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error if isinstance(error, type) else type(error)), atomic_file(path) as part:
        part.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_nothing_written_is_an_error(tmp_path):
    with pytest.raises(OutputError, match=r"a\.txt"), atomic_file(tmp_path / "a.txt"):
        pass


def test_folder_takes_its_name_at_the_end(tmp_path):
    with atomic_folder(tmp_path / "a") as part:
        (part / "x").write_text("1")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a" / "x").read_text() == "1"
    assert names(tmp_path) == ["a"]


def test_folder_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "a") as part:
        (part / "x").write_text("1")
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(OutputError, match="file is in the way"), atomic_folder(tmp_path / "a"):
        pass
    assert (tmp_path / "a").read_text() == "mine"


def test_folder_in_the_way_of_a_file(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match="directory"), atomic_file(tmp_path / "a") as part:
        part.write_text("x")
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="may") as caught, atomic_file(tmp_path / "closed" / "a") as part:
        part.write_text("x")
    assert "may write" in caught.value.remedy
