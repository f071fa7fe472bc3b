"""What a packing can be asked for, and how packs are named; standard library only, for the command reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from CTDiffusionLogic.errors import UsageError

SUFFIX = ".ctpack"
#: Largest step of HU: beyond it, rounding would show beside the noise of CT.
MAX_HU_STEP = 25


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """How a corpus is packed.

    Args:
        hu_step: HU are rounded to multiples of this above -1024; 0 or 1: not at all, every HU comes back as it was.
            The error is at most half a step, about step / sqrt(12) HU in the mean square: 0.8 HU for 3, beside 15 to
            25 HU of noise in a scan.
    """

    hu_step: int = 3

    def check(self) -> None:
        """Raise :class:`UsageError` if a value makes no sense."""
        if not 0 <= self.hu_step <= MAX_HU_STEP:
            raise UsageError(f"The step of HU must be from 0 to {MAX_HU_STEP}, got {self.hu_step}.")

    @property
    def step(self) -> int:
        """The step as a number to divide by, at least 1."""
        return max(1, self.hu_step)


def is_pack(path: Path) -> bool:
    """Whether a path is named as packs are."""
    return path.suffix.lower() == SUFFIX


def require_pack_name(path: Path) -> None:
    """Raise :class:`UsageError` if a path is not named as packs are."""
    if not is_pack(path):
        raise UsageError(f"{path} does not end in {SUFFIX}.", remedy="Choose a name that does.")
