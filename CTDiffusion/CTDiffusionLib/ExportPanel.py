"""The panel that exports synthetic volumes: what the user chose to logic, and what the worker tells to the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import slicer.util
from slicer.i18n import tr as _

from . import Provenance
from .ExportLogic import ExportLogic
from .ExportRequest import ExportRequest
from .ExportRun import ExportRun
from .JobEnding import JobEnding
from .JobSignal import Signal
from .RunPanel import RunPanel
from .SlicerHost import nodesByClass
from .SyntheticFile import recogniseFile

VOLUME_CLASS = "vtkMRMLScalarVolumeNode"


class ExportPanel(RunPanel):
    """Connects the widgets of ExportSection.ui with the logic and the parameter node.

    :param ui: the widgets by name.
    :param logic: what exports.
    """

    def __init__(self, ui: Any, logic: ExportLogic) -> None:
        super().__init__(ui, "export")
        self._logic = logic
        ui.exportVolumesSelector.addAttribute(VOLUME_CLASS, Provenance.SYNTHETIC_ATTRIBUTE, "yes")
        ui.exportVolumesSelector.connect("checkedNodesChanged()", self.onParametersModified)
        ui.exportButton.connect("clicked(bool)", self.onExportOrCancel)
        ui.openFolderButton.connect("clicked(bool)", self.onOpenFolder)

    def fillInParameters(self, parameters: Any) -> None:
        """Propose a folder."""
        if parameters.exportFolder == Path():
            parameters.exportFolder = Path.home() / "CTDiffusion export"

    def showParameters(self) -> None:
        """List the volumes; files that were loaded with Add Data too."""
        for volume in nodesByClass(slicer.mrmlScene, VOLUME_CLASS):
            recogniseFile(volume)
        self.onParametersModified()

    def choose(self, volume: Any) -> None:
        """Select a volume, and no other, for the next export."""
        selector = self._ui.exportVolumesSelector
        for other in selector.checkedNodes():
            if other is not volume:
                selector.uncheck(other)
        selector.check(volume)

    def cleanup(self) -> None:
        """Stop listening; what runs is ended by who owns the worker."""
        self.setParameters(None)
        self.follow(None)

    def onParametersModified(self, *_arguments: Any) -> None:
        """Show what will be written, and whether it can be; the button's tool tip says what is missing."""
        parameters, ui, run = self._parameters, self._ui, self._run
        if parameters is None:
            return
        ui.exportDicomCollapsibleButton.visible = parameters.exportFormat == "DICOM"
        ui.exportIdentityLabel.text = self._identityText()
        ui.openFolderButton.enabled = Path(parameters.exportFolder).is_dir()
        button = ui.exportButton
        if self.isRunning:
            button.text = _("Stopping...") if run.job.isStopping else _("Cancel")
            button.enabled = not run.job.isStopping
            button.toolTip = _("Stop the export. Volumes that are written by then stay.")
            return
        problem = ""
        if not ui.exportVolumesSelector.checkedNodes():
            problem = _("Choose the synthetic volumes to export.")
        elif parameters.exportFolder == Path():
            problem = _("Choose a folder.")
        button.text = _("Export")
        button.enabled = not problem
        button.toolTip = problem or _("Write the chosen volumes. Slicer can be used meanwhile.")

    def onExportOrCancel(self, *_arguments: Any) -> None:
        """Start, or stop what runs."""
        if self.isRunning:
            self._run.cancel()
            self.say(_("Stopping..."))
            self.onParametersModified()
            return
        parameters, ui = self._parameters, self._ui
        request = ExportRequest(
            folder=parameters.exportFolder,
            fileFormat=parameters.exportFormat,
            patientName=parameters.exportPatientName,
            patientIDPrefix=parameters.exportPatientIDPrefix,
            studyDescription=parameters.exportStudyDescription,
        )
        try:
            run = self._logic.start(ui.exportVolumesSelector.checkedNodes(), request)
        except Exception as error:
            self.say(_("Nothing was exported: {error}").format(error=error))
            return
        ui.exportFolderEdit.addCurrentPathToHistory()
        self.follow(run)
        self.showWork(_("Starting..."))
        self.onParametersModified()

    def onOpenFolder(self, *_arguments: Any) -> None:
        """Show the folder in the system's file browser."""
        import qt

        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self._parameters.exportFolder)))

    def slots(self, run: ExportRun) -> Sequence[tuple[Signal, Any]]:
        """Return the signals of a run that the panel follows."""
        return (run.progressed, self._onProgress), (run.ended, self._onEnded)

    def _onProgress(self, share: float, sentence: str) -> None:
        self.showProgress(share, 1)
        if self._run is not None and not self._run.job.isStopping:
            self.say(sentence)

    def _onEnded(self, ending: JobEnding) -> None:
        run = self._run
        self.showEnd(run.log if run is not None else "")
        written = run.written if run is not None else []
        names = _("Written: {names}.").format(names=", ".join(path.name for path in written)) if written else ""
        if ending.kind == "finished":
            self.say(_("Done. {names}").format(names=names))
        elif ending.kind == "cancelled":
            self.say(f"{ending.text} {names or _('Nothing was written.')}")
        else:
            self.say(_("Failed: {text}").format(text=f"{ending.text} {names}".strip()))
        self.onParametersModified()

    def say(self, text: str) -> None:
        """Tell the user, with what there is to know of the volumes."""
        super().say("\n".join([text, *(self._run.warnings if self._run is not None else [])]))

    def _identityText(self) -> str:
        from CTDiffusionLogic.dicom_identity import SyntheticIdentity

        parameters = self._parameters
        identity = SyntheticIdentity(
            parameters.exportPatientName, parameters.exportPatientIDPrefix, parameters.exportStudyDescription
        )
        return _("Written as: {name}, ID {prefix}-..., study {study}. Nothing of a real patient is written.").format(
            name=identity.patient_name, prefix=identity.patient_id_prefix, study=identity.study_description
        )
