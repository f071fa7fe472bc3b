"""HU histogram and line profile of a synthetic and a real volume, as Slicer's tables, plot series and charts.

There is one table, one chart and two series for each kind in a scene; they are filled anew when asked for again. The
names of what is synthetic say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import slicer.util
from slicer.i18n import tr as _

from . import HounsfieldCurves, Layouts
from .PlotNodes import drawLine
from .SceneVolumes import rasBounds
from .SlicerHost import nodesByClass

#: Which plot a node belongs to.
PLOT_ATTRIBUTE = "CTDiffusion.Plot"
HISTOGRAM, PROFILE = "histogram", "profile"
#: Told apart by colour-blind people too, and by the dashes: real, synthetic.
_REAL_COLOUR, _SYNTHETIC_COLOUR = (0.12, 0.47, 0.71), (0.90, 0.45, 0.0)
#: At most this many points along a line.
_MOST_SAMPLES = 4000


def showHistogram(synthetic: Any, real: Any) -> Any:
    """Plot how often each HU occurs in the bodies of two volumes, and show it below an axial view of each.

    :param synthetic: scalar volume node.
    :param real: scalar volume node in the same scene; of any grid.
    :return: the vtkMRMLPlotChartNode.
    """
    hu, realDensity = HounsfieldCurves.histogram(real)
    syntheticDensity = HounsfieldCurves.histogram(synthetic)[1]
    chart = _chart(
        HISTOGRAM,
        [hu, 100 * realDensity, 100 * syntheticDensity],
        (synthetic, real),
        title=_("HU in the body: SYNTHETIC and real"),
        axes=("HU", _("% of the body per HU")),
    )
    showPlotViews(synthetic, real, chart)
    return chart


def showProfile(synthetic: Any, real: Any, line: Any = None) -> Any:
    """Plot the HU of two volumes along a line, and show it below an axial view of each.

    Where the volumes do not overlap in space, the synthetic one is read along the line that lies to its centre as
    the drawn one lies to the centre of the real volume; the chart's title says so.

    :param synthetic: scalar volume node.
    :param real: scalar volume node in the same scene; of any grid.
    :param line: a vtkMRMLMarkupsLineNode with both its points; by default defaultLine(real).
    :return: the vtkMRMLPlotChartNode.
    :raises ValueError: if the line has not both its points, or no length.
    """
    line = defaultLine(real) if line is None else line
    chart = updateProfile(synthetic, real, line)
    showPlotViews(synthetic, real, chart)
    for tag, volume in zip(Layouts.PLOT.tags, (synthetic, real), strict=True):
        ends = np.array(lineEnds(line)) + _offset(synthetic, real) * (volume is synthetic)
        Layouts.sliceNode(real.GetScene(), tag).JumpSlice(*ends.mean(axis=0))
    return chart


def updateProfile(synthetic: Any, real: Any, line: Any) -> Any:
    """Compute the plot of showProfile anew, without showing it; the line was moved, for example."""
    ends = lineEnds(line)
    if ends is None:
        raise ValueError(_("Draw the line with two points first."))
    start, end = ends
    length = float(np.linalg.norm(end - start))
    if length == 0:
        raise ValueError(_("Both points of the line are at the same place."))
    finest = min(HounsfieldCurves.finestSpacing(volume) for volume in (synthetic, real))
    samples = int(np.clip(np.ceil(2 * length / finest), 2, _MOST_SAMPLES))
    offset = _offset(synthetic, real)
    values = [
        np.linspace(0, length, samples),
        HounsfieldCurves.profile(real, start, end, samples=samples),
        HounsfieldCurves.profile(synthetic, start + offset, end + offset, samples=samples),
    ]
    title = _("HU along {line}: SYNTHETIC and real").format(line=line.GetName())
    if offset.any():
        title += _(" (each around its own centre)")
    return _chart(PROFILE, values, (synthetic, real), title=title, axes=(_("Distance (mm)"), "HU"))


def showPlotViews(synthetic: Any, real: Any, chart: Any = None) -> None:
    """Show an axial view of each volume above a plot.

    :param chart: what is plotted; None leaves the plot as it is.
    """
    scene = real.GetScene()
    Layouts.switchTo(scene, Layouts.PLOT)
    isLinked = Layouts.volumesOverlap(synthetic, real)
    for row, volume in zip(Layouts.PLOT.rows, (synthetic, real), strict=True):
        view = Layouts.sliceNode(scene, row.tags[0])
        view.SetViewGroup(Layouts.PLOT.rows[0].group if isLinked else row.group)
        Layouts.showInView(Layouts.compositeNode(scene, row.tags[0]), background=volume)
    Layouts.fitViews(Layouts.PLOT, [synthetic, real])
    if chart is not None:
        Layouts.plotViewNode(scene).SetPlotChartNodeID(chart.GetID())


def defaultLine(real: Any) -> Any:
    """Return our markups line, made if there is none yet: from right to left through the centre of ``real``."""
    scene = real.GetScene()
    for node in nodesByClass(scene, "vtkMRMLMarkupsLineNode"):
        if node.GetAttribute(PLOT_ATTRIBUTE) == PROFILE and lineEnds(node) is not None:
            return node
    node = newLine(scene)
    bounds = rasBounds(real)
    for x in bounds[0, ::-1]:
        node.AddControlPointWorld(x, *bounds[1:].mean(axis=1))
    return node


def newLine(scene: Any) -> Any:
    """Add a markups line without points, for the user to draw."""
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", scene.GenerateUniqueName(_("profile line")))
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetPropertiesLabelVisibility(False)  # the plot says how long it is
    node.SetAttribute(PLOT_ATTRIBUTE, PROFILE)
    return node


def lineEnds(line: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Return both points of a markups line in RAS mm of the world, or None while they are not both placed."""
    if line is None or line.GetNumberOfDefinedControlPoints() < 2:
        return None
    points = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    for index, point in enumerate(points):
        line.GetNthControlPointPositionWorld(index, point)
    return np.array(points[0]), np.array(points[1])


