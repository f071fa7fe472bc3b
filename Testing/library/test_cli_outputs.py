"""Names of outputs, and what is refused before anything is computed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from CTDiffusionLogic.atomic import check_space
from CTDiffusionLogic.cli.outputs import Output, check_outputs, plan_outputs
from CTDiffusionLogic.errors import OutputError, UsageError

SMALL = (2, 8, 8)


@pytest.mark.parametrize(
    ("out", "count", "names", "is_folder"),
    [
        ("a.nrrd", 1, ["a.nrrd"], False),
        ("a.nrrd", 3, ["a-1.nrrd", "a-2.nrrd", "a-3.nrrd"], False),
        ("x/A.NII.GZ", 2, ["x/A-1.NII.GZ", "x/A-2.NII.GZ"], False),
        ("v1.5.mha", 2, ["v1.5-1.mha", "v1.5-2.mha"], False),
        ("series", 2, ["series-1", "series-2"], True),
        ("series.v2/", 2, ["series.v2-1", "series.v2-2"], True),
        ("a.nrrd", 10, ["a-01.nrrd", "a-02.nrrd"], False),
    ],
)
def test_names(out, count, names, is_folder):
    outputs = plan_outputs(out, count)
    assert len(outputs) == count
    assert outputs[: len(names)] == [Output(Path(name), is_folder) for name in names]


def test_a_folder_stays_one_for_the_writer():
    assert plan_outputs("series.v2/", 1)[0].target == "series.v2/"
    assert plan_outputs("a.nrrd", 1)[0].target == "a.nrrd"


@pytest.mark.parametrize("out", ["a.png", "a.nhdr", "a.dcm", "a.nii.zip"])
def test_other_suffixes_are_wrong_use(out):
    with pytest.raises(UsageError, match="cannot be written") as caught:
        plan_outputs(out, 1)
    assert ".nrrd" in caught.value.remedy
    assert "DICOM" in caught.value.remedy


def check(path: Path, *, is_folder: bool = False, overwrite: bool = False, shape=SMALL) -> None:
    check_outputs([Output(path, is_folder)], shape=shape, overwrite=overwrite)


def test_existing_files(tmp_path):
    path = tmp_path / "a.nrrd"
    check(path)
    path.touch()
    with pytest.raises(OutputError, match=r"a\.nrrd exists already"):
        check(path)
    check(path, overwrite=True)
    with pytest.raises(OutputError, match="is a file"):
        check(path, is_folder=True, overwrite=True)


def test_folders_with_something_in_them_are_never_overwritten(tmp_path):
    check(tmp_path / "new", is_folder=True)
    check(tmp_path, is_folder=True)  # there, but empty
    (tmp_path / "precious").touch()
    with pytest.raises(OutputError, match="not empty"):
        check(tmp_path, is_folder=True, overwrite=True)
    with pytest.raises(OutputError, match="is a folder"):
        check(tmp_path, overwrite=True)


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is not a folder"):
        check(tmp_path / "file" / "sub" / "a.nrrd")


def test_folders_that_do_not_exist_yet_are_not_made(tmp_path):
    check(tmp_path / "x" / "y" / "a.nrrd")
    assert not (tmp_path / "x").exists()


def test_no_permission(tmp_path, monkeypatch):
    # Root may write everywhere, so the system's answer is replaced.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(OutputError, match="no permission"):
        check(tmp_path / "a.nrrd")


def test_space_is_summed_over_all_volumes(tmp_path, monkeypatch):
    one = 2 * 10 * 1000 * 1000
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=2 * one + 100_000))
    outputs = plan_outputs(str(tmp_path / "a.nrrd"), 3)
    check_outputs(outputs[:2], shape=(10, 1000, 1000), overwrite=False)
    with pytest.raises(OutputError, match=r"Not enough space .*57\.2 MB are needed, 38\.2 MB are free"):
        check_outputs(outputs, shape=(10, 1000, 1000), overwrite=False)


def test_real_space(tmp_path):
    check_space(tmp_path, 1000)
    with pytest.raises(OutputError, match="Not enough space"):
        check_space(tmp_path, 2**60)
