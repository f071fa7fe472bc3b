"""The sub-section Analysis of Compare: checkerboard, difference, histogram, line profile."""

from __future__ import annotations

from typing import Any

import slicer
import slicer.util
from slicer.i18n import tr as _

from . import ComparisonPlots, DerivedVolumes, Layouts
from .ButtonStates import ButtonStates


class CompareAnalysisPanel(slicer.util.VTKObservationMixin):
    """Connects the widgets of the sub-section with the module's logic; ComparePanel gives it the choices.

    :param ui: the widgets of Compare by name.
    :param logic: CTDiffusion.CTDiffusionLogic.
    """

    def __init__(self, ui: Any, logic: Any) -> None:
        super().__init__()
        self._ui, self._logic = ui, logic
        self._parameters: Any = None
        self._line: Any = None
        self._states = ButtonStates(
            ui.checkerboardButton, ui.differenceButton, ui.histogramButton, ui.drawLineButton, ui.profileButton
        )
        ui.checkerboardButton.connect("clicked(bool)", self.onCheckerboard)
        ui.differenceButton.connect("clicked(bool)", self.onDifference)
        ui.histogramButton.connect("clicked(bool)", self.onHistogram)
        ui.drawLineButton.connect("clicked(bool)", self.onDrawLine)
        ui.profileButton.connect("clicked(bool)", self.onProfile)

    def setParameters(self, parameters: Any) -> None:
        """Follow the choices of a CompareParameters; None: of none."""
        self._parameters = parameters
        self._followLine(None)

    def update(self, problem: str) -> None:
        """Enable what can be done with the chosen volumes; follow the chosen line.

        :param problem: why they cannot be compared at all; "" if they can.
        """
        parameters, ui = self._parameters, self._ui
        synthetic, real = parameters.syntheticVolume, parameters.realVolume
        self._states.enable(ui.checkerboardButton, problem or DerivedVolumes.checkerboardProblem(synthetic, real))
        self._states.enable(ui.differenceButton, problem or DerivedVolumes.differenceProblem(synthetic, real))
        empty = problem or DerivedVolumes.emptyProblem(synthetic, real)
        for button in (ui.histogramButton, ui.drawLineButton, ui.profileButton):
            self._states.enable(button, empty)
        self._followLine(parameters.profileLine)

    def onCheckerboard(self, *_arguments: Any) -> None:
        """Show the volumes in turn, square by square."""
        with slicer.util.tryWithErrorDisplay(_("The checkerboard could not be made."), waitCursor=True):
            parameters = self._parameters
            self._logic.showCheckerboard(
                parameters.syntheticVolume,
                parameters.realVolume,
                preset=parameters.preset,
                squareMm=parameters.squareMm,
            )

    def onDifference(self, *_arguments: Any) -> None:
        """Show synthetic minus real."""
        with slicer.util.tryWithErrorDisplay(_("The difference could not be made."), waitCursor=True):
            parameters = self._parameters
            self._logic.showDifference(
                parameters.syntheticVolume, parameters.realVolume, rangeHU=parameters.differenceHU
            )

    def onHistogram(self, *_arguments: Any) -> None:
        """Plot how often each HU occurs."""
        with slicer.util.tryWithErrorDisplay(_("The histogram could not be made."), waitCursor=True):
            parameters = self._parameters
            self._logic.showHistogram(parameters.syntheticVolume, parameters.realVolume)

    def onDrawLine(self, *_arguments: Any) -> None:
        """Let the user draw a new line in any slice view; its profile is plotted as soon as it is there."""
        with slicer.util.tryWithErrorDisplay(_("The line could not be drawn.")):
            parameters = self._parameters
            ComparisonPlots.showPlotViews(parameters.syntheticVolume, parameters.realVolume)
            line = ComparisonPlots.newLine(parameters.realVolume.GetScene())
            parameters.profileLine = line
            markups = slicer.modules.markups.logic()
            markups.SetActiveList(line)
            markups.StartPlaceMode(False)

    def onProfile(self, *_arguments: Any) -> None:
        """Plot the HU along the chosen line, or along one through the centre."""
        with slicer.util.tryWithErrorDisplay(_("The line profile could not be made."), waitCursor=True):
            parameters = self._parameters
            line = parameters.profileLine or ComparisonPlots.defaultLine(parameters.realVolume)
            self._logic.showProfile(parameters.syntheticVolume, parameters.realVolume, line)
            parameters.profileLine = line  # the user sees which it is, and may move it

    def onLineModified(self, *_arguments: Any) -> None:
        """The line was drawn or moved: its profile follows while plots are shown."""
        parameters = self._parameters
        if parameters is None or not self._ui.profileButton.enabled or not Layouts.isShown(Layouts.PLOT):
            return
        synthetic, real, line = parameters.syntheticVolume, parameters.realVolume, parameters.profileLine
        if ComparisonPlots.hasLength(line):
            chart = ComparisonPlots.updateProfile(synthetic, real, line)
            Layouts.plotViewNode(real.GetScene()).SetPlotChartNodeID(chart.GetID())

    def _followLine(self, line: Any) -> None:
        if line is self._line:
            return
        self.removeObservers()
        self._line = line
        if line is not None:
            markups = slicer.vtkMRMLMarkupsNode
            for event in (markups.PointModifiedEvent, markups.PointPositionDefinedEvent):
                self.addObserver(line, event, self.onLineModified)
