"""The panel that loads a synthetic volume and shows it with a real one: buttons to logic, nothing more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer.util
import vtk
from slicer.i18n import tr as _

from . import Display, Layouts, Lens, Provenance, SyntheticFile
from .ButtonStates import ButtonStates
from .CompareAnalysisPanel import CompareAnalysisPanel
from .DerivedVolumes import isDerived
from .Flicker import Flicker
from .ParameterPanel import ParameterPanel


class ComparePanel(ParameterPanel):
    """Connects the widgets of CTDiffusion.ui with the module's logic and parameter node.

    :param ui: the widgets by name (slicer.util.childWidgetVariables).
    :param logic: what does the work: CTDiffusion.CTDiffusionLogic.
    """

    def __init__(self, ui: Any, logic: Any) -> None:
        super().__init__(ui)
        self._logic = logic
        self._shown: tuple[float, str] | None = None  # opacity and preset that the views have from here
        self._flicker, self._lens = Flicker(), Lens.Lens()
        self._isOverlay = False
        self._analysis = CompareAnalysisPanel(ui, logic)
        self._viewButtons = (
            ui.sideBySideButton,
            ui.overlayButton,
            ui.swapButton,
            ui.flickerCheckBox,
            ui.lensCheckBox,
            ui.renderingButton,
        )
        self._states = ButtonStates(ui.loadButton, *self._viewButtons)
        ui.volumeFileEdit.connect("currentPathChanged(QString)", self.onVolumeFile)
        ui.loadButton.connect("clicked(bool)", self.onLoad)
        ui.sideBySideButton.connect("clicked(bool)", self.onSideBySide)
        ui.overlayButton.connect("clicked(bool)", self.onOverlay)
        ui.swapButton.connect("clicked(bool)", self.onSwap)
        ui.flickerCheckBox.connect("toggled(bool)", self.onFlicker)
        ui.lensCheckBox.connect("toggled(bool)", self.onLens)
        ui.renderingButton.connect("clicked(bool)", self.onRendering)
        ui.restoreButton.connect("clicked(bool)", self.onRestore)

    def setParameters(self, parameters: Any) -> None:
        """Show and follow another parameter node.

        :param parameters: a CompareParameters, or None while there is none (the scene is being closed).
        """
        self._endOverlayTools()
        self._shown, self._isOverlay = None, False
        self._analysis.setParameters(parameters)
        super().setParameters(parameters)

    def fillInParameters(self, parameters: Any) -> None:
        """Repair what a scene of an earlier version has for "no file"."""
        if parameters.volumeFile == ".":
            parameters.volumeFile = ""

    def showParameters(self) -> None:
        """Follow the layout too."""
        self.addObserver(Layouts.layoutNode(), vtk.vtkCommand.ModifiedEvent, self.onLayoutModified)
        self.onParametersModified()
        self.onLayoutModified()

    def cleanup(self) -> None:
        """Follow nothing, and give the key of the flicker back."""
        self.setParameters(None)
        self._flicker.cleanup()

    def onParametersModified(self, *_arguments: Any) -> None:
        """Enable what can be done now; tool tips say what is missing for the rest. Opacity and preset act at once."""
        parameters, ui = self._parameters, self._ui
        if ui.volumeFileEdit.currentPath != parameters.volumeFile:  # else the cursor would jump while one types
            ui.volumeFileEdit.currentPath = parameters.volumeFile
        isFile = bool(parameters.volumeFile) and Path(parameters.volumeFile).is_file()
        self._states.enable(ui.loadButton, "" if isFile else _("Choose a file that ctdiffusion generate has written."))
        problem = self._problem()
        for button in self._viewButtons:
            self._states.enable(button, problem)
        if not problem:
            self._states.enable(ui.lensCheckBox, Lens.lensProblem())
            self._followChoices()
        ui.provenanceLabel.text = self._provenanceText(parameters.syntheticVolume)
        self._analysis.update(problem)

    def onLayoutModified(self, *_arguments: Any) -> None:
        """The key works, and flicker and lens go on, while the overlay is shown."""
        wasOverlay, self._isOverlay = self._isOverlay, Layouts.isOverlayShown()
        if self._isOverlay:
            self._flicker.setEnabled(True)
        elif wasOverlay:  # not before: a layout node is modified in several ways until it shows the overlay
            self._endOverlayTools()

    def onVolumeFile(self, path: str) -> None:
        """Keep the choice in the scene."""
        if self._parameters is not None:
            self._parameters.volumeFile = path

    def onLoad(self, *_arguments: Any) -> None:
        """Load the chosen file beside the chosen real volume and select it."""
        with slicer.util.tryWithErrorDisplay(_("The synthetic volume could not be loaded."), waitCursor=True):
            parameters = self._parameters
            node = self._logic.loadSyntheticVolume(parameters.volumeFile, reference=parameters.realVolume)
            parameters.syntheticVolume = node

    def onSideBySide(self, *_arguments: Any) -> None:
        """Show both volumes in two rows of views."""
        with slicer.util.tryWithErrorDisplay(_("The volumes could not be shown."), waitCursor=True):
            parameters = self._parameters
            self._logic.showSideBySide(parameters.syntheticVolume, parameters.realVolume, preset=parameters.preset)

    def onOverlay(self, *_arguments: Any) -> None:
        """Show the synthetic volume over the real one."""
        with slicer.util.tryWithErrorDisplay(_("The volumes could not be shown."), waitCursor=True):
            parameters = self._parameters
            self._logic.showOverlay(
                parameters.syntheticVolume,
                parameters.realVolume,
                preset=parameters.preset,
                opacity=parameters.overlayOpacity,
            )

    def onSwap(self, *_arguments: Any) -> None:
        """Show the other volume of the overlay alone."""
        self._showOverlayFirst()
        self._flicker.swap()

    def onFlicker(self, isOn: bool) -> None:
        """Swap the volumes by themselves, or no longer."""
        if isOn:
            self._showOverlayFirst()
            self._flicker.start(self._parameters.flickerSeconds)
        elif self._flicker.isRunning:
            self._flicker.stop()
            self._restoreOpacity()

    def onLens(self, isOn: bool) -> None:
        """Show the synthetic volume under the mouse, and the real one elsewhere; or no longer."""
        if isOn:
            self._showOverlayFirst()
            Layouts.setOverlayOpacity(0.0)
        with slicer.util.tryWithErrorDisplay(_("The lens could not be shown.")):
            self._lens.switch(isOn)
        if isOn and not self._lens.isOn:  # it failed, and the user has read why
            self._ui.lensCheckBox.checked = False
        if not isOn and Layouts.isOverlayShown():
            self._restoreOpacity()

    def onRendering(self, *_arguments: Any) -> None:
        """Show both volumes in 3D."""
        with slicer.util.tryWithErrorDisplay(_("The volumes could not be shown in 3D."), waitCursor=True):
            parameters = self._parameters
            self._logic.showRendering(
                parameters.syntheticVolume, parameters.realVolume, preset=parameters.renderingPreset
            )

    def onRestore(self, *_arguments: Any) -> None:
        """Go back to the layout the user had."""
        self._logic.restoreLayout()

    def _problem(self) -> str:
        """Why the chosen volumes cannot be compared; "" if they can."""
        real, synthetic = self._parameters.realVolume, self._parameters.syntheticVolume
        if isDerived(synthetic) or isDerived(real):
            return _("Choose the volumes themselves, not what was computed from them.")
        isSynthetic = synthetic is not None and SyntheticFile.recogniseFile(synthetic)
        if not isSynthetic or real is None or real is synthetic:
            return _("Choose a real volume and a synthetic one (marked as synthetic).")
        return ""

    def _followChoices(self) -> None:
        """Bring opacity, preset and pace to what is shown, where they were changed."""
        parameters, before = self._parameters, self._shown
        self._shown = (parameters.overlayOpacity, parameters.preset)
        if before is None:
            return
        if before[0] != parameters.overlayOpacity and Layouts.isOverlayShown():
            self._restoreOpacity()
        if before[1] != parameters.preset and Layouts.isOwn(Layouts.layoutNode().GetViewArrangement()):
            Display.applyPreset([parameters.syntheticVolume, parameters.realVolume], parameters.preset)
        if self._flicker.isRunning:
            self._flicker.start(parameters.flickerSeconds)

    def _showOverlayFirst(self) -> None:
        if not Layouts.isOverlayShown():
            self.onOverlay()

    def _restoreOpacity(self) -> None:
        if self._parameters is not None:
            Layouts.setOverlayOpacity(self._parameters.overlayOpacity)

    def _endOverlayTools(self) -> None:
        """Flicker and lens off; what they did to the overlay is undone."""
        self._ui.flickerCheckBox.checked = False
        self._ui.lensCheckBox.checked = False
        self._flicker.setEnabled(False)

    @staticmethod
    def _provenanceText(node: Any) -> str:
        if not Provenance.isSynthetic(node):
            return ""
        facts = Provenance.provenance(node)
        return ", ".join(
            f"{key}: {facts[key]}" for key in ("Model", "FineModel", "Seed", "Steps", "Version") if key in facts
        )
