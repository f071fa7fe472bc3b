"""The layout with the plots of a training below the slice views, and the way back to the user's own layout.

Charts lie in views of our own, so that those of Slicer keep what they show. Everything is done through MRML nodes, as
in Layouts, whose comparisons remember the user's layout under another name: each way back leads one step back.
"""

from __future__ import annotations

from typing import Any

from .Layouts import ORIENTATIONS
from .Provenance import PREFIX
from .SlicerHost import nodesByClass, sceneOrDefault

#: Where the user's own layout is kept while one of ours is shown (attribute of the layout node).
USER_LAYOUT_ATTRIBUTE = PREFIX + "LayoutBeforePlots"
#: Singleton tags of the plot views: loss, Frechet distance.
PLOT_TAGS = ("CTDiffusionLoss", "CTDiffusionFrechet")
#: Numbers of the layouts with one and with two plots; above those of Layouts.
ONE_PLOT, TWO_PLOTS = 5291, 5292
_SLICE_VIEWS = dict(zip(("Red", "Yellow", "Green"), ("R", "Y", "G"), strict=True))
#: Slicer's own views of these orientations.
_ORIENTATION_OF = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}


def layoutXml(plots: int) -> str:
    """Return a layout's description in the XML of vtkMRMLLayoutNode.

    :param plots: how many plot views it has, 1 or 2.
    """
    slices = "".join(
        f'<item><view class="vtkMRMLSliceNode" singletontag="{tag}">'
        f'<property name="orientation" action="default">{_ORIENTATION_OF[tag]}</property>'
        f'<property name="viewlabel" action="default">{label}</property>'
        f'<property name="viewcolor" action="default">{ORIENTATIONS[_ORIENTATION_OF[tag]]}</property>'
        "</view></item>"
        for tag, label in _SLICE_VIEWS.items()
    )
    charts = "".join(
        f'<item><view class="vtkMRMLPlotViewNode" singletontag="{tag}">'
        f'<property name="viewlabel" action="default">{tag[len("CTDiffusion")]}</property></view></item>'
        for tag in PLOT_TAGS[:plots]
    )
    rows = [f'<item><layout type="horizontal">{row}</layout></item>' for row in (slices, charts)]
    return f'<layout type="vertical" split="true">{"".join(rows)}</layout>'


def registerLayouts(scene: Any = None) -> None:
    """Make the layouts known to the scene's layout node."""
    layoutNode = _layoutNode(sceneOrDefault(scene))
    for number, plots in ((ONE_PLOT, 1), (TWO_PLOTS, 2)):
        if not layoutNode.IsLayoutDescription(number):
            layoutNode.AddLayoutDescription(number, layoutXml(plots))


def showCharts(lossChart: Any, frechetChart: Any = None, *, scene: Any = None, userLayout: int | None = None) -> None:
    """Show one or two charts below the slice views; remember the user's layout.

    :param lossChart: a vtkMRMLPlotChartNode.
    :param frechetChart: another one, or None.
    :param userLayout: number of the layout to go back to; None for the one that is shown now.
    """
    scene = sceneOrDefault(scene)
    registerLayouts(scene)
    layoutNode = _layoutNode(scene)
    current = userLayout if userLayout is not None else layoutNode.GetViewArrangement()
    if current not in (ONE_PLOT, TWO_PLOTS):
        layoutNode.SetAttribute(USER_LAYOUT_ATTRIBUTE, str(current))
    layoutNode.SetViewArrangement(ONE_PLOT if frechetChart is None else TWO_PLOTS)
    for tag, chart in zip(PLOT_TAGS, (lossChart, frechetChart), strict=True):
        if chart is not None:
            view = plotView(scene, tag) or _addPlotView(scene, tag)
            view.SetDoPropagatePlotChartSelection(False)  # else it would show whatever is chosen in Plots
            view.SetPlotChartNodeID(chart.GetID())


def areChartsShown(scene: Any = None) -> bool:
    """Whether one of these layouts is that of the scene now."""
    return _layoutNode(sceneOrDefault(scene)).GetViewArrangement() in (ONE_PLOT, TWO_PLOTS)


def userLayout(scene: Any = None) -> int | None:
    """Return the number of the layout to go back to while one of ours is shown, else None."""
    if not areChartsShown(scene):
        return None
    layoutNode = _layoutNode(sceneOrDefault(scene))
    # The closing of a scene clears the attributes of the layout node.
    return int(layoutNode.GetAttribute(USER_LAYOUT_ATTRIBUTE) or layoutNode.SlicerLayoutFourUpView)


def restoreLayout(scene: Any = None) -> bool:
    """Go back to the layout that the user had before; say whether one of ours was shown."""
    layoutNode, number = _layoutNode(sceneOrDefault(scene)), userLayout(scene)
    layoutNode.RemoveAttribute(USER_LAYOUT_ATTRIBUTE)
    if number is not None:  # else the user has moved on
        layoutNode.SetViewArrangement(number)
    return number is not None


def plotView(scene: Any, tag: str) -> Any:
    """Return the vtkMRMLPlotViewNode of a plot view, or None.

    :param tag: one of PLOT_TAGS.
    """
    return scene.GetSingletonNode(tag, "vtkMRMLPlotViewNode")


def _addPlotView(scene: Any, tag: str) -> Any:
    """Where there is no layout manager that would: in batch mode and slicer-core."""
    node = scene.CreateNodeByClass("vtkMRMLPlotViewNode")
    node.UnRegister(None)
    node.SetLayoutName(tag)
    node.SetName(tag)
    return scene.AddNode(node)


def _layoutNode(scene: Any) -> Any:
    nodes = nodesByClass(scene, "vtkMRMLLayoutNode")
    return nodes[0] if nodes else scene.AddNewNodeByClass("vtkMRMLLayoutNode")
