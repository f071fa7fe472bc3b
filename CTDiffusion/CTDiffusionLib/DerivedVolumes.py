"""Volumes that are computed from a synthetic and a real one: checkerboard and difference.

They lie on the real volume's grid, beside it in the subject hierarchy, are named and marked as synthetic, and are
computed anew in the same node when asked for again.

Slicer's own means were looked at first. Its CheckerBoard module is a command-line module around ITK's filter: it runs
apart from the scene's events, writes temporary files and refuses volumes of different grids; the same filter is in
SimpleITK, which comes with Slicer. The composite mode Subtract of slice views subtracts grey levels after
window/level, not HU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _

from . import Display, Provenance
from .Layouts import volumesOverlap
from .SceneVolumes import ijkToRAS, insertSyntheticVolume, placeBeside
from .VolumeGrids import gridMismatch, hasVoxels, huArray, huOnGridOf, ijkToWorld

#: Which computation made a node, as attribute; and its synthetic source, as node reference.
DERIVED_ATTRIBUTE = Provenance.attributeName("derived")
SOURCE_ROLE = "CTDiffusionSource"
CHECKERBOARD, DIFFERENCE = "checkerboard", "difference"
#: Colours of a difference by its share of the range: blue, black, orange; colour-blind people tell them apart.
_COLOURS = {-1.0: (0.45, 0.80, 1.0), -0.5: (0.10, 0.35, 0.80), 0.0: (0.02, 0.02, 0.02)}
_COLOURS |= {0.5: (0.80, 0.25, 0.05), 1.0: (1.0, 0.70, 0.45)}
#: Entries of the table: an odd number, so that 0 HU has one of its own.
_STEPS = 255
_COLOUR_TABLE = "CTDiffusionDifference"


def isDerived(node: Any) -> bool:
    """Whether ``node`` (any MRML node, or None) was computed here."""
    return node is not None and bool(node.GetAttribute(DERIVED_ATTRIBUTE))


def emptyProblem(synthetic: Any, real: Any) -> str:
    """Say that a volume has no voxels; "" if both have."""
    return "" if hasVoxels(synthetic) and hasVoxels(real) else _("The volumes have no voxels yet.")


def checkerboardProblem(synthetic: Any, real: Any) -> str:
    """Why there can be no checkerboard of two volumes; "" if there can be."""
    if problem := emptyProblem(synthetic, real):
        return problem
    if not volumesOverlap(synthetic, real):
        return _("The volumes do not overlap in space.")
    return ""


def differenceProblem(synthetic: Any, real: Any) -> str:
    """Why there can be no difference of two volumes; "" if there can be."""
    if problem := emptyProblem(synthetic, real):
        return problem
    if not (reason := gridMismatch(synthetic, real)):
        return ""
    return _(
        "A difference needs both volumes on the same grid, but {reason}. "
        "Generate one with 'Same geometry as' the real volume."
    ).format(reason=reason)


def checkerboard(synthetic: Any, real: Any, *, squareMm: float = 40.0, volumesLogic: Any = None) -> Any:
    """Compute a volume whose boxes show the real and the synthetic volume in turn.

    :param synthetic: scalar volume node; of another grid, it is interpolated to that of ``real``.
    :param real: scalar volume node in the same scene.
    :param squareMm: edge of the boxes, as nearly as the matrix allows.
    :param volumesLogic: see SlicerHost.volumesLogicOrDefault.
    :return: the volume node.
    :raises ValueError: if there can be none (see checkerboardProblem), or ``squareMm`` is not positive.
    """
    if not squareMm > 0:
        raise ValueError(f"The edge of the squares must be positive in mm, got {squareMm}.")
    if problem := checkerboardProblem(synthetic, real):
        raise ValueError(problem)
    import SimpleITK as sitk  # here: it takes half a second

    size = np.array(real.GetImageData().GetDimensions())
    extent = size * np.linalg.norm(ijkToWorld(real)[:3, :3], axis=0)
    boxes = np.clip(np.rint(extent / squareMm), 1, size).astype(int).tolist()
    mixed = sitk.CheckerBoard(
        sitk.GetImageFromArray(huArray(real)), sitk.GetImageFromArray(huOnGridOf(synthetic, real)), boxes
    )
    node = _derivedNode(CHECKERBOARD, sitk.GetArrayFromImage(mixed), synthetic, real, volumesLogic)
    Display.matchWindowLevel(real, [node])
    return node


def difference(synthetic: Any, real: Any, *, rangeHU: float = 200.0, volumesLogic: Any = None) -> Any:
    """Compute synthetic minus real in HU, shown from blue (synthetic lower) over black to orange (synthetic higher).

    :param synthetic: scalar volume node.
    :param real: scalar volume node of the same grid, in the same scene.
    :param rangeHU: the strongest colours stand for this difference and more.
    :param volumesLogic: see SlicerHost.volumesLogicOrDefault.
    :return: the volume node.
    :raises ValueError: if there can be none (see differenceProblem), or ``rangeHU`` is not positive.
    """
    if problem := differenceProblem(synthetic, real):
        raise ValueError(problem)
    limits = np.iinfo(np.int16)
    hu = np.subtract(huArray(synthetic), huArray(real), dtype=np.int32)
    hu = np.clip(hu, limits.min, limits.max, out=hu).astype(np.int16)
    node = _derivedNode(DIFFERENCE, hu, synthetic, real, volumesLogic)
    Display.setWindowLevel([node], 2 * rangeHU, 0)
    display = Display.displayNodeOf(node)
    display.SetAndObserveColorNodeID(differenceColours(node.GetScene()).GetID())
    _showLegend(node)
    return node


def differenceColours(scene: Any) -> Any:
    """Return the diverging colour table of the scene; made if there was none yet.

    Dark where there is no difference, as the views are: what differs stands out, and the label stays readable.
    """
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLColorTableNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLColorTableNode")
        if node.GetAttribute(_COLOUR_TABLE):
            return node
    function = vtk.vtkColorTransferFunction()
    for place, colour in _COLOURS.items():
        function.AddRGBPoint(place, *colour)
    node = scene.CreateNodeByClass("vtkMRMLColorTableNode")
    node.UnRegister(None)
    node.SetName(_("CT difference"))
    node.SetTypeToUser()
    node.SetNumberOfColors(_STEPS)
    for index in range(_STEPS):
        node.SetColor(index, str(index), *function.GetColor(2 * index / (_STEPS - 1) - 1))
    node.SetAttribute(_COLOUR_TABLE, "yes")
    return scene.AddNode(node)


def _showLegend(volume: Any) -> None:
    """Show the colours with their HU beside the volume, where Slicer's Colors module is there."""
    if volume.GetScene().GetClassNameByTag("ColorLegendDisplay"):
        legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(volume)
        legend.SetTitleText(_("Synthetic - real (HU)"))
        legend.SetVisibility(True)


