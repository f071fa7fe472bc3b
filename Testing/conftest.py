"""What tests of every room may ask for."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

# One of several processes that share the cores has one thread: torch, numpy and OpenMP look at this when they are
# imported, which is not before here. What the tests start inherits it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]
#: Tests that import the host of Qt's classes.
_NEEDS_QT = ("module/*", "packaging/test_api_names.py")


def _qt_fault() -> str:
    """Why Qt cannot be used here; empty if it can."""
    sys.path.insert(0, str(REPOSITORY / "Testing"))
    try:
        importlib.import_module("host")
    except ImportError as error:
        return str(error)
    finally:
        sys.path.remove(str(REPOSITORY / "Testing"))
    return ""


# A machine without a display often lacks a library that Qt loads. Then its tests are left out and the closing lines
# of the run say so; with CTDIFFUSION_REQUIRE_QT set, as in continuous integration, they fail instead.
QT_FAULT = "" if os.environ.get("CTDIFFUSION_REQUIRE_QT") else _qt_fault()
collect_ignore_glob = list(_NEEDS_QT) if QT_FAULT else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out."""
    if QT_FAULT:
        terminalreporter.write_line(f"LEFT OUT: Testing/{', Testing/'.join(_NEEDS_QT)}: {QT_FAULT}")


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
