"""The panel that trains models: what the user chose to logic, and what the worker tells to the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qt
import slicer.util
from slicer.i18n import tr as _

from . import TrainFolders, TrainLayout
from .GenerateDevices import DeviceFinder
from .JobEnding import JobEnding
from .JobSignal import Signal
from .ParameterPanel import deviceItems, fillComboBox
from .RunPanel import RunPanel, progressText
from .TrainLogic import TrainLogic, requestOf
from .TrainMetrics import FRECHET, LOSS, TrainMetrics
from .TrainPlots import TrainPlots
from .TrainRequest import canBeResumed, holdsTraining, newestSample
from .TrainRun import TrainRun
from .TrainSources import TrainSources


class TrainPanel(RunPanel):
    """Connects the widgets of the section Train with the logic and the parameter node.

    Signals: ``modelMade`` (path of a model that has got another checkpoint), ``modelFinished`` (path of the model of
    a training that has ended).

    :param ui: the widgets by name (slicer.util.childWidgetVariables).
    :param logic: what trains.
    :param devices: what knows the devices.
    """

    def __init__(self, ui: Any, logic: TrainLogic, devices: DeviceFinder) -> None:
        super().__init__(ui, "train")
        self.modelMade = Signal()
        self.modelFinished = Signal()
        self._logic, self._devices = logic, devices
        self._sheet: Path | None = None
        self._sheetWidth = 0
        self.sources = TrainSources(ui)
        self.sources.changed.connect(self.onParametersModified)
        ui.trainDeviceComboBox.connect("currentIndexChanged(int)", self.onDeviceChosen)
        ui.runFolderEdit.connect("currentPathChanged(QString)", self.onRunFolder)
        ui.newRunButton.connect("clicked(bool)", self.onNewRun)
        ui.trainButton.connect("clicked(bool)", self.onTrainOrStop)
        ui.resumeButton.connect("clicked(bool)", self.onResume)
        ui.showPlotsButton.connect("clicked(bool)", self.onShowPlots)
        ui.plotsLayoutButton.connect("clicked(bool)", self.onRestoreLayout)
        devices.changed.connect(self.onDevicesChanged)

    def setParameters(self, parameters: Any) -> None:
        """Show and follow another parameter node. What runs goes on.

        :param parameters: a TrainParameters, or None while there is none (the scene is being closed).
        """
        super().setParameters(parameters)
        self.sources.setParameters(parameters)  # tells of a change
        self._fitSheet()

    def fillInParameters(self, parameters: Any) -> None:
        """Propose a folder: that of a training that runs, even if its scene was closed, else a new one."""
        if not parameters.trainingFolder:
            folder = self._run.request.run if self._run is not None else None
            parameters.trainingFolder = str(folder or TrainFolders.newRunFolder(TrainFolders.trainingsFolder()))

    def showParameters(self) -> None:
        """List the devices; the rest follows from the list of scans."""
        self._fillDevices()

    def cleanup(self) -> None:
        """Stop listening, and leave the layout with the plots; what runs is ended by who owns the worker."""
        self.setParameters(None)
        self.sources.cleanup()
        self._devices.changed.disconnect(self.onDevicesChanged)
        self.follow(None)
        TrainLayout.restoreLayout()

    def onDeviceChosen(self, index: int) -> None:
        """Keep the choice in the scene."""
        if self._parameters is not None and index >= 0:
            self._parameters.trainingDevice = self._ui.trainDeviceComboBox.itemData(index)

    def onRunFolder(self, path: str) -> None:
        """Keep the choice in the scene."""
        if self._parameters is not None and path != self._parameters.trainingFolder:
            self._parameters.trainingFolder = path

    def onNewRun(self, *_arguments: Any) -> None:
        """Propose a folder beside the chosen one."""
        chosen = Path(self._parameters.trainingFolder)
        base = chosen.parent if chosen.parent.is_dir() and chosen.is_absolute() else TrainFolders.trainingsFolder()
        self._parameters.trainingFolder = str(TrainFolders.newRunFolder(base))

    def onDevicesChanged(self) -> None:
        """Devices are being looked for, or were found."""
        self._fillDevices()
        self.onParametersModified()

    def onParametersModified(self, *_arguments: Any) -> None:
        """Show what is chosen and what can be done with it; tool tips say what is missing."""
        parameters, ui = self._parameters, self._ui
        if parameters is None:
            return
        if ui.runFolderEdit.currentPath != parameters.trainingFolder:
            ui.runFolderEdit.currentPath = parameters.trainingFolder
        if parameters.trainingAnyVolume is not self.sources.isAnyAllowed:
            self.sources.refresh()
            return  # it tells of a change
        run = Path(parameters.trainingFolder)
        isKept, canResume = holdsTraining(run), canBeResumed(run)
        isRunning = self.isRunning
        if isRunning or not (isKept or canResume):
            ui.runInfoLabel.text = ""
        else:
            ui.runInfoLabel.text = _("It holds a training: Resume goes on with that, with its own scans and sizes.")
        ui.runInfoLabel.visible = bool(ui.runInfoLabel.text)
        self._showButtons(isRunning, isKept, canResume)

    def onTrainOrStop(self, *_arguments: Any) -> None:
        """Start, or stop what runs; the second time at once."""
        if not self.isRunning:
            self._start(resume=False)
        elif self._run.job.isStopping:
            self._run.kill()
        else:
            self._run.stop()  # it says what it waits for
            self.onParametersModified()

    def onResume(self, *_arguments: Any) -> None:
        """Go on with the training in the chosen folder."""
        self._start(resume=True)

    def onShowPlots(self, *_arguments: Any) -> None:
        """Show the curves of the training that runs, else of that in the chosen folder."""
        with slicer.util.tryWithErrorDisplay(_("The plots could not be shown.")):
            if self.isRunning:
                self._run.updatePlots()
                plots = self._run.plots
            else:
                folder = Path(self._parameters.trainingFolder)
                plots = TrainPlots(folder)
                plots.update(TrainMetrics.ofRun(folder))
            self._showCharts(plots)

    def onRestoreLayout(self, *_arguments: Any) -> None:
        """Go back to the layout the user had."""
        TrainLayout.restoreLayout()
        self.onParametersModified()

    def _start(self, *, resume: bool) -> None:
        request = requestOf(self._parameters, resume=resume)
        try:
            run = self._logic.start(
                request,
                volumes=self.sources.volumes(),
                dicomSeries=list(self._parameters.trainingSeries),
                withAny=self._parameters.trainingAnyVolume,
            )
        except Exception as error:
            self.say(_("The training could not be started: {error}").format(error=error))
            return
        TrainFolders.rememberTrainingsFolder(request.run)
        self.follow(run)
        self.showWork(_("Starting the worker..."))
        self._onSummary()
        self._showSheet(newestSample(request.run) if resume else None)
        self.onParametersModified()

    def slots(self, run: TrainRun) -> Sequence[tuple[Signal, Any]]:
        """Return the signals of a run that the panel follows."""
        return (
            (run.progressed, self._onProgress),
            (run.summaryChanged, self._onSummary),
            (run.plotsChanged, self._onPlots),
            (run.sampleMade, self._showSheet),
            (run.modelMade, self.modelMade.emit),
            (run.stopProgressed, self._onStopping),
            (run.ended, self._onEnded),
        )

    # What the worker tells

    def _onProgress(self, event: Any) -> None:
        self.showProgress(event.done, event.of)
        self._fitSheet()
        if self._run is not None and not self._run.job.isStopping:
            isTraining = event.phase == "training"
            words = _("Training, step {n}").format(n=event.done) if isTraining else event.phase.capitalize()
            self.say(progressText(event, words))

    def _onSummary(self) -> None:
        text = self._run.summary if self._run is not None else ""
        self._ui.trainSummaryLabel.text, self._ui.trainSummaryLabel.visible = text, bool(text)

    def _onPlots(self, isNewChart: bool) -> None:
        if isNewChart and self._run is not None and TrainLayout.areChartsShown():
            self._showCharts(self._run.plots)  # another one
        elif isNewChart:
            self.onParametersModified()

    def _onStopping(self, text: str) -> None:
        self.say(text)
        self.onParametersModified()  # what the second click would keep

    def _onEnded(self, ending: JobEnding) -> None:
        run = self._run
        self.showEnd(run.log if run is not None else "")
        model = run.model if run is not None else None
        if ending.kind == "finished":
            name = model.parent.name if model is not None else ""
            self.say(_("Done: the model {name} can be chosen under Generate.").format(name=name))
        elif ending.kind == "cancelled":
            self.say(ending.text)
        else:
            self.say(_("Failed: {text}").format(text=ending.text))
        self.onParametersModified()
        if model is not None:
            self.modelFinished.emit(model)

    def _showCharts(self, plots: TrainPlots) -> None:
        loss = plots.chart(LOSS)
        if loss is not None:
            TrainLayout.showCharts(loss, plots.chart(FRECHET))
        else:
            self.say(_("There are no figures yet: they come with the first steps of the training."))
        self.onParametersModified()

    # The sheet of samples

    def _showSheet(self, path: Path | None) -> None:
        self._sheet, self._sheetWidth = path, 0
        self._ui.sampleLabel.visible = path is not None
        self._fitSheet()

    def _fitSheet(self) -> None:
        """Draw the sheet as wide as the panel; nothing to do while neither has changed."""
        width = self._ui.trainStatusLabel.width  # that of the sheet's own label may not be settled yet
        if self._sheet is None or width == self._sheetWidth:
            return
        pixmap = qt.QPixmap(str(self._sheet))
        if pixmap.isNull():
            return
        self._sheetWidth = width
        scaled = pixmap.scaledToWidth(max(width, 1), qt.Qt.SmoothTransformation)
        self._ui.sampleLabel.setPixmap(scaled)
        self._ui.sampleLabel.setFixedHeight(scaled.height())

    # Buttons and devices

    def _showButtons(self, isRunning: bool, isKept: bool, canResume: bool) -> None:
        ui, run = self._ui, self._run
        problem = self.sources.problem or self._devices.problem
        if not self._parameters.trainingFolder.strip():
            problem = _("Choose a folder for the training.")
        elif isKept:
            problem = _("This folder holds a training. Resume it, or click New.")
        isStopping = isRunning and run is not None and run.job.isStopping
        if isStopping:
            kept = run.kept if run is not None else ""
            text = _("Stop now")
            tip = _("Do not wait: end the worker at once. {kept}").format(kept=kept)
        elif isRunning:
            text, tip = _("Stop"), _("Stop with a checkpoint and a model; the training can be resumed.")
        else:
            text, tip = _("Train"), problem or _("Start the training. Slicer can be used meanwhile.")
        ui.trainButton.text, ui.trainButton.toolTip = text, tip
        ui.trainButton.enabled = isRunning or not problem
        ui.resumeButton.enabled = canResume and not isRunning and not self._devices.problem
        ui.resumeButton.toolTip = (
            _("Go on from the newest checkpoint in the folder. The time budget counts anew.")
            if ui.resumeButton.enabled
            else self._devices.problem or _("Choose the folder of a training that is not running.")
        )
        for widget in (ui.runFolderEdit, ui.newRunButton):
            widget.enabled = not isRunning
        hasFigures = isRunning or (Path(self._parameters.trainingFolder) / "metrics.jsonl").is_file()
        ui.showPlotsButton.enabled = hasFigures
        ui.plotsLayoutButton.enabled = TrainLayout.areChartsShown()

    def _fillDevices(self) -> None:
        chosen = self._parameters.trainingDevice if self._parameters is not None else "auto"
        fillComboBox(self._ui.trainDeviceComboBox, deviceItems(self._devices, chosen, isShort=False), chosen)
