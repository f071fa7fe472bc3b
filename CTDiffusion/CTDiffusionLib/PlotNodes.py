"""What tables, plot series and charts have in common: how they are found again, where they stand, how a line looks."""

from __future__ import annotations

from typing import Any

import slicer

from .SlicerHost import nodesByClass


class PlotNodes:
    """The nodes of one training or measurement. Holds none: it finds them by their attributes.

    :param scene: a vtkMRMLScene.
    :param owner: attribute and value that they all have.
    :param roleAttribute: the attribute that tells what each is for.
    :param folder: name of their folder in the subject hierarchy.
    """

    def __init__(self, scene: Any, *, owner: tuple[str, str], roleAttribute: str, folder: str) -> None:
        self._scene, self._owner, self._roleAttribute, self._folder = scene, owner, roleAttribute, folder

    def find(self, className: str, role: str) -> Any:
        """Return the node of a class and role, or None."""
        attribute, value = self._owner
        for node in nodesByClass(self._scene, className):
            if (node.GetAttribute(attribute), node.GetAttribute(self._roleAttribute)) == (value, role):
                return node
        return None

    def add(self, className: str, role: str, name: str) -> Any:
        """Make a node, with a name that is made unique, and put it into the folder."""
        node = self._scene.CreateNodeByClass(className)
        node.UnRegister(None)
        node.SetName(self._scene.GenerateUniqueName(name))
        node.SetAttribute(*self._owner)
        node.SetAttribute(self._roleAttribute, role)
        node = self._scene.AddNode(node)
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)
        top = hierarchy.GetSceneItemID()
        folder = hierarchy.GetItemChildWithName(top, self._folder) or hierarchy.CreateFolderItem(top, self._folder)
        item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(folder, node)
        hierarchy.SetItemParent(item, folder)
        return node


def drawLine(
    series: Any,
    x: str,
    y: str,
    color: tuple[float, float, float],
    *,
    marker: str = "None",
    style: str = "Solid",
    width: int = 2,
) -> None:
    """Let a plot series draw a column of its table over another one.

    :param series: a vtkMRMLPlotSeriesNode.
    :param x: name of the column that runs to the right.
    :param y: name of the column that is drawn.
    :param color: red, green, blue, 0 to 1.
    :param marker: as in the enumeration MarkerStyle...: "Circle", "Square" or "None".
    :param style: as in LineStyle...: "Solid", "Dash", "Dot" or "None".
    """
    series.SetPlotType(series.PlotTypeScatter)  # "scatter": x is a column; lines join the points
    series.SetXColumnName(x)
    series.SetYColumnName(y)
    series.SetMarkerStyle(getattr(series, f"MarkerStyle{marker}"))
    series.SetLineStyle(getattr(series, f"LineStyle{style}"))
    series.SetLineWidth(width)
    series.SetColor(*color)
