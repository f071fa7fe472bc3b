"""Synthetic and real volume side by side (three views each) or laid over each other, with linked views.

The layouts have views of their own, so that the user's Red, Green and Yellow keep what they show; the user's
layout is remembered and comes back with restoreLayout. Everything is done through MRML nodes; Slicer's layout
manager follows them, and where there is none (batch mode, slicer-core) the nodes are made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from .SceneVolumes import rasBounds
from .SlicerHost import nodesByClass, sceneOrDefault

#: The columns, with the colours that Slicer gives these orientations.
ORIENTATIONS = {"Axial": "#F34A33", "Coronal": "#6EB04B", "Sagittal": "#EDD54C"}
#: Where the user's own layout is kept while one of ours is shown (attribute of the layout node).
USER_LAYOUT_ATTRIBUTE = "CTDiffusion.UserLayout"
#: Own layouts have identifiers above 100; these are far from those of Slicer's own modules (500 to 600).
_SIDE_BY_SIDE_ID, _OVERLAY_ID = 5281, 5282
#: Linked views move together only within a view group; Slicer's own views are in the groups 0 and 1.
_SYNTHETIC_GROUP, _REAL_GROUP, _OVERLAY_GROUP = 5281, 5282, 5283


@dataclass(frozen=True)
class ViewRow:
    """One row of views: axial, coronal, sagittal.

    :param tags: singleton tags (layout names) of the views, in the order of ORIENTATIONS.
    :param labels: what Slicer writes on the bars of the views.
    :param group: view group of the row.
    """

    tags: tuple[str, str, str]
    labels: tuple[str, str, str]
    group: int


@dataclass(frozen=True)
class ComparisonLayout:
    """A layout of one or two rows of views: its number in vtkMRMLLayoutNode, and who is where."""

    number: int
    rows: tuple[ViewRow, ...]
    isBuiltIn: bool = False

    @property
    def tags(self) -> tuple[str, ...]:
        """Singleton tags of all views, row by row."""
        return tuple(tag for row in self.rows for tag in row.tags)


def _row(name: str, letter: str, group: int) -> ViewRow:
    tags = tuple(f"CTDiffusion{name}{orientation}" for orientation in ORIENTATIONS)
    return ViewRow(tags, tuple(f"{letter}-{orientation[0]}" for orientation in ORIENTATIONS), group)  # type: ignore[arg-type]


#: Upper row synthetic, lower row real.
SIDE_BY_SIDE = ComparisonLayout(
    _SIDE_BY_SIDE_ID, (_row("Synthetic", "S", _SYNTHETIC_GROUP), _row("Real", "R", _REAL_GROUP))
)
#: The real volume with the synthetic one over it.
OVERLAY = ComparisonLayout(_OVERLAY_ID, (_row("Overlay", "O", _OVERLAY_GROUP),))
#: Slicer's own "Three over three": for scenes that are to open alike where this extension is not installed.
THREE_OVER_THREE = ComparisonLayout(
    slicer.vtkMRMLLayoutNode.SlicerLayoutThreeOverThreeView,
    (
        ViewRow(("Red", "Green", "Yellow"), ("R", "G", "Y"), 0),
        ViewRow(("Red+", "Green+", "Yellow+"), ("R+", "G+", "Y+"), 1),
    ),
    isBuiltIn=True,
)


def layoutXml(layout: ComparisonLayout) -> str:
    """Return the layout's description in the XML of vtkMRMLLayoutNode."""
    rows = "".join(f'<item><layout type="horizontal">{_rowXml(row)}</layout></item>' for row in layout.rows)
    return f'<layout type="vertical">{rows}</layout>'


def registerLayouts(scene: Any = None) -> None:
    """Make the layouts of this module known to the scene's layout node, so that saved scenes can show them."""
    layoutNode = _layoutNode(sceneOrDefault(scene))
    for layout in (SIDE_BY_SIDE, OVERLAY):
        if not layoutNode.IsLayoutDescription(layout.number):
            layoutNode.AddLayoutDescription(layout.number, layoutXml(layout))


