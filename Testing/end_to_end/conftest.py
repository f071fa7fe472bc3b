"""The command as a real process, a model of random weights, and inputs that are wrong in every way there is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "Testing" / "library"), str(REPOSITORY / "Testing")]

from command import ENVIRONMENT, Ended, Run, command  # noqa: E402
from dicom_files import scan_hu, write_series  # noqa: E402
from random_model import write_random_model  # noqa: E402


@pytest.fixture
def run(tmp_path) -> Run:
    """Run the command in an empty folder and wait for its end."""

    def call(*words: object, before: Callable[[], None] | None = None) -> Ended:
        done = subprocess.run(
            command(*words),
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=300,
            preexec_fn=before,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def start(tmp_path):
    """Start the command and return the process; what is still running afterwards is killed."""
    started = []

    def call(*words: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(*words), cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A model of random weights: it makes noise, but goes through everything a real one does."""
    return write_random_model(tmp_path_factory.mktemp("model") / "noise.safetensors")


def _write_nifti(path: Path, hu: np.ndarray) -> None:
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((2.0, 2.0, 3.0))
    sitk.WriteImage(image, str(path))


@pytest.fixture(scope="session")
def bad_inputs(tmp_path_factory) -> dict[str, tuple[Path, str]]:
    """Unusable data by name: where they are, and words that the message must have."""
    folder = tmp_path_factory.mktemp("bad")
    inputs = {}

    def add(name: str, words: str) -> Path:
        inputs[name] = (folder / name, words)
        return folder / name

    add("missing.nii.gz", "does not exist")
    add("empty", "No CT scans found").mkdir()
    text = add("text", "is not a DICOM file")
    text.mkdir()
    (text / "notes.dcm").write_text("This is a text file.\n" * 40)
    truncated = add("truncated.nii.gz", "truncated")
    _write_nifti(truncated, scan_hu(12, 32, 32))
    truncated.write_bytes(truncated.read_bytes()[:-5000])
    write_series(add("mr", "MR"), scan_hu(10), change=lambda k, d: (d.update({"Modality": "MR"}), None)[1])
    nan = scan_hu(10, 32, 32).astype(np.float32)
    nan[3, 4, 5:8] = np.nan
    _write_nifti(add("nan.nii.gz", "3 voxels that are not numbers"), nan)
    _write_nifti(
        add("colours.nii.gz", "does not look like a CT"), np.arange(8 * 32 * 32, dtype=np.uint8).reshape(8, 32, 32)
    )
    return inputs


@pytest.fixture(scope="session")
def two_slices(tmp_path_factory) -> Path:
    """A scan that can be looked at, but not trained on."""
    folder = tmp_path_factory.mktemp("two") / "series"
    write_series(folder, scan_hu(2))
    return folder
