"""The Slicer extension is whole: lists against the tree, a real configure, build and install, the catalogue entry."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import module_files
import pytest

REPOSITORY = module_files.REPOSITORY
#: A compiler is not needed, only named: CMake wants one for any project, and a fresh machine may have none.
_NO_COMPILER = [
    option
    for language in ("C", "CXX")
    for option in (f"-DCMAKE_{language}_COMPILER={shutil.which('true')}", f"-DCMAKE_{language}_COMPILER_FORCED=TRUE")
]


def test_every_file_of_the_modules_is_listed_and_every_listed_file_is_there():
    found = module_files.differences()
    fix = "python Testing/packaging/module_files.py --write"
    assert not found, f"Slicer would package other files than there are. Run `{fix}`, or:\n" + "\n".join(found)


def test_differences_are_found(monkeypatch, tmp_path):
    shutil.copytree(REPOSITORY / "CTDiffusion", tmp_path / "CTDiffusion")
    (tmp_path / "CTDiffusionLogic" / "sub").mkdir(parents=True)
    (tmp_path / "CTDiffusionLogic" / "sub" / "new.py").touch()
    (tmp_path / "CTDiffusionLogic" / "model.bin").touch()
    (tmp_path / "CTDiffusionLogic" / "CMakeLists.txt").write_text(
        "set(PACKAGE_PYTHON_SCRIPTS\n  gone.py\n  )\nset(PACKAGE_RESOURCES\n  )\n"
    )
    monkeypatch.setattr(module_files, "REPOSITORY", tmp_path)
    assert [line.partition(": ")[2] for line in module_files.differences()] == [
        "add the line   sub/new.py",
        "remove the line   gone.py",
        "add the line   model.bin",
    ]
    module_files.write_lists()
    assert module_files.differences() == []
    assert module_files.listed_files("CTDiffusionLogic", "PACKAGE_RESOURCES") == ["model.bin"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The extension, configured, built and installed by CMake; gives the build folder and Slicer's module folder."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("CMake is not installed (apt-get install cmake)")
    build, target = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("install")
    stub = REPOSITORY / "Testing" / "packaging" / "SlicerStub"
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    options = [f"-DSlicer_DIR={stub}", f"-DSTUB_PYTHON={sys.executable}", f"-DCMAKE_INSTALL_PREFIX={target}"]
    _run([cmake, *generator, *_NO_COMPILER, *options, "-S", REPOSITORY, "-B", build])
    _run([cmake, "--build", build])
    _run([cmake, "--install", build])
    return build, target / "lib" / "Slicer-5.12" / "qt-scripted-modules"


def test_what_is_installed_is_what_is_in_the_tree(installed):
    _, modules = installed
    there = {path.relative_to(modules).as_posix() for path in modules.rglob("*") if path.is_file()}
    scripts = {
        f"{prefix}{name}"
        for module, prefix in (("CTDiffusion", ""), ("CTDiffusionLogic", "CTDiffusionLogic/"))
        for name in module_files.files_there(module, module_files.MODULES[module][0])
    }
    resources = {
        f"{prefix}{name}"
        for module, prefix in (("CTDiffusion", ""), ("CTDiffusionLogic", "CTDiffusionLogic/"))
        for name in module_files.files_there(module, module_files.MODULES[module][1])
    }
    assert there == scripts | {f"{name}c" for name in scripts} | resources
    # Slicer loads every script at the root of the folder as a module: ours, and the plug-in of its DICOM module.
    assert {path.name for path in modules.glob("*.py")} == {"CTDiffusion.py", "DICOMSyntheticCTPlugin.py"}


def test_slicers_tests_are_registered(installed):
    build, _ = installed
    tests = (build / "python_tests.txt").read_text().split()
    assert tests == ["py_nomainwindow_qSlicerCTDiffusionModuleGenericTest", "py_nomainwindow_CTDiffusion"]


def test_the_installed_library_works_by_itself(installed, tmp_path):
    """From Slicer's folder alone: volumes, bundled models and the command are found, also without torch."""
    _, modules = installed
    code = """
import sys
sys.path[:] = [p for p in sys.path if "site-packages" in p or "lib/python" in p or p.endswith(".zip")]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path.insert(0, sys.argv[1])
sys.modules["torch"] = None
import CTDiffusionLogic
from CTDiffusionLogic.models import bundled_fine_model, bundled_models
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.volume_io import read_volume, write_volume
write_volume(torso_phantom(slices=2, size=32), "a.nrrd")
print(CTDiffusionLogic.__file__, read_volume("a.nrrd").shape, *bundled_models(), *bundled_fine_model(), sep="|")
"""
    finished = _run([sys.executable, "-c", code, modules], cwd=tmp_path)
    file, shape, *models = finished.strip().split("|")
    assert Path(file) == modules / "CTDiffusionLogic" / "__init__.py"
    assert shape == "(2, 32, 32)"
    assert sorted(models) == sorted(
        path.stem for path in (REPOSITORY / "CTDiffusionLogic" / "models").glob("*.safetensors")
    )


def test_the_catalogue_entry_has_the_keys_the_index_allows():
    path = REPOSITORY / "CTDiffusion.json"
    entry = json.loads(path.read_text())
    allowed = {"$schema", "category", "scm_url", "scm_revision", "build_dependencies", "build_subdirectory"}
    assert {"$schema", "category", "scm_url"} <= set(entry) <= allowed | {"tier", "enabled"}
    assert 1 <= entry["tier"] <= 5
    assert entry["build_dependencies"] == ["PyTorch"]
    assert "/Slicer" in entry["scm_url"]
    assert b"\r" not in path.read_bytes()
    cmake = (REPOSITORY / "CMakeLists.txt").read_text()
    assert re.search(r"project\((\w+)\)", cmake).group(1) == path.stem
    assert f'set(EXTENSION_CATEGORY "{entry["category"]}")' in cmake
    assert f'set(EXTENSION_HOMEPAGE "{entry["scm_url"].removesuffix(".git")}")' in cmake


@pytest.mark.parametrize("icon", ["Resources/CTDiffusion.png", "CTDiffusion/Resources/Icons/CTDiffusion.png"])
def test_icons_are_128_pixels_wide_and_high(icon):
    from PIL import Image

    with Image.open(REPOSITORY / icon) as picture:
        assert picture.size == (128, 128)
        assert picture.format == "PNG"


def _run(command: list[object], cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CMAKE")}
    finished = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout
