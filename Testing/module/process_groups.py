"""Which processes of a worker are alive."""

from __future__ import annotations

from pathlib import Path


def isAlive(processID: int) -> bool:
    """Whether a process runs; one that only waits for init to take note of its end does not."""
    return _stateAndGroup(processID)[0] not in ("", "Z", "X")


def isGone(groupID: int) -> bool:
    """Whether no process of a group runs."""
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return not any(_stateAndGroup(number)[1] == str(groupID) and isAlive(number) for number in numbers)


def _stateAndGroup(processID: int) -> tuple[str, str]:
    try:
        state, _parent, group = Path(f"/proc/{processID}/stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return "", ""
    return state, group
