"""The packages CTDiffusion needs: the one list that the doctor checks and 3D Slicer's section Install installs.

``pyproject.toml`` says the same for pip (a test compares them). Standard library only: it is read where nothing is
installed yet.

    python -m CTDiffusionLogic.requirements

prints pip constraints (``numpy==2.1.0``) for those of the packages in :data:`PROTECTED` that are there, so that an
installation beside them cannot replace them.
"""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Requirement:
    """A package.

    Args:
        name: As pip calls it.
        minimum: The oldest version that will do. There are lower bounds only: Slicer brings its own versions.
        module: What is imported.
        purpose: What it is for, in a few words.
    """

    name: str
    minimum: str
    module: str
    purpose: str

    def __str__(self) -> str:
        return f"{self.name}>={self.minimum}"


#: What reading, writing and generating need.
CORE = (
    Requirement("numpy", "1.26", "numpy", "arrays"),
    Requirement("scipy", "1.13", "scipy", "resampling"),
    Requirement("SimpleITK", "2.3", "SimpleITK", "image files"),
    Requirement("pydicom", "3.0", "pydicom", "DICOM"),
    Requirement("torch", "2.6", "torch", "computing"),
    Requirement("diffusers", "0.36", "diffusers", "network and samplers"),
    Requirement("safetensors", "0.4.5", "safetensors", "model files"),
)
#: What training needs besides.
TRAINING = (
    Requirement("accelerate", "1.2", "accelerate", "training"),
    Requirement("matplotlib", "3.8", "matplotlib", "pictures while training"),
    Requirement("pillow", "10", "PIL", "pictures while training"),
)
#: What measuring how real volumes are needs besides, and matplotlib and pillow of TRAINING.
EVALUATION = (
    Requirement("monai", "1.5", "monai", "measuring how real volumes are"),
    Requirement("jinja2", "3.1", "jinja2", "reports of measurements"),
)
#: What an installation must never replace where it is there: 3D Slicer's own packages, and PyTorch, whose build
#: was chosen for the graphics card.
PROTECTED = ("numpy", "scipy", "SimpleITK", "pydicom", "requests", "pillow", "vtk", "pip", "torch", "torchvision")


def installed_version(name: str) -> str | None:
    """Return the version of an installed package, or None; says nothing about whether it can be imported."""
    try:
        # None, too, where a broken installation has lost the file that says it.
        return importlib.metadata.version(name) or None
    except importlib.metadata.PackageNotFoundError:
        return None


def is_enough(version: str, minimum: str) -> bool:
    """Whether ``version`` is at least ``minimum``, by the numbers in front: "2.13.0+cpu" is at least "2.6"."""
    return _numbers(version) >= _numbers(minimum)


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(number) for number in found.group().split(".")] if found else []
    while numbers and numbers[-1] == 0:  # 3 is 3.0
        numbers.pop()
    return tuple(numbers)


def constraints() -> list[str]:
    """Return a pip constraint for every package in PROTECTED that is installed here."""
    versions = {name: installed_version(name) for name in PROTECTED}
    return [f"{name}=={version}" for name, version in versions.items() if version is not None]


if __name__ == "__main__":
    print("\n".join(constraints()))
