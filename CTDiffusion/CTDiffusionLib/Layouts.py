"""Synthetic and real volume side by side (three views each), laid over each other, in 3D, or with a plot.

The layouts have views of their own, so that the user's Red, Green and Yellow keep what they show; the user's
layout is remembered and comes back with restoreLayout. Everything is done through MRML nodes; Slicer's layout
manager follows them, and where there is none (batch mode, slicer-core) the nodes are made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_SIDE_BY_SIDE_ID, _OVERLAY_ID, _DERIVED_ID, _RENDERING_ID, _PLOT_ID = 5281, 5282, 5283, 5284, 5285
#: Linked views move together only within a view group; Slicer's own views are in the groups 0 and 1.
_SYNTHETIC_GROUP, _REAL_GROUP, _OVERLAY_GROUP, _DERIVED_GROUP, _RENDERING_GROUP = 5281, 5282, 5283, 5284, 5285


@dataclass(frozen=True)
class ViewRow:
    """One row of views: axial, coronal, sagittal, or the first of these only.

    :param tags: singleton tags (layout names) of the views, in the order of ORIENTATIONS.
    :param labels: what Slicer writes on the bars of the views.
    :param group: view group of the row.
    """

    tags: tuple[str, ...]
    labels: tuple[str, ...]
    group: int

    def views(self) -> list[tuple[str, str, str, str]]:
        """Tag, label, orientation and colour of each view."""
        shown = list(ORIENTATIONS.items())[: len(self.tags)]
        return [(tag, label, *kind) for tag, label, kind in zip(self.tags, self.labels, shown, strict=True)]


@dataclass(frozen=True)
class ComparisonLayout:
    """A layout of views: its number in vtkMRMLLayoutNode, and who is where.

    :param rows: slice views, row below row; where there is a plot, all rows are put into one above it.
    :param threeDViews: singleton tag and label of 3D views, in a row below the slice views.
    :param plotView: singleton tag of a plot view at the bottom; "" for none.
    """

    number: int
    rows: tuple[ViewRow, ...]
    isBuiltIn: bool = False
    threeDViews: tuple[tuple[str, str], ...] = ()
    plotView: str = ""

    @property
    def tags(self) -> tuple[str, ...]:
        """Singleton tags of all views, row by row."""
        return tuple(tag for row in self.rows for tag in row.tags)


def _row(name: str, letter: str, group: int) -> ViewRow:
    tags = tuple(f"CTDiffusion{name}{orientation}" for orientation in ORIENTATIONS)
    return ViewRow(tags, tuple(f"{letter}-{orientation[0]}" for orientation in ORIENTATIONS), group)


def _firstOf(row: ViewRow) -> ViewRow:
    """The axial view of a row alone."""
    return ViewRow(row.tags[:1], row.labels[:1], row.group)


#: Upper row synthetic, lower row real.
SIDE_BY_SIDE = ComparisonLayout(
    _SIDE_BY_SIDE_ID, (_row("Synthetic", "S", _SYNTHETIC_GROUP), _row("Real", "R", _REAL_GROUP))
)
#: The real volume with the synthetic one over it.
OVERLAY = ComparisonLayout(_OVERLAY_ID, (_row("Overlay", "O", _OVERLAY_GROUP),))
#: One volume that was computed from both: a checkerboard, a difference.
DERIVED = ComparisonLayout(_DERIVED_ID, (_row("Derived", "D", _DERIVED_GROUP),))
#: The synthetic volume in 3D on the left, the real one on the right.
RENDERING = ComparisonLayout(
    _RENDERING_ID, (), threeDViews=(("CTDiffusionSynthetic3D", "S-3D"), ("CTDiffusionReal3D", "R-3D"))
)
#: An axial view of each above a plot.
PLOT = ComparisonLayout(_PLOT_ID, tuple(_firstOf(row) for row in SIDE_BY_SIDE.rows), plotView="CTDiffusionPlot")
#: All that the user's own layout comes back from.
OWN_LAYOUTS = (SIDE_BY_SIDE, OVERLAY, DERIVED, RENDERING, PLOT)
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
    lines = [_rowXml(row) for row in layout.rows]
    if layout.plotView:
        lines = ["".join(lines), _viewXml("vtkMRMLPlotViewNode", layout.plotView, {"viewlabel": "P"})]
    if layout.threeDViews:
        views = [
            _viewXml("vtkMRMLViewNode", tag, {"viewlabel": label, "viewgroup": _RENDERING_GROUP})
            for tag, label in layout.threeDViews
        ]
        lines.append("".join(views))
    rows = "".join(f'<item><layout type="horizontal">{line}</layout></item>' for line in lines)
    return f'<layout type="vertical">{rows}</layout>'


def registerLayouts(scene: Any = None) -> None:
    """Make the layouts of this module known to the scene's layout node, so that saved scenes can show them."""
    node = layoutNode(scene)
    for layout in OWN_LAYOUTS:
        if not node.IsLayoutDescription(layout.number):
            node.AddLayoutDescription(layout.number, layoutXml(layout))


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
    switchTo(scene, layout)
    linked = volumesOverlap(synthetic, real) if linkPositions is None else linkPositions
    for row, volume in zip(layout.rows, (synthetic, real), strict=True):
        for tag in row.tags:
            sliceNode(scene, tag).SetViewGroup(layout.rows[0].group if linked else row.group)
            showInView(compositeNode(scene, tag), background=volume)
    fitViews(layout, [synthetic, real])


