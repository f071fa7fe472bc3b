"""What tests of every room may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def ct_data() -> Path:
    """The folder of real CT scans (INDEX.csv, dicom/, nifti/); tests that need it are skipped without it."""
    folder = Path(os.environ.get("CTDIFFUSION_DATA") or REPOSITORY.parent / "shared" / "ct")
    if not (folder / "INDEX.csv").is_file():
        pytest.skip(f"no real CT scans in {folder}; set CTDIFFUSION_DATA to a folder that has them")
    return folder


@pytest.fixture(scope="session")
def ctData(ct_data: Path) -> Path:
    """The same under the name that Slicer-facing tests use."""
    return ct_data