def _derivedNode(kind: str, hu: np.ndarray, synthetic: Any, real: Any, volumesLogic: Any) -> Any:
    node = _existing(kind, synthetic, real)
    if node is None:
        name = f"SYNTHETIC {kind}: {synthetic.GetName()} / {real.GetName()}"
        facts = {"derived": kind, "derived_from": synthetic.GetName()}
        node = insertSyntheticVolume(
            hu, ijkToRAS(real), name, metadata=facts, scene=real.GetScene(), volumesLogic=volumesLogic
        )
        Provenance.setReference(node, real)
        node.SetNodeReferenceID(SOURCE_ROLE, synthetic.GetID())
        placeBeside(node, real)
    else:
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijkToRAS(real)))
        slicer.util.updateVolumeFromArray(node, hu)
    node.SetAndObserveTransformNodeID(real.GetTransformNodeID())
    return node


def _existing(kind: str, synthetic: Any, real: Any) -> Any:
    for node in Provenance.syntheticVolumes(real.GetScene()):
        sources = node.GetNodeReferenceID(SOURCE_ROLE), node.GetNodeReferenceID(Provenance.REFERENCE_ROLE)
        if node.GetAttribute(DERIVED_ATTRIBUTE) == kind and sources == (synthetic.GetID(), real.GetID()):
            return node
    return None
