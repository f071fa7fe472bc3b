"""Buttons that say what they do, or why they cannot do it now."""

from __future__ import annotations

from typing import Any


class ButtonStates:
    """Enables and disables widgets; the tool tip of an enabled one is that of its .ui file.

    :param widgets: as the .ui file made them.
    """

    def __init__(self, *widgets: Any) -> None:
        self._toolTips = {widget.name: widget.toolTip for widget in widgets}

    def enable(self, widget: Any, problem: str = "") -> None:
        """Enable ``widget`` if there is no problem; else show the problem as its tool tip."""
        widget.enabled = not problem
        widget.toolTip = problem or self._toolTips[widget.name]
