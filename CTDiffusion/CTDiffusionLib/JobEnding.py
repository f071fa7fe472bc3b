"""How a job ended, in words for the user: what happened, and what to try."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from CTDiffusionLogic.cli.events import Failed, Finished

#: Exit codes of a crash (illegal instruction, bus error, access violation), Windows' as subprocess gives them.
CRASHES = (-4, -6, -7, -8, -10, -11, 0xC0000005, 0xC000001D, 0xC0000409)
KILLED = (-9, -15, 137, 143)


@dataclass(frozen=True)
class JobEnding:
    """The end of a job.

    :param kind: whether it did what was asked.
    :param message: what happened, one or two sentences.
    :param remedy: what to try; may be empty.
    :param code: of a failure: the library's (``bad-model``), or ``killed``, ``crashed``, ``no-start``, ``no-word``.
    :param finished: the worker's last event, if ``kind`` is "finished".
    """

    kind: Literal["finished", "cancelled", "failed"]
    message: str = ""
    remedy: str = ""
    code: str = ""
    finished: Finished | None = None

    @property
    def text(self) -> str:
        """Message and remedy."""
        return f"{self.message} {self.remedy}".strip()


def endingOf(
    last: Finished | Failed | None,
    exitCode: int | None,
    *,
    stopReason: str = "",
    startError: Exception | None = None,
    output: Sequence[str] = (),
) -> JobEnding:
    """Say how a job ended.

    :param last: the worker's last event, if it was one of these.
    :param exitCode: of the process; None if it did not start.
    :param stopReason: why we ended it, if we did.
    :param startError: what kept it from starting.
    :param output: what it said beside events, its tracebacks for example.
    """
    from CTDiffusionLogic.cli.events import Failed, Finished

    if isinstance(last, Finished):  # results are whole by then: what happens at the exit of Python does not count
        return JobEnding("finished", finished=last)
    if stopReason:
        return JobEnding("cancelled", stopReason, code="cancelled")
    if isinstance(last, Failed):
        kind: Literal["cancelled", "failed"] = "cancelled" if last.code == "cancelled" else "failed"
        return JobEnding(kind, last.message, inPanelWords(last.remedy), last.code)
    if startError is not None:
        return _notStarted(startError)
    return _diedWithoutAWord(exitCode, output)


def _notStarted(error: Exception) -> JobEnding:
    from CTDiffusionLogic.errors import CTDiffusionError

    if isinstance(error, CTDiffusionError):
        return JobEnding("failed", error.message, error.remedy, error.code)
    return JobEnding(
        "failed",
        _("The worker could not be started: {error}").format(error=error),
        _("Check that this Slicer is installed completely and that there is space in its temporary folder."),
        "no-start",
    )


def _diedWithoutAWord(exitCode: int | None, output: Sequence[str]) -> JobEnding:
    said = "\n".join(output).lower()
    if exitCode in KILLED or "out of memory" in said or "memoryerror" in said:
        return JobEnding(
            "failed",
            _("The worker was ended from outside, most likely by the system because memory ran out."),
            _("Close other programs, ask for fewer slices or a smaller model, or compute on another device."),
            "killed",
        )
    if exitCode in CRASHES:
        name = signal.Signals(-exitCode).name if exitCode < 0 else hex(exitCode)
        return JobEnding(
            "failed",
            _("The worker crashed ({name}).").format(name=name),
            _("Try the CPU as the device. If it crashes there too, PyTorch is damaged: install it again."),
            "crashed",
        )
    lines = [line for line in output if line.strip()]
    return JobEnding(
        "failed",
        _("The worker ended with code {code} and said no more than: {line}").format(
            code=exitCode, line=lines[-1].strip() if lines else _("nothing")
        ),
        _("See the log. If a package is missing, install it; if PyTorch does not load, install it again."),
        "no-word",
    )


def inPanelWords(text: str) -> str:
    """Replace commands and options in the library's advice by what they are called in the panel."""
    for pattern, words in {
        r"Install it with: python -m pip install [\w-]+, or see what `ctdiffusion doctor` says\.": _(
            "Install it in the section Installation."
        ),
        r"see what `ctdiffusion doctor` says": _("see the section Installation"),
        r"train a model with `ctdiffusion train`": _("train a model in the section Train"),
        r"Name a model file with --model\b": _("Choose a model file"),
        r"--device cpu\b": _("the CPU as the device"),
        r"--device auto\b": _("the automatic device"),
    }.items():
        text = re.sub(pattern, words, text)
    return text
