"""The panel that loads a synthetic volume and compares it with a real one: buttons to logic, nothing more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer.util
import vtk
from slicer.i18n import tr as _

from . import Layouts, Provenance, SyntheticFile


class ComparePanel(slicer.util.VTKObservationMixin):
    """Connects the widgets of CTDiffusion.ui with the module's logic and parameter node.

    :param ui: the widgets by name (slicer.util.childWidgetVariables).
    :param logic: what does the work: CTDiffusion.CTDiffusionLogic.
    """

    def __init__(self, ui: Any, logic: Any) -> None:
        super().__init__()
        self._ui = ui
        self._logic = logic
        self._parameters: Any = None
        self._guiTag: Any = None
        ui.loadButton.connect("clicked(bool)", self.onLoad)
        ui.sideBySideButton.connect("clicked(bool)", self.onSideBySide)
        ui.overlayButton.connect("clicked(bool)", self.onOverlay)
        ui.restoreButton.connect("clicked(bool)", self.onRestore)

    def setParameters(self, parameters: Any) -> None:
        """Show and follow another parameter node.

        :param parameters: a CompareParameters, or None while there is none (the scene is being closed).
        """
        self.removeObservers()
        if self._parameters is not None:
            self._parameters.disconnectGui(self._guiTag)
        self._parameters = parameters
        if parameters is not None:
            self._guiTag = parameters.connectGui(self._ui)
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self.onParametersModified()

    def onParametersModified(self, *_arguments: Any) -> None:
        """Enable what can be done now; tool tips say what is missing for the rest. The opacity acts at once."""
        parameters = self._parameters
        isFile = Path(parameters.volumeFile).is_file()
        self._enable(self._ui.loadButton, isFile, _("Choose a file that ctdiffusion generate has written."))
        real, synthetic = parameters.realVolume, parameters.syntheticVolume
        isSynthetic = synthetic is not None and SyntheticFile.recogniseFile(synthetic)
        canCompare = isSynthetic and real is not None and real is not synthetic
        for button in (self._ui.sideBySideButton, self._ui.overlayButton):
            self._enable(button, canCompare, _("Choose a real volume and a synthetic one (marked as synthetic)."))
        self._ui.provenanceLabel.text = self._provenanceText(synthetic)
        if Layouts.isOverlayShown():
            self._logic.setOverlayOpacity(parameters.overlayOpacity)

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

    def onRestore(self, *_arguments: Any) -> None:
        """Go back to the layout the user had."""
        self._logic.restoreLayout()

    @staticmethod
    def _enable(button: Any, isEnabled: bool, otherwise: str) -> None:
        button.enabled = isEnabled
        button.toolTip = "" if isEnabled else otherwise

    @staticmethod
    def _provenanceText(node: Any) -> str:
        if not Provenance.isSynthetic(node):
            return ""
        facts = Provenance.provenance(node)
        return ", ".join(f"{key}: {facts[key]}" for key in ("Model", "Seed", "Steps", "Version") if key in facts)
