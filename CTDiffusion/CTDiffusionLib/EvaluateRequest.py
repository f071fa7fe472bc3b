"""What to measure, as the ``ctdiffusion evaluate`` command is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Feature extractors that need no weights of other projects; the command knows further ones.
EXTRACTORS = ("ctfeatures", "radiomics")
DEFAULT_EXTRACTOR = EXTRACTORS[0]
#: Those that need a file with weights.
WITH_WEIGHTS = ("inception", "radimagenet")
DEFAULT_IMAGES = 16


def extractorWord(name: str, weights: str) -> str:
    """Return an extractor as the command is told.

    :param name: one of EXTRACTORS or WITH_WEIGHTS.
    :param weights: path of its weights, or "". With ctfeatures they are a network of its kind.
    """
    if weights and name in WITH_WEIGHTS:
        return f"{name}:{weights}"
    return weights if weights and name == DEFAULT_EXTRACTOR else name


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """What to measure; the worker checks it and says what is wrong.

    :param folder: for the report: new or empty.
    :param real: files and folders with real scans, beside those of the scene.
    :param synthetic: files and folders with synthetic volumes, beside those of the scene.
    :param training: files and folders with the scans that the model was trained on: copies of them are looked for.
    :param heldOut: files and folders with scans that the model never saw.
    :param independent: the same model's volumes whose slices were made one by one, a baseline.
    :param extractors: what makes the features of the distances: one of EXTRACTORS, or whatever the command takes.
    :param imagesPerVolume: images cut from each volume in each plane, 1 to 1,000.
    :param device: "auto", "cpu", "cuda", "cuda:1" or "mps".
    :param seed: of resampling.
    :param allowPhantoms: whether computed phantoms may stand for real scans.
    """

    folder: Path
    real: tuple[Path, ...] = ()
    synthetic: tuple[Path, ...] = ()
    training: tuple[Path, ...] = ()
    heldOut: tuple[Path, ...] = ()
    independent: tuple[Path, ...] = ()
    extractors: tuple[str, ...] = (DEFAULT_EXTRACTOR,)
    imagesPerVolume: int = DEFAULT_IMAGES
    device: str = "auto"
    seed: int = 0
    allowPhantoms: bool = False

    def words(self, real: Sequence[Path], synthetic: Sequence[Path]) -> list[str]:
        """Return the command.

        :param real: further folders that will be there when it starts.
        :param synthetic: likewise.
        """
        groups = {
            "--real": (*self.real, *real),
            "--synthetic": (*self.synthetic, *synthetic),
            "--training": self.training,
            "--held-out": self.heldOut,
            "--independent": self.independent,
        }
        # With "=", so that a path that begins with a dash is not taken for an option.
        paths = [f"{name}={Path(path).absolute()}" for name, group in groups.items() for path in group]
        options = {
            "--out": Path(self.folder).absolute(),
            "--images-per-volume": self.imagesPerVolume,
            "--device": self.device,
            "--seed": self.seed,
        }
        given = [f"{name}={value}" for name, value in options.items()]
        features = [f"--extractor={name}" for name in self.extractors]
        return ["evaluate", *paths, *given, *features, *(["--allow-phantoms"] if self.allowPhantoms else [])]
