"""Both volumes in 3D, side by side, with the same of Slicer's CT presets, seen from the same side."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from . import Layouts
from .SceneVolumes import rasBounds
from .SlicerHost import nodesByClass

#: Slicer's own volume rendering presets; their colours and opacities are bound to HU.
PRESETS = {
    "airways": "CT-Lung",
    "bone": "CT-Bone",
    "muscle": "CT-Muscle",
    "organs": "CT-Chest-Contrast-Enhanced",
    "skin": "CT-Soft-Tissue",
    "vessels": "CT-AAA",
}
DEFAULT_PRESET = "bone"
#: Marks the display nodes that are ours: the user may show the same volume in views of his own, in his own way.
DISPLAY_ATTRIBUTE = "CTDiffusion.Rendering"
#: Distance of the camera in diagonals of the larger volume; Slicer's cameras open 30 degrees.
_DISTANCE = 1.7


def showRendering(
    synthetic: Any, real: Any, *, preset: str = DEFAULT_PRESET, volumeRenderingLogic: Any = None
) -> None:
    """Show two volumes in two 3D views, from the front, at the same scale.

    The views turn together where the volumes overlap in space.

    :param synthetic: volume node for the left view.
    :param real: volume node for the right view, in the same scene.
    :param preset: a key of PRESETS, for both.
    :param volumeRenderingLogic: a vtkSlicerVolumeRenderingLogic; by default that of the running Slicer.
    :raises ValueError: if there is no such preset, or the Volume Rendering module does not know it.
    """
    logic = volumeRenderingLogic if volumeRenderingLogic is not None else slicer.modules.volumerendering.logic()
    if preset not in PRESETS:
        raise ValueError(f"There is no 3D preset {preset!r}; there are {', '.join(sorted(PRESETS))}.")
    described = logic.GetPresetByName(PRESETS[preset])
    if described is None:
        raise ValueError(f"Slicer's Volume Rendering module does not know the preset {PRESETS[preset]}.")
    scene = synthetic.GetScene()
    Layouts.switchTo(scene, Layouts.RENDERING)
    volumes = (synthetic, real)
    views = [Layouts.threeDViewNode(scene, tag) for tag, _label in Layouts.RENDERING.threeDViews]
    isLinked = Layouts.volumesOverlap(synthetic, real)
    for view in views:
        view.SetLinkedControl(False)  # while the cameras are being placed
    diagonal = max(float(np.linalg.norm(np.ptp(rasBounds(volume), axis=1))) for volume in volumes)
    for view, volume in zip(views, volumes, strict=True):
        _hideOthers(scene, view)
        display = _displayNode(volume, view, logic)
        display.GetVolumePropertyNode().Copy(described)
        display.SetVisibility(True)
        centre = rasBounds(volumes[1] if isLinked else volume).mean(axis=1)
        _lookFromFront(cameraNode(scene, view), centre, _DISTANCE * diagonal)
    for view in views:
        view.SetLinkedControl(isLinked)


def renderedVolumes(view: Any) -> list[Any]:
    """Return the volumes that are rendered in a 3D view, ours or not.

    :param view: a vtkMRMLViewNode in a scene.
    """
    displays = nodesByClass(view.GetScene(), "vtkMRMLVolumeRenderingDisplayNode")
    shown = [node for node in displays if node.GetVisibility() and node.IsDisplayableInView(view.GetID())]
    return [node.GetVolumeNode() for node in shown if node.GetVolumeNode() is not None]


def cameraNode(scene: Any, view: Any) -> Any:
    """Return the vtkMRMLCameraNode of a 3D view; made if there was none yet (Slicer's views make theirs)."""
    for node in nodesByClass(scene, "vtkMRMLCameraNode"):
        if node.GetLayoutName() == view.GetLayoutName():
            return node
    node = scene.CreateNodeByClass("vtkMRMLCameraNode")
    node.UnRegister(None)
    node.SetLayoutName(view.GetLayoutName())
    return scene.AddNode(node)


def _displayNode(volume: Any, view: Any, logic: Any) -> Any:
    """The display node of ``volume`` that is ours, for ``view`` only."""
    scene = volume.GetScene()
    ours = [
        display
        for display in nodesByClass(scene, "vtkMRMLVolumeRenderingDisplayNode")
        if display.GetAttribute(DISPLAY_ATTRIBUTE) == view.GetLayoutName() and display.GetVolumeNode() is volume
    ]
    if ours:
        return ours[0]
    display = logic.CreateVolumeRenderingDisplayNode()
    display.UnRegister(logic)  # a new node is the caller's
    display.SetName(f"{volume.GetName()} in {view.GetLayoutName()}")
    display.SetAttribute(DISPLAY_ATTRIBUTE, view.GetLayoutName())
    display.AddViewNodeID(view.GetID())
    display.SetVisibility(False)
    scene.AddNode(display)
    volume.AddAndObserveDisplayNodeID(display.GetID())
    logic.UpdateDisplayNodeFromVolumeNode(display, volume, None, None, False)
    return display


def _hideOthers(scene: Any, view: Any) -> None:
    """Show nothing else in a view of ours."""
    for display in nodesByClass(scene, "vtkMRMLVolumeRenderingDisplayNode"):
        if display.GetAttribute(DISPLAY_ATTRIBUTE) == view.GetLayoutName():
            display.SetVisibility(False)


def _lookFromFront(camera: Any, centre: np.ndarray, distance: float) -> None:
    wasModifying = camera.StartModify()
    camera.SetViewUp(0, 0, 1)
    camera.SetFocalPoint(*centre)
    camera.SetPosition(centre[0], centre[1] + distance, centre[2])
    camera.ResetClippingRange()
    camera.EndModify(wasModifying)