def showSideBySide(
    synthetic: Any, real: Any, *, layout: ComparisonLayout = SIDE_BY_SIDE, linkPositions: bool | None = None
) -> None:
    """Show two volumes one above the other in three orientations, at the same scale, with linked views.

    :param synthetic: volume node for the upper row.
    :param real: volume node for the lower row, in the same scene.
    :param layout: SIDE_BY_SIDE, or THREE_OVER_THREE for a scene that Slicer shows without this extension.
    :param linkPositions: whether browsing one row moves the other one too, to the same position in mm; by default
        if the volumes overlap in space. Otherwise each row is linked within itself only.
    """
    scene = synthetic.GetScene()
    _switchTo(scene, layout)
    linked = volumesOverlap(synthetic, real) if linkPositions is None else linkPositions
    for row, volume in zip(layout.rows, (synthetic, real), strict=True):
        for tag in row.tags:
            sliceNode(scene, tag).SetViewGroup(layout.rows[0].group if linked else row.group)
            _show(compositeNode(scene, tag), background=volume)
    fitViews(layout, [synthetic, real])


def showOverlay(synthetic: Any, real: Any, *, opacity: float = 0.5) -> None:
    """Show the synthetic volume over the real one in three orientations, with linked views.

    :param opacity: of the synthetic volume, 0 (only the real one is seen) to 1.
    :raises ValueError: if the opacity is outside of [0, 1].
    """
    scene = synthetic.GetScene()
    _checkOpacity(opacity)
    _switchTo(scene, OVERLAY)
    for tag in OVERLAY.tags:
        _show(compositeNode(scene, tag), background=real, foreground=synthetic, opacity=opacity)
    fitViews(OVERLAY, [real])


def setOverlayOpacity(opacity: float, *, scene: Any = None) -> None:
    """Change how strongly the synthetic volume covers the real one in the overlay layout: 0 to 1."""
    _checkOpacity(opacity)
    for tag in OVERLAY.tags:
        compositeNode(sceneOrDefault(scene), tag).SetForegroundOpacity(opacity)


def restoreLayout(scene: Any = None) -> bool:
    """Go back to the layout that the user had before the first comparison; say whether there was one."""
    layoutNode = _layoutNode(sceneOrDefault(scene))
    userLayout = layoutNode.GetAttribute(USER_LAYOUT_ATTRIBUTE)
    if userLayout is None:
        return False
    layoutNode.RemoveAttribute(USER_LAYOUT_ATTRIBUTE)
    if layoutNode.GetViewArrangement() in (SIDE_BY_SIDE.number, OVERLAY.number):  # else the user has moved on
        layoutNode.SetViewArrangement(int(userLayout))
    return True


def isOverlayShown(scene: Any = None) -> bool:
    """Whether the overlay is the layout of the scene now."""
    return _layoutNode(sceneOrDefault(scene)).GetViewArrangement() == OVERLAY.number


def fitViews(layout: ComparisonLayout, volumes: Sequence[Any], *, margin: float = 1.04) -> float:
    """Centre each row on its volume, all views at the same scale, so that sizes can be compared by eye.

    :param layout: rows of views that exist in the scene.
    :param volumes: one volume node for each row.
    :param margin: how much larger than the largest volume the field of view is; at least 1.
    :return: mm per pixel of all views.
    """
    scene = volumes[0].GetScene()
    views = [
        (sliceNode(scene, tag), orientation, rasBounds(volume))
        for row, volume in zip(layout.rows, volumes, strict=True)
        for tag, orientation in zip(row.tags, ORIENTATIONS, strict=True)
    ]
    scale = margin * max(_neededScale(node, orientation, bounds) for node, orientation, bounds in views)
    for node, orientation, bounds in views:
        wasModifying = node.StartModify()
        node.SetOrientation(orientation)
        node.SetXYZOrigin(0, 0, 0)
        for axis, centre in enumerate(bounds.mean(axis=1)):
            node.GetSliceToRAS().SetElement(axis, 3, centre)
        width, height, _ = node.GetDimensions()
        node.SetFieldOfView(scale * width, scale * height, node.GetFieldOfView()[2])
        node.UpdateMatrices()
        node.EndModify(wasModifying)
    return scale


