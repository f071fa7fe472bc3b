"""What the user is asked before anything is downloaded."""

from __future__ import annotations

import shutil
import sysconfig
from typing import Any, Literal

import qt
import slicer
from slicer.i18n import tr as _

from .InstallCheck import nameForPeople
from .InstallPlan import InstallPlan, sizeText

#: Free space on the disk that is wanted beyond what the packages take, for pip's temporary files.
_SPARE = 1.2


def askConsent(plan: InstallPlan) -> bool:
    """Say what will be installed, where, and how big it is; return whether the user wants that."""
    lines = [
        _("{names} will be installed into this Slicer ({folder}).").format(
            names=", ".join(map(nameForPeople, plan.packages)), folder=slicer.app.slicerHome
        )
    ]
    disk = sizeText(plan.diskMB)
    if plan.downloadMB:
        lines.append(
            _("About {download} will be downloaded; they take about {disk} on the disk.").format(
                download=sizeText(plan.downloadMB), disk=disk
            )
        )
    else:
        lines.append(_("Nothing will be downloaded; they take about {disk} on the disk.").format(disk=disk))
    free = shutil.disk_usage(sysconfig.get_paths()["purelib"]).free / 1e6
    if free < _SPARE * (plan.diskMB + plan.downloadMB):
        lines.append(_("Only {free} are free there: that may not be enough.").format(free=sizeText(round(free))))
    lines.append(_("Slicer can be used meanwhile. Packages that Slicer brings, such as numpy, are not replaced."))
    return bool(slicer.util.confirmOkCancelDisplay("\n\n".join(lines), _("CT Diffusion: install packages")))


def askForExtension() -> Literal["extension", "pip", ""]:
    """Ask where PyTorch is to come from while its extension is missing; "" if from nowhere."""
    text = _(
        "PyTorch is best installed by Slicer's PyTorch extension, which chooses the build for your graphics card. "
        "It is small; Slicer has to be restarted after it, then press Install again.\n\n"
        "Or pip installs PyTorch without it."
    )
    return _choose(text, {_("Install extension"): "extension", _("Use pip"): "pip"})


def askAfterFailure() -> Literal["extension", "pip", ""]:
    """Ask how to go on when PyTorch could not be installed as its extension does it."""
    text = _("PyTorch could not be installed as the PyTorch extension does it. Try that again, or let pip do it?")
    return _choose(text, {_("Try again"): "extension", _("Use pip"): "pip"})


def askForRestart() -> Literal["pip", ""]:
    """Say that Slicer must be restarted to use the extension; "pip" if the user does not want to wait for that."""
    text = _("The PyTorch extension is installed. Restart Slicer to use it, then press Install again.")
    chosen = _choose(text, {_("Restart"): "restart", _("Use pip"): "pip"})
    if chosen == "restart":
        slicer.app.confirmRestart(text)
    return "pip" if chosen == "pip" else ""


def _choose(text: str, answers: dict[str, str]) -> Any:
    box = qt.QMessageBox(slicer.util.mainWindow())
    box.setIcon(qt.QMessageBox.Question)
    box.setWindowTitle(_("CT Diffusion: install packages"))
    box.setText(text)
    buttons = {answer: box.addButton(label, qt.QMessageBox.AcceptRole) for label, answer in answers.items()}
    box.addButton(_("Cancel"), qt.QMessageBox.RejectRole)
    box.exec_()
    return next((answer for answer, button in buttons.items() if box.clickedButton() == button), "")
