"""Where trainings are kept: a folder of their own for each, beside the one that was used last."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

#: In Slicer's user settings.
_KEY = "CTDiffusion/TrainingsFolder"


def trainingsFolder() -> Path:
    """Return the folder that holds the trainings: that of the last one, else one in the user's documents."""
    remembered = str(slicer.app.userSettings().value(_KEY, "") or "")
    if remembered and Path(remembered).is_dir():
        return Path(remembered)
    documents = qt.QStandardPaths.writableLocation(qt.QStandardPaths.DocumentsLocation)
    return Path(documents or Path.home()) / "CTDiffusion"


def rememberTrainingsFolder(run: Path) -> None:
    """Propose folders beside ``run`` from now on."""
    slicer.app.userSettings().setValue(_KEY, str(run.absolute().parent))


def newRunFolder(base: Path, *, today: date | None = None) -> Path:
    """Return a folder below ``base`` that is not there yet: "training 2026-11-22", "training 2026-11-22 (2)"...

    :param today: for its name; by default today.
    """
    name = _("training {date}").format(date=(today or date.today()).isoformat())
    path, number = base / name, 1
    while path.exists():
        number += 1
        path = base / f"{name} ({number})"
    return path
