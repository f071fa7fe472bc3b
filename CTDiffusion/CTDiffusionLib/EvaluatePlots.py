"""A report in the scene: its key figures as a table, its distances and curves as plot charts, in one folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import slicer.util
import vtk
from slicer.i18n import tr as _

from .EvaluateReport import PLANES, EvaluateReport, KeyFigure, ReportCurve
from .PlotNodes import PlotNodes, drawLine
from .Provenance import PREFIX
from .SlicerHost import sceneOrDefault

#: Attributes by which the nodes of a report are found again: its folder, and what a node is for.
REPORT_ATTRIBUTE = PREFIX + "Evaluation"
ROLE_ATTRIBUTE = PREFIX + "EvaluationPlot"
FIGURES = "figures"
#: Keys of the curves that are shown first, beside the distances.
HISTOGRAM, DIFFERENCE = "physics.histogram", "coherence.difference"
_FRECHET = "frechet"
#: The colours of the report's own plots, which people with colour blindness can tell apart; groups differ in dashes.
_COLOURS = {
    "real": (0.0, 0.45, 0.7),
    "synthetic": (0.84, 0.37, 0.0),
    "independent slices": (0.0, 0.62, 0.45),
    "training": (0.8, 0.47, 0.65),
    "held-out": (0.34, 0.71, 0.91),
}
_OTHER_COLOURS = ((0.9, 0.62, 0.0), (0.0, 0.0, 0.0))
#: How far the two marks of a plane stand beside its number.
_BESIDE = 0.1
#: Numbers in the table have so many digits; report.json has all.
_DIGITS = 4


@dataclass(frozen=True)
class _Line:
    """How one column of a chart's table is drawn over another one."""

    x: str
    y: str
    name: str
    color: tuple[float, float, float]
    marker: str = "None"
    style: str = "Solid"
    width: int = 2


