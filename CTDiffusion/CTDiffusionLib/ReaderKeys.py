"""The keys of a reader study: 1 to 5 and Backspace, only while it is going on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import qt
import slicer.util

#: Confidences; the first two are the choices, too.
_NUMBERS = (1, 2, 3, 4, 5)


class ReaderKeys:
    """Shortcuts of the main window; Slicer's own keys are others.

    :param onNumber: called with 1 to 5.
    :param onBack: called for Backspace.
    """

    def __init__(self, onNumber: Callable[[int], None], onBack: Callable[[], None]) -> None:
        self._onNumber, self._onBack = onNumber, onBack
        self._shortcuts: list[Any] = []

    def setEnabled(self, isEnabled: bool) -> None:
        """Take the keys, or give them back."""
        window = slicer.util.mainWindow()
        if isEnabled and not self._shortcuts and window is not None:  # there is none in batch mode
            for number in _NUMBERS:
                self._add(window, str(number), partial(self._onNumber, number))
            self._add(window, "Backspace", self._onBack)
        elif not isEnabled:
            for shortcut in self._shortcuts:
                shortcut.enabled = False
                shortcut.delete()
            self._shortcuts = []

    def _add(self, window: Any, key: str, callback: Callable[[], None]) -> None:
        shortcut = qt.QShortcut(qt.QKeySequence(key), window)
        shortcut.autoRepeat = False
        shortcut.connect("activated()", callback)
        shortcut.connect("activatedAmbiguously()", callback)
        self._shortcuts.append(shortcut)