def showOverlay(synthetic: Any, real: Any, *, opacity: float = 0.5) -> None:
    """Show the synthetic volume over the real one in three orientations, with linked views.

    :param opacity: of the synthetic volume, 0 (only the real one is seen) to 1.
    :raises ValueError: if the opacity is outside of [0, 1].
    """
    scene = synthetic.GetScene()
    _checkOpacity(opacity)
    switchTo(scene, OVERLAY)
    for tag in OVERLAY.tags:
        showInView(compositeNode(scene, tag), background=real, foreground=synthetic, opacity=opacity)
    fitViews(OVERLAY, [real])


def showDerived(volume: Any) -> None:
    """Show one volume alone in three orientations, with linked views.

    :param volume: what was computed from the volumes that are compared.
    """
    scene = volume.GetScene()
    switchTo(scene, DERIVED)
    for tag in DERIVED.tags:
        showInView(compositeNode(scene, tag), background=volume)
    fitViews(DERIVED, [volume])


def setOverlayOpacity(opacity: float, *, scene: Any = None) -> None:
    """Change how strongly the synthetic volume covers the real one in the overlay layout: 0 to 1."""
    _checkOpacity(opacity)
    for tag in OVERLAY.tags:
        compositeNode(sceneOrDefault(scene), tag).SetForegroundOpacity(opacity)


def overlayOpacity(*, scene: Any = None) -> float:
    """Return how strongly the synthetic volume covers the real one in the overlay layout: 0 to 1."""
    return float(compositeNode(sceneOrDefault(scene), OVERLAY.tags[0]).GetForegroundOpacity())


def restoreLayout(scene: Any = None) -> bool:
    """Go back to the layout that the user had before the first comparison; say whether there was one."""
    node = layoutNode(scene)
    userLayout = node.GetAttribute(USER_LAYOUT_ATTRIBUTE)
    if userLayout is None:
        return False
    node.RemoveAttribute(USER_LAYOUT_ATTRIBUTE)
    if isOwn(node.GetViewArrangement()):  # else the user has moved on
        node.SetViewArrangement(int(userLayout))
    return True


def isShown(layout: ComparisonLayout, scene: Any = None) -> bool:
    """Whether ``layout`` is the layout of the scene now."""
    return layoutNode(scene).GetViewArrangement() == layout.number


def isOverlayShown(scene: Any = None) -> bool:
    """Whether the overlay is the layout of the scene now."""
    return isShown(OVERLAY, scene)


def isOwn(number: int) -> bool:
    """Whether a number of vtkMRMLLayoutNode is that of one of our layouts."""
    return number in [layout.number for layout in OWN_LAYOUTS]


