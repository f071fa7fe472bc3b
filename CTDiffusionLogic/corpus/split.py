"""Split scans by patient, so that what is held out is really unseen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from CTDiffusionLogic.errors import UsageError


def held_out_patients(
    patients: Sequence[str], *, fraction: float = 0.1, named: Sequence[str] = (), seed: int = 0
) -> set[str]:
    """Choose the patients to hold out.

    Args:
        patients: The patient of each scan; repeats are fine.
        fraction: Share of patients to hold out, at least one where there are three or more.
        named: These and no others, if given.
        seed: Of the random choice.

    Raises:
        UsageError: If a named patient is not among ``patients`` or nobody would be left to learn from.
    """
    everyone = sorted(set(patients))
    if named:
        unknown = sorted(set(named) - set(everyone))
        if unknown:
            raise UsageError(
                f"--hold-out names {', '.join(unknown)}, but the data have the patients {', '.join(everyone)}.",
                remedy="Use names from this list.",
            )
        chosen = set(named)
    else:
        count = round(fraction * len(everyone))
        if fraction > 0 and len(everyone) >= 3:
            count = max(count, 1)
        order = np.random.default_rng(seed).permutation(len(everyone))
        chosen = {everyone[i] for i in order[:count]}
    if len(chosen) >= len(everyone):
        raise UsageError("Every patient would be held out; nobody is left to learn from.", remedy="Hold out fewer.")
    return chosen
