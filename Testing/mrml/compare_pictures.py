"""Pictures of what slice views do not show: 3D views of Slicer, and charts drawn from their MRML nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from numpy.typing import NDArray
from rendering import _to_array


def open_3d_view(app: Any, tag: str, *, size: tuple[int, int] = (240, 240)) -> Any:
    """Open one of Slicer's 3D views off screen; it finds or makes the view node of this singleton tag."""
    from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition, ViewProps, ViewType
    from trame_slicer.views.render_scheduler import NoScheduleRendering

    app.view_manager.register_factory(DirectViewFactory(do_render_offscreen=True))
    view = app.view_manager.create_view(ViewLayoutDefinition(tag, ViewType.THREE_D_VIEW, ViewProps()))
    view.set_scheduled_render(NoScheduleRendering())
    view.render_window().SetMultiSamples(0)
    view.render_window().SetSize(*size)
    view.update_size(*size)
    return view


def view_picture(view: Any) -> NDArray[np.uint8]:
    """What a 3D view shows: (height, width, 3), first row at the top."""
    view.render()
    return _grab(view.render_window())


def chart_picture(chart: Any, *, size: tuple[int, int] = (640, 400)) -> NDArray[np.uint8]:
    """Draw a vtkMRMLPlotChartNode with VTK's charts, as Slicer's plot view (a Qt widget) does.

    Line plots with x values, their colours, line styles, names and axis titles; other kinds are not drawn.
    """
    context = vtk.vtkContextView()
    window = context.GetRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetSize(*size)
    context.GetRenderer().SetBackground(1, 1, 1)
    xy = vtk.vtkChartXY()
    context.GetScene().AddItem(xy)
    xy.SetTitle(chart.GetTitle())
    xy.SetShowLegend(True)
    for axis, title in ((vtk.vtkAxis.BOTTOM, chart.GetXAxisTitle()), (vtk.vtkAxis.LEFT, chart.GetYAxisTitle())):
        xy.GetAxis(axis).SetTitle(title)
    for index in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(index)
        assert series.GetPlotType() == series.PlotTypeScatter
        plot = xy.AddPlot(vtk.vtkChart.LINE)
        plot.SetInputData(series.GetTableNode().GetTable(), series.GetXColumnName(), series.GetYColumnName())
        plot.SetLabel(series.GetName())
        plot.SetColorF(*series.GetColor())
        plot.SetWidth(series.GetLineWidth())
        dashed = series.GetLineStyle() == series.LineStyleDash
        plot.GetPen().SetLineType(vtk.vtkPen.DASH_LINE if dashed else vtk.vtkPen.SOLID_LINE)
    window.Render()
    return _grab(window)


def _grab(window: Any) -> NDArray[np.uint8]:
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.ReadFrontBufferOff()
    grabber.Update()
    return _to_array(grabber.GetOutput())
