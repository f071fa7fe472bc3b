"""Curves of a training in the scene: tables, plot series and plot charts, made anew whenever they are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer.util
from slicer.i18n import tr as _

from .PlotNodes import PlotNodes, drawLine
from .Provenance import PREFIX
from .SlicerHost import sceneOrDefault
from .TrainMetrics import FRECHET, HELD_OUT, LOSS, Columns, TrainMetrics

#: Attributes by which the nodes of a training are found again: its folder, and what a node is for.
RUN_ATTRIBUTE = PREFIX + "Training"
ROLE_ATTRIBUTE = PREFIX + "TrainingPlot"
#: The colour of a curve is that of the stage; both are seen well on Slicer's white charts.
_COLOURS = {"anatomy": (0.12, 0.47, 0.71), "detail": (0.84, 0.37, 0.0)}
_OTHER_COLOUR = (0.17, 0.5, 0.17)
#: Fréchet distances: the mean of the planes stands out, and the floor is what real scans of other patients reach.
_FRECHET_COLOURS = {
    "frechet": (0.0, 0.0, 0.0),
    "frechet_training": (0.0, 0.0, 0.0),
    "frechet_floor": (1.0, 0.5, 0.05),
    "frechet_axial": (0.12, 0.47, 0.71),
    "frechet_coronal": (0.17, 0.63, 0.17),
    "frechet_sagittal": (0.58, 0.4, 0.74),
}
_DASHED = ("frechet_training", "frechet_floor")


class TrainPlots:
    """The plots of one training. Holds no nodes: it looks for its own by their attributes.

    Example::

        plots = TrainPlots(run)
        plots.update(TrainMetrics.ofRun(run))
        plots.chart(LOSS)      # a vtkMRMLPlotChartNode

    :param run: folder of the training.
    :param scene: a vtkMRMLScene; by default the application's.
    """

    def __init__(self, run: Path, *, scene: Any = None) -> None:
        self._run = Path(run).absolute()
        self._nodes = PlotNodes(
            sceneOrDefault(scene),
            owner=(RUN_ATTRIBUTE, str(self._run)),
            roleAttribute=ROLE_ATTRIBUTE,
            folder=_("Training {run}").format(run=self._run.name),
        )

    def update(self, metrics: TrainMetrics) -> bool:
        """Make the nodes hold what ``metrics`` has; return whether a chart is new."""
        isNew = False
        for group in metrics.groups():
            kind = FRECHET if group == FRECHET else LOSS
            chart = self.chart(kind)
            if chart is None:
                chart, isNew = self._newChart(kind), True
            columns = metrics.columns(group)
            table = self._fillTable(group, columns)
            for name in columns:
                if name != "epoch":
                    series = self._find("vtkMRMLPlotSeriesNode", name) or self._newSeries(name, group)
                    series.SetAndObserveTableNodeID(table.GetID())
                    if not chart.HasPlotSeriesNodeID(series.GetID()):
                        chart.AddAndObservePlotSeriesNodeID(series.GetID())
        return isNew

    def chart(self, kind: str) -> Any:
        """Return the chart of LOSS or FRECHET, or None while there is none.

        :param kind: LOSS (held-out losses are in it, too) or FRECHET.
        """
        return self._find("vtkMRMLPlotChartNode", kind)

    def _fillTable(self, group: str, columns: Columns) -> Any:
        table = self._find("vtkMRMLTableNode", group)
        if table is None:
            table = self._add("vtkMRMLTableNode", group, "{run} {curves}", group)
        with slicer.util.NodeModify(table):
            slicer.util.updateTableFromArray(table, tuple(columns.values()), list(columns))
        return table

    def _newChart(self, kind: str) -> Any:
        chart = self._add("vtkMRMLPlotChartNode", kind, "{run} {curves}", kind)
        chart.SetTitle(_("{curves} of {run}").format(curves=_titleOf(kind), run=self._run.name))
        chart.SetXAxisTitle(_("epoch"))
        chart.SetYAxisTitle(_titleOf(kind))
        return chart

    def _newSeries(self, name: str, group: str) -> Any:
        series = self._add("vtkMRMLPlotSeriesNode", name, "{curves}", _curveName(name))
        isDashed = group == HELD_OUT or name in _DASHED
        colours = {**_COLOURS, **_FRECHET_COLOURS}
        drawLine(
            series,
            "epoch",
            name,
            colours.get(name.removesuffix("_held_out"), _OTHER_COLOUR),
            marker="None" if group == LOSS else "Circle",  # the others are sparse
            style="Dash" if isDashed else "Solid",
            width=3 if name == "frechet" else 2,
        )
        return series

    def _add(self, className: str, role: str, name: str, curves: str) -> Any:
        return self._nodes.add(className, role, name.format(run=self._run.name, curves=_titleOf(curves)))

    def _find(self, className: str, role: str) -> Any:
        return self._nodes.find(className, role)


def _titleOf(kind: str) -> str:
    return {LOSS: _("Loss"), HELD_OUT: _("Held-out loss"), FRECHET: _("Fréchet distance")}.get(kind, kind)


def _curveName(name: str) -> str:
    names = {
        "anatomy": _("anatomy"),
        "detail": _("detail"),
        "anatomy_held_out": _("anatomy, held out"),
        "detail_held_out": _("detail, held out"),
        "frechet": _("mean of the planes"),
        "frechet_training": _("mean, against training scans"),
        "frechet_floor": _("real scans of other patients"),
        "frechet_axial": _("axial"),
        "frechet_coronal": _("coronal"),
        "frechet_sagittal": _("sagittal"),
    }
    return names.get(name, name)
