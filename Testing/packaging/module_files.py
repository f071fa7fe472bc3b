"""The file lists in the CMakeLists.txt of both modules, and the files that are really there.

    python Testing/packaging/module_files.py            say what is missing or too much; exit code 1 if anything is
    python Testing/packaging/module_files.py --write    bring the lists up to date

Slicer packages the files that are listed and silently leaves out all others.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
#: Folder of a module: names of its lists of Python files and of other files.
MODULES = {
    "CTDiffusion": ("MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES"),
    "CTDiffusionLogic": ("PACKAGE_PYTHON_SCRIPTS", "PACKAGE_RESOURCES"),
}


def listed_files(module: str, variable: str) -> list[str]:
    """Files that a list names, relative to the module's folder, in the order of the list."""
    return _list_pattern(variable).search(_cmake_file(module).read_text()).group("files").split()  # type: ignore[union-attr]


def files_there(module: str, variable: str) -> list[str]:
    """Files of the module's folder that belong into a list, sorted."""
    wants_python = variable.endswith("SCRIPTS")
    folder = REPOSITORY / module
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
        and (path.suffix == ".py") == wants_python
        and path.name != "CMakeLists.txt"
        and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts)
    )


def differences() -> list[str]:
    """One line for each file that is missing in a list or is listed and not there; empty if all is well."""
    lines = []
    for module, variables in MODULES.items():
        for variable in variables:
            listed, there = listed_files(module, variable), files_there(module, variable)
            where = f"{module}/CMakeLists.txt, {variable}"
            lines += [f"{where}: add the line   {name}" for name in there if name not in listed]
            lines += [f"{where}: remove the line   {name}" for name in listed if name not in there]
            lines += [f"{where}: listed twice   {name}" for name in set(listed) if listed.count(name) > 1]
    return lines


def write_lists() -> None:
    """Make all lists equal to what is there."""
    for module, variables in MODULES.items():
        text = _cmake_file(module).read_text()
        for variable in variables:
            names = "".join(f"  {name}\n" for name in files_there(module, variable))
            text = _list_pattern(variable).sub(f"set({variable}\n{names}  )", text)
        _cmake_file(module).write_text(text)


def _cmake_file(module: str) -> Path:
    return REPOSITORY / module / "CMakeLists.txt"


def _list_pattern(variable: str) -> re.Pattern[str]:
    return re.compile(rf"set\({variable}\n(?P<files>[^)]*)\)")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write_lists()
    found = differences()
    print("\n".join(found))
    sys.exit(1 if found else 0)
