"""Real and synthetic volume in turn, in the same views: by a key, a button, or by themselves."""

from __future__ import annotations

from typing import Any

import qt
import slicer.util

from . import Layouts

#: The key: free in Slicer, whose slice views have b, f, g, r, t, v and brackets.
KEY = "K"


class Flicker:
    """Swaps the volumes of the overlay. Disabled at first: the key is Slicer's while there is no overlay."""

    def __init__(self) -> None:
        self._timer = qt.QTimer()
        self._timer.connect("timeout()", self.swap)
        self._shortcut: Any = None
        window = slicer.util.mainWindow()
        if window is not None:  # there is none in batch mode
            self._shortcut = qt.QShortcut(qt.QKeySequence(KEY), window)
            self._shortcut.enabled = False
            # A second panel of the module has the same key: then Qt asks them in turn.
            self._shortcut.connect("activated()", self.swap)
            self._shortcut.connect("activatedAmbiguously()", self.swap)

    @property
    def isRunning(self) -> bool:
        """Whether the volumes are swapped by themselves."""
        return self._timer.active

    def setEnabled(self, isEnabled: bool) -> None:
        """Let the key work, or not; what runs by itself is stopped then."""
        if self._shortcut is not None:
            self._shortcut.enabled = isEnabled
        if not isEnabled:
            self.stop()

    def swap(self) -> None:
        """Show the synthetic volume alone where the real one is seen, and the other way round."""
        if Layouts.isOverlayShown():
            Layouts.setOverlayOpacity(0.0 if Layouts.overlayOpacity() >= 0.5 else 1.0)

    def start(self, seconds: float) -> None:
        """Swap by itself from now on.

        :param seconds: how long each volume is seen.
        """
        self._timer.start(round(1000 * seconds))

    def stop(self) -> None:
        """Swap no longer by itself."""
        self._timer.stop()

    def cleanup(self) -> None:
        """Give the key back."""
        self.setEnabled(False)
        if self._shortcut is not None:
            self._shortcut.delete()
            self._shortcut = None