def hasLength(line: Any) -> bool:
    """Whether a markups line (or None) has two points at different places."""
    ends = lineEnds(line)
    return ends is not None and bool(np.any(ends[0] != ends[1]))


def chartNode(scene: Any, kind: str) -> Any:
    """Return the scene's chart of a kind (HISTOGRAM, PROFILE), or None."""
    return _find(scene, "vtkMRMLPlotChartNode", kind)


def _offset(synthetic: Any, real: Any) -> np.ndarray:
    """What takes a point of the real volume to the same place in the synthetic one, mm; 0 where they overlap."""
    if Layouts.volumesOverlap(synthetic, real):
        return np.zeros(3)
    return rasBounds(synthetic).mean(axis=1) - rasBounds(real).mean(axis=1)


def _chart(
    kind: str, values: Sequence[np.ndarray], volumes: tuple[Any, Any], *, title: str, axes: tuple[str, str]
) -> Any:
    """Fill table, series and chart of a kind: x, real and synthetic values."""
    synthetic, real = volumes
    scene = real.GetScene()
    names = [f"{_('real')}: {real.GetName()}", f"SYNTHETIC: {synthetic.GetName()}"]
    table = _findOrAdd(scene, "vtkMRMLTableNode", kind)
    table.SetName(f"SYNTHETIC / {_('real')} HU {kind}")
    slicer.util.updateTableFromArray(table, list(values), [axes[0], *names])
    chart = _findOrAdd(scene, "vtkMRMLPlotChartNode", kind)
    wasModifying = chart.StartModify()
    chart.SetName(table.GetName())
    chart.RemoveAllPlotSeriesNodeIDs()
    for role, name, colour in (
        ("real", names[0], _REAL_COLOUR),
        ("synthetic", names[1], _SYNTHETIC_COLOUR),
    ):
        series = _findOrAdd(scene, "vtkMRMLPlotSeriesNode", f"{kind}, {role}")
        series.SetName(name)
        series.SetAndObserveTableNodeID(table.GetID())
        drawLine(series, axes[0], name, colour, style="Solid" if role == "real" else "Dash")
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetTitle(title)
    chart.SetXAxisTitle(axes[0])
    chart.SetYAxisTitle(axes[1])
    chart.EndModify(wasModifying)
    return chart


def _find(scene: Any, className: str, key: str) -> Any:
    return next((node for node in nodesByClass(scene, className) if node.GetAttribute(PLOT_ATTRIBUTE) == key), None)


def _findOrAdd(scene: Any, className: str, key: str) -> Any:
    node = _find(scene, className, key)
    if node is None:
        node = scene.AddNewNodeByClass(className)
        node.SetAttribute(PLOT_ATTRIBUTE, key)
    return node
