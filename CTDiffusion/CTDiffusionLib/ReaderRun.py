"""A reader at work: the items left, the answer that is being given, and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .JobSignal import Signal
from .ReaderImages import ReaderImages
from .ReaderStage import ReaderStage


class ReaderRun:
    """Shows the open items of a reader, one after the other, and writes the answers.

    An answer is a choice and, after it, a confidence. The clock runs from the moment an item is shown until the
    choice; an item that is shown again after a stop begins anew.

    :param study: a reader_files.StudyFile.
    :param reader: code of the reader.
    :param images: prepared.
    :param stage: where they are shown.
    :param preset: key of Display.PRESETS that items are shown with.
    :param clock: seconds.
    """

    def __init__(
        self,
        study: Any,
        reader: str,
        images: ReaderImages,
        stage: ReaderStage,
        *,
        preset: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.study, self.reader, self.preset = study, reader, preset
        self.changed, self.ended = Signal(), Signal()
        self._images, self._stage, self._clock = images, stage, clock
        self._left = study.left(reader)
        self._choice: tuple[int, float, str] | None = None  # index, seconds, window
        self._shownAt = 0.0

    @property
    def isRunning(self) -> bool:
        """Whether an item is shown."""
        return self._stage.isOpen

    @property
    def total(self) -> int:
        """How many items there are for a reader."""
        return len(self.study.plan.items)

    @property
    def done(self) -> int:
        """How many of them are answered."""
        return self.total - len(self._left)

    @property
    def choice(self) -> int | None:
        """0 or 1 where the item's choice is made and its confidence is still to come, else None."""
        return self._choice[0] if self._choice is not None else None

    def start(self) -> None:
        """Show the first open item.

        :raises CTDiffusionLogic.errors.InputError: if its volumes cannot be read; the views are as before then.
        """
        self._stage.open()
        self._showNext()

    def setPreset(self, preset: str) -> None:
        """Show this and the following items with another preset."""
        self.preset = preset
        self._stage.applyPreset(preset)

    def choose(self, index: int) -> None:
        """Make the choice, or change it.

        :param index: 0 or 1, into the plan's choices.
        """
        self._choice = (index, self._clock() - self._shownAt, self._stage.window())
        self.changed.emit()

    def takeBack(self) -> None:
        """Look again: there is no choice yet."""
        self._choice = None
        self.changed.emit()

    def rate(self, confidence: int) -> None:
        """Give the confidence, which completes the answer: it is written, and the next item is shown.

        :param confidence: 1 to 5.
        :raises CTDiffusionLogic.errors.OutputError: if it cannot be written; the item is still open then.
        """
        if self._choice is None or not self.isRunning:
            return
        index, seconds, window = self._choice
        self.study.append(
            reader=self.reader,
            item=self._left[0].code,
            choice=self.study.plan.choices[index],
            confidence=confidence,
            seconds=seconds,
            window=window,
        )
        del self._left[0]
        self._choice = None
        if self._left:
            self._showNext()
        else:
            self.stop()

    def fit(self) -> None:
        """New views have got their sizes."""
        self._stage.fit()

    def stop(self) -> None:
        """Show nothing more and give the views back. Answers are on the disk already."""
        wasRunning = self.isRunning
        self._choice = None
        self._stage.close()
        if wasRunning:
            self.ended.emit()

    def _showNext(self) -> None:
        try:
            self._stage.show(self._images.of(self._left[0]), self.preset)
        except Exception:
            self.stop()
            raise
        self._shownAt = self._clock()
        self.changed.emit()
