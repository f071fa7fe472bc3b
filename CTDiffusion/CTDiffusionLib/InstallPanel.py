"""The panel that installs what CTDiffusion needs: says what is there, and asks before it downloads anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from . import InstallDialogs, InstallExtension
from .InstallCheck import InstallState
from .InstallLogic import InstallBusyError, InstallLogic
from .InstallPlan import Source, makePlan, offlineText, sizes, sizeText
from .JobEnding import JobEnding


class InstallPanel:
    """Connects the widgets of the section Install with the logic.

    :param ui: the widgets by name (slicer.util.childWidgetVariables).
    :param logic: what installs.
    """

    def __init__(self, ui: Any, logic: InstallLogic) -> None:
        self._ui, self._logic = ui, logic
        self._lastKind = ""
        self._ending: JobEnding | None = None
        self._wasRepair = False
        self._source: Source | None = None
        ui.installButton.connect("clicked(bool)", self.onInstallOrCancel)
        ui.repairButton.connect("clicked(bool)", self.onRepair)
        ui.checkInstallButton.connect("clicked(bool)", self.onCheck)
        ui.packagesFolderEdit.connect("currentPathChanged(QString)", self.onFolder)
        ui.copyOfflineButton.connect("clicked(bool)", self.onCopyOffline)
        ui.copyInstallLogButton.connect("clicked(bool)", self.onCopyLog)
        logic.changed.connect(self.onChanged)
        logic.said.connect(self.onSaid)
        logic.ended.connect(self.onEnded)
        self.onFolder()

    def cleanup(self) -> None:
        """Stop listening; what runs is ended by who owns the worker."""
        self._logic.changed.disconnect(self.onChanged)
        self._logic.said.disconnect(self.onSaid)
        self._logic.ended.disconnect(self.onEnded)
        self._logic.cleanup()

    def onInstallOrCancel(self, *_arguments: Any) -> None:
        """Install what is missing, or try again what failed, or stop what runs."""
        if self._logic.isRunning:
            self._logic.cancel()
        else:
            self._install(repair=self._isRetry() and self._wasRepair)

    def onRepair(self, *_arguments: Any) -> None:
        """Install again what is broken; PyTorch, where nothing is known to be."""
        self._install(repair=True)

    def onCheck(self, *_arguments: Any) -> None:
        """Look again at what is installed."""
        self._ending = None
        self._logic.check()

    def onFolder(self, *_arguments: Any) -> None:
        """The user has chosen where packages are, or has not."""
        self._ui.offlineText.plainText = offlineText(self._ui.packagesFolderEdit.currentPath)
        self.onChanged()

    def onCopyOffline(self, *_arguments: Any) -> None:
        """Put the instructions on the clipboard."""
        slicer.app.clipboard().setText(self._ui.offlineText.plainText)

    def onCopyLog(self, *_arguments: Any) -> None:
        """Put the log on the clipboard."""
        slicer.app.clipboard().setText(self._ui.installLogText.plainText)

    def onSaid(self, line: str) -> None:
        """A command has said something."""
        self._ui.installLogText.appendPlainText(line)

    def onEnded(self, ending: JobEnding) -> None:
        """The installation is over."""
        self._ending = ending
        self._ui.installLogText.appendPlainText(f"[{ending.kind}] {ending.text}".rstrip())

    def onChanged(self) -> None:
        """Show what is there, what is being done, and what can be done; tool tips say why not."""
        ui, logic = self._ui, self._logic
        state = logic.state
        ui.installStatusLabel.text = self._statusText(state)
        ui.installResultLabel.text = self._resultText()
        ui.installResultLabel.visible = bool(ui.installResultLabel.text)
        ui.installLogCollapsibleButton.visible = bool(ui.installLogText.plainText)
        self._showProgress()
        self._showButtons(state)
        kind = "installing" if logic.isRunning else state.kind
        ui.installCollapsibleButton.text = _headers()[kind]
        if kind in ("incomplete", "failed") and self._lastKind in ("", "unknown", "checking"):
            ui.installCollapsibleButton.collapsed = False
        self._lastKind = kind

    def _install(self, *, repair: bool) -> None:
        """Make a plan, ask the user, and start."""
        logic, state = self._logic, self._logic.state
        folder = self._ui.packagesFolderEdit.currentPath
        if (problem := self._problem(folder)) is not None:
            self._ending = problem
            self.onChanged()
            return
        broken = (state.broken or ("torch",)) if repair else ()
        missing = [name for name in state.missing if name not in broken]
        source = self._chooseSource(folder, needsTorch="torch" in (*missing, *broken))
        if source is None:
            return
        byExtension = source == "extension"
        plan = makePlan(
            missing,
            broken,
            source=source,
            folder=folder,
            torchWords=InstallExtension.torchWords() if byExtension else (),
            hasLightTheTorch=not byExtension or InstallExtension.hasLightTheTorch(),
        )
        if not InstallDialogs.askConsent(plan):
            return
        self._ending, self._wasRepair, self._source = None, repair, source
        self._ui.installLogText.plainText = ""
        logic.start(plan)

    def _problem(self, folder: str) -> JobEnding | None:
        """Return why nothing can be installed now, if so."""
        if folder and not Path(folder).is_dir():
            text = _("There is no folder {folder}.").format(folder=folder)
            return JobEnding("failed", text, _("Choose another one, or none."), "no-folder")
        try:
            self._logic.requireQuiet()
        except InstallBusyError as error:
            return JobEnding("failed", str(error), code="busy")
        return None

    def _chooseSource(self, folder: str, *, needsTorch: bool) -> Source | None:
        """Return where packages come from; None if the user does not want that, or Slicer must be restarted first."""
        if folder:
            return "folder"
        if not needsTorch:
            return "pip"
        if self._source == "pip" and self._isRetry():
            return "pip"
        if InstallExtension.isLoaded():
            chosen = InstallDialogs.askAfterFailure() if self._failedByExtension() else "extension"
            return chosen or None
        if InstallExtension.needsRestart():
            return InstallDialogs.askForRestart() or None
        chosen = InstallDialogs.askForExtension()
        if chosen != "extension":
            return chosen or None
        if InstallExtension.install():
            text = _("The PyTorch extension is installed. Restart Slicer, then press Install again.")
            self._ending = JobEnding("cancelled", text, code="restart")
        else:
            text = _("The PyTorch extension could not be installed.")
            remedy = _("Check the network and press Retry, or install it in Slicer's Extensions Manager.")
            self._ending = JobEnding("failed", text, remedy, "no-extension")
        self.onChanged()
        return None

    def _failedByExtension(self) -> bool:
        hasNoOtherReason = self._ending is not None and self._ending.code in ("failed", "no-pip", "not-found")
        return self._isRetry() and self._source == "extension" and hasNoOtherReason

    def _isRetry(self) -> bool:
        return self._ending is not None and self._ending.kind == "failed"

    def _statusText(self, state: InstallState) -> str:
        if self._logic.isRunning:
            return _("Stopping...") if self._logic.isStopping else f"{self._logic.step}..."
        if not state.missing or state.kind not in ("incomplete", "ready"):
            return state.text
        download, disk = sizes(state.missing)
        about = _("About {download} to download, {disk} on the disk.")
        return f"{state.text} {about.format(download=sizeText(download), disk=sizeText(disk))}"

    def _resultText(self) -> str:
        if self._ending is None or self._logic.isRunning:
            return ""
        if self._ending.kind == "finished":
            return _("Done: everything is installed and works.")
        if self._ending.code == "test-failed":  # the status says why
            return _("Installed, but the test failed. {remedy}").format(remedy=self._ending.remedy).strip()
        if self._ending.kind == "cancelled":
            return self._ending.text
        return _("Failed: {text}").format(text=self._ending.text)

    def _showProgress(self) -> None:
        bar, (done, of) = self._ui.installProgressBar, self._logic.progress
        bar.visible = self._logic.isRunning
        bar.setRange(0, 1000 if of else 0)
        bar.value = int(1000 * done / of) if of else 0

    def _showButtons(self, state: InstallState) -> None:
        ui, logic = self._ui, self._logic
        isIdle = not logic.isRunning and state.kind != "checking"
        ui.checkInstallButton.enabled = ui.packagesFolderEdit.enabled = isIdle
        ui.repairButton.enabled = isIdle and state.kind != "unknown" and "torch" not in state.missing
        install = ui.installButton
        if logic.isRunning:
            install.text = _("Stopping...") if logic.isStopping else _("Cancel")
            install.enabled = not logic.isStopping
            install.toolTip = _("Stop the installation. What is half installed is completed by the next one.")
            return
        canRetry = self._isRetry() and (self._wasRepair or bool(state.missing))
        install.text = _("Retry") if canRetry else _("Install")
        install.enabled = isIdle and (bool(state.missing) or canRetry)
        if install.enabled:
            install.toolTip = _("Install what is missing. Before anything is downloaded you are asked.")
        elif state.broken:
            install.toolTip = _("Nothing is missing, but something is broken: press Repair.")
        else:
            install.toolTip = _("Everything is installed.") if state.kind == "ready" else state.text


def _headers() -> dict[str, str]:
    """What the section is called, since its header is all that is seen of it while all is well."""
    return {
        "unknown": _("Installation"),
        "checking": _("Installation: looking..."),
        "incomplete": _("Installation: packages are missing or broken"),
        "failed": _("Installation: does not work"),
        "ready": _("Installation: ready"),
        "installing": _("Installation: running"),
    }
