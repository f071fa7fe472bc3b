"""Where reports are kept: a folder of their own for each, in one that is remembered."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import slicer
from slicer.i18n import tr as _

#: In Slicer's user settings.
_KEY = "CTDiffusion/ReportsFolder"


def reportsFolder() -> Path:
    """Return the folder that holds the reports: that of the last one, else one in the user's home."""
    app = getattr(slicer, "app", None)  # slicer-core has none
    remembered = str(app.userSettings().value(_KEY, "") or "") if app is not None else ""
    if remembered and Path(remembered).is_dir():
        return Path(remembered)
    return Path.home() / "CTDiffusion reports"


def rememberReportsFolder(folder: Path) -> None:
    """Propose this folder from now on."""
    slicer.app.userSettings().setValue(_KEY, str(folder.absolute()))


def newReportFolder(base: Path, *, now: datetime | None = None) -> Path:
    """Return a folder below ``base`` that is not there yet: "measurement 2026-11-22 15.04", "... (2)".

    :param now: for its name; by default the time.
    """
    name = _("measurement {time}").format(time=(now or datetime.now()).strftime("%Y-%m-%d %H.%M"))
    path, number = base / name, 1
    while path.exists():
        number += 1
        path = base / f"{name} ({number})"
    return path
