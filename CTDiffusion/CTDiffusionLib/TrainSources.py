"""The part of the section Train in which scans are chosen: volumes of the scene, folders, DICOM series."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import qt
import slicer.util
from slicer.i18n import tr as _

from . import TrainData, TrainDicom
from .SceneLists import VOLUME, Row, SceneList, fillList, newTimer, selectedOf, tickedVolumes
from .SceneScans import sceneVolumes
from .TrainRequest import folderProblem

#: The database is asked in turns of so long, so that the GUI goes on.
TURN_S = 0.03
_FOLDER, _SERIES = "folder", "series"


class TrainSources(SceneList):
    """Keeps the list of scans like the scene and the parameter node. Signal: ``changed`` (nothing).

    :param ui: the widgets by name (slicer.util.childWidgetVariables).
    """

    def __init__(self, ui: Any) -> None:
        super().__init__()
        self._ui = ui
        self._shown: list[Row] = []
        #: Whether volumes that are no CT, or synthetic, could be ticked when the list was made.
        self.isAnyAllowed = False
        self._refusals: dict[str, str] = {}  # of volumes, by node ID; what cannot be learnt from, and why
        self._found: Iterator[TrainDicom.SeriesChoice | None] | None = None
        self._series: list[TrainDicom.SeriesChoice] = []
        self._labels: dict[str, str] = {}  # of series, by UID
        self._dicomTimer = newTimer(0, self._onDicomTurn)
        ui.scansListWidget.connect("itemChanged(QListWidgetItem*)", self.onItemChanged)
        ui.scansListWidget.connect("itemSelectionChanged()", self.onSelectionChanged)
        ui.addFolderButton.connect("clicked(bool)", self.onAddFolder)
        ui.removeScansButton.connect("clicked(bool)", self.onRemove)
        ui.listDicomButton.connect("clicked(bool)", self.onListDicom)
        ui.addDicomButton.connect("clicked(bool)", self.onAddDicom)
        ui.dicomListWidget.connect("itemSelectionChanged()", self.onSelectionChanged)
        ui.dicomCollapsibleButton.connect("contentsCollapsed(bool)", self.onDicomCollapsed)

    def setParameters(self, parameters: Any) -> None:
        """Show and follow another parameter node, and its scene.

        :param parameters: a TrainParameters, or None while there is none (the scene is being closed).
        """
        super().setParameters(parameters)
        if parameters is not None:
            self._sayDicom()

    def cleanup(self) -> None:
        """Stop listening, and looking for series."""
        self.setParameters(None)
        self._dicomTimer.stop()

    @property
    def problem(self) -> str:
        """Why these scans cannot be learnt from, for people; empty if they can."""
        chosen = self.volumes()
        folders, series = self._parameters.trainingFolders, self._parameters.trainingSeries
        if not (chosen or folders or series):
            return _("Tick volumes, or add folders or DICOM series with real CT scans.")
        refused = [node for node in chosen if self._refusals.get(node.GetID())]
        if refused:
            return f"{refused[0].GetName()}: {self._refusals[refused[0].GetID()]}"
        problems = [folderProblem(Path(path)) for path in folders]
        return next(filter(None, problems), "")

    def volumes(self) -> list[Any]:
        """Return the volumes that are ticked and still in the scene."""
        return [node for node in self._parameters.trainingVolumes if node is not None]

    # What is shown

    def refresh(self) -> None:
        """Make the list anew, if anything in it is different."""
        if self._parameters is None:
            return
        rows = self._rows()
        if rows != self._shown:
            self._shown = rows
            fillList(self._ui.scansListWidget, rows)
        self.onSelectionChanged()
        self.changed.emit()

    def _rows(self) -> list[Row]:
        """Key, text, tool tip, and whether it is ticked; None where it cannot be."""
        parameters = self._parameters
        rows: list[Row] = []
        self.isAnyAllowed = parameters.trainingAnyVolume
        chosen = [node.GetID() for node in self.volumes()]
        self._refusals = {}
        for node in sceneVolumes(parameters.parameterNode.GetScene()):
            self.follow(node)
            why = TrainData.whyNotCT(node)
            isAllowed = not why or (parameters.trainingAnyVolume and TrainData.canBeExported(node))
            isTicked = node.GetID() in chosen
            if not isAllowed:
                self._refusals[node.GetID()] = why
            text = f"{node.GetName()} ({why})" if why else node.GetName()
            key = f"{VOLUME}:{node.GetID()}"
            rows.append((key, text, text, isTicked if isAllowed or isTicked else None))
        for path in parameters.trainingFolders:
            text = _("Folder: {path}").format(path=path)
            rows.append((f"{_FOLDER}:{path}", text, folderProblem(Path(path)) or text, None))
        for uid in parameters.trainingSeries:
            text = _("DICOM: {series}").format(series=self._labelOf(uid))
            rows.append((f"{_SERIES}:{uid}", text, text, None))
        return rows

    # What the user does

    def onItemChanged(self, *_arguments: Any) -> None:
        """A volume was ticked or not."""
        scene = self._parameters.parameterNode.GetScene()
        self._parameters.trainingVolumes = tickedVolumes(self._ui.scansListWidget, scene)
        self.refresh()

    def onSelectionChanged(self) -> None:
        """Enable what can be done with what is selected."""
        self._ui.removeScansButton.enabled = bool(self._selected(_FOLDER) or self._selected(_SERIES))
        self._ui.addDicomButton.enabled = bool(self._ui.dicomListWidget.selectedItems())

    def onAddFolder(self, *_arguments: Any) -> None:
        """Ask for a folder and learn from it."""
        folders = list(self._parameters.trainingFolders)
        start = folders[-1] if folders else ""
        caption = _("Folder with CT scans")
        path = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), caption, start)
        if path and path not in folders:
            self._parameters.trainingFolders = [*folders, path]
            self.refresh()

    def onRemove(self, *_arguments: Any) -> None:
        """Take the selected folders and series off the list."""
        folders, series = self._selected(_FOLDER), self._selected(_SERIES)
        self._parameters.trainingFolders = [one for one in self._parameters.trainingFolders if one not in folders]
        self._parameters.trainingSeries = [one for one in self._parameters.trainingSeries if one not in series]
        self.refresh()

    def _selected(self, kind: str) -> list[str]:
        return selectedOf(self._ui.scansListWidget, kind)

    # The DICOM database

    def onDicomCollapsed(self, isCollapsed: bool) -> None:
        """List the series when the group is opened for the first time."""
        if not isCollapsed and not self._series and self._found is None:
            self.onListDicom()

    def onListDicom(self, *_arguments: Any) -> None:
        """Look for CT series, a few at a time."""
        database = TrainDicom.database()
        self._series = []
        self._ui.dicomListWidget.clear()
        if database is not None and self._parameters is not None:
            self._found = TrainDicom.ctSeries(database, withSynthetic=self._parameters.trainingAnyVolume)
            self._dicomTimer.start()
        self._sayDicom()

    def onAddDicom(self, *_arguments: Any) -> None:
        """Learn from the selected series."""
        uids = [item.data(qt.Qt.UserRole) for item in self._ui.dicomListWidget.selectedItems()]
        known = list(self._parameters.trainingSeries)
        self._parameters.trainingSeries = known + [uid for uid in uids if uid not in known]
        self.refresh()

    def _onDicomTurn(self) -> None:
        until = time.monotonic() + TURN_S
        while self._found is not None and time.monotonic() < until:
            try:
                choice = next(self._found)
            except StopIteration:
                self._found = None
                break
            if choice is not None:
                self._series.append(choice)
                self._labels[choice.uid] = choice.label
                widget = self._ui.dicomListWidget
                widget.addItem(choice.label)
                item = widget.item(widget.count - 1)
                item.setData(qt.Qt.UserRole, choice.uid)
                item.setToolTip(choice.label)
        if self._found is not None:
            self._dicomTimer.start()
        self._sayDicom()

    def _sayDicom(self) -> None:
        database, ui = TrainDicom.database(), self._ui
        ui.listDicomButton.enabled = database is not None and self._found is None
        ui.dicomListWidget.visible = database is not None
        if database is None:
            text = _("There is no open DICOM database. Open one in the DICOM module, and import scans there.")
        elif self._found is not None:
            text = _("Looking for CT series... {n} so far.").format(n=len(self._series))
        elif self._series:
            text = _("{n} CT series. Select some, and add them.").format(n=len(self._series))
        else:
            text = _("No CT series is known. Import scans with the DICOM module, then list the series.")
        ui.dicomInfoLabel.text = text

    def _labelOf(self, uid: str) -> str:
        if uid not in self._labels:
            self._labels[uid] = TrainDicom.seriesLabel(TrainDicom.database(), uid)
        return self._labels[uid]
