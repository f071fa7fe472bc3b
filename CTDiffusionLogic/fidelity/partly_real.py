"""Volumes that are partly a real scan (``generate --extend``, ``--fill``, ``--thin``): only what was made is measured.

A completed scan says in its metadata which slices are the patient's own (``real_slices``, from 1, as it is stored).
Measured whole it would look as real as its real part. So the longest evenly spaced stack of synthetic slices stands
for it: the run that was added or filled in; of a thinned scan every second slice, say, as far apart as the thick ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.slice_ranges import format_slices, parse_slices
from CTDiffusionLogic.volume import CTVolume

#: What a completed scan says of itself; formats with little room only say that a part is real.
REAL_SLICES, PARTLY_REAL = "real_slices", "partly_real"
#: In the metadata of what was cut out: the slices measured, from 1.
MEASURED = "measured_slices"
#: Slices of a stack lie at most so many of the volume's slices apart.
MOST_STEPS = 32


def made_slices(shape: tuple[int, int, int], metadata: Mapping[str, str]) -> range | None:
    """The slices of a volume, from 0, that stand for it; None: all of them, since none is said to be real.

    Args:
        shape: Slices, rows, columns, as it is stored.
        metadata: What it says of itself.

    Raises:
        InputError: If it says that a part is real but not which, or nothing in it is synthetic.
    """
    said = metadata.get(REAL_SLICES, "")
    if not said:
        if metadata.get(PARTLY_REAL) == "yes":
            raise InputError(
                "It is partly real and does not say which slices are: NIfTI has no room for that.",
                remedy="Write completed scans as NRRD, MHA or DICOM.",
            )
        return None
    try:
        real = {number - 1 for number in parse_slices(said)}
    except ValueError as error:
        raise InputError(
            f"It is partly real and its note on real slices cannot be read: it {error}.", remedy="Make it again."
        ) from None
    found = longest_stack(shape[0], real)
    if not found:
        raise InputError("All of its slices are real.", remedy="Leave it out.")
    return found


def longest_stack(count: int, real: Collection[int]) -> range:
    """The longest evenly spaced stack of slices among ``count`` that has none of ``real``; the denser of equals.

    Example:
        >>> longest_stack(10, range(6)), longest_stack(9, (0, 2, 4, 6, 8)), longest_stack(7, (0, 3, 6))
        (range(6, 10), range(1, 9, 2), range(1, 7, 3))
    """
    made = [number not in real for number in range(count)]
    best = range(0)
    for step in range(1, min(MOST_STEPS, max(count - 1, 1)) + 1):
        for first in range(count):
            if not made[first] or (first >= step and made[first - step]):
                continue  # no beginning of a stack
            stop = first
            while stop < count and made[stop]:
                stop += step
            if (stop - first) // step > len(best):
                best = range(first, min(stop, count), step)
    return best


def cut_out(volume: CTVolume, slices: range) -> CTVolume:
    """These slices as a volume of their own; slab borders and real slices are no longer among its facts."""
    dx, dy, dz = volume.geometry.spacing
    origin = np.array(volume.geometry.origin) + slices.start * dz * volume.geometry.normal
    geometry = Geometry((dx, dy, dz * slices.step), tuple(origin), volume.geometry.direction)
    facts = {key: value for key, value in volume.metadata.items() if key != "slab_slices"}
    hu = volume.hu[slices.start : slices.stop : slices.step]
    return CTVolume(
        hu, geometry, {**facts, "given_slices": facts.get("given_slices", "some"), MEASURED: named(slices)}
    )


def named(slices: range) -> str:
    """Numbers from 1, as people count."""
    return format_slices(number + 1 for number in slices)


def sentence(name: str, count: int, slices: range) -> str:
    """What a reader of the report must know about one such volume."""
    apart = "" if slices.step == 1 else f" (one in {slices.step}, taken for a stack)"
    return (
        f"{name} is partly real: only {len(slices)} of its {count} slices, synthetic ones ({named(slices)}){apart}, "
        "were measured; next to a patient's own they are easier to make than from nothing."
    )
