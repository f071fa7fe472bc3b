"""What an installation does, as plain data: which commands, how much they download, what the user is asked.

pip's own commands are run by a worker (Job), not by slicer.packaging.pip_install or slicer.util.pip_install (read in
Slicer 5.12 and 5.13): those either block the application or, with ``blocking=False``, give no process that could be
cancelled, or ended when Slicer exits. The user's settings for pip (proxy, own index) count: pip reads them itself.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slicer.i18n import tr as _

from .JobProcess import pythonExecutable

#: Where PyTorch comes from: its extension for Slicer, which knows the graphics card; pip; a folder of files.
Source = Literal["extension", "pip", "folder"]
#: PyTorch's packages for the CPU alone; on Linux those of PyPI bring gigabytes of CUDA.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
#: From this version on pip can say how far it is in a form for programs.
PIP_WITH_RAW_PROGRESS = (24, 1)
#: MB to download and MB on disk, with what each brings along; measured in 2026, rounded up.
SIZES = {
    "numpy": (20, 50),
    "scipy": (40, 120),
    "SimpleITK": (60, 270),
    "pydicom": (3, 15),
    "diffusers": (20, 90),
    "safetensors": (1, 2),
    "accelerate": (2, 6),
    "matplotlib": (20, 60),
    "pillow": (8, 10),
    "monai": (3, 20),
    "jinja2": (1, 2),
}
#: The same of PyTorch, which depends on the system and on the graphics card.
TORCH_SIZES = {"cpu": (220, 900), "mac": (100, 450), "cuda": (4000, 8000)}


@dataclass(frozen=True)
class InstallStep:
    """One command.

    :param title: what it does, for people.
    :param module: what ``PythonSlicer -m`` runs.
    :param words: its arguments; CONSTRAINTS in them stands for the file that pins what must not be replaced.
    :param packages: what it installs: these are not pinned.
    :param mayFail: whether the others go on if it fails.
    """

    title: str
    module: str
    words: tuple[str, ...]
    packages: tuple[str, ...] = ()
    mayFail: bool = False


#: In an InstallStep's words: the path of the file with constraints, written when the step begins.
CONSTRAINTS = "{constraints}"


@dataclass(frozen=True)
class InstallPlan:
    """All of an installation.

    :param packages: what is installed, by pip's names.
    :param steps: how, in order.
    :param downloadMB: about how much is downloaded; 0 from a folder.
    :param diskMB: about how much it takes on the disk.
    """

    packages: tuple[str, ...]
    steps: tuple[InstallStep, ...]
    downloadMB: int
    diskMB: int


def makePlan(
    missing: Sequence[str],
    broken: Sequence[str] = (),
    *,
    source: Source,
    folder: str = "",
    torchWords: Sequence[str] = (),
    hasLightTheTorch: bool = True,
) -> InstallPlan:
    """Plan an installation.

    :param missing: packages to install, by names in CTDiffusionLogic.requirements.
    :param broken: packages to take away first, and to install again.
    :param source: where PyTorch comes from.
    :param folder: where all packages are, with the source "folder".
    :param torchWords: how the PyTorch extension installs it: arguments for light_the_torch.
    :param hasLightTheTorch: whether that package, which the extension uses, is there.
    """
    packages = tuple(dict.fromkeys((*missing, *broken)))
    others = tuple(name for name in packages if name != "torch")
    steps = [_removal(broken)] if broken else []
    if "torch" in packages:
        steps += _torchSteps(source, folder, torchWords, hasLightTheTorch, isRepair="torch" in broken)
    again = tuple(name for name in others if name in broken)
    if again:
        # The broken ones alone, over whatever could not be taken away; what they bring along follows below.
        steps.append(_install(_("Installing {names} again"), again, folder, ("--ignore-installed", "--no-deps")))
    if others:
        steps.append(_install(_("Installing {names}"), others, folder))
    download, disk = sizes(packages)
    return InstallPlan(packages, tuple(steps), 0 if source == "folder" else download, disk)


def sizes(packages: Sequence[str]) -> tuple[int, int]:
    """Return about how many MB are downloaded for some packages, and how many they take on the disk."""
    both = [TORCH_SIZES[accelerator()] if name == "torch" else SIZES.get(name, (5, 15)) for name in packages]
    return sum(download for download, _disk in both), sum(disk for _download, disk in both)


def accelerator() -> str:
    """Return which PyTorch this computer gets: "cuda", "mac" or "cpu"."""
    if sys.platform == "darwin":
        return "mac"
    hasDriver = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()
    return "cuda" if hasDriver else "cpu"


def sizeText(megabytes: int) -> str:
    """Return "230 MB" or "4.0 GB"."""
    if megabytes < 1000:
        return _("{number} MB").format(number=megabytes)
    return _("{number} GB").format(number=f"{megabytes / 1000:.1f}")


def offlineText(folder: str = "") -> str:
    """Return what to do on a computer without a network, to be copied.

    :param folder: where the downloaded files will lie here, if that is known.
    """
    from CTDiffusionLogic.requirements import CORE, EVALUATION, TRAINING

    names = " ".join(f'"{requirement}"' for requirement in (*CORE, *TRAINING, *EVALUATION))
    cpu = f" --extra-index-url {CPU_INDEX}" if sys.platform == "linux" and accelerator() == "cpu" else ""
    pip = f'"{_pythonSlicer()}" -m pip'
    return _(
        "1. In a terminal of a computer that has a network, the same system and the same version of Slicer "
        "(perhaps at another place):\n\n{download}\n\n"
        "2. Copy the folder packages to this computer, choose it above, and press Install. Or in a terminal here:\n\n"
        "{install}"
    ).format(
        download=f"{pip} download --dest packages{cpu} {names}",
        install=f'{pip} install --no-index --find-links "{folder or "packages"}" {names}',
    )


def _pythonSlicer() -> str:
    try:
        return pythonExecutable()
    except FileNotFoundError:
        return "PythonSlicer"


def _requirements(names: Sequence[str]) -> tuple[str, ...]:
    from CTDiffusionLogic.requirements import CORE, EVALUATION, TRAINING

    known = {requirement.name: str(requirement) for requirement in (*CORE, *TRAINING, *EVALUATION)}
    return tuple(known[name] for name in names)


def _torchSteps(
    source: Source, folder: str, torchWords: Sequence[str], hasLightTheTorch: bool, *, isRepair: bool
) -> list[InstallStep]:
    over = ("--ignore-installed", "--no-deps") if isRepair else ()
    if source == "extension":
        steps = [] if hasLightTheTorch else [_lightTheTorch()]
        return steps + [_torchByExtension(torchWords, options) for options in dict.fromkeys((over, ()))]
    where: tuple[str, ...] = ()
    if source == "pip" and sys.platform == "linux" and accelerator() == "cpu":
        where = ("--extra-index-url", CPU_INDEX)  # beside the index that pip is set to; its "2.9.0+cpu" goes first
    title = _("Installing PyTorch")
    return [_install(title, ("torch",), folder, (*options, *where)) for options in dict.fromkeys((over, ()))]


def _lightTheTorch() -> InstallStep:
    words = ("install", *_manners(), "light-the-torch>=0.5", "--constraint", CONSTRAINTS)
    return InstallStep(_("Installing light-the-torch"), "pip", words)


def _torchByExtension(torchWords: Sequence[str], options: Sequence[str]) -> InstallStep:
    command, *packages = torchWords
    words = (command, *_manners(), *options, *packages, "--constraint", CONSTRAINTS)
    return InstallStep(_("Installing PyTorch"), "light_the_torch", words, ("torch", "torchvision"))


def _install(title: str, names: Sequence[str], folder: str, options: Sequence[str] = ()) -> InstallStep:
    where = ("--no-index", "--find-links", folder) if folder else ()
    words = ("install", *_manners(), *where, *options, *_requirements(names), "--constraint", CONSTRAINTS)
    return InstallStep(title.format(names=", ".join(names)), "pip", words, tuple(names))


def _removal(broken: Sequence[str]) -> InstallStep:
    names = list(broken)
    if "torch" in names:
        # Its libraries are packages of their own; the broken part may be one of them.
        found = [path.name.partition("-")[0] for path in Path(sysconfig.get_paths()["purelib"]).glob("*.dist-info")]
        names += ["torchvision", *sorted({name for name in found if name.startswith(("nvidia_", "triton"))})]
    title = _("Removing what is broken: {names}").format(names=", ".join(broken))
    return InstallStep(title, "pip", ("uninstall", "--yes", "--disable-pip-version-check", *names), mayFail=True)


def _manners() -> tuple[str, ...]:
    """Options for pip: ask nothing, give up in time, say how far it is where this pip can."""
    try:
        version = tuple(int(number) for number in importlib.metadata.version("pip").split(".")[:2])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        version = (0, 0)
    progress = "raw" if version >= PIP_WITH_RAW_PROGRESS else "off"
    return (
        "--disable-pip-version-check",
        "--no-input",
        "--retries=2",
        "--timeout=20",
        "--no-warn-script-location",
        f"--progress-bar={progress}",
    )
