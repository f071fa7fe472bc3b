"""The words "SYNTHETIC - not for diagnosis" in every slice view and 3D view that shows a synthetic volume.

An annotation of our own, in the middle of the upper edge: the view's own corner annotation belongs to
Slicer's DataProbe module, which rewrites all four corners as it likes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import slicer
import vtk

from .Provenance import isPartlyReal
from .SlicerHost import nodesByClass
from .SyntheticFile import recogniseFile
from .VolumeRendering import renderedVolumes

TEXT = "SYNTHETIC - not for diagnosis"
#: Where a completed scan is shown, some of whose slices are a patient's.
PARTLY_REAL_TEXT = "SYNTHETIC, PARTLY REAL - not for diagnosis"
#: Amber: seen on air and on bone alike, and no colour of Slicer's own annotations.
COLOUR = (1.0, 0.78, 0.2)
#: Font sizes in points, and the width of a letter in font sizes: in narrow views they get smaller, not cut.
_LARGEST, _SMALLEST, _WIDTH = 18, 8, 0.5

#: Set on a vtkMRMLSliceCompositeNode where something else than Slicer's blending shows the foreground: a lens.
REVEALS_FOREGROUND_ATTRIBUTE = "CTDiffusion.RevealsForeground"

#: Classes of the nodes that say what slice views and 3D views show.
_SLICE_NODES, _VIEW_NODES = ("vtkMRMLSliceCompositeNode",), ("vtkMRMLViewNode",)
_3D_NODES = (*_VIEW_NODES, "vtkMRMLVolumeRenderingDisplayNode", "vtkMRMLSliceNode")

RendererOf = Callable[[str], Any]


def slicerRenderer(layoutName: str) -> Any:
    """Return the renderer of a slice or 3D view of the running Slicer, or None (no such view, no main window).

    :param layoutName: for example "Red", or "1".
    """
    layoutManager = slicer.app.layoutManager()
    if layoutManager is None:
        return None
    if (slices := layoutManager.sliceWidget(layoutName)) is not None:
        return slices.sliceView().renderWindow().GetRenderers().GetFirstRenderer()
    if (threeD := layoutManager.threeDWidget(layoutName)) is not None:
        return threeD.threeDView().renderWindow().GetRenderers().GetFirstRenderer()
    return None


def showsSynthetic(view: Any) -> bool:
    """Whether a view shows a synthetic volume; see shownSynthetic."""
    return bool(shownSynthetic(view))


def shownSynthetic(view: Any) -> list[Any]:
    """Return the synthetic volumes in a view: as background, as a foreground that is not transparent, or in 3D.

    :param view: the vtkMRMLSliceCompositeNode of a slice view, or the vtkMRMLViewNode of a 3D view.
    """
    scene = view.GetScene()
    if view.IsA("vtkMRMLViewNode"):
        composites = nodesByClass(scene, "vtkMRMLSliceCompositeNode")
        slices = [node for node in nodesByClass(scene, "vtkMRMLSliceNode") if node.GetSliceVisible()]
        names = [node.GetLayoutName() for node in slices if node.IsDisplayableInThreeDView(view.GetID())]
        sliced = [composite for composite in composites if composite.GetLayoutName() in names]
        rendered = [volume for volume in renderedVolumes(view) if recogniseFile(volume)]
        return rendered + [volume for composite in sliced for volume in shownSynthetic(composite)]
    shownIDs = [view.GetBackgroundVolumeID()]
    if view.GetForegroundOpacity() > 0 or view.GetAttribute(REVEALS_FOREGROUND_ATTRIBUTE):
        shownIDs.append(view.GetForegroundVolumeID())
    shown = [scene.GetNodeByID(nodeID) for nodeID in shownIDs if nodeID]
    return [node for node in shown if node is not None and recogniseFile(node)]


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
        self._observed: dict[str, Any] = {}  # node ID: node that decides; IDs come again after the scene was closed
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
        for className in (*_SLICE_NODES, *_VIEW_NODES):
            for view in nodesByClass(self._scene, className):
                self._updateView(view)

    def _onSceneChanged(self, *_: Any) -> None:
        if self._scene.IsBatchProcessing():
            return
        for classNames, callback in ((_SLICE_NODES, self._onSliceModified), (_3D_NODES, self._on3DModified)):
            for node in [node for name in classNames for node in nodesByClass(self._scene, name)]:
                if self._observed.get(node.GetID()) is not node:
                    self._observed[node.GetID()] = node
                    tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, _weakly(callback))
                    self._observations.append((node, tag))
        self.update()

    def _onSliceModified(self, composite: Any, *_: Any) -> None:
        if composite.GetScene() is not None and not self._scene.IsBatchProcessing():
            self._updateView(composite)
            self._on3DModified(composite)  # its slice may be shown in 3D

    def _on3DModified(self, node: Any, *_: Any) -> None:
        if node.GetScene() is not None and not self._scene.IsBatchProcessing():
            for view in nodesByClass(self._scene, "vtkMRMLViewNode"):
                self._updateView(view)

    def _updateView(self, view: Any) -> None:
        layoutName = view.GetLayoutName()
        shown = shownSynthetic(view)
        if shown and (renderer := self._rendererOf(layoutName)) is not None:
            known = self._annotations.get(layoutName)
            if known is None or known[0] is not renderer:  # a new view, or a view made anew
                annotation = newAnnotation()
                renderer.AddViewProp(annotation)
                fit = _fitting(annotation)
                self._observations.append((renderer, renderer.AddObserver(vtk.vtkCommand.StartEvent, fit)))
                self._annotations[layoutName] = (renderer, annotation)
        if layoutName in self._annotations:
            annotation = self._annotations[layoutName][1]
            annotation.SetVisibility(bool(shown))
            if shown:
                text = PARTLY_REAL_TEXT if any(isPartlyReal(volume) for volume in shown) else TEXT
                annotation.SetText(vtk.vtkCornerAnnotation.UpperEdge, text)


def newAnnotation(text: str = TEXT) -> Any:
    """Return a vtkCornerAnnotation with ``text`` at the middle of the upper edge; it grows with the view."""
    annotation = vtk.vtkCornerAnnotation()
    annotation.SetText(vtk.vtkCornerAnnotation.UpperEdge, text)
    annotation.SetMaximumFontSize(_LARGEST)
    annotation.SetMinimumFontSize(_SMALLEST)
    annotation.SetNonlinearFontScaleFactor(1.0)
    textProperty = annotation.GetTextProperty()
    textProperty.SetColor(*COLOUR)
    textProperty.SetBold(True)
    textProperty.SetFontFamilyToArial()
    textProperty.SetShadow(True)  # readable on bone as well
    return annotation


def _fitting(annotation: Any) -> Callable[..., None]:
    """A callback of a renderer that fits the annotation into its width."""

    def callback(renderer: Any, _event: str) -> None:
        width, window = renderer.GetSize()[0], renderer.GetRenderWindow()
        pixelsPerPoint = window.GetDPI() / 72 if window is not None else 1.0
        if width > 0:
            letters = len(annotation.GetText(vtk.vtkCornerAnnotation.UpperEdge) or "")
            size = int(width / (_WIDTH * max(letters, 1) * pixelsPerPoint))
            annotation.SetMaximumFontSize(min(max(size, _SMALLEST), _LARGEST))

    return callback


def _weakly(method: Callable[..., None]) -> Callable[..., None]:
    """A callback that does not keep the object alive: VTK would, and so would the scene after a module reload."""
    reference = weakref.WeakMethod(method)

    def callback(*arguments: Any) -> None:
        alive = reference()
        if alive is not None:
            alive(*arguments)

    return callback
