"""What is written where, and what is left when it cannot be: nothing."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from volume_files import OUTPUTS, random_volume

from CTDiffusionLogic.errors import OutputError, UsageError
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import output_kind, read_volume, write_volume

# --- Writing ---------------------------------------------------------------------------------------------


def test_suffixes_say_what_is_written(tmp_path):
    assert output_kind("a/b.nii.gz") == ".nii.gz"
    assert output_kind("a/B.NRRD") == ".nrrd"
    assert output_kind("a/folder") == "dicom"
    assert output_kind("a/v1.2/") == "dicom"
    assert output_kind(tmp_path) == "dicom"
    for name in ("scan.dcm", "scan.mhd", "scan.png", "scan.nhdr"):
        with pytest.raises(UsageError, match=re.escape(name)):
            output_kind(name)
        with pytest.raises(UsageError):
            write_volume(random_volume(0), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_replaced_and_folders_are_made(tmp_path):
    path = tmp_path / "new" / "deep" / "v.nrrd"
    write_volume(random_volume(0), path)
    write_volume(random_volume(1), path)
    np.testing.assert_array_equal(read_volume(path).hu, random_volume(1).hu)
    assert [p.name for p in path.parent.iterdir()] == ["v.nrrd"]


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "v.d").mkdir()
    (tmp_path / "v.d" / "letter.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"v\.d.*not empty"):
        write_volume(random_volume(0), tmp_path / "v.d")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file"):
        write_volume(random_volume(0), tmp_path / "file" / "v.nrrd")
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "letter.txt", "v.d"]


def large_volume() -> CTVolume:
    return random_volume(0, shape=(12, 128, 128))


LIMITED = """
    import resource, signal, sys
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    sys.path[:0] = [{tests!r}]
    from test_volume_outputs import *
    try:
        write_volume(large_volume(), sys.argv[1])
    except OutputError as error:
        print(error)
        sys.exit(7)
"""


@pytest.mark.parametrize("suffix", OUTPUTS)
def test_a_file_that_may_not_grow_leaves_nothing(tmp_path, suffix):
    """The kernel refuses the write halfway, as it does on a full disk or over quota."""
    script = textwrap.dedent(LIMITED).format(tests=str(Path(__file__).parent))
    path = tmp_path / "out" / f"v{suffix}"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, env=environment)
    assert done.returncode == 7, done.stderr
    assert str(path) in done.stdout
    assert "Free some space" in done.stdout
    assert done.stderr == ""
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]).returncode:
        pytest.skip("mounting a small disk takes root")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("suffix", OUTPUTS)
def test_a_full_disk_leaves_nothing_new_and_keeps_the_old(small_disk, suffix, capfd):
    old = small_disk / f"old{suffix or '.nrrd'}"
    write_volume(random_volume(1), old)
    path = small_disk / f"v{suffix}" if not suffix else old
    with pytest.raises(OutputError, match="o space left") as caught:
        write_volume(large_volume(), path)
    assert str(path) in str(caught.value)
    assert "Free some space" in caught.value.remedy
    assert capfd.readouterr().err == ""
    assert [p.name for p in small_disk.iterdir()] == [old.name]
    np.testing.assert_array_equal(read_volume(old).hu, random_volume(1).hu)
