"""The worker's protocol, for both ends: one JSON object a line on stdout with ``--events json``.

The ``ctdiffusion`` command writes events with :func:`to_line`; the Slicer module (or any script) reads
them with :func:`parse_line`. Standard library only, so that the Slicer process can import it without
torch. A run gives, in this order::

    {"event": "started", "command": "generate", "version": "0.1.0", "details": {...}}
    {"event": "progress", "done": 3, "of": 12, "eta_s": 8.1, "phase": "detail"}        any number of these four
    {"event": "slices", "first": 0, "count": 8, "path": "/tmp/x/slices-1-0000-0008.npy", "volume": 1}
    {"event": "metric", "name": "loss", "values": {...}}
    {"event": "warning", "message": "..."}
    {"event": "finished", "outputs": ["/data/a.nrrd"], "details": {...}}               exactly one of these two
    {"event": "failed", "code": "bad-model", "message": "...", "remedy": "...", "exit_code": 1}

A worker that dies without a last event was killed: the reader reports that itself from the exit code
(0 done, 1 failed, 2 wrong use, 130 cancelled; cancelled is a ``failed`` event with code "cancelled").
Readers ignore fields and events they do not know, so both can be added without breaking older readers.

Slices: each file is a NumPy array, int16 HU of shape (count, rows, columns), written whole before its
event is sent (``numpy.load(path, allow_pickle=False)``). Each slice arrives once and is final; they come from
the feet up, so ``first`` falls where the volume is like a scan whose slices run to the feet. They lie in the
folder given by ``--preview-dir``, which belongs to the caller, who removes it; without that option nothing is
written and no slices events are sent. What a volume's grid will be stands in ``started``: ``details["shape"]``
as (slices, rows, columns) and ``details["ijk_to_lps"]``, 4 x 4 in mm.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True)
class Started:
    """The command understood its arguments and begins; ``details`` depends on the command."""

    event: ClassVar[str] = "started"
    command: str
    version: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """``done`` of ``of`` equal pieces are done, ``eta_s`` seconds are left; both None while unknown."""

    event: ClassVar[str] = "progress"
    done: int
    of: int | None
    eta_s: float | None = None
    phase: str = ""


@dataclass(frozen=True)
class Slices:
    """Slices ``first`` to ``first + count - 1`` of volume number ``volume`` (from 1) are final, in file ``path``."""

    event: ClassVar[str] = "slices"
    first: int
    count: int
    path: str
    volume: int = 1


@dataclass(frozen=True)
class Metric:
    """Figures of one moment: a training step (loss, learning rate), a fidelity score, one check of the doctor."""

    event: ClassVar[str] = "metric"
    name: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Warned:
    """Something the user should know; the command goes on."""

    event: ClassVar[str] = "warning"
    message: str


@dataclass(frozen=True)
class Finished:
    """The command did what was asked; ``outputs`` are the files and folders it made."""

    event: ClassVar[str] = "finished"
    outputs: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """The command did not do what was asked: why, and what to do about it."""

    event: ClassVar[str] = "failed"
    code: str
    message: str
    remedy: str = ""
    exit_code: int = 1


Event = Started | Progress | Slices | Metric | Warned | Finished | Failed
_KINDS: dict[str, type[Event]] = {
    kind.event: kind for kind in (Started, Progress, Slices, Metric, Warned, Finished, Failed)
}


def to_line(event: Event) -> str:
    """One line of JSON without a line break. NaN and infinity, which JSON does not have, become null."""
    content = {"event": event.event, **asdict(event)}
    return json.dumps(_plain(content), allow_nan=False, separators=(", ", ": "))


def parse_line(line: str | bytes) -> Event | None:
    """The event in ``line``; None for anything else (an empty line, stray text, an event from a newer version)."""
    try:
        content = json.loads(line)
        kind = _KINDS[content["event"]]
        known = {f.name: content[f.name] for f in fields(kind) if f.name in content}
        missing = [f for f in fields(kind) if f.default is f.default_factory is MISSING and f.name not in known]
        if "outputs" in known:
            known["outputs"] = tuple(known["outputs"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None if missing else kind(**known)


def _plain(value: Any) -> Any:
    """Reduce to what JSON has: paths and other objects by their text, numbers of NumPy and torch by value."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist"):  # array or NumPy/torch scalar
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
