"""Lists of scans to choose from: they follow the scene, and keep the user's place when they are filled anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer.util
import vtk

from .JobSignal import Signal

#: After a change in the scene the list is made anew; several changes come together.
DELAY_MS = 300
#: Kind of the rows that are volumes of the scene.
VOLUME = "volume"
#: Key ("volume:vtkMRMLScalarVolumeNode1"), text, tool tip, and whether it is ticked; None where it cannot be.
Row = tuple[str, str, str, bool | None]


class SceneList(slicer.util.VTKObservationMixin):
    """Base of what keeps a list like the scene of a parameter node. Signal: ``changed`` (nothing)."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = Signal()
        self._parameters: Any = None
        self._timer = newTimer(DELAY_MS, self.refresh)

    def setParameters(self, parameters: Any) -> None:
        """Show and follow another parameter node, and its scene.

        :param parameters: the section's own view of it, or None while there is none (the scene is being closed).
        """
        self.removeObservers()
        self._timer.stop()
        self._parameters = parameters
        if parameters is not None:
            scene = parameters.parameterNode.GetScene()
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndImportEvent):
                self.addObserver(scene, event, self.onSceneChanged)
            self.refresh()

    def onSceneChanged(self, *_arguments: Any) -> None:
        """A node has come, gone or changed: look soon, when all that belongs to it is there."""
        self._timer.start()

    def refresh(self) -> None:
        """Make the list anew, if anything in it is different."""

    def follow(self, volume: Any) -> None:
        """Look again, soon, when a volume of the list changes."""
        for event in (volume.ImageDataModifiedEvent, vtk.vtkCommand.ModifiedEvent):
            if not self.hasObserver(volume, event, self.onSceneChanged):
                self.addObserver(volume, event, self.onSceneChanged)


def fillList(widget: Any, rows: Sequence[Row]) -> None:
    """Show ``rows`` in a QListWidget without telling anybody. Volumes that cannot be ticked are grey."""
    wasBlocked = widget.blockSignals(True)
    row = widget.currentRow
    widget.clear()
    for key, text, toolTip, isTicked in rows:
        widget.addItem(text)
        item = widget.item(widget.count - 1)
        item.setData(qt.Qt.UserRole, key)
        item.setToolTip(toolTip)
        if isTicked is not None:
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable | qt.Qt.ItemIsUserCheckable)
            item.setCheckState(qt.Qt.Checked if isTicked else qt.Qt.Unchecked)
        elif key.startswith(f"{VOLUME}:"):
            item.setFlags(qt.Qt.NoItemFlags)
    widget.setCurrentRow(min(row, widget.count - 1))
    widget.blockSignals(wasBlocked)


def tickedVolumes(widget: Any, scene: Any) -> list[Any]:
    """Return the volumes of ``scene`` that are ticked in a list."""
    items = [widget.item(row) for row in range(widget.count)]
    keys = [item.data(qt.Qt.UserRole) for item in items if item.checkState() == qt.Qt.Checked]
    found = [scene.GetNodeByID(name) for kind, _colon, name in (key.partition(":") for key in keys) if kind == VOLUME]
    return [node for node in found if node is not None]


def selectedOf(widget: Any, kind: str) -> list[str]:
    """Return what the selected rows of a kind stand for: paths, or UIDs."""
    keys = [item.data(qt.Qt.UserRole) for item in widget.selectedItems()]
    return [name for found, _colon, name in (key.partition(":") for key in keys) if found == kind]


def newTimer(interval: int, callback: Callable[[], Any]) -> Any:
    """Return a QTimer that calls once, ``interval`` ms after it was started."""
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.setInterval(interval)
    timer.connect("timeout()", callback)
    return timer
