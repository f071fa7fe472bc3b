"""What the panels share: they show and follow a parameter node, and fill lists without telling anybody."""

from __future__ import annotations

from typing import Any

import slicer.util
import vtk
from slicer.i18n import tr as _

from .GenerateDevices import DeviceFinder


class ParameterPanel(slicer.util.VTKObservationMixin):
    """Base of the panels.

    :param ui: the widgets by name (slicer.util.childWidgetVariables).
    """

    def __init__(self, ui: Any) -> None:
        super().__init__()
        self._ui = ui
        self._parameters: Any = None
        self._guiTag: Any = None

    def setParameters(self, parameters: Any) -> None:
        """Show and follow another parameter node. What runs goes on.

        :param parameters: the panel's own view of it, or None while there is none (the scene is being closed).
        """
        self.removeObservers()
        if self._parameters is not None:
            self._parameters.disconnectGui(self._guiTag)
        self._parameters = parameters
        if parameters is not None:
            self.fillInParameters(parameters)
            self._guiTag = parameters.connectGui(self._ui)
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self.showParameters()

    def fillInParameters(self, parameters: Any) -> None:
        """Give values to what was never chosen, before it is shown."""

    def showParameters(self) -> None:
        """Show what the widgets that are bound to parameters do not: lists, states, texts."""
        self.onParametersModified()

    def onParametersModified(self, *_arguments: Any) -> None:
        """Something else was chosen."""


def fillComboBox(comboBox: Any, items: list[tuple[str, str]], chosen: str) -> None:
    """List ``items`` (text, key) and select the chosen one, else the first, without telling anybody."""
    wasBlocked = comboBox.blockSignals(True)
    comboBox.clear()
    for text, key in items:
        comboBox.addItem(text, key)
    keys = [key for _text, key in items]
    comboBox.setCurrentIndex(keys.index(chosen) if chosen in keys else 0 if keys else -1)
    comboBox.blockSignals(wasBlocked)


def deviceItems(finder: DeviceFinder, chosen: str, *, isShort: bool) -> list[tuple[str, str]]:
    """Return the devices there are, and the chosen one, as (text, key) for a list.

    :param isShort: "CUDA 0" instead of the whole name, which then has to stand elsewhere.
    """
    best = finder.automatic()
    if best is not None:
        name = shortName(best.name) if isShort else best.description
    else:
        name = _("being looked for...") if finder.isAsking else finder.problem or _("not looked for yet")
    automatic = _("Automatic") if isShort and best is None else _("Automatic: {device}").format(device=name)
    texts = [shortName(d.name) if isShort else f"{d.name}: {d.description}" for d in finder.devices]
    items = [(automatic, "auto"), *zip(texts, [d.name for d in finder.devices], strict=True)]
    if chosen not in [key for _text, key in items]:
        items.append((_("{device}: not found here").format(device=chosen), chosen))
    return items


def shortName(device: str) -> str:
    """Return "CUDA 0" for "cuda:0"."""
    return device.upper().replace(":", " ")
