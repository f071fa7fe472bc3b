"""Compare a synthetic volume with a real one: the same grey levels, in one of our layouts."""

from __future__ import annotations

from typing import Any

from . import Display, Layouts


def showSideBySide(
    synthetic: Any, real: Any, *, preset: str = Display.DEFAULT_PRESET, volumesLogic: Any = None
) -> None:
    """Show both volumes in two rows of linked views; see Layouts.showSideBySide.

    :param synthetic: volume node for the upper row.
    :param real: volume node for the lower row.
    :param preset: a key of Display.PRESETS, for both.
    :param volumesLogic: see SlicerHost.volumesLogicOrDefault.
    """
    Display.applyPreset([synthetic, real], preset, volumesLogic=volumesLogic)
    Layouts.showSideBySide(synthetic, real)


def showOverlay(
    synthetic: Any,
    real: Any,
    *,
    preset: str = Display.DEFAULT_PRESET,
    opacity: float = 0.5,
    volumesLogic: Any = None,
) -> None:
    """Show the synthetic volume over the real one; see Layouts.showOverlay.

    :param opacity: of the synthetic volume, 0 to 1; the other arguments are those of showSideBySide.
    """
    Display.applyPreset([synthetic, real], preset, volumesLogic=volumesLogic)
    Layouts.showOverlay(synthetic, real, opacity=opacity)
