"""What several processes that train one model must agree on, and what it means when one of them is gone.

They meet in every step, where gradients are averaged. So all must take the same number of steps: when to stop is
agreed on, never decided by one clock alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import IntEnum
from typing import Any

import torch

from CTDiffusionLogic.errors import ResourceError

#: How long processes wait for each other: the first one may prepare thousands of scans meanwhile. A process that is
#: gone is noticed at once, by the launcher or by its broken connection.
PATIENCE = timedelta(days=2)


class Wish(IntEnum):
    """What a process wants at the end of a step; of several wishes the largest counts."""

    GO_ON = 0
    TIME_IS_UP = 1
    CANCEL = 2


class Agreement:
    """Makes one decision out of the wishes of all processes.

    Alone, a process decides at once. With others, the wishes of a step are known at the end of the next one: so
    nobody waits for an answer while a GPU could compute.

    Args:
        accelerator: accelerate's.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self._wishes: torch.Tensor | None = None
        self._under_way: Any = None

    def on(self, wish: Wish) -> Wish:
        """Tell this process's wish; returns what all agree on, the same in every process."""
        if self._accelerator.num_processes == 1:
            return wish
        agreed = self.settle()
        self._wishes = torch.tensor([int(wish)], device=self._accelerator.device)
        self._under_way = torch.distributed.all_reduce(self._wishes, op=torch.distributed.ReduceOp.MAX, async_op=True)
        return agreed

    def settle(self) -> Wish:
        """Wait for the wishes that are on their way; every process must do so before it ends."""
        if self._under_way is None or self._wishes is None:
            return Wish.GO_ON
        self._under_way.wait()
        self._under_way = None
        return Wish(int(self._wishes))


def average(values: dict[str, torch.Tensor], accelerator: Any) -> dict[str, float]:
    """Mean over the processes of numbers that each of them has under the same names."""
    if not values:
        return {}
    together = torch.stack([value.float() for value in values.values()])
    return dict(zip(values, accelerator.reduce(together, "mean").tolist(), strict=True))


def largest(value: int, accelerator: Any) -> int:
    """The largest of the values that the processes have; every process must ask in the same step."""
    if accelerator.num_processes == 1:
        return value
    together = torch.tensor([value], device=accelerator.device)
    torch.distributed.all_reduce(together, op=torch.distributed.ReduceOp.MAX)
    return int(together)


@contextmanager
def others_needed(accelerator: Any) -> Iterator[None]:
    """Say in plain words when another process is gone.

    Raises:
        ResourceError: If so.
    """
    try:
        yield
    except RuntimeError as error:
        if accelerator.num_processes > 1 and _is_lost_connection(error):
            raise ResourceError(
                f"Another process of this training has ended, so process {accelerator.process_index} of "
                f"{accelerator.num_processes} stops, too.",
                remedy="See what the other one said; then go on from the newest checkpoint with --resume.",
            ) from error
        raise


def _is_lost_connection(error: RuntimeError) -> bool:
    """Whether a collective operation failed; gloo raises plain RuntimeErrors that name it or its sockets."""
    text = str(error).lower()
    return isinstance(error, torch.distributed.DistError) or any(
        word in text for word in ("gloo", "nccl", "connection closed by peer", "connection reset by peer")
    )
