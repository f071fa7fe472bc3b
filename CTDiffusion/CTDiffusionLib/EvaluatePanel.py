"""The panel that measures how real volumes are: what the user chose to logic, what was found to the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qt
import slicer.util
from slicer.i18n import tr as _

from . import EvaluateFolders, EvaluateLayout, EvaluateTable
from .EvaluateData import REAL, SYNTHETIC
from .EvaluateLogic import EvaluateLogic, requestOf
from .EvaluateReport import EvaluateReport
from .EvaluateRequest import WITH_WEIGHTS
from .EvaluateRun import EvaluateRun
from .EvaluateSources import EvaluateSources
from .GenerateDevices import DeviceFinder
from .JobEnding import JobEnding
from .JobSignal import Signal
from .ParameterPanel import deviceItems, fillComboBox
from .RunPanel import RunPanel, progressText
from .TrainRequest import folderProblem

#: Path widgets by the parameter that they show; "" is no path, which a Path cannot say.
_PATHS = {
    f"evaluation{name}": f"evaluate{name}Edit" for name in ("Folder", "Weights", "Training", "HeldOut", "Independent")
}


class EvaluatePanel(RunPanel):
    """Connects the widgets of EvaluateSection.ui with the logic and the parameter node.

    :param ui: the widgets by name.
    :param logic: what measures.
    :param devices: what knows the devices.
    """

    def __init__(self, ui: Any, logic: EvaluateLogic, devices: DeviceFinder) -> None:
        super().__init__(ui, "evaluate")
        self._logic, self._devices = logic, devices
        self._unshown = ""  # folder of a report that was written while there was no parameter node
        #: What is shown, or None.
        self.report: EvaluateReport | None = None
        self.sources = {group: EvaluateSources(ui, group) for group in (REAL, SYNTHETIC)}
        for source in self.sources.values():
            source.changed.connect(self.onParametersModified)
        for name, widget in _PATHS.items():
            getattr(ui, widget).connect("currentPathChanged(QString)", lambda path, n=name: self.onPath(n, path))
        ui.evaluateDeviceComboBox.connect("currentIndexChanged(int)", self.onDeviceChosen)
        ui.evaluateButton.connect("clicked(bool)", self.onMeasureOrCancel)
        ui.evaluateShowButton.connect("clicked(bool)", self.onShow)
        ui.evaluateLayoutButton.connect("clicked(bool)", self.onRestoreLayout)
        ui.evaluatePageButton.connect("clicked(bool)", self.onOpenPage)
        ui.evaluateEarlierButton.connect("clicked(bool)", self.onEarlier)
        devices.changed.connect(self.onDevicesChanged)

    # The parameter node

    def setParameters(self, parameters: Any) -> None:
        """Show and follow another parameter node. What runs goes on.

        :param parameters: an EvaluateParameters, or None while there is none (the scene is being closed).
        """
        super().setParameters(parameters)
        for source in self.sources.values():
            source.setParameters(parameters)  # tells of a change

    def fillInParameters(self, parameters: Any) -> None:
        """Propose a folder; take over a report that was finished meanwhile."""
        if not parameters.evaluationFolder:
            parameters.evaluationFolder = str(EvaluateFolders.reportsFolder())
        if self._unshown:
            parameters.evaluationReport, self._unshown = self._unshown, ""

    def showParameters(self) -> None:
        """List the devices, and show the report of this scene; the rest follows from the lists of volumes."""
        self._fillDevices()
        folder = self._parameters.evaluationReport
        if not folder:
            self._showReport(None)
        elif self.report is None or str(self.report.folder) != folder:
            try:
                self._showReport(EvaluateReport.read(folder))
            except Exception as error:
                self._showReport(None)
                self.say(str(error))

    def cleanup(self) -> None:
        """Stop listening, and leave the layout with the report; what runs is ended by who owns the worker."""
        self.setParameters(None)
        self._devices.changed.disconnect(self.onDevicesChanged)
        self.follow(None)
        EvaluateLayout.restoreLayout()

    def choose(self, volume: Any) -> None:
        """Tick a synthetic volume for the next measurement."""
        self.sources[SYNTHETIC].tick(volume)

    def onPath(self, name: str, path: str) -> None:
        """Keep a path in the scene."""
        if self._parameters is not None and getattr(self._parameters, name) != path:
            setattr(self._parameters, name, path)

    def onDeviceChosen(self, index: int) -> None:
        """Keep the choice in the scene."""
        if self._parameters is not None and index >= 0:
            self._parameters.evaluationDevice = self._ui.evaluateDeviceComboBox.itemData(index)

    def onDevicesChanged(self) -> None:
        """Devices are being looked for, or were found."""
        self._fillDevices()
        self.onParametersModified()

    def onParametersModified(self, *_arguments: Any) -> None:
        """Show what is chosen and whether it can be measured; the button's tool tip says what is missing."""
        parameters, ui, run = self._parameters, self._ui, self._run
        if parameters is None:
            return
        for name, widget in _PATHS.items():
            if getattr(ui, widget).currentPath != getattr(parameters, name):  # else the cursor jumps while one types
                getattr(ui, widget).currentPath = getattr(parameters, name)
        if parameters.evaluationPhantoms is not self.sources[REAL].withPhantoms:
            self.sources[REAL].refresh()
            return  # it tells of a change
        ui.evaluateLayoutButton.enabled = EvaluateLayout.isReportShown()
        button = ui.evaluateButton
        if self.isRunning:
            button.text = _("Stopping...") if run.job.isStopping else _("Cancel")
            button.enabled = not run.job.isStopping
            button.toolTip = _("Stop the measurement. Nothing is written then.")
            return
        problem = self.sources[REAL].problem or self.sources[SYNTHETIC].problem or self._devices.problem
        problem = problem or self._pathProblem()
        button.text = _("Measure")
        button.enabled = not problem
        button.toolTip = problem or _("Measure the chosen volumes. Slicer can be used meanwhile.")

    def _pathProblem(self) -> str:
        """What is wrong with the paths, for people; empty if they can be used."""
        parameters = self._parameters
        if not parameters.evaluationFolder.strip():
            return _("Choose a folder for the reports.")
        if parameters.evaluationExtractor in WITH_WEIGHTS and not parameters.evaluationWeights.strip():
            return _("{name} needs a file with its weights: see Advanced.").format(name=parameters.evaluationExtractor)
        paths = [getattr(parameters, name).strip() for name in _PATHS if name != "evaluationFolder"]
        return next((problem for path in paths if path and (problem := folderProblem(Path(path)))), "")

    # What the user does

    def onMeasureOrCancel(self, *_arguments: Any) -> None:
        """Start, or stop what runs."""
        if self.isRunning:
            self._run.cancel()
            self.say(_("Stopping..."))
            self.onParametersModified()
            return
        base = Path(self._parameters.evaluationFolder).absolute()
        try:
            run = self._logic.start(
                requestOf(self._parameters, EvaluateFolders.newReportFolder(base)),
                real=self.sources[REAL].volumes(),
                synthetic=self.sources[SYNTHETIC].volumes(),
            )
        except Exception as error:
            self.say(_("Nothing was measured: {error}").format(error=error))
            return
        EvaluateFolders.rememberReportsFolder(base)
        self.follow(run)
        self.showWork(_("Starting the worker..."))
        self.onParametersModified()

    def onShow(self, *_arguments: Any) -> None:
        """Show table and plots in views of their own."""
        if self.report is None:
            return
        with slicer.util.tryWithErrorDisplay(_("The report could not be shown.")):
            self._logic.showReport(self.report)
        self.onParametersModified()

    def onRestoreLayout(self, *_arguments: Any) -> None:
        """Go back to the layout the user had."""
        EvaluateLayout.restoreLayout()
        self.onParametersModified()

    def onOpenPage(self, *_arguments: Any) -> None:
        """Show the report for people in the system's browser."""
        if self.report is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self.report.page)))

    def onEarlier(self, *_arguments: Any) -> None:
        """Ask for the report.json of an earlier measurement, or of one on another computer, and show it."""
        caption, start = _("Report of an earlier measurement"), self._parameters.evaluationFolder
        path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), caption, start, "report.json (*.json)")
        if not path:
            return
        try:
            report = EvaluateReport.read(path)
        except Exception as error:
            self.say(str(error))
            return
        self.say(_("The report in {folder}.").format(folder=report.folder.name))
        self._take(report)

    # What the worker tells

    def slots(self, run: EvaluateRun) -> Sequence[tuple[Signal, Any]]:
        """Return the signals of a run that the panel follows."""
        return (run.progressed, self._onProgress), (run.ended, self._onEnded)

    def _onProgress(self, event: Any) -> None:
        self.showProgress(event.done, event.of)
        if self._run is not None and not self._run.job.isStopping:
            self.say(progressText(event, event.phase[:1].upper() + event.phase[1:]))

    def _onEnded(self, ending: JobEnding) -> None:
        run = self._run
        self.showEnd(run.log if run is not None else "")
        report = run.report if run is not None else None
        if ending.kind == "finished" and report is not None:
            self.say(_("Done: the report is in {folder}.").format(folder=report.folder))
            self._take(report)
        elif ending.kind == "cancelled":
            self.say(ending.text)
        else:
            self.say(_("Failed: {text}").format(text=ending.text))
        self.onParametersModified()

    # The report

    def _take(self, report: EvaluateReport) -> None:
        """Keep a new report with the scene, and show it: in views, too, if the user is here."""
        if self._parameters is None:
            self._unshown = str(report.folder)
            return
        self._showReport(report)
        self._parameters.evaluationReport = str(report.folder)
        self.onShow()

    def _showReport(self, report: EvaluateReport | None) -> None:
        """Show a report in the panel."""
        self.report, ui = report, self._ui
        ui.evaluateResultsFrame.visible = report is not None
        if report is None:
            return
        run = self._run
        isOurs = run is not None and run.report is report
        ui.evaluateSummaryLabel.text = report.summary(run.inWords) if run is not None and isOurs else report.summary()
        EvaluateTable.fill(ui.evaluateFiguresTable, report)
        hasPage = report.page.is_file()
        ui.evaluatePageButton.enabled = hasPage
        ui.evaluatePageButton.toolTip = (
            _("Show the whole report, with its pictures, in the browser. It shows the real scans, too.")
            if hasPage
            else _("There is no report.html beside the figures.")
        )

    def _fillDevices(self) -> None:
        chosen = self._parameters.evaluationDevice if self._parameters is not None else "auto"
        fillComboBox(self._ui.evaluateDeviceComboBox, deviceItems(self._devices, chosen, isShort=False), chosen)
