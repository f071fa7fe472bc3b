"""The module's classes on slicer-core's scene; see Testing/host for the ones with a panel."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest
import slicer

REPOSITORY = Path(__file__).resolve().parents[2]
for _folder in (REPOSITORY, REPOSITORY / "CTDiffusion", REPOSITORY / "Testing"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))
if not hasattr(slicer, "i18n") and importlib.util.find_spec("slicer.i18n") is None:  # slicer-core has none
    _i18n = types.ModuleType("slicer.i18n")
    _i18n.tr, _i18n.translate = (lambda text: text), (lambda context, text: text)  # type: ignore[attr-defined]
    sys.modules["slicer.i18n"] = slicer.i18n = _i18n


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A model of random weights."""
    from random_model import write_random_model

    return write_random_model(tmp_path_factory.mktemp("model") / "noise.safetensors")


@pytest.fixture
def app():
    """Slicer's scene and module logics, new and empty; also ``slicer.mrmlScene``."""
    from rendering import new_app

    return new_app()


@pytest.fixture
def host(monkeypatch):
    """The Qt host, whose workers are real; no test leaves anything of theirs behind."""
    from host.module_host import ModuleHost

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("os.setpriority", lambda *_: None)  # a busy test machine would starve the worker
    with ModuleHost() as host:
        temporary = host.folder / "temporary"
        yield host
        host.quit()
        assert list(temporary.glob("CTDiffusion-*")) == []


@pytest.fixture
def noPackageServer(monkeypatch):
    """pip as on a machine that nobody has set up, whose package server does not answer."""
    from install_section import closedPort

    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{closedPort()}/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def bare(tmp_path):
    """A Python environment with nothing but pip: the doctor answers soon."""
    from python_environments import PythonEnvironment

    return PythonEnvironment(tmp_path / "python")
