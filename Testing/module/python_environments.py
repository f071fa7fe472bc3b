"""Throw-away Python environments and wheels, so that the real pip really installs, without a network."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import sysconfig
import venv
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path

OWN_PACKAGES = Path(sysconfig.get_paths()["purelib"])


class PythonEnvironment:
    """A virtual environment with pip, which may see some packages of the tests' own one and can change none of them.

    Args:
        folder: Where it is made.
        lacks: Packages (as pip calls them) of the tests' environment that it does not see; None: it sees none at all.
    """

    def __init__(self, folder: Path, *, lacks: Iterable[str] | None = None) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = folder / "bin" / "python"
        (self.packages,) = folder.glob("lib/python*/site-packages")
        for entry in [OWN_PACKAGES / "pip", *OWN_PACKAGES.glob("pip-*.dist-info")]:
            shutil.copytree(entry, self.packages / entry.name)
        if lacks is not None:
            (self.packages / "seen.pth").write_text(f"{_selection(folder / 'seen', set(lacks))}\n")

    def version(self, name: str) -> str | None:
        """Return the version that is installed in the environment itself."""
        found = list(self.packages.glob(f"{name.replace('-', '_')}-*.dist-info"))
        return found[0].name.removesuffix(".dist-info").rpartition("-")[2] if found else None

    def writeLauncher(self, path: Path, prefix: str = "") -> None:
        """Write a PythonSlicer that runs it, like Slicer's as a child.

        Args:
            path: The new file.
            prefix: Command that runs the command that follows, "setpriv ..." for example.
        """
        path.write_text(f'#!/bin/sh\n{prefix} "{self.python}" "$@"\nexit $?\n')
        path.chmod(0o755)


def _selection(folder: Path, lacks: set[str]) -> Path:
    """Make a folder of links to what is installed for the tests, but for some packages, pip and ourselves."""
    hidden = {"pip", "__pycache__"}
    for name in lacks:
        files = importlib.metadata.files(name) or []
        hidden |= {file.parts[0] for file in files if file.parts[0] != ".."}
    folder.mkdir()
    for entry in OWN_PACKAGES.iterdir():
        if entry.name not in hidden and not entry.name.startswith(("pip-", "__editable__", "ctdiffusion")):
            (folder / entry.name).symlink_to(entry)
    return folder


def writeWheel(
    folder: Path, name: str, version: str, files: Mapping[str, bytes | str], *, needs: Iterable[str] = ()
) -> Path:
    """Write a wheel that every Python takes.

    Args:
        folder: Where it is put.
        name: As pip calls the package.
        version: For example "1.0".
        files: Contents by path.
        needs: Requirements.
    """
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {n}" for n in needs)]
    content = {
        **{path: text.encode() if isinstance(text, str) else text for path, text in files.items()},
        f"{info}/METADATA": ("\n".join(metadata) + "\n").encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in content.items()]
    content[f"{info}/RECORD"] = ("\n".join([*record, f"{info}/RECORD,,"]) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in content.items():
            archive.writestr(path, data)
    return wheel


def packInstalled(folder: Path, name: str, *, version: str | None = None) -> Path:
    """Write a wheel of a package that is installed for the tests, perhaps under another version."""
    files = importlib.metadata.files(name) or []
    kept = [f for f in files if ".dist-info" not in f.parts[0] and f.parts[0] != ".." and "__pycache__" not in f.parts]
    content = {file.as_posix(): Path(str(file.locate())).read_bytes() for file in kept}
    return writeWheel(folder, name, version or importlib.metadata.version(name), content)


def _digest(data: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
