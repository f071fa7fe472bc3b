"""Files that are written while the training goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from CTDiffusionLogic.training.batches import compute_alone


class Writer:
    """Writes in a thread of its own, one thing at a time, for a training that goes on meanwhile.

    A checkpoint of the standard preset has about 100 MB, and it counts as written when the disk has it. That depends
    on the disk, and for all that time the loop would stand still. What is written must be a copy: the training
    changes its weights in place.

    What went wrong is raised where the loop asks, by :meth:`poll`, :meth:`begin` or :meth:`finish`. Whoever leaves
    the context leaves nothing behind that is being written, also where the training fails.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer", initializer=compute_alone)
        self._under_way: tuple[Future[Path], Callable[[Path], None]] | None = None
        #: Seconds that the newest one took.
        self.seconds = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being written."""
        return self._under_way is None

    def begin(self, write: Callable[[], Path], then: Callable[[Path], None]) -> None:
        """Write, after what is being written.

        Args:
            write: Called in the thread; returns what it wrote.
            then: Called with it afterwards, by :meth:`poll` or :meth:`finish`, not in the thread.
        """
        self.finish()
        self._under_way = self._pool.submit(self._timed, write), then

    def poll(self) -> None:
        """Take note of what has been written by now; does not wait."""
        if self._under_way is not None and self._under_way[0].done():
            self.finish()

    def finish(self) -> None:
        """Wait for what is being written.

        Raises:
            OutputError: If it could not be written; and whatever else ``write`` raised.
        """
        if self._under_way is not None:
            (future, then), self._under_way = self._under_way, None
            then(future.result())

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)

    def _timed(self, write: Callable[[], Path]) -> Path:
        began = time.monotonic()
        try:
            return write()
        finally:
            self.seconds = time.monotonic() - began
