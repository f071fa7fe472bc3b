"""Where the scene and Slicer's module logics come from: from the caller, else from the running Slicer."""

from __future__ import annotations

from typing import Any

import slicer


def sceneOrDefault(scene: Any = None) -> Any:
    """Return ``scene``, else the application's scene.

    :param scene: a vtkMRMLScene, or None.
    """
    return scene if scene is not None else slicer.mrmlScene


def volumesLogicOrDefault(volumesLogic: Any = None) -> Any:
    """Return ``volumesLogic``, else the logic of Slicer's Volumes module.

    :param volumesLogic: a vtkSlicerVolumesLogic whose scene is set, or None. slicer-core has no
        ``slicer.modules``: there it must be given.
    """
    return volumesLogic if volumesLogic is not None else slicer.modules.volumes.logic()


def nodesByClass(scene: Any, className: str) -> list[Any]:
    """Return the nodes of a class in ``scene``, in scene order.

    :param scene: a vtkMRMLScene.
    :param className: for example "vtkMRMLSliceNode".
    """
    # slicer.util.getNodesByClass(className, scene) goes through a collection that Python must unregister.
    return [scene.GetNthNodeByClass(index, className) for index in range(scene.GetNumberOfNodesByClass(className))]
