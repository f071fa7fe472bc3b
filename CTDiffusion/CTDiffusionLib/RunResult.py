"""What a script gets of a run: its progress, its result once it has ended, or the run itself at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .JobEnding import JobEnding
from .Worker import Worker

#: Given units done, units in all, seconds left (about; None while unknown) and the name of the phase.
OnProgress = Callable[[int, int | None, float | None, str], Any]


def resultOf(
    worker: Worker,
    run: Any,
    result: Callable[[], Any],
    *,
    waitForCompletion: bool,
    onProgress: OnProgress | None = None,
) -> Any:
    """Wait for a run, while Slicer goes on handling its events, and return its result; or return the run at once.

    :param worker: runs it.
    :param run: what has ``job``, ``isRunning``, ``ending``, and for ``onProgress`` the signal ``progressed``.
    :param result: asked once it has ended well.
    :param waitForCompletion: whether to wait.
    :param onProgress: told of progress, in the main thread.
    :raises CTDiffusionLogic.errors.CTDiffusionError: see raiseUnlessFinished.
    """
    if onProgress is not None:
        tell: OnProgress = onProgress
        run.progressed.connect(lambda event: tell(event.done, event.of, event.eta_s, event.phase))
    if not waitForCompletion:
        return run
    while run.isRunning and run.job.isRunning:  # a run may have one job after the other
        worker.waitFor(run.job)
    raiseUnlessFinished(run.ending)
    return result()


def raiseUnlessFinished(ending: JobEnding | None) -> None:
    """Raise what a script expects if a job did not end well.

    :raises CTDiffusionLogic.errors.CTDiffusionError: with the same words as the panel has (Cancelled, if it was).
    """
    from CTDiffusionLogic.errors import Cancelled, CTDiffusionError

    if ending is None or ending.kind == "finished":
        return
    if ending.kind == "cancelled":
        raise Cancelled(ending.message)
    raise CTDiffusionError(ending.message, remedy=ending.remedy)
