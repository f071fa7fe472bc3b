"""Learning rate and noise levels as functions of the step alone, so that a resumed run follows the same path.

A training may stop or go on at any time, so the rate has no horizon of its own; once its end is known, it falls
almost to nothing over the last part of the steps. That last part gains more than many steps before it (Hägele et al.
2024, "Scaling laws and compute-optimal training beyond fixed training durations"); with the bundled model it did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: What is left of the rate at the end of a cooldown.
COOLEST = 0.02
#: Part of the steps that are left over which noise levels may fall. A fifth then has the final levels at the full
#: rate, and the last fifth in the cooldown.
FALL = 0.6
#: Part of a time budget after which its last step can be told from the pace so far.
PACE_KNOWN = 0.05
#: Steps over which the rate comes back when a training that had cooled down goes on.
REWARM_STEPS = 100


def learning_rate(step: int, *, peak: float, warmup_steps: int, decay_steps: int) -> float:
    """Linear warm-up, a plateau, then decay with the inverse square root of the step.

    It has no horizon (Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion
    models", section 2.3): a training may stop or go on at any time.
    """
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    return peak * warm / max(1.0, step / decay_steps) ** 0.5


@dataclass(frozen=True, kw_only=True)
class LevelFall:
    """How noise levels come down to where they stay: in a line.

    Bodies first, then what is in them: high noise teaches outlines and large organs, and low noise teaches nothing
    that lasts while these still move. With the final levels from the start bodies were torn after 1,400 steps, where
    with these they were whole but for their edges. Fine-tuning begins with the final levels.

    Args:
        begin: Step at which the line begins.
        end: Step from which on the levels stay.
        height: How high they are at ``begin``: part (0 to 1) of what ln(sigma) is higher at the very first.
    """

    begin: int = 0
    end: int
    height: float = 1.0

    def part(self, step: int) -> float:
        """How high they are at ``step``, 0 to 1."""
        return self.height * min(1.0, max(0.0, 1.0 - (step - self.begin) / max(1, self.end - self.begin)))

    def before(self, last_step: int, *, step: int) -> LevelFall:
        """The same up to ``step``; from there on it takes at most :data:`FALL` of the steps that are left.

        Of a training whose end is known; else a short one would end without ever having seen the final levels. A
        fall that ends earlier stays as it is. So one that was fitted to this end before does, too: a resumed training
        follows the path of an uninterrupted one.
        """
        end = step + math.floor(FALL * (last_step - step))
        if last_step <= step or end >= self.end:
            return self
        return LevelFall(begin=step, end=end, height=self.part(step))


@dataclass(frozen=True)
class Cooldown:
    """The last steps of a training, over which the learning rate falls in a line to :data:`COOLEST` of itself.

    Args:
        begin: Step at which it begins to fall.
        end: Last step, not included; later ones stay cold.
    """

    begin: int
    end: int

    @classmethod
    def of_last(cls, steps: int, share: float) -> Cooldown:
        """Over the last ``share`` (0 to 1) of a training of ``steps`` steps."""
        return cls(steps - math.floor(share * steps), steps)

    def factor(self, step: int) -> float:
        """What the learning rate at ``step`` is multiplied by, 1 to :data:`COOLEST`."""
        if step < self.begin:
            return 1.0
        return max(COOLEST, 1.0 - (1.0 - COOLEST) * (step + 1 - self.begin) / max(1, self.end - self.begin))


def rewarmed(step: int, *, resumed: int, factor: float) -> float:
    """Where a training goes on after a cooldown: the factor rises in a line to 1 over :data:`REWARM_STEPS`.

    Args:
        step: Now.
        resumed: First step of this call.
        factor: Of the last step before it. Inside a cooldown that goes on, the cooldown's own factor is the smaller
            one: the path stays the same.
    """
    return min(1.0, factor + (1.0 - factor) * (step - resumed) / REWARM_STEPS)
