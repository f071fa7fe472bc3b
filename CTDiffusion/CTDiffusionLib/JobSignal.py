"""Signals without Qt: one object tells others what happened, under slicer-core as well as in Slicer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any


class Signal:
    """Calls every connected function, in the order of connection.

    A function that fails is reported in the application's log and does not keep the others, or the job that
    tells them, from going on.

    Example::

        job.ended.connect(lambda ending: print(ending.message))
    """

    def __init__(self) -> None:
        self._slots: list[Callable[..., Any]] = []

    def connect(self, slot: Callable[..., Any]) -> None:
        """Call ``slot`` from now on."""
        self._slots.append(slot)

    def disconnect(self, slot: Callable[..., Any]) -> None:
        """Call ``slot`` no longer; nothing happens if it was not connected."""
        if slot in self._slots:
            self._slots.remove(slot)

    def emit(self, *arguments: Any) -> None:
        """Call all that are connected now."""
        for slot in tuple(self._slots):
            try:
                slot(*arguments)
            except Exception:
                logging.exception("CTDiffusion: %r failed.", slot)
