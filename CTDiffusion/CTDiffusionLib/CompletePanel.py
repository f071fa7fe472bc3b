"""The panel that completes real scans: what the user chose to logic, and what the worker tells to the user."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import vtk
from slicer.i18n import tr as _

from .CompleteData import planText, scanToComplete, shownSlice
from .CompleteLogic import CompleteLogic
from .CompleteRequest import EXTEND, FILL, THIN, CompleteRequest, modelSlices
from .GenerateDevices import DeviceFinder
from .GeneratePanel import GeneratePanel
from .ParameterPanel import fillComboBox
from .SceneLists import DELAY_MS, newTimer
from .VolumePanel import VolumePanel

if TYPE_CHECKING:
    from CTDiffusionLogic.completion import Completion

#: Widgets that belong to one thing to do.
_WIDGETS = {
    EXTEND: ("completeSlicesLabel", "completeExtendFrame"),
    FILL: ("completeFirstLabel", "completeFirstFrame", "completeLastLabel", "completeLastFrame"),
    THIN: ("completeBetweenLabel", "completeBetweenSpinBox"),
}


class CompletePanel(VolumePanel):
    """Connects the widgets of CompleteSection.ui with the logic and the parameter node.

    Model, seed, quality and device are those of the section Generate.

    :param ui: the widgets by name.
    :param logic: what completes.
    :param generate: the section Generate.
    :param devices: what knows the devices.
    """

    def __init__(self, ui: Any, logic: CompleteLogic, generate: GeneratePanel, devices: DeviceFinder) -> None:
        super().__init__(ui, "complete")
        self._logic, self._generate, self._devices = logic, generate, devices
        self._watched: Any = None  # the volume whose changes are followed
        self._timer = newTimer(DELAY_MS, self.onParametersModified)
        ui.completeHowComboBox.connect("currentIndexChanged(int)", self.onHowChosen)
        ui.completeFirstButton.connect("clicked(bool)", lambda *_: self.onUseShown("completionFirst"))
        ui.completeLastButton.connect("clicked(bool)", lambda *_: self.onUseShown("completionLast"))
        ui.completeButton.connect("clicked(bool)", self.onCompleteOrCancel)
        ui.completeCollapsibleButton.connect("contentsCollapsed(bool)", self.onParametersModified)
        devices.changed.connect(self.onParametersModified)

    def setParameters(self, parameters: Any) -> None:
        """Show and follow another parameter node. What runs goes on, unless its scene is closed.

        :param parameters: a CompleteParameters, or None while there is none (the scene is being closed).
        """
        self._timer.stop()
        self._watched = None  # as all else that is observed
        super().setParameters(parameters)

    def showParameters(self) -> None:
        """Show what can be done."""
        items = [
            (_("Continue it at one end"), EXTEND),
            (_("Make some of its slices anew"), FILL),
            (_("Put thin slices between its own"), THIN),
        ]
        fillComboBox(self._ui.completeHowComboBox, items, self._parameters.completionHow)
        self.onParametersModified()

    def cleanup(self) -> None:
        """Stop listening; what runs is ended by who owns the worker."""
        self.setParameters(None)
        self._devices.changed.disconnect(self.onParametersModified)
        self.follow(None)

    def onHowChosen(self, index: int) -> None:
        """Keep the choice in the scene."""
        if self._parameters is not None and index >= 0:
            self._parameters.completionHow = self._ui.completeHowComboBox.itemData(index)

    def onUseShown(self, name: str) -> None:
        """Take the slice that the Red view shows as one end of the range."""
        try:
            setattr(self._parameters, name, shownSlice(self._parameters.completionVolume))
        except ValueError as error:
            self.say(str(error))

    def onParametersModified(self, *_arguments: Any) -> None:
        """Show what will be made and whether it can be; the button's tool tip says what is missing."""
        parameters, ui = self._parameters, self._ui
        # To plan a completion takes libraries that are slow to load: nothing is planned that nobody sees.
        if parameters is None or ui.completeCollapsibleButton.collapsed:
            return
        for how, names in _WIDGETS.items():
            for name in names:
                getattr(ui, name).visible = how == parameters.completionHow
        volume = parameters.completionVolume
        self._watch(volume)
        for button in (ui.completeFirstButton, ui.completeLastButton):
            button.enabled = volume is not None
        request, planned, problem = self._plan()
        ui.completeInfoLabel.text, ui.completeEstimateLabel.text = problem, ""
        if request is not None and planned is not None:
            ui.completeInfoLabel.text = planText(request, planned)
            ui.completeEstimateLabel.text = self._estimateText(planned)
        self._showButton(problem or self._generate.problem)

    def onCompleteOrCancel(self, *_arguments: Any) -> None:
        """Start, or stop what runs."""
        if self.isRunning:
            self._run.cancel()
            self.say(_("Stopping..."))
            self.onParametersModified()
            return
        request, volume = self._plan()[0], self._parameters.completionVolume
        if request is not None:
            self.start(lambda: self._logic.start(volume, replace(request, generation=self._generate.newRequest())))

    def _plan(self) -> tuple[CompleteRequest | None, Completion | None, str]:
        """What is asked for, what it means for the scan, and why it cannot be done, if so."""
        from CTDiffusionLogic.errors import CTDiffusionError

        parameters = self._parameters
        if parameters.completionVolume is None:
            return None, None, _("Choose a scan of the scene.")
        first, last = parameters.completionFirst, parameters.completionLast
        if parameters.completionHow == FILL and first > last:
            return None, None, _("The first slice comes after the last one.")
        try:
            scan = scanToComplete(parameters.completionVolume).source
            if parameters.completionHow == EXTEND:
                request = CompleteRequest(extend=parameters.completionSlices, towards=parameters.completionTowards)
            elif parameters.completionHow == FILL:
                request = CompleteRequest(missing=tuple(range(first, last + 1)))
            else:
                request = CompleteRequest(spacingMm=scan.geometry.spacing[2] / (parameters.completionBetween + 1))
            return request, request.completion(scan), ""
        except CTDiffusionError as error:
            return None, None, str(error)

    def _estimateText(self, planned: Completion) -> str:
        generate = self._generate
        if generate.problem:
            return ""
        count, known = modelSlices(planned)
        asked = replace(
            generate.request().withOwnMatrix(), slices=count, spacingMm=planned.geometry.spacing[2], count=1
        )
        return _("With {model}, and the seed, quality and device chosen under Generate: {estimate}").format(
            model=generate.modelName, estimate=generate.estimateText(asked, shape=planned.shape, known=known)
        )

    def _watch(self, volume: Any) -> None:
        """Follow the changes of a volume: its place, size and name."""
        if volume is self._watched:
            return
        for one in (self._watched, volume):
            if one is None:
                continue
            change = self.addObserver if one is volume else self.removeObserver
            for event in (vtk.vtkCommand.ModifiedEvent, one.ImageDataModifiedEvent, one.TransformModifiedEvent):
                change(one, event, self._onVolumeChanged)
        self._watched = volume

    def _onVolumeChanged(self, *_arguments: Any) -> None:
        """Look soon: in the middle of a change a volume's parts may not fit together."""
        self._timer.start()

    def _showButton(self, problem: str) -> None:
        button = self._ui.completeButton
        if self.isRunning:
            button.text = _("Stopping...") if self._run.job.isStopping else _("Cancel")
            button.enabled = not self._run.job.isStopping
            button.toolTip = _("Stop. Nothing is kept then; the scan stays as it is.")
        else:
            button.text = _("Complete")
            button.enabled = not problem
            button.toolTip = problem or _("Make the slices into a new volume. Slicer can be used meanwhile.")
