"""Compare a synthetic volume with a real one: the same grey levels, in one of our layouts."""

from __future__ import annotations

from typing import Any

from . import ComparisonPlots, DerivedVolumes, Display, Layouts
from .VolumeRendering import showRendering

__all__ = [
    "showCheckerboard",
    "showDifference",
    "showHistogram",
    "showOverlay",
    "showProfile",
    "showRendering",
    "showSideBySide",
]

showHistogram = ComparisonPlots.showHistogram
showProfile = ComparisonPlots.showProfile


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


def showCheckerboard(
    synthetic: Any,
    real: Any,
    *,
    preset: str = Display.DEFAULT_PRESET,
    squareMm: float = 40.0,
    volumesLogic: Any = None,
) -> Any:
    """Show both volumes in turn, square by square; see DerivedVolumes.checkerboard, whose volume is returned.

    :param squareMm: edge of the squares; the other arguments are those of showSideBySide.
    """
    Display.applyPreset([synthetic, real], preset, volumesLogic=volumesLogic)
    node = DerivedVolumes.checkerboard(synthetic, real, squareMm=squareMm, volumesLogic=volumesLogic)
    Layouts.showDerived(node)
    return node


def showDifference(synthetic: Any, real: Any, *, rangeHU: float = 200.0, volumesLogic: Any = None) -> Any:
    """Show synthetic minus real in HU; see DerivedVolumes.difference, whose volume is returned.

    :param rangeHU: the difference of the strongest colours.
    :param volumesLogic: see SlicerHost.volumesLogicOrDefault.
    """
    node = DerivedVolumes.difference(synthetic, real, rangeHU=rangeHU, volumesLogic=volumesLogic)
    Layouts.showDerived(node)
    return node