class EvaluatePlots:
    """The nodes of one report. Holds none: it looks for its own by their attributes.

    Example::

        plots = EvaluatePlots(report)
        plots.update()
        plots.table()        # a vtkMRMLTableNode
        plots.charts()       # vtkMRMLPlotChartNodes, the most telling ones first

    :param report: what was found.
    :param scene: a vtkMRMLScene; by default the application's.
    """

    def __init__(self, report: EvaluateReport, *, scene: Any = None) -> None:
        self._report = report
        self._nodes = PlotNodes(
            sceneOrDefault(scene),
            owner=(REPORT_ATTRIBUTE, str(report.folder)),
            roleAttribute=ROLE_ATTRIBUTE,
            folder=_("Measurement {name}").format(name=report.folder.name),
        )

    def update(self) -> None:
        """Make the nodes, or fill those that are there already anew."""
        self._fillTable()
        for extractor, figures in self._distances().items():
            self._fillDistances(extractor, figures)
        for curve in self._report.curves:
            self._fillCurve(curve)

    def table(self) -> Any:
        """Return the table of the key figures, or None before ``update``."""
        return self._nodes.find("vtkMRMLTableNode", FIGURES)

    def chart(self, key: str) -> Any:
        """Return the chart of a curve (its key) or of distances ("frechet.EXTRACTOR"), or None."""
        return self._nodes.find("vtkMRMLPlotChartNode", key)

    def charts(self) -> list[Any]:
        """Return all charts: distances, HU histogram, differences of slices, then the others."""
        keys = [f"{_FRECHET}.{name}" for name in self._distances()]
        curves = [curve.key for curve in self._report.curves]
        first = [*keys[:1], *(key for key in (HISTOGRAM, DIFFERENCE) if key in curves), *keys[1:]]
        ordered = dict.fromkeys([*first, *curves])
        return [chart for key in ordered if (chart := self.chart(key)) is not None]

    # The table

    def _fillTable(self) -> None:
        table = self._findOrAdd("vtkMRMLTableNode", FIGURES, _("Key figures"))
        _fillColumns(table, _columns(self._report.figures))

    # Charts

    def _distances(self) -> dict[str, dict[str, KeyFigure]]:
        """Fréchet distances by extractor and plane; "mean" is a plane, too."""
        found: dict[str, dict[str, KeyFigure]] = {}
        for figure in self._report.figures:
            place = figure.key.removeprefix(f"{_FRECHET}.{figure.extractor}.")
            if figure.extractor and place in (*PLANES, "mean"):
                found.setdefault(figure.extractor, {})[place] = figure
        return found

    def _fillDistances(self, extractor: str, figures: Mapping[str, KeyFigure]) -> None:
        """Two marks for each plane, with their intervals as upright lines."""
        key = f"{_FRECHET}.{extractor}"
        names = {"axial": _("axial"), "coronal": _("coronal"), "sagittal": _("sagittal"), "mean": _("mean")}
        places = [place for place in names if place in figures]
        groups = {
            "synthetic": (_("synthetic to real"), -_BESIDE, [figures[place].synthetic for place in places]),
            "real": (_("real patients among each other"), _BESIDE, [figures[place].floor for place in places]),
        }
        # Three rows for a plane: the mark and the interval's lower end, its upper end, a gap.
        columns: dict[str, list[Any]] = {"plane": [names[place] for place in places for _row in range(3)]}
        lines = []
        for group, (name, beside, intervals) in groups.items():
            if all(math.isnan(interval.value) for interval in intervals):
                continue
            x, y, bars = f"x {group}", group, f"{group} 95 %"
            columns[x] = [n + beside for n in range(1, len(places) + 1) for _row in range(3)]
            columns[y] = [value for one in intervals for value in (one.value, math.nan, math.nan)]
            columns[bars] = [value for one in intervals for value in (one.low, one.high, math.nan)]
            isSolid, color = group == "synthetic", _COLOURS[group]
            lines.append(_Line(x, y, name, color, marker="Square" if isSolid else "Circle", style="None"))
            barsName = _("{name}, 95 %").format(name=name)
            lines.append(_Line(x, bars, barsName, color, style="Solid" if isSolid else "Dash", width=2))
        title = _("Fréchet distance ({features})").format(features=extractor)
        # Slicer writes no words below an axis: its title says which number is which plane.
        xTitle = ", ".join(f"{n}: {names[place]}" for n, place in enumerate(places, start=1))
        chart = self._fillChart(key, title, (xTitle, _("distance, with 95 % intervals")), columns, lines)
        chart.SetXAxisRangeAuto(False)
        chart.SetXAxisRange(0.5, len(places) + 0.5)

    def _fillCurve(self, curve: ReportCurve) -> None:
        """A line for each group, with thin ones around it between which 95 % of its volumes lie."""
        columns: dict[str, list[Any]] = {"x": list(curve.x)}
        lines = []
        others = iter(_OTHER_COLOURS * (1 + len(curve.lines)))
        marker = "Circle" if len(curve.x) == 1 else "None"
        for group, values in curve.lines.items():
            color = _COLOURS.get(group) or next(others)
            columns[group] = _positive(values) if curve.yLog else list(values)
            lines.append(_Line("x", group, group, color, marker, "Solid" if group == "real" else "Dash", 3))
            for side, bound in zip((_("low"), _("high")), curve.bands.get(group, ()), strict=False):
                column = f"{group} 95 % {side}"
                columns[column] = _positive(bound) if curve.yLog else list(bound)
                name = _("{group}, 95 % {side}").format(group=group, side=side)
                lines.append(_Line("x", column, name, color, style="Dot"))
        chart = self._fillChart(curve.key, curve.title, (curve.xTitle, curve.yTitle), columns, lines)
        chart.SetXAxisLogScale(curve.xLog and min(curve.x) > 0)
        chart.SetYAxisLogScale(curve.yLog)

    def _fillChart(
        self, key: str, title: str, axes: tuple[str, str], columns: Mapping[str, list[Any]], lines: Sequence[_Line]
    ) -> Any:
        table = self._findOrAdd("vtkMRMLTableNode", key, title)
        _fillColumns(table, columns)
        chart = self._findOrAdd("vtkMRMLPlotChartNode", key, title)
        wasModifying = chart.StartModify()
        chart.RemoveAllPlotSeriesNodeIDs()
        for line in lines:
            series = self._findOrAdd("vtkMRMLPlotSeriesNode", f"{key} {line.y}", line.name)
            series.SetName(line.name)
            series.SetAndObserveTableNodeID(table.GetID())
            series.SetLabelColumnName("plane" if "plane" in columns else "")
            series.SetMarkerSize(12)
            drawLine(series, line.x, line.y, line.color, marker=line.marker, style=line.style, width=line.width)
            chart.AddAndObservePlotSeriesNodeID(series.GetID())
        chart.SetTitle(title)
        chart.SetXAxisTitle(axes[0])
        chart.SetYAxisTitle(axes[1])
        chart.EndModify(wasModifying)
        return chart

    def _findOrAdd(self, className: str, role: str, name: str) -> Any:
        return self._nodes.find(className, role) or self._nodes.add(className, role, name)


def _columns(figures: Sequence[KeyFigure]) -> dict[str, list[Any]]:
    """The table: words for people first, names for programs last."""
    return {
        _("figure"): [figure.title for figure in figures],
        _("synthetic"): [_rounded(figure.synthetic.value) for figure in figures],
        _("synthetic 95 % low"): [_rounded(figure.synthetic.low) for figure in figures],
        _("synthetic 95 % high"): [_rounded(figure.synthetic.high) for figure in figures],
        _("real"): [_rounded(figure.floor.value) for figure in figures],
        _("real 95 % low"): [_rounded(figure.floor.low) for figure in figures],
        _("real 95 % high"): [_rounded(figure.floor.high) for figure in figures],
        _("unit"): [figure.unit for figure in figures],
        _("reads as"): [figure.standingText for figure in figures],
        _("section"): [figure.section for figure in figures],
        _("features"): [figure.extractor for figure in figures],
        _("meaning"): [figure.meaning for figure in figures],
        _("key"): [figure.key for figure in figures],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _positive(values: Sequence[float]) -> list[float]:
    """What is above zero; a single zero, and VTK would give up the logarithmic axis."""
    return [value if value > 0 else math.nan for value in values]


def _fillColumns(table: Any, columns: Mapping[str, Sequence[Any]]) -> None:
    """Replace the columns of a table node: texts or numbers, as their first value is."""
    with slicer.util.NodeModify(table):
        table.RemoveAllColumns()
        for name, values in columns.items():
            column = vtk.vtkStringArray() if values and isinstance(values[0], str) else vtk.vtkDoubleArray()
            column.SetName(name)
            for value in values:
                column.InsertNextValue(value)
            table.AddColumn(column)
