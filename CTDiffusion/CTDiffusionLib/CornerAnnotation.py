"""The words "SYNTHETIC - not for diagnosis" in every slice view that shows a synthetic volume.

An annotation of our own, in the middle of the upper edge: the view's own corner annotation belongs to
Slicer's DataProbe module, which rewrites all four corners as it likes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import slicer
import vtk

from .SlicerHost import nodesByClass
from .SyntheticFile import recogniseFile

TEXT = "SYNTHETIC - not for diagnosis"
#: Amber: seen on air and on bone alike, and no colour of Slicer's own annotations.
COLOUR = (1.0, 0.78, 0.2)

RendererOf = Callable[[str], Any]


def slicerRenderer(layoutName: str) -> Any:
    """Return the renderer of a slice view of the running Slicer, or None (no such view, no main window).

    :param layoutName: for example "Red".
    """
    layoutManager = slicer.app.layoutManager()
    widget = layoutManager.sliceWidget(layoutName) if layoutManager is not None else None
    return widget.sliceView().renderWindow().GetRenderers().GetFirstRenderer() if widget is not None else None


def showsSynthetic(composite: Any) -> bool:
    """Whether a view shows a synthetic volume: as background, or as a foreground that is not transparent.

    :param composite: the view's vtkMRMLSliceCompositeNode.
    """
    scene = composite.GetScene()
    shownIDs = [composite.GetBackgroundVolumeID()]
    if composite.GetForegroundOpacity() > 0:
        shownIDs.append(composite.GetForegroundVolumeID())
    shown = [scene.GetNodeByID(nodeID) for nodeID in shownIDs if nodeID]
    return any(recogniseFile(node) for node in shown if node is not None)


class SyntheticLabels:
    """Keeps the annotation in the views up to date as volumes, views and scenes come and go.

    Example::

        labels = SyntheticLabels(slicer.mrmlScene)   # keep it; it stops when it is deleted or stop() is called

    :param scene: a vtkMRMLScene.
    :param rendererOf: finds the vtkRenderer of a layout name; may return None for views that do not exist yet.
    """

    def __init__(self, scene: Any, rendererOf: RendererOf = slicerRenderer) -> None:
        self._scene = scene
        self._rendererOf = rendererOf
        self._annotations: dict[str, tuple[Any, Any]] = {}  # layout name: renderer, annotation
        self._observations: list[tuple[Any, int]] = []
        self._observed: dict[str, Any] = {}  # node ID: composite node; IDs come again after the scene was closed
        events = (scene.NodeAddedEvent, scene.EndImportEvent, scene.EndRestoreEvent, scene.EndCloseEvent)
        for event in (*events, scene.EndBatchProcessEvent):
            # After Slicer's own observers (priority 0), which make the views of new nodes.
            self._observations.append((scene, scene.AddObserver(event, _weakly(self._onSceneChanged), -1.0)))
        self._onSceneChanged()

    def stop(self) -> None:
        """Take the annotations out of the views and follow the scene no longer."""
        for observed, tag in self._observations:
            observed.RemoveObserver(tag)
        self._observations.clear()
        for renderer, annotation in self._annotations.values():
            renderer.RemoveViewProp(annotation)
        self._annotations.clear()

    def update(self) -> None:
        """Show or hide the annotation in every view, now."""
        for composite in nodesByClass(self._scene, "vtkMRMLSliceCompositeNode"):
            self._updateView(composite)

    def _onSceneChanged(self, *_: Any) -> None:
        if self._scene.IsBatchProcessing():
            return
        for composite in nodesByClass(self._scene, "vtkMRMLSliceCompositeNode"):
            if self._observed.get(composite.GetID()) is not composite:
                self._observed[composite.GetID()] = composite
                tag = composite.AddObserver(vtk.vtkCommand.ModifiedEvent, _weakly(self._onCompositeModified))
                self._observations.append((composite, tag))
        self.update()

    def _onCompositeModified(self, composite: Any, *_: Any) -> None:
        if composite.GetScene() is not None and not self._scene.IsBatchProcessing():
            self._updateView(composite)

    def _updateView(self, composite: Any) -> None:
        layoutName = composite.GetLayoutName()
        isShown = showsSynthetic(composite)
        if isShown and (renderer := self._rendererOf(layoutName)) is not None:
            known = self._annotations.get(layoutName)
            if known is None or known[0] is not renderer:  # a new view, or a view made anew
                annotation = newAnnotation()
                renderer.AddViewProp(annotation)
                self._annotations[layoutName] = (renderer, annotation)
        if layoutName in self._annotations:
            self._annotations[layoutName][1].SetVisibility(isShown)


def newAnnotation(text: str = TEXT) -> Any:
    """Return a vtkCornerAnnotation with ``text`` at the middle of the upper edge; it grows with the view."""
    annotation = vtk.vtkCornerAnnotation()
    annotation.SetText(vtk.vtkCornerAnnotation.UpperEdge, text)
    annotation.SetMaximumFontSize(18)
    annotation.SetMinimumFontSize(8)
    annotation.SetNonlinearFontScaleFactor(1.0)
    textProperty = annotation.GetTextProperty()
    textProperty.SetColor(*COLOUR)
    textProperty.SetBold(True)
    textProperty.SetFontFamilyToArial()
    textProperty.SetShadow(True)  # readable on bone as well
    return annotation


def _weakly(method: Callable[..., None]) -> Callable[..., None]:
    """A callback that does not keep the object alive: VTK would, and so would the scene after a module reload."""
    reference = weakref.WeakMethod(method)

    def callback(*arguments: Any) -> None:
        alive = reference()
        if alive is not None:
            alive(*arguments)

    return callback
