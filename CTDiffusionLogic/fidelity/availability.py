"""Which feature extractors of ``ctdiffusion evaluate`` this machine has what it takes for; for ``ctdiffusion doctor``.

Standard library only, and quick: packages are looked up, not imported, and weights files are looked for, not loaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from CTDiffusionLogic.requirements import installed_version

#: Of the default extractor.
BUNDLED_WEIGHTS = Path(__file__).resolve().parent / "weights" / "ctfeatures.safetensors"
#: Where published weights are looked for; without it, a folder in the user's cache.
FOLDER_VARIABLE = "CTDIFFUSION_WEIGHTS"


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """A file that others publish.

    Args:
        title: What it holds, for messages.
        extractor: Name of the extractor that needs it.
        url: Where it is.
        megabytes: About how large it is.
        sha256_begins: First digits of its SHA-256 as its publisher gives them; "" where none are given.
    """

    title: str
    extractor: str
    url: str
    megabytes: int
    sha256_begins: str = ""

    @property
    def file_name(self) -> str:
        """Name of the file at its source and here."""
        return self.url.rpartition("/")[2]

    @property
    def place(self) -> Path:
        """Where the file belongs on this machine."""
        return weights_folder() / self.file_name

    @property
    def remedy(self) -> str:
        """Where to get it and where to put it."""
        return (
            f"Get {self.url} (about {self.megabytes} MB) and put it at {self.place}, "
            f"or name the file: {self.extractor}:FILE."
        )


INCEPTION_WEIGHTS = PublishedWeights(
    title="weights of InceptionV3 for FID",
    extractor="inception",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    megabytes=96,
    sha256_begins="6726825d",
)
#: MONAI's copy of the file that ``Warvito/radimagenet-models`` fetches for ``torch.hub``, by the same name.
RADIMAGENET_WEIGHTS = PublishedWeights(
    title="RadImageNet weights of ResNet-50",
    extractor="radimagenet",
    url="https://huggingface.co/MONAI/checkpoints/resolve/main/RadImageNet-ResNet50_notop.pth",
    megabytes=94,
)


@dataclass(frozen=True)
class Needs:
    """What an extractor takes.

    Args:
        package: That computes its features.
        extra: Of ``pip install "ctdiffusion[...]"`` that brings it.
        weights: Of others that it needs; None: bundled, or none needed.
    """

    package: str
    extra: str
    weights: PublishedWeights | None = None


#: By the names that ``--extractor`` takes, the default first.
NEEDS = {
    "ctfeatures": Needs("monai", "evaluate"),
    "inception": Needs("torch-fidelity", "inception", INCEPTION_WEIGHTS),
    "radimagenet": Needs("monai", "evaluate", RADIMAGENET_WEIGHTS),
    "radiomics": Needs("mirp", "radiomics"),
}


@dataclass(frozen=True)
class Availability:
    """Whether an extractor has what it takes.

    Args:
        name: As ``--extractor`` takes it.
        complete: Package and weights are there.
        text: What is there and what is not.
        remedy: How to get what is missing; empty where nothing is.
    """

    name: str
    complete: bool
    text: str
    remedy: str = ""


def weights_folder() -> Path:
    """Where published weights are looked for."""
    named = os.environ.get(FOLDER_VARIABLE)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(cache) / "ctdiffusion" / "weights"


def availability(name: str) -> Availability:
    """What is there of an extractor in :data:`NEEDS`."""
    needs = NEEDS[name]
    version = installed_version(needs.package)
    parts = [f"{needs.package} {version}" if version else f"{needs.package} is not installed"]
    remedies = [] if version else [f'Run: python -m pip install "ctdiffusion[{needs.extra}]".']
    if name == "ctfeatures":
        parts.append("weights come with CTDiffusion" if BUNDLED_WEIGHTS.is_file() else f"{BUNDLED_WEIGHTS} is missing")
        remedies += [] if BUNDLED_WEIGHTS.is_file() else ["Install CTDiffusion again."]
    elif needs.weights is None:
        parts.append("needs no weights")
    elif needs.weights.place.is_file():
        parts.append(f"weights at {needs.weights.place}")
    else:
        parts.append("its weights are not on this machine")
        remedies.append(needs.weights.remedy)
    return Availability(name, not remedies, "; ".join(parts), " ".join(remedies))
