"""What the panels share that start a run: they follow it, show its progress, how it ended, and its log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
from slicer.i18n import tr as _

from .GenerateEstimate import durationText
from .JobSignal import Signal
from .ParameterPanel import ParameterPanel

#: What a progress bar has for the whole.
_WHOLE = 1000


class RunPanel(ParameterPanel):
    """Base of the panels that start a run.

    :param ui: the widgets by name (slicer.util.childWidgetVariables).
    :param prefix: what the names of the section's own widgets begin with: generateProgressBar, generateStatusLabel,
        generateLogText, generateLogCollapsibleButton, copyGenerateLogButton.
    """

    def __init__(self, ui: Any, prefix: str) -> None:
        super().__init__(ui)
        self._run: Any = None
        self._bar, self._status, self._logText, self._logGroup, copyButton = (
            getattr(ui, name)
            for name in (
                f"{prefix}ProgressBar",
                f"{prefix}StatusLabel",
                f"{prefix}LogText",
                f"{prefix}LogCollapsibleButton",
                f"copy{prefix.capitalize()}LogButton",
            )
        )
        copyButton.connect("clicked(bool)", self.onCopyLog)

    def slots(self, run: Any) -> Sequence[tuple[Signal, Any]]:
        """Return the signals of a run that the panel follows, each with what is called."""
        raise NotImplementedError

    @property
    def isRunning(self) -> bool:
        """Whether something runs."""
        return self._run is not None and self._run.isRunning

    def onCopyLog(self, *_arguments: Any) -> None:
        """Put the log on the clipboard."""
        slicer.app.clipboard().setText(self._logText.plainText)

    def follow(self, run: Any) -> None:
        """Listen to another run, or with None to none."""
        if self._run is not None:
            for signal, slot in self.slots(self._run):
                signal.disconnect(slot)
        self._run = run
        if run is not None:
            for signal, slot in self.slots(run):
                signal.connect(slot)

    def say(self, text: str) -> None:
        """Tell the user."""
        self._status.text = text

    def showWork(self, text: str) -> None:
        """A run has begun; how far it is, nobody knows yet."""
        self._bar.setRange(0, 0)
        self._bar.visible = True
        self.say(text)

    def showProgress(self, done: float, of: float | None) -> None:
        """Show how far a run is.

        :param of: the whole; None or 0 while it is unknown.
        """
        self._bar.setRange(0, _WHOLE if of else 0)
        if of:
            self._bar.value = int(_WHOLE * done / of)

    def showEnd(self, log: str) -> None:
        """A run has ended."""
        self._bar.visible = False
        self._logText.plainText = log
        self._logGroup.visible = True


def progressText(event: Any, *words: str) -> str:
    """Return ``words`` and how long it will still take, for people.

    :param event: an event Progress.
    """
    left = [_("about {time} left").format(time=durationText(event.eta_s))] if event.eta_s is not None else []
    return ", ".join(word for word in (*words, *left) if word)
