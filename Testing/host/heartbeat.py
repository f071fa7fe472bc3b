"""How long the GUI thread was blocked."""

from __future__ import annotations

import time

from PySide6 import QtCore


class Heartbeat:
    """Measures how long the GUI thread was blocked: the longest time between two beats of a timer.

    Attributes:
        longest: Seconds; 0 until the second beat.
        beats: How often the timer has come round.
    """

    INTERVAL_MS = 5

    def __init__(self) -> None:
        self.longest = 0.0
        self.beats = 0
        self._last: float | None = None
        self._timer = QtCore.QTimer()
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)

    def _beat(self) -> None:
        now = time.monotonic()
        if self._last is not None:
            self.longest = max(self.longest, now - self._last)
        self._last = now
        self.beats += 1
