"""Grey levels: Slicer's CT presets, and one window/level for volumes that are compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .SlicerHost import volumesLogicOrDefault

#: Slicer's own display presets (window/level in HU: bone 1000/400, brain 100/50, abdomen 350/40, lung 1400/-500).
PRESETS = {"abdomen": "CT_ABDOMEN", "bone": "CT_BONE", "brain": "CT_BRAIN", "lung": "CT_LUNG"}
DEFAULT_PRESET = "abdomen"


def applyPreset(volumes: Iterable[Any], preset: str = DEFAULT_PRESET, *, volumesLogic: Any = None) -> None:
    """Show all ``volumes`` with the same CT preset.

    :param volumes: scalar volume nodes in a scene; display nodes are made where there are none.
    :param preset: a key of PRESETS.
    :param volumesLogic: see volumesLogicOrDefault.
    :raises ValueError: if there is no such preset, or the Volumes logic does not know it.
    """
    if preset not in PRESETS:
        raise ValueError(f"There is no CT display preset {preset!r}; there are {', '.join(sorted(PRESETS))}.")
    logic = volumesLogicOrDefault(volumesLogic)
    for volume in volumes:
        if not logic.ApplyVolumeDisplayPreset(displayNodeOf(volume), PRESETS[preset]):
            raise ValueError(f"Slicer's Volumes module does not know the display preset {PRESETS[preset]}.")


def setWindowLevel(volumes: Iterable[Any], window: float, level: float) -> None:
    """Show all ``volumes`` with the same grey levels.

    :param volumes: scalar volume nodes in a scene.
    :param window: width of the range shown, HU; positive.
    :param level: middle of the range shown, HU.
    :raises ValueError: if the window is not positive.
    """
    if not window > 0:
        raise ValueError(f"The window must be positive in HU, got {window}.")
    for volume in volumes:
        displayNode = displayNodeOf(volume)
        displayNode.SetAutoWindowLevel(False)
        displayNode.SetWindowLevel(window, level)


def matchWindowLevel(source: Any, targets: Iterable[Any]) -> None:
    """Give ``targets`` the window/level of ``source`` (scalar volume nodes)."""
    displayNode = displayNodeOf(source)
    setWindowLevel(targets, displayNode.GetWindow(), displayNode.GetLevel())


def displayNodeOf(volume: Any) -> Any:
    """Return the volume's scalar display node, made if there was none yet."""
    if volume.GetScalarVolumeDisplayNode() is None:
        volume.CreateDefaultDisplayNodes()
    return volume.GetScalarVolumeDisplayNode()