def layoutNode(scene: Any = None) -> Any:
    """Return the scene's vtkMRMLLayoutNode; made if there was none yet."""
    scene = sceneOrDefault(scene)
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    return node if node is not None else scene.AddNewNodeByClass("vtkMRMLLayoutNode")


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
        for tag, _label, orientation, _colour in row.views()
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


def threeDViewNode(scene: Any, tag: str) -> Any:
    """Return the vtkMRMLViewNode of a 3D view; made if there was none yet.

    :param tag: the view's singleton tag, which is also its layout name.
    """
    return scene.GetSingletonNode(tag, "vtkMRMLViewNode") or _addViewNode(scene, "vtkMRMLViewNode", tag)


def plotViewNode(scene: Any) -> Any:
    """Return the vtkMRMLPlotViewNode of our plot view; made if there was none yet."""
    tag = PLOT.plotView
    return scene.GetSingletonNode(tag, "vtkMRMLPlotViewNode") or _addViewNode(scene, "vtkMRMLPlotViewNode", tag)


def switchTo(scene: Any, layout: ComparisonLayout) -> None:
    """Make ``layout`` the scene's layout; the user's own is remembered. There is nothing in its views yet."""
    registerLayouts(scene)
    node = layoutNode(scene)
    current = node.GetViewArrangement()
    if not layout.isBuiltIn and not isOwn(current):
        node.SetAttribute(USER_LAYOUT_ATTRIBUTE, str(current))
    node.SetViewArrangement(layout.number)
    for row in layout.rows:
        for tag, label, orientation, colour in row.views():
            view = sliceNode(scene, tag) or _addViewNode(scene, "vtkMRMLSliceNode", tag)
            view.SetLayoutLabel(label)
            view.SetLayoutColor([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
            view.SetDefaultOrientation(orientation)
    for tag, label in layout.threeDViews:
        threeDViewNode(scene, tag).SetLayoutLabel(label)
    if layout.plotView:
        plotViewNode(scene)


def showInView(composite: Any, *, background: Any, foreground: Any = None, opacity: float = 0.0) -> None:
    """Put volumes into a slice view that is linked with the others of its group.

    :param composite: the view's vtkMRMLSliceCompositeNode.
    :param background: volume node.
    :param foreground: volume node over it, or None.
    :param opacity: of the foreground, 0 to 1.
    """
    wasModifying = composite.StartModify()
    composite.SetBackgroundVolumeID(background.GetID())
    composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
    composite.SetLabelVolumeID(None)
    composite.SetForegroundOpacity(opacity)
    composite.SetLinkedControl(1)
    composite.SetHotLinkedControl(1)
    composite.EndModify(wasModifying)


def _viewXml(className: str, tag: str, properties: Mapping[str, object]) -> str:
    described = "".join(
        f'<property name="{name}" action="default">{value}</property>' for name, value in properties.items()
    )
    return f'<item><view class="{className}" singletontag="{tag}">{described}</view></item>'


def _rowXml(row: ViewRow) -> str:
    names = ("orientation", "viewlabel", "viewcolor", "viewgroup")
    return "".join(
        _viewXml("vtkMRMLSliceNode", tag, dict(zip(names, (orientation, label, colour, row.group), strict=True)))
        for tag, label, orientation, colour in row.views()
    )


def _addViewNode(scene: Any, className: str, tag: str) -> Any:
    node = scene.CreateNodeByClass(className)
    node.UnRegister(None)
    node.SetLayoutName(tag)
    node.SetName(tag)  # Slicer's link logic finds a view's composite node by the name of its slice node
    return scene.AddNode(node)


def _neededScale(node: Any, orientation: str, bounds: np.ndarray) -> float:
    """mm per pixel at which the box just fits into the view."""
    right, front, up = bounds[:, 1] - bounds[:, 0]
    across, along = {"Axial": (right, front), "Coronal": (right, up), "Sagittal": (front, up)}[orientation]
    width, height, _ = node.GetDimensions()
    return float(max(across / max(width, 1), along / max(height, 1)))


def _checkOpacity(opacity: float) -> None:
    if not 0 <= opacity <= 1:
        raise ValueError(f"The opacity must lie between 0 and 1, got {opacity}.")
