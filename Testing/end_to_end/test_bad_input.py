"""Bad input: one clear line, exit code 1 or 2, and nothing half-written stays behind."""

from __future__ import annotations

import pytest
from command import tree

NAMES = ["missing.nii.gz", "empty", "text", "truncated.nii.gz", "mr", "nan.nii.gz", "colours.nii.gz"]
TRAIN = ("--run", "my-run", "--preset", "tiny", "--max-minutes", "5")


def test_train_on_an_empty_folder(bad_inputs, run, tmp_path):
    path, words = bad_inputs["empty"]
    ended = run("train", path, *TRAIN)
    assert (ended.code, ended.out) == (1, "")
    assert words in ended.failure
    assert str(path) in ended.failure
    assert tree(tmp_path) == set()


def test_train_on_nothing_but_bad_files_has_a_reason_for_each(bad_inputs, run, tmp_path):
    folder = bad_inputs["empty"][0].parent
    ended = run("train", folder, *TRAIN)
    assert (ended.code, ended.out) == (1, "")
    for name in ("text", "mr", "truncated.nii.gz", "nan.nii.gz", "colours.nii.gz"):
        assert bad_inputs[name][1] in ended.failure, name
    assert tree(tmp_path) == set()


def test_two_slices_are_too_few_to_train_on(two_slices, run, tmp_path):
    ended = run("train", two_slices, *TRAIN)
    assert ended.code == 1
    assert "2 slices" in ended.failure
    assert tree(tmp_path) == set()
    looked = run("info", two_slices)
    assert looked.code == 0
    assert "only 2 slices" in looked.err


@pytest.mark.parametrize("name", [name for name in NAMES if name != "colours.nii.gz"])
def test_info(name, bad_inputs, run, tmp_path):
    path, words = bad_inputs[name]
    ended = run("info", path)
    assert (ended.code, ended.out) == (1, "")
    assert words in ended.failure
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["missing.nii.gz", "text", "nan.nii.gz"])
def test_export(name, bad_inputs, run, tmp_path):
    path, words = bad_inputs[name]
    ended = run("export-dicom", path, "--out", "series", "--declare-synthetic")
    assert (ended.code, ended.out) == (1, "")
    assert words in ended.failure
    assert tree(tmp_path) == set()
