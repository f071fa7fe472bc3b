"""Where a command's events go: JSON lines for programs, or text for people."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO

from CTDiffusionLogic.cli.events import Event, Failed, Finished, Metric, Progress, Warned, to_line
from CTDiffusionLogic.errors import Cancelled

#: Set to 1 to see tracebacks and the libraries' own warnings.
DEBUG_VARIABLE = "CTDIFFUSION_DEBUG"


class Console(Protocol):
    """What a command needs to tell what it does."""

    def emit(self, event: Event) -> None:
        """Pass on one event."""

    def say(self, text: str) -> None:
        """Print a result meant for people only; programs find it in the ``finished`` event."""


class JsonConsole:
    """One JSON object a line; raises Cancelled when nobody reads any more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def emit(self, event: Event) -> None:
        """Write and flush one line."""
        try:
            self._stream.write(to_line(event) + "\n")
            self._stream.flush()
        except (BrokenPipeError, ConnectionError, ValueError) as error:
            raise Cancelled("Stopped: the program that read the events has gone away.") from error

    def say(self, text: str) -> None:
        """Nothing: text is for people."""


class TextConsole:
    """Progress and warnings on stderr, results on stdout.

    On a terminal the progress line is overwritten; in a log file a line is written every few seconds.
    """

    LOG_INTERVAL_S = 5.0

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out, self._err = out, err
        self._tty = err.isatty()
        self._line_open = False
        self._last_time, self._last_phase = -1e9, ""

    def emit(self, event: Event) -> None:
        """Show the event if it means something to a person."""
        match event:
            case Progress():
                self._show_progress(event)
            case Metric(name=name, values=values):
                self._print(f"{name}: {_joined(values)}")
            case Warned(message=message):
                self._print(f"warning: {message}")
            case Failed(message=message, remedy=remedy, exit_code=exit_code):
                kind = "cancelled" if exit_code == 130 else "error"
                self._print(" ".join(f"ctdiffusion: {kind}: {message} {remedy}".split()))
            case Finished(outputs=outputs, details=details):
                if "seconds" in details:
                    self._print(f"Done in {_duration(details['seconds'])}.")
                for output in outputs:
                    self.say(output)

    def say(self, text: str) -> None:
        """Print ``text`` on stdout."""
        self._close_line()
        with suppress(BrokenPipeError):
            print(text, file=self._out, flush=True)

    def _show_progress(self, event: Progress) -> None:
        now = time.monotonic()
        last = event.of is not None and event.done >= event.of
        if event.phase == self._last_phase and not last:
            interval = 0.1 if self._tty else self.LOG_INTERVAL_S
            if now - self._last_time < interval:
                return
        self._last_time, self._last_phase = now, event.phase
        left = "" if event.eta_s is None or last else f", {_duration(event.eta_s)} left"
        share = "" if event.of is None else f" of {event.of} ({100 * event.done // max(event.of, 1)} %)"
        text = f"{event.phase or 'working'}: {event.done}{share}{left}"
        if not self._tty:
            self._print(text)
            return
        self._err.write(f"\r\x1b[2K{text}")
        self._err.flush()
        self._line_open = True

    def _print(self, text: str) -> None:
        self._close_line()
        print(text, file=self._err, flush=True)

    def _close_line(self) -> None:
        if self._line_open:
            self._err.write("\n")
            self._line_open = False


class SilentConsole:
    """For the second and further of several processes: the first one tells what all do; faults are one's own."""

    def __init__(self, err: TextIO) -> None:
        self._err = err

    def emit(self, event: Event) -> None:
        """Print a warning or a failure; nothing else."""
        match event:
            case Warned(message=message):
                text = f"warning: {message}"
            case Failed(message=message, remedy=remedy):
                text = f"{message} {remedy}".rstrip()
            case _:
                return
        print(f"ctdiffusion: process {os.environ.get('RANK', '?')}: {text}", file=self._err, flush=True)

    def say(self, text: str) -> None:
        """Nothing: the first process says it."""


@contextmanager
def open_console(*, json: bool, silent: bool = False) -> Iterator[Console]:
    """Yield the console; while it is open, the library's log warnings become warning events.

    With ``json``, whatever libraries print to stdout, even from C++, goes to stderr, so that stdout
    carries events and nothing else. ``silent`` is for all but the first of several processes.
    """
    with _events_only_stdout() if json else _as_it_is() as out:
        console: Console = JsonConsole(out) if json else TextConsole(out, sys.stderr)
        if silent:
            console = SilentConsole(sys.stderr)
        handler = _WarningHandler(console)
        logger = logging.getLogger("CTDiffusionLogic")
        logger.addHandler(handler)
        try:
            with warnings.catch_warnings():
                if not debugging():  # deprecations inside libraries are not the user's business
                    warnings.simplefilter("ignore")
                yield console
        finally:
            logger.removeHandler(handler)


def debugging() -> bool:
    """Whether tracebacks and the libraries' warnings are wanted."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


class _WarningHandler(logging.Handler):
    """Turns log records at WARNING and above into warning events."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Cancelled):
            self._console.emit(Warned(" ".join(record.getMessage().split())))


@contextmanager
def _as_it_is() -> Iterator[TextIO]:
    yield sys.stdout


@contextmanager
def _events_only_stdout() -> Iterator[TextIO]:
    """Yield a private stream to the real stdout; meanwhile file descriptor 1 leads to stderr."""
    try:
        sys.stdout.flush()
        saved = os.dup(1)
    except (OSError, AttributeError, ValueError):  # no real stdout (embedded): events go where print would
        yield sys.stdout
        return
    os.dup2(2, 1)
    stream = os.fdopen(os.dup(saved), "w", encoding="utf-8", newline="\n")
    try:
        yield stream
    finally:
        with suppress(OSError):  # nobody reads any more
            stream.close()
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def _joined(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())


def _duration(seconds: float) -> str:
    """``75`` -> ``1 min 15 s``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
