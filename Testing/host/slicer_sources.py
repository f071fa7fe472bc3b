"""Slicer's own Python files instead of the host's stand-ins, where a Slicer source tree is at hand.

    CTDIFFUSION_SLICER_PYTHON=/path/to/Slicer/Base/Python pytest Testing/module

The stand-ins for parameterNodeWrapper, ScriptedLoadableModule, translations and processes are held to the real ones in
this way: every test of the host must pass with both. The tests need no such tree.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

#: What is taken, with its file; in this order, since they import each other.
_FILES = {
    "slicer.i18n": "i18n.py",
    "slicer.ScriptedLoadableModule": "ScriptedLoadableModule.py",
    "slicer.parameterNodeWrapper": "parameterNodeWrapper/__init__.py",
}
#: Modules of Slicer, from the root of its sources; taken where that is at hand too.
_MODULE_FILES = {
    "DICOMLib": "Modules/Scripted/DICOMLib/DICOMPlugin.py",
    "SampleData": "Modules/Scripted/SampleData/SampleData.py",
}
_FUNCTIONS = ("launchConsoleProcess", "logProcessOutput", "executePythonModule", "reloadScriptedModule", "loadUI")


def folder() -> Path | None:
    """Return the folder with Slicer's package ``slicer``, or None."""
    given = os.environ.get("CTDIFFUSION_SLICER_PYTHON")
    if not given:
        return None
    found = Path(given) / "slicer"
    if not (found / "ScriptedLoadableModule.py").is_file():
        raise FileNotFoundError(f"CTDIFFUSION_SLICER_PYTHON={given} is not the folder Base/Python of Slicer's sources")
    return found


def _load(name: str, path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(source: Path) -> dict[str, types.ModuleType]:
    """Import Slicer's modules, for ``import slicer.i18n`` and so on; qt and ctk must be in place."""
    forget()
    import slicer

    for name, file in _FILES.items():
        setattr(slicer, name.partition(".")[2], _load(name, source / file))
    for name, file in _MODULE_FILES.items():
        path = source.parents[2] / file
        if path.is_file():
            _load(name, path)
    return {name: sys.modules[name] for name in _FILES}


def forget() -> None:
    """Remove the modules and their submodules."""
    for name in [name for name in sys.modules if name.startswith(tuple(_FILES))]:
        del sys.modules[name]


def functions(source: Path) -> dict[str, Any]:
    """Return the functions of Slicer's own slicer.util that the host's tests are about."""
    name = "slicer_util_of_sources"
    module = _load(name, source / "util.py")
    del sys.modules[name]
    return {function: getattr(module, function) for function in _FUNCTIONS}
