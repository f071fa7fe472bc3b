"""A lens over the overlay: Slicer's layer reveal cursor, which follows the mouse.

It is the class LayerReveal of the Compare Volumes module, which comes with Slicer (custom builds may leave it out):
a square around the mouse in which two quarters show the foreground and two the background.
"""

from __future__ import annotations

import importlib
from typing import Any

import slicer
from slicer.i18n import tr as _

from .CornerAnnotation import REVEALS_FOREGROUND_ATTRIBUTE
from .SlicerHost import nodesByClass

#: Edge in pixels.
SIZE = 300


def lensProblem() -> str:
    """Why there is no lens; "" if there is one."""
    if hasattr(slicer.modules, "comparevolumes"):
        return ""
    return _("This Slicer comes without the Compare Volumes module, whose cursor the lens is.")


class Lens:
    """Switches the cursor on and off, in the overlay."""

    def __init__(self) -> None:
        self._cursor: Any = None

    @property
    def isOn(self) -> bool:
        """Whether the cursor is there."""
        return self._cursor is not None

    def switch(self, isOn: bool) -> None:
        """Show or remove the lens.

        :raises ValueError: if there is none (see lensProblem).
        """
        if isOn == self.isOn:
            return
        if isOn:
            if problem := lensProblem():
                raise ValueError(problem)
            self._cursor = importlib.import_module("CompareVolumes").LayerReveal(width=SIZE, height=SIZE)
        else:
            self._cursor.cleanup()
            self._cursor = None
        # The cursor shows the foreground where the blending hides it, in every slice view: the label must stay.
        for composite in nodesByClass(slicer.mrmlScene, "vtkMRMLSliceCompositeNode"):
            composite.SetAttribute(REVEALS_FOREGROUND_ATTRIBUTE, "yes" if isOn else None)
