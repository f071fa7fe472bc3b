"""The command as a real process: what it is called with, and what it left."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from CTDiffusionLogic.cli.events import Event, parse_line

REPOSITORY = Path(__file__).resolve().parents[2]
#: One thread: a volume must not depend on how many cores the test machine has.
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith("CTDIFFUSION_")},
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(REPOSITORY),
}


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[Event]:
        """The events on stdout; fails if there is anything else."""
        events = [parse_line(line) for line in self.out.splitlines()]
        assert None not in events, self.out
        return events  # type: ignore[return-value]

    @property
    def failure(self) -> str:
        """The one line that says why; fails if there is more than one, or a traceback."""
        lines = self.err.splitlines()
        assert "Traceback" not in self.err, self.err
        assert len([line for line in lines if line.startswith("ctdiffusion: ")]) == 1, self.err
        assert lines[-1].startswith("ctdiffusion: "), self.err
        return lines[-1]


Run = Callable[..., Ended]


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "CTDiffusionLogic", *map(str, words)]


def tree(folder: Path) -> set[str]:
    """All files and folders below ``folder``, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
