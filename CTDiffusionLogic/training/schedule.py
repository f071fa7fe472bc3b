"""Learning rate and averaging decay as functions of the step alone, so that a resumed run follows the same path."""

from __future__ import annotations


def learning_rate(step: int, *, peak: float, warmup_steps: int, decay_steps: int) -> float:
    """Linear warm-up, a plateau, then decay with the inverse square root of the step.

    It has no horizon (Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion
    models", section 2.3): a training may stop or go on at any time.
    """
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    return peak * warm / max(1.0, step / decay_steps) ** 0.5
