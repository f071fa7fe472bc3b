"""Several processes that do one job: which of them this is, as torchrun and `accelerate launch` tell in variables.

Only the first process speaks, and writes what all share. Standard library only: the command asks before anything else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from CTDiffusionLogic.errors import UsageError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """Where this process stands among its equals.

    Args:
        count: How many there are; WORLD_SIZE.
        index: This one's number from 0 on; RANK.
        local_index: Its number on this machine, which says which GPU it takes; LOCAL_RANK.
    """

    count: int = 1
    index: int = 0
    local_index: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the one that speaks."""
        return self.index == 0

    @property
    def are_several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part of ``items``: every ``count``-th one."""
        return items[self.index :: self.count]

    def device_name(self, name: str) -> str:
        """``name`` of a device, with this process's own GPU in place of "auto" and "cuda" where there are several.

        Raises:
            ResourceError: If torch is missing.
        """
        if not self.are_several or name not in ("auto", "cuda"):
            return name
        from CTDiffusionLogic.device import import_torch

        gpus = import_torch().cuda.device_count()
        return f"cuda:{self.local_index % gpus}" if gpus else name


def this_process(variables: Mapping[str, str] = os.environ) -> Processes:
    """Read the variables that a launcher sets; without them there is one process.

    Raises:
        UsageError: If they contradict each other; the message names them.
    """
    if "WORLD_SIZE" not in variables or "RANK" not in variables:
        return Processes()
    try:
        count, index = int(variables["WORLD_SIZE"]), int(variables["RANK"])
        local_index = int(variables.get("LOCAL_RANK", index))
    except ValueError:
        count, index, local_index = 0, 0, 0
    if not 0 <= index < count or local_index < 0:
        told = ", ".join(f"{n}={variables[n]!r}" for n in ("WORLD_SIZE", "RANK", "LOCAL_RANK") if n in variables)
        raise UsageError(
            f"The variables {told} do not name one of several processes.",
            remedy="Start with torchrun or accelerate launch, or unset them.",
        )
    return Processes(count, index, local_index)


def speaks(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether this process tells what it does; one whose variables contradict each other must be able to say so."""
    try:
        return this_process(variables).is_first
    except UsageError:
        return True
