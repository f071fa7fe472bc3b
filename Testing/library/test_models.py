"""Finding models: bundled ones by name, any by path, from a source tree and from an installed copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from CTDiffusionLogic import models
from CTDiffusionLogic.errors import ModelFileError
from CTDiffusionLogic.models import bundled_models, find_model

PACKAGE = Path(models.__file__).parents[1]


@pytest.fixture
def installed(tmp_path) -> Path:
    """A copy of the package elsewhere, as a wheel or Slicer's install puts it, with three models in it."""
    shutil.copytree(PACKAGE, tmp_path / "lib" / "CTDiffusionLogic", ignore=shutil.ignore_patterns("*.safetensors"))
    for name in ("torso", "head", "fine"):
        (tmp_path / "lib" / "CTDiffusionLogic" / "models" / f"{name}.safetensors").touch()
    return tmp_path / "lib"


def ask(installed: Path, expression: str, cwd: Path) -> str:
    script = f"from CTDiffusionLogic.models import *; print({expression})"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-S", "-c", script]  # -S: no other installation in reach
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=True).stdout.strip()


def test_an_installed_copy_finds_its_own(installed, tmp_path):
    folder = installed / "CTDiffusionLogic" / "models"
    assert ask(installed, "list(bundled_models())", tmp_path) == "['head', 'torso']"
    assert ask(installed, "find_model()", tmp_path) == str(folder / "torso.safetensors")
    assert ask(installed, "find_model('head')", tmp_path) == str(folder / "head.safetensors")
    for expression in ("find_fine_model()", "find_model('fine')"):  # which is not among those that make volumes
        assert ask(installed, expression, tmp_path) == str(folder / "fine.safetensors")


def test_a_file_goes_before_a_bundled_model(installed, tmp_path):
    (tmp_path / "head").touch()
    assert ask(installed, "find_model('head')", tmp_path) == "head"


def test_any_file(tmp_path):
    (tmp_path / "mine.safetensors").touch()
    assert find_model(tmp_path / "mine.safetensors") == tmp_path / "mine.safetensors"


def test_neither(tmp_path, monkeypatch):
    with pytest.raises(ModelFileError, match="no model file nowhere and no bundled") as caught:
        find_model("nowhere")
    for name in bundled_models():
        assert name in caught.value.remedy
    monkeypatch.setattr(models, "bundled_models", dict)
    with pytest.raises(ModelFileError, match="bundled model 'torso' is missing"):
        find_model()
