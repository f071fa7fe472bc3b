"""The layout with the table and three plots of a report, and the way back to the user's own layout.

Table and charts lie in views of our own, so that those of Slicer keep what they show. Everything is done through MRML
nodes, as in Layouts and TrainLayout, which remember the user's layout under other names.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from .Layouts import layoutNode
from .Provenance import PREFIX
from .SlicerHost import sceneOrDefault

#: Where the user's own layout is kept while ours is shown (attribute of the layout node).
USER_LAYOUT_ATTRIBUTE = PREFIX + "LayoutBeforeReport"
#: Singleton tags of the views.
PLOT_TAGS = ("CTDiffusionReport1", "CTDiffusionReport2", "CTDiffusionReport3")
TABLE_TAG = "CTDiffusionFigures"
#: Number of the layout; above those of Layouts and TrainLayout.
REPORT_LAYOUT = 5293


def layoutXml() -> str:
    """Return the layout's description in the XML of vtkMRMLLayoutNode: two plots above, one beside the table below."""
    plots = [
        f'<item><view class="vtkMRMLPlotViewNode" singletontag="{tag}">'
        f'<property name="viewlabel" action="default">F{number}</property></view></item>'
        for number, tag in enumerate(PLOT_TAGS, start=1)
    ]
    table = (
        f'<item><view class="vtkMRMLTableViewNode" singletontag="{TABLE_TAG}">'
        '<property name="viewlabel" action="default">T</property></view></item>'
    )
    rows = ["".join(plots[:2]), "".join([plots[2], table])]
    items = "".join(f'<item><layout type="horizontal" split="true">{row}</layout></item>' for row in rows)
    return f'<layout type="vertical" split="true">{items}</layout>'


def registerLayout(scene: Any = None) -> None:
    """Make the layout known to the scene's layout node."""
    node = layoutNode(scene)
    if not node.IsLayoutDescription(REPORT_LAYOUT):
        node.AddLayoutDescription(REPORT_LAYOUT, layoutXml())


def showReport(table: Any, charts: Sequence[Any], *, scene: Any = None) -> None:
    """Show a table and the first three charts; remember the user's layout.

    :param table: a vtkMRMLTableNode.
    :param charts: vtkMRMLPlotChartNodes; the others can be chosen in the bars of the views.
    """
    scene = sceneOrDefault(scene)
    registerLayout(scene)
    node = layoutNode(scene)
    if node.GetViewArrangement() != REPORT_LAYOUT:
        node.SetAttribute(USER_LAYOUT_ATTRIBUTE, str(node.GetViewArrangement()))
    node.SetViewArrangement(REPORT_LAYOUT)
    tableView = _view(scene, TABLE_TAG, "vtkMRMLTableViewNode")
    tableView.SetDoPropagateTableSelection(False)  # else it would show whatever is chosen in Tables
    tableView.SetTableNodeID(table.GetID())
    for tag, chart in zip_longest(PLOT_TAGS, charts[: len(PLOT_TAGS)]):
        view = _view(scene, tag, "vtkMRMLPlotViewNode")
        view.SetDoPropagatePlotChartSelection(False)
        view.SetPlotChartNodeID(chart.GetID() if chart is not None else None)


def isReportShown(scene: Any = None) -> bool:
    """Whether this layout is that of the scene now."""
    return layoutNode(scene).GetViewArrangement() == REPORT_LAYOUT


def restoreLayout(scene: Any = None) -> bool:
    """Go back to the layout that the user had before; say whether ours was shown."""
    node = layoutNode(scene)
    # The closing of a scene clears the attributes of the layout node.
    number = int(node.GetAttribute(USER_LAYOUT_ATTRIBUTE) or node.SlicerLayoutFourUpView)
    node.RemoveAttribute(USER_LAYOUT_ATTRIBUTE)
    if not isReportShown(scene):  # the user has moved on
        return False
    node.SetViewArrangement(number)
    return True


def _view(scene: Any, tag: str, className: str) -> Any:
    """The view node; made where there is no layout manager that would: in batch mode and slicer-core."""
    view = scene.GetSingletonNode(tag, className)
    if view is None:
        view = scene.CreateNodeByClass(className)
        view.UnRegister(None)
        view.SetLayoutName(tag)
        view.SetName(tag)
        view = scene.AddNode(view)
    return view