def volumesOverlap(first: Any, second: Any) -> bool:
    """Whether the boxes of two volumes share a part of space."""
    a, b = rasBounds(first), rasBounds(second)
    return bool((np.minimum(a[:, 1], b[:, 1]) > np.maximum(a[:, 0], b[:, 0])).all())


def sliceNode(scene: Any, tag: str) -> Any:
    """Return the vtkMRMLSliceNode of a view, or None.

    :param tag: the view's singleton tag, which is also its layout name.
    """
    return scene.GetSingletonNode(tag, "vtkMRMLSliceNode")


def compositeNode(scene: Any, tag: str) -> Any:
    """Return the vtkMRMLSliceCompositeNode (which volumes are shown) of a view; made if there was none yet."""
    for node in nodesByClass(scene, "vtkMRMLSliceCompositeNode"):
        if node.GetLayoutName() == tag:
            return node
    node = scene.CreateNodeByClass("vtkMRMLSliceCompositeNode")
    node.UnRegister(None)
    node.SetLayoutName(tag)
    return scene.AddNode(node)


def _rowXml(row: ViewRow) -> str:
    return "".join(
        f'<item><view class="vtkMRMLSliceNode" singletontag="{tag}">'
        f'<property name="orientation" action="default">{orientation}</property>'
        f'<property name="viewlabel" action="default">{label}</property>'
        f'<property name="viewcolor" action="default">{colour}</property>'
        f'<property name="viewgroup" action="default">{row.group}</property>'
        "</view></item>"
        for tag, label, (orientation, colour) in zip(row.tags, row.labels, ORIENTATIONS.items(), strict=True)
    )


def _layoutNode(scene: Any) -> Any:
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    return node if node is not None else scene.AddNewNodeByClass("vtkMRMLLayoutNode")


def _switchTo(scene: Any, layout: ComparisonLayout) -> None:
    registerLayouts(scene)
    layoutNode = _layoutNode(scene)
    current = layoutNode.GetViewArrangement()
    if not layout.isBuiltIn and current not in (SIDE_BY_SIDE.number, OVERLAY.number):
        layoutNode.SetAttribute(USER_LAYOUT_ATTRIBUTE, str(current))
    layoutNode.SetViewArrangement(layout.number)
    for row in layout.rows:
        for tag, label, (orientation, colour) in zip(row.tags, row.labels, ORIENTATIONS.items(), strict=True):
            node = sliceNode(scene, tag) or _addSliceNode(scene, tag)
            node.SetLayoutLabel(label)
            node.SetLayoutColor([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
            node.SetDefaultOrientation(orientation)


def _addSliceNode(scene: Any, tag: str) -> Any:
    node = scene.CreateNodeByClass("vtkMRMLSliceNode")
    node.UnRegister(None)
    node.SetLayoutName(tag)
    node.SetName(tag)  # Slicer's link logic finds a view's composite node by the name of its slice node
    return scene.AddNode(node)


def _show(composite: Any, *, background: Any, foreground: Any = None, opacity: float = 0.0) -> None:
    wasModifying = composite.StartModify()
    composite.SetBackgroundVolumeID(background.GetID())
    composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
    composite.SetLabelVolumeID(None)
    composite.SetForegroundOpacity(opacity)
    composite.SetLinkedControl(1)
    composite.SetHotLinkedControl(1)
    composite.EndModify(wasModifying)


def _neededScale(node: Any, orientation: str, bounds: np.ndarray) -> float:
    """mm per pixel at which the box just fits into the view."""
    right, front, up = bounds[:, 1] - bounds[:, 0]
    across, along = {"Axial": (right, front), "Coronal": (right, up), "Sagittal": (front, up)}[orientation]
    width, height, _ = node.GetDimensions()
    return float(max(across / max(width, 1), along / max(height, 1)))


def _checkOpacity(opacity: float) -> None:
    if not 0 <= opacity <= 1:
        raise ValueError(f"The opacity must lie between 0 and 1, got {opacity}.")
