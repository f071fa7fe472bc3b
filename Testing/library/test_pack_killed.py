"""A packing that is stopped leaves nothing; what one that was killed at once left, the next one removes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from CTDiffusionLogic.atomic import atomic_file, remove_unfinished, working_folder
from CTDiffusionLogic.cli.events import Failed, Progress, parse_line
from CTDiffusionLogic.errors import Cancelled, OutputError
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.volume_io import write_volume

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
#: Holds a working folder until it is told to end.
HOLDER = """
import sys
from pathlib import Path
from CTDiffusionLogic.atomic import working_folder
with working_folder(Path(sys.argv[1]), prefix=".test-") as folder:
    (folder / "slices").write_text("a patient's")
    print(folder.name, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python with these words; what is still running afterwards is killed."""
    started: list[subprocess.Popen[str]] = []

    def call(*words: object) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen([sys.executable, *map(str, words)], text=True, **pipes))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def held(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None and process.stderr is not None
    return process.stdout.readline().strip() or pytest.fail(process.stderr.read())


def test_a_folder_of_a_living_process_stays_and_one_of_a_killed_process_goes(start, tmp_path):
    living, killed = start("-c", HOLDER, tmp_path), start("-c", HOLDER, tmp_path)
    stays, goes = held(living), held(killed)
    killed.kill()
    killed.wait()
    for name in ("older123", "of-the-user"):  # of a version without locks; of something else
        (tmp_path / f".test-{name}").mkdir()
    assert (tmp_path / goes / "slices").exists(), "it was killed too fast to remove it"
    with working_folder(tmp_path, prefix=".test-") as own:
        assert own.stat().st_mode & 0o777 == 0o700, "nobody else may look at slices"
        there = {name.removesuffix(".lock") for name in names(tmp_path)}
        assert there == {own.name, stays, ".test-of-the-user"}
        assert (tmp_path / stays / "slices").exists()
    living.communicate("")
    assert living.returncode == 0 and names(tmp_path) == [".test-of-the-user"]


def test_a_folder_that_fails_is_removed_and_one_that_cannot_be_is_named(tmp_path):
    with pytest.raises(Cancelled), working_folder(tmp_path, prefix=".test-") as own:
        (own / "deep" / "er").mkdir(parents=True)
        raise Cancelled
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file cannot be written"), working_folder(tmp_path / "file", prefix="."):
        pass
    assert names(tmp_path) == ["file"]


def test_a_file_grows_in_the_working_folder_until_it_is_whole(tmp_path):
    with working_folder(tmp_path, prefix=".test-") as work:
        with atomic_file(tmp_path / "new" / "a.txt", within=work) as part:
            part.write_text("whole")
            assert part.parent == work and names(tmp_path / "new") == []
        assert (tmp_path / "new" / "a.txt").read_text() == "whole" and names(work) == []
    (tmp_path / "new" / ".0a1b2c3d-b.txt").touch()
    (tmp_path / "new" / ".profile-b.txt").touch()
    remove_unfinished(tmp_path / "new")
    remove_unfinished(tmp_path / "nowhere")
    assert names(tmp_path / "new") == [".profile-b.txt", "a.txt"]


def until(process: subprocess.Popen[str], phase: str) -> None:
    """Read events until a phase has begun."""
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        event = parse_line(line)
        if isinstance(event, Progress) and event.phase.startswith(phase):
            return
    raise AssertionError(process.stderr.read())


def test_killed_and_stopped_packings(start, tmp_path):
    scans, out = tmp_path / "scans", tmp_path / "out"
    for seed in range(2):
        volume = torso_phantom(slices=9, size=64, spacing_mm=(6.5, 6.5, 6.0), seed=seed)
        write_volume(volume, scans / f"mueller{seed}.nii.gz")
    words = ["-m", "CTDiffusionLogic", "pack", scans, "--image-size", "64", "--preset", "tiny", "--threads", "1"]
    words += ["--events", "json", "--out"]

    killed = start(*words, out / "a.ctpack")
    until(killed, "learning body positions")
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    (left,) = (path for path in out.iterdir() if path.is_dir())
    assert len(list(left.glob("cache/*.npy"))) == 2, "the slices of patients"

    stopped = start(*words, out / "b.ctpack")
    until(stopped, "measuring")
    assert not left.exists() and len(names(out)) == 2, "what the first one left is gone, this one's own is there"
    until(stopped, "learning body positions")
    stopped.terminate()
    printed, _ = stopped.communicate()
    last = parse_line(printed.splitlines()[-1])
    assert stopped.returncode == 130 and isinstance(last, Failed) and last.code == "cancelled"
    assert names(out) == []
