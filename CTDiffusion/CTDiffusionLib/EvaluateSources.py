"""The lists of the section Measure: volumes of the scene to tick, and files and folders beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer.util
from slicer.i18n import tr as _

from .EvaluateData import SYNTHETIC, whyNotMeasured
from .SceneLists import VOLUME, Row, SceneList, fillList, selectedOf, tickedVolumes
from .SceneScans import sceneVolumes
from .SyntheticFile import recogniseFile
from .TrainRequest import folderProblem

_PATH = "path"


class EvaluateSources(SceneList):
    """Keeps the list of one group like the scene and the parameter node. Signal: ``changed`` (nothing).

    :param ui: the widgets by name.
    :param group: EvaluateData.REAL or SYNTHETIC.
    """

    def __init__(self, ui: Any, group: str) -> None:
        super().__init__()
        self._group, self._name = group, group.capitalize()
        self._list = getattr(ui, f"evaluate{self._name}ListWidget")
        self._removeButton = getattr(ui, f"evaluateRemove{self._name}Button")
        #: Whether phantoms could stand for real scans when the list was made.
        self.withPhantoms = False
        self._shown: list[Row] = []
        folder, files = (getattr(ui, f"evaluateAdd{self._name}{kind}Button") for kind in ("Folder", "Files"))
        self._list.connect("itemChanged(QListWidgetItem*)", self.onItemChanged)
        self._list.connect("itemSelectionChanged()", self.onSelectionChanged)
        folder.connect("clicked(bool)", self.onAddFolder)
        files.connect("clicked(bool)", self.onAddFiles)
        self._removeButton.connect("clicked(bool)", self.onRemove)

    @property
    def problem(self) -> str:
        """Why this group cannot be measured, for people; empty if it can."""
        chosen = self.volumes()
        if not (chosen or self.paths()):
            if self._group == SYNTHETIC:
                return _("Tick synthetic volumes, or add folders or files with them.")
            return _("Tick real scans, or add folders or files with them.")
        refused = [(node, why) for node in chosen if (why := self._refusal(node))]
        if refused:
            return f"{refused[0][0].GetName()}: {refused[0][1]}"
        return next(filter(None, (folderProblem(Path(path)) for path in self.paths())), "")

    def volumes(self) -> list[Any]:
        """Return the volumes that are ticked and still in the scene."""
        if self._parameters is None:
            return []
        chosen = getattr(self._parameters, f"evaluation{self._name}")
        return [node for node in chosen if node is not None and node.GetScene() is not None]

    def paths(self) -> list[str]:
        """Return the files and folders."""
        return list(getattr(self._parameters, f"evaluation{self._name}Paths")) if self._parameters is not None else []

    def tick(self, volume: Any) -> None:
        """Choose one more volume."""
        if self._parameters is not None and volume not in self.volumes():
            self._setVolumes([*self.volumes(), volume])
            self.refresh()

    def refresh(self) -> None:
        """List what there is; the user's place in the list is kept."""
        if self._parameters is None:
            return
        self.withPhantoms = self._parameters.evaluationPhantoms
        rows = [*self._volumeRows(), *self._pathRows()]
        if rows != self._shown:
            self._shown = rows
            fillList(self._list, rows)
        self.onSelectionChanged()
        self.changed.emit()

    def _volumeRows(self) -> list[Row]:
        """Volumes that can be measured in this group, and what is ticked whatever it has become."""
        rows: list[Row] = []
        ticked = self.volumes()
        for node in sceneVolumes(self._parameters.parameterNode.GetScene()):
            self.follow(node)
            why, name = self._refusal(node), node.GetName()
            # Of other programs' volumes nobody can say whether they are synthetic: those go in as files.
            isOffered = not why and (self._group != SYNTHETIC or recogniseFile(node))
            if isOffered or node in ticked:
                text = f"{name} ({why})" if why else name
                rows.append((f"{VOLUME}:{node.GetID()}", text, why or name, node in ticked))
        return rows

    def _pathRows(self) -> list[Row]:
        rows: list[Row] = []
        for path in self.paths():
            isFolder, problem = Path(path).is_dir(), folderProblem(Path(path))
            kind = _("Folder: {path}") if isFolder else _("Not there: {path}") if problem else _("File: {path}")
            rows.append((f"{_PATH}:{path}", kind.format(path=path), problem or path, None))
        return rows

    def _refusal(self, node: Any) -> str:
        return whyNotMeasured(node, self._group, allowPhantoms=self._parameters.evaluationPhantoms)

    # What the user does

    def onItemChanged(self, *_arguments: Any) -> None:
        """A volume was ticked or not."""
        self._setVolumes(tickedVolumes(self._list, self._parameters.parameterNode.GetScene()))
        self.refresh()

    def onSelectionChanged(self) -> None:
        """Only files and folders can be taken off the list."""
        self._removeButton.enabled = bool(self._selectedPaths())

    def onAddFolder(self, *_arguments: Any) -> None:
        """Ask for a folder."""
        path = qt.QFileDialog.getExistingDirectory(
            slicer.util.mainWindow(), _("Folder with CT volumes"), self._start()
        )
        self._add([path])

    def onAddFiles(self, *_arguments: Any) -> None:
        """Ask for files."""
        caption, kinds = _("CT volumes"), "CT (*.nrrd *.nii *.nii.gz *.mha *.mhd *.dcm);;* (*)"
        self._add(qt.QFileDialog.getOpenFileNames(slicer.util.mainWindow(), caption, self._start(), kinds))

    def onRemove(self, *_arguments: Any) -> None:
        """Take the selected files and folders off the list."""
        gone = self._selectedPaths()
        self._setPaths([path for path in self.paths() if path not in gone])

    def _add(self, paths: Any) -> None:
        known = self.paths()
        new = [str(path) for path in paths if path and str(path) not in known]
        if new:
            self._setPaths([*known, *new])

    def _start(self) -> str:
        """Where the dialog opens: beside what was added last."""
        paths = self.paths()
        return str(Path(paths[-1]).parent) if paths else ""

    def _selectedPaths(self) -> list[str]:
        return selectedOf(self._list, _PATH)

    def _setVolumes(self, volumes: list[Any]) -> None:
        setattr(self._parameters, f"evaluation{self._name}", volumes)

    def _setPaths(self, paths: list[str]) -> None:
        setattr(self._parameters, f"evaluation{self._name}Paths", paths)
        self.refresh()
