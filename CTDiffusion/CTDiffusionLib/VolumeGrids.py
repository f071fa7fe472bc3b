"""Where the voxels of two volumes lie, whether they are the same places, and one volume on the other's voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _

from .SceneVolumes import AIR_HU, ijkToRAS

#: How far voxels that are "at the same place" may be from each other, in voxels: what files round away.
TOLERANCE_VOXELS = 0.01


def hasVoxels(node: Any) -> bool:
    """Whether a volume node (or None) has an image."""
    return node is not None and node.GetImageData() is not None and node.GetImageData().GetNumberOfPoints() > 0


def ijkToWorld(node: Any) -> np.ndarray:
    """Return the 4 x 4 matrix from (column, row, slice) indices to RAS mm of the world, parent transforms included.

    :param node: a volume node in a scene.
    :raises ValueError: if the volume lies under a transform that is not linear.
    """
    toWorld = vtk.vtkMatrix4x4()
    parent = node.GetParentTransformNode()
    if not slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(parent, None, toWorld):
        raise ValueError(
            _("{name} lies under a transform that is not linear. Harden it in the Transforms module first.").format(
                name=node.GetName()
            )
        )
    return slicer.util.arrayFromVTKMatrix(toWorld) @ ijkToRAS(node)


def gridMismatch(first: Any, second: Any) -> str:
    """Say in which way the voxels of two volumes are not the same places; "" if they are.

    :param first: volume node.
    :param second: volume node in the same scene.
    """
    sizes = [node.GetImageData().GetDimensions() for node in (first, second)]
    if sizes[0] != sizes[1]:
        return _("their matrices are {first} and {second}").format(
            first=" x ".join(map(str, sizes[0])), second=" x ".join(map(str, sizes[1]))
        )
    try:
        matrices = [ijkToWorld(node) for node in (first, second)]
    except ValueError as error:
        return str(error)
    spacings = [np.linalg.norm(matrix[:3, :3], axis=0) for matrix in matrices]
    corners = np.stack(np.meshgrid(*[(0, size - 1) for size in sizes[0]], [1], indexing="ij"), -1).reshape(-1, 4)
    apart = np.abs(corners @ (matrices[0] - matrices[1]).T).max()
    if apart <= TOLERANCE_VOXELS * min(spacings[0].min(), spacings[1].min()):
        return ""
    if not np.allclose(spacings[0], spacings[1], rtol=1e-3):
        texts = [" x ".join(f"{length:.3g}" for length in spacing) for spacing in spacings]
        return _("their voxels are {first} and {second} mm").format(first=texts[0], second=texts[1])
    return _("their voxels lie up to {distance:.3g} mm apart").format(distance=apart)


def huArray(node: Any) -> np.ndarray:
    """Return a volume's voxels as int16 HU (slices, rows, columns): its own array where that is int16 already.

    :param node: scalar volume node; values beyond int16 are cut.
    """
    voxels = slicer.util.arrayFromVolume(node)
    if voxels.dtype == np.int16:
        return voxels
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(voxels), limits.min, limits.max).astype(np.int16)


def huOnGridOf(node: Any, target: Any) -> np.ndarray:
    """Return a volume's HU at the voxels of another volume, int16 (slices, rows, columns of ``target``).

    Linear interpolation; air where the volume has no voxels.

    :param node: scalar volume node.
    :param target: volume node in the same scene.
    :raises ValueError: if one of them lies under a transform that is not linear.
    """
    if not gridMismatch(node, target):
        return huArray(node)
    import SimpleITK as sitk  # here: it takes half a second

    # Both images in index coordinates: then any affine placement will do, sheared ones too.
    targetToNode = np.linalg.inv(ijkToWorld(node)) @ ijkToWorld(target)
    transform = sitk.AffineTransform(targetToNode[:3, :3].ravel().tolist(), targetToNode[:3, 3].tolist())
    size = target.GetImageData().GetDimensions()
    resampled = sitk.Resample(
        sitk.GetImageFromArray(huArray(node)),
        size,
        transform,
        sitk.sitkLinear,
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
        np.eye(3).ravel().tolist(),
        float(AIR_HU),
        sitk.sitkInt16,
    )
    return sitk.GetArrayFromImage(resampled)
