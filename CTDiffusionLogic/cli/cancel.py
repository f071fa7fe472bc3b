"""Stop cleanly: on Ctrl-C, on a request to terminate, or when a file appears."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from CTDiffusionLogic.errors import Cancelled
from CTDiffusionLogic.processes import this_process

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
#: A launcher of several processes passes on the signal that they have got from the terminal already.
_SAME_SIGNAL_S = 5.0


class CancelSwitch:
    """Asked between steps, says whether to stop; a second signal stops at once (KeyboardInterrupt).

    Of several processes only the first one answers the user, and a second signal counts after some seconds only.

    Args:
        sentinel: A file whose appearance means "stop": works on every system and for a parent process
            that cannot send signals (Slicer on Windows).

    Example:
        with CancelSwitch() as is_cancelled:
            generate(model, request, is_cancelled=is_cancelled)
    """

    def __init__(self, sentinel: Path | None = None) -> None:
        self.sentinel = sentinel
        self._asked = False
        self._asked_at = 0.0
        self._processes = this_process()
        self._previous: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Whether the user has asked to stop."""
        if not self._asked and self.sentinel is not None and self.sentinel.exists():
            self._asked = True
        return self._asked

    def check(self) -> None:
        """Raise :class:`Cancelled` if the user has asked to stop."""
        if self():
            raise Cancelled()

    def __enter__(self) -> CancelSwitch:
        for number in _SIGNALS:
            with suppress(ValueError):  # not in the main thread: then only the sentinel works
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked:
            if self._processes.are_several and time.monotonic() - self._asked_at < _SAME_SIGNAL_S:
                return
            raise KeyboardInterrupt
        self._asked, self._asked_at = True, time.monotonic()
        if not self._processes.is_first:
            return
        with suppress(OSError):  # os.write: the only way to print that is safe inside a signal handler
            os.write(2, b"\nStopping after this step; once more stops at once.\n")
