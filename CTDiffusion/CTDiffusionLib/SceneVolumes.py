"""CT volumes in the MRML scene: insert them, fill them slice by slice, put them beside their reference.

Geometry lives in the node (IJKToRAS), voxels are int16 HU in the order (slice, row, column).

Example, in Slicer's Python console with a real scan as ``reference``::

    node = insertSyntheticVolume(hu, ijkToRAS, "Synthetic CT", metadata={"seed": 7}, reference=reference)
    updateSlices(node, 10, newSlices)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import slicer.util
import vtk

from . import Display, Provenance
from .SlicerHost import sceneOrDefault

#: HU of air: what slices hold that are still to come.
AIR_HU = -1024


def insertVolume(
    hu: Any,
    ijkToRAS: Any,
    name: str,
    *,
    scene: Any = None,
    preset: str = Display.DEFAULT_PRESET,
    volumesLogic: Any = None,
) -> Any:
    """Add a CT to the scene as a vtkMRMLScalarVolumeNode and show it with a CT preset.

    :param hu: int16 array (slices, rows, columns) in HU; copied.
    :param ijkToRAS: 4 x 4 matrix from (column, row, slice) indices to RAS mm.
    :param name: name of the node; made unique in the scene.
    :param scene: a vtkMRMLScene; by default the application's.
    :param preset: a key of Display.PRESETS.
    :param volumesLogic: see SlicerHost.volumesLogicOrDefault.
    :return: the new node.
    :raises ValueError: if the array or the matrix is not of that kind; nothing is added then.
    """
    hu, matrix = _checkedVoxels(hu), _checkedMatrix(ijkToRAS)
    scene = sceneOrDefault(scene)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    _fill(node, hu, matrix)
    Display.applyPreset([node], preset, volumesLogic=volumesLogic)
    _hierarchyItem(scene, node)
    return node


def insertSyntheticVolume(
    hu: Any,
    ijkToRAS: Any,
    name: str = "Synthetic CT",
    *,
    metadata: Mapping[str, object] | None = None,
    reference: Any = None,
    scene: Any = None,
    preset: str = Display.DEFAULT_PRESET,
    volumesLogic: Any = None,
) -> Any:
    """Add a synthetic CT: as insertVolume, marked as synthetic, with provenance, beside its reference.

    :param metadata: what made it, see Provenance.setProvenance.
    :param reference: the real volume to put it beside in the subject hierarchy and to take the window/level of.
    """
    node = insertVolume(hu, ijkToRAS, name, scene=scene, preset=preset, volumesLogic=volumesLogic)
    Provenance.setProvenance(node, metadata or {}, reference=reference)
    if reference is not None:
        placeBeside(node, reference)
        Display.matchWindowLevel(reference, [node])
    return node


def insertEmptySyntheticVolume(shape: tuple[int, int, int], ijkToRAS: Any, *args: Any, **options: Any) -> Any:
    """Add a synthetic CT of air, to be filled with updateSlices while its slices are being made.

    :param shape: slices, rows, columns; the other arguments are those of insertSyntheticVolume.
    """
    return insertSyntheticVolume(np.full(shape, AIR_HU, dtype=np.int16), ijkToRAS, *args, **options)


def updateSlices(node: Any, first: int, hu: Any) -> None:
    """Replace some slices of a volume that is in the scene; views follow.

    :param node: a node made by this module.
    :param first: index of the first slice to replace.
    :param hu: int16 array (n, rows, columns), or (rows, columns) for one slice.
    :raises ValueError: if they do not fit into the volume; the volume is not touched then.
    """
    voxels = slicer.util.arrayFromVolume(node)
    hu = np.asarray(hu)
    hu = _checkedVoxels(hu[np.newaxis] if hu.ndim == 2 else hu)
    if hu.shape[1:] != voxels.shape[1:]:
        raise ValueError(
            f"Slices of {hu.shape[1:]} do not fit into {node.GetName()} with slices of {voxels.shape[1:]}."
        )
    if first < 0 or first + len(hu) > len(voxels):
        raise ValueError(
            f"Slices {first} to {first + len(hu) - 1} are not in {node.GetName()}, which has {len(voxels)} slices."
        )
    voxels[first : first + len(hu)] = hu
    slicer.util.arrayFromVolumeModified(node)


def placeBeside(node: Any, reference: Any) -> None:
    """Put ``node`` under the same subject hierarchy parent as ``reference`` (for example the same study), after it.

    :param node: a volume node in the scene of ``reference``.
    :param reference: a volume node.
    """
    scene = reference.GetScene()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item, referenceItem = _hierarchyItem(scene, node), _hierarchyItem(scene, reference)
    parent = hierarchy.GetItemParent(referenceItem)
    hierarchy.SetItemParent(item, parent)
    following = hierarchy.GetItemByPositionUnderParent(parent, hierarchy.GetItemPositionUnderParent(referenceItem) + 1)
    if following and following != item:
        hierarchy.MoveItem(item, following)


def ijkToRAS(node: Any) -> np.ndarray:
    """Return the 4 x 4 matrix of a volume node from (column, row, slice) indices to RAS mm."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def rasBounds(node: Any) -> np.ndarray:
    """Return the box of a volume's voxels, borders included, in RAS mm: shape (3, 2), lowest and highest."""
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    return np.reshape(bounds, (3, 2))


def _checkedVoxels(hu: Any) -> np.ndarray:
    if not isinstance(hu, np.ndarray) or hu.dtype != np.int16 or hu.ndim != 3 or not hu.size:
        seen = f"{hu.dtype} of shape {hu.shape}" if isinstance(hu, np.ndarray) else type(hu).__name__
        raise ValueError(f"Voxels must be a non-empty int16 array (slices, rows, columns) in HU, got {seen}.")
    return hu


def _checkedMatrix(matrix: Any) -> np.ndarray:
    if isinstance(matrix, vtk.vtkMatrix4x4):
        matrix = slicer.util.arrayFromVTKMatrix(matrix)
    matrix = np.asarray(matrix, dtype=np.float64)
    invertible = matrix.shape == (4, 4) and np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 0
    if not invertible or not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise ValueError(f"ijkToRAS must be an invertible affine 4 x 4 matrix, got {matrix.tolist()}.")
    return matrix


def _fill(node: Any, hu: np.ndarray, matrix: np.ndarray) -> None:
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    slicer.util.updateVolumeFromArray(node, hu)


def _hierarchyItem(scene: Any, node: Any) -> int:
    """The node's subject hierarchy item; Slicer makes it, slicer-core has no plugin that would."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    return hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
