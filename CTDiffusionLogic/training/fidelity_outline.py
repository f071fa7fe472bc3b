"""Are the bodies closed? What distances of image features hardly see in a young model: ragged, torn outlines.

A model of 1,400 steps whose bodies were torn (outline twice as long as a circle's; real scans 1.03) had a Fréchet
distance of 72 by our own features, the finished bundled model, whose bodies are whole (1.07), 70: features look at
tissue more than at shape. So the length of the outline is told beside the distance, and decides first which model is
the best (:mod:`~CTDiffusionLogic.training.fidelity_best`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from CTDiffusionLogic.fidelity.body_grid import body_grid
from CTDiffusionLogic.fidelity.outline import measure_outline
from CTDiffusionLogic.fidelity.physics import CUT_OFF
from CTDiffusionLogic.fidelity.volumes import LabVolume

#: Per cent of the real stretches that lie below and above what is told of them.
REAL_RANGE = (5.0, 95.0)


def outline_of(volume: LabVolume) -> float | None:
    """Length of the body's outline over that of a circle of its area; None where no body is whole in the image."""
    grid = body_grid(volume)
    outline = measure_outline(grid) if grid.touches <= CUT_OFF else None
    return None if outline is None else outline.circle_ratio


def noting_outlines(volumes: Iterable[LabVolume], outlines: list[float]) -> Iterator[LabVolume]:
    """Pass ``volumes`` on, and add their :func:`outline_of` to ``outlines`` where they have one."""
    for volume in volumes:
        ratio = outline_of(volume)
        if ratio is not None:
            outlines.append(ratio)
        yield volume


def outline_facts(made: Sequence[float], real: Sequence[float]) -> dict[str, float]:
    """Figures for ``fidelity.jsonl``: "outline" of generated volumes (mean), "outline_real" with "_low" and "_high".

    Args:
        made, real: Of :func:`noting_outlines`; what cannot be told of an empty one is left out.
    """
    facts: dict[str, float] = {}
    if made:
        facts["outline"] = float(np.mean(made))
    if real:
        low, high = np.percentile(real, REAL_RANGE)
        facts |= {
            "outline_real": float(np.mean(real)),
            "outline_real_low": float(low),
            "outline_real_high": float(high),
        }
    return facts
