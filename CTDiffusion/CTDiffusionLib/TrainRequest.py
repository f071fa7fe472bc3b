"""What to train, as the ``ctdiffusion train`` command is told, and what a folder of a training holds."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from .GenerateModels import RUN_MODEL


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What to train; the worker checks it and says what is wrong.

    :param run: folder of the training; made if it is not there.
    :param folders: folders (or files) with CT scans, searched recursively.
    :param preset: "standard", "tiny" or "large".
    :param imageSize: pixels per side of the images the model makes: a multiple of 64.
    :param maxMinutes: time budget, preparation included; None for no limit.
    :param epochs: stop after so many epochs in all; None for no limit.
    :param device: "auto", "cpu", "cuda", "cuda:1" or "mps".
    :param seed: of everything random.
    :param resume: go on with the training in ``run``; see resumed.
    :param name: the model's name in its card; empty for that of ``run``.
    :param note: what the card says about the data's origin and licence.
    :param checkpointMinutes: time between checkpoints; None for the command's own.
    """

    run: Path
    folders: tuple[Path, ...] = ()
    preset: str = "standard"
    imageSize: int = 256
    maxMinutes: float | None = None
    epochs: int | None = None
    device: str = "auto"
    seed: int = 0
    resume: bool = False
    name: str = ""
    note: str = ""
    checkpointMinutes: float | None = None

    def words(self, data: Sequence[Path]) -> list[str]:
        """Return the command.

        :param data: further folders that will be there when it starts.
        """
        paths = [] if self.resume else [str(Path(path).absolute()) for path in (*self.folders, *data)]
        options = {
            "--run": Path(self.run).absolute(),
            "--preset": self.preset,
            "--image-size": self.imageSize,
            "--max-minutes": self.maxMinutes,
            "--epochs": self.epochs,
            "--device": self.device,
            "--seed": self.seed,
            "--name": self.name or None,
            "--note": self.note or None,
            "--checkpoint-minutes": self.checkpointMinutes,
        }
        # With "=", so that a value that begins with a dash is not taken for an option.
        given = [f"{name}={value}" for name, value in options.items() if value is not None]
        return ["train", *paths, *given, *(["--resume"] if self.resume else [])]

    def resumed(self) -> TrainRequest:
        """Return the request that goes on with the training in ``run``, with what that was started with."""
        before = _startedWith(self.run)
        return replace(
            self,
            resume=True,
            preset=before.get("preset", self.preset),
            imageSize=before.get("image_size", self.imageSize),
            seed=before.get("seed", self.seed),
        )


def folderProblem(folder: Path) -> str:
    """Why a folder (or file) with scans cannot be read, for people; empty if it can."""
    if not folder.exists():
        return _("{path} does not exist.").format(path=folder)
    if not os.access(folder, os.R_OK | os.X_OK if folder.is_dir() else os.R_OK):
        return _("{path} cannot be read: you have no permission.").format(path=folder)
    return ""


def holdsTraining(run: Path) -> bool:
    """Whether a folder holds checkpoints, which a new training would not overwrite."""
    checkpoints = run / "checkpoints"
    return checkpoints.is_dir() and any(checkpoints.iterdir())


def canBeResumed(run: Path) -> bool:
    """Whether a training in a folder has come so far that it can go on."""
    return all((run / name).is_file() for name in ("plan.json", "options.json", "body.safetensors"))


def modelOf(run: Path) -> Path | None:
    """Return the model that a training has made so far, or None."""
    path = Path(run).absolute() / RUN_MODEL
    return path if path.is_file() else None


def newestSample(run: Path) -> Path | None:
    """Return the newest sample sheet of a training, or None."""
    sheets = [path for path in (run / "samples").glob("*.png") if not path.name.startswith(".")]
    return max(sheets, key=lambda path: path.stat().st_mtime, default=None)


def _startedWith(run: Path) -> dict[str, Any]:
    try:
        before = json.loads((run / "options.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the worker says what is wrong with the folder
        return {}
    return before if isinstance(before, dict) else {}
