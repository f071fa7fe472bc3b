"""A real scan and the slices it lacks: continued to one side, filled, or thin slices out of thick ones.

The result lies in the scan's own space and on its own rows and columns. Slices of the scan come back as they are, to
the last HU; only the others are made, by :func:`~CTDiffusionLogic.generation.generate` on the model's grid with the
scan's slices as known ones, and brought onto the scan's pixels.

Example:
    longer = complete(model, extension(scan, 20, towards="head"), GenerationRequest(seed=7))
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.errors import InputError, UsageError
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.like_grid import LikeGrid, resample_slices
from CTDiffusionLogic.slice_ranges import format_slices, parse_slices
from CTDiffusionLogic.volume import CTVolume, to_standard_axes

if TYPE_CHECKING:
    from CTDiffusionLogic.corpus.resample import GridSlices
    from CTDiffusionLogic.generation import GenerationModel, OnSlices
    from CTDiffusionLogic.generation_request import GenerationRequest
    from CTDiffusionLogic.stage_run import OnProgress

#: The model is shown this much of the scan on either side of what it is to make.
CONTEXT_MM = 250.0
#: A wanted distance of slices may differ by this part from one that divides the scan's.
SPACING_TOLERANCE = 0.02


@dataclass(frozen=True, kw_only=True, eq=False)
class Completion:
    """A scan, and where its slices lie among those of the result.

    Args:
        scan: HU, geometry and metadata.
        shape: Slices, rows and columns of the result, stored in the scan's order.
        geometry: Of the result.
        given: Slice of the result: slice of the scan that it is; both from 0. The others are to be made.
        how: What is done, in words, for the provenance.
    """

    scan: CTVolume
    shape: tuple[int, int, int]
    geometry: Geometry
    given: Mapping[int, int]
    how: str

    @property
    def missing(self) -> tuple[int, ...]:
        """Slices of the result that are to be made, rising."""
        return tuple(k for k in range(self.shape[0]) if k not in self.given)

    @property
    def real(self) -> tuple[int, ...]:
        """Slices of the result that show a patient: those of the scan, but for what in it is synthetic itself."""
        facts = self.scan.metadata
        if facts.get("synthetic") != "yes":
            return tuple(sorted(self.given))
        if facts.get("partly_real") == "yes" and "real_slices" not in facts:  # a NIfTI: any slice may be
            return tuple(sorted(self.given))
        try:
            real = {number - 1 for number in parse_slices(facts["real_slices"])}
        except (KeyError, ValueError):
            return ()
        return tuple(sorted(k for k, own in self.given.items() if own in real))


def extension(scan: CTVolume, slices: int, *, towards: Literal["head", "feet"] = "head") -> Completion:
    """Continue ``scan`` by ``slices`` at its own distance, beyond its last slice on the side of head or feet.

    Raises:
        UsageError: If ``slices`` is not positive.
        InputError: If the scan's slices are not axial.
    """
    grid = _grid(scan)
    if slices < 1:
        raise UsageError(f"The number of slices to add must be positive, got {slices}.")
    before = slices * ((towards == "head") == (0 in grid.flips))  # in the order in which they are stored
    geometry = scan.geometry
    origin = np.array(geometry.origin) - before * geometry.spacing[2] * geometry.normal
    return Completion(
        scan=scan,
        shape=(scan.shape[0] + slices, *scan.shape[1:]),
        geometry=Geometry(geometry.spacing, tuple(origin), geometry.direction),
        given={k + before: k for k in range(scan.shape[0])},
        how=f"{slices} slices added towards the {towards}",
    )


def filling(scan: CTVolume, missing: Collection[int]) -> Completion:
    """Make the slices ``missing`` (numbers from 0, as the scan is stored) anew, whatever the scan has there.

    Raises:
        UsageError: If there are no such slices, or none is left to go by.
        InputError: If the scan's slices are not axial.
    """
    _grid(scan)
    count = scan.shape[0]
    if not missing or min(missing) < 0 or max(missing) >= count:
        raise UsageError(f"Missing slices must be among the scan's, 1 to {count}.")
    given = {k: k for k in range(count) if k not in set(missing)}
    if not given:
        raise UsageError("All slices of the scan are to be made: nothing is left to go by.")
    numbers = format_slices(k + 1 for k in missing)
    return Completion(scan=scan, shape=scan.shape, geometry=scan.geometry, given=given, how=f"filled slices {numbers}")


def thinning(scan: CTVolume, spacing_mm: float) -> Completion:
    """Put slices between those of ``scan`` so that they lie ``spacing_mm`` apart.

    The scan's own slices stay, as thick as they were acquired, so the distance must divide the scan's.

    Raises:
        UsageError: If it does not; the message names distances that do.
        InputError: If the scan's slices are not axial, or it has only one.
    """
    _grid(scan)
    own, count = scan.spacing[2], scan.shape[0]
    if count < 2:
        raise InputError("The scan has one slice only.", remedy="Give a scan with slices to put others between.")
    factor = round(own / spacing_mm) if spacing_mm > 0 else 0
    if factor < 2 or abs(own / factor - spacing_mm) > SPACING_TOLERANCE * spacing_mm:
        fitting = ", ".join(f"{own / n:.4g}" for n in range(2, max(6, factor + 2)))
        raise UsageError(
            f"The scan's slices lie {own:g} mm apart; {spacing_mm:g} mm does not divide that.",
            remedy=f"Distances that do: {fitting} mm.",
        )
    geometry = scan.geometry
    return Completion(
        scan=scan,
        shape=((count - 1) * factor + 1, *scan.shape[1:]),
        geometry=Geometry((*geometry.spacing[:2], own / factor), geometry.origin, geometry.direction),
        given={k * factor: k for k in range(count)},
        how=f"slices {own:g} mm apart made {own / factor:g} mm apart",
    )


def complete(
    model: GenerationModel,
    completion: Completion,
    request: GenerationRequest,
    *,
    on_progress: OnProgress | None = None,
    on_slices: OnSlices | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> CTVolume:
    """Make what the scan lacks.

    Args:
        model: Ready to generate.
        completion: From :func:`extension`, :func:`filling` or :func:`thinning`.
        request: Seed, steps and the like; slices, spacing, grid and known slices follow from the completion.
        on_progress, is_cancelled, on_warning: See :func:`~CTDiffusionLogic.generation.generate`.
        on_slices: Given slices of the result as they become final, each once: first the scan's, then those made.

    Returns:
        The volume, marked as synthetic; ``real_slices`` of its metadata (from 1) names the slices that are the
        scan's own. It shows a real person's anatomy.

    Raises:
        Cancelled, UsageError, InputError, ResourceError: See :func:`~CTDiffusionLogic.generation.generate`.
    """
    from CTDiffusionLogic.generation import generate

    scan, shape = completion.scan, completion.shape
    tell, warn = on_slices or (lambda *_: None), on_warning or (lambda *_: None)
    grid = LikeGrid(shape, completion.geometry)
    result = np.empty(shape, dtype=np.int16)
    for k, own in completion.given.items():
        result[k] = scan.hu[own]
    for run in _runs(sorted(completion.given)):
        tell(run.start, result[run.start : run.stop])

    # The model counts from the feet, and sees the slices around those that it is to make.
    wanted = {grid.place(k) for k in completion.missing}
    reach = math.ceil(CONTEXT_MM / completion.geometry.spacing[2])
    first, last = max(0, min(wanted) - reach), min(shape[0] - 1, max(wanted) + reach)
    numbers = [n for n in range(first, last + 1) if grid.place(n) in completion.given]
    seen = _on_model_grid(scan, sorted(completion.given[grid.place(n)] for n in numbers), model)
    if completion.real:
        warn(
            f"Slices {format_slices(k + 1 for k in completion.real)} of the result are the scan's own and show a real "
            "person: handle it as you handle the scan."
        )
    if sentence := _narrow_view(seen, scan):
        warn(sentence)

    def take(start: int, hu: NDArray[np.int16]) -> None:
        new = [n for n in range(start, start + len(hu)) if n + first in wanted]
        for run in _runs(new):
            stored = grid.store(_on_scan_grid(hu[run.start - start : run.stop - start], seen, grid))
            low = min(grid.place(run.start + first), grid.place(run.stop - 1 + first))
            result[low : low + len(stored)] = stored
            tell(low, stored)

    made = generate(
        model,
        dataclasses.replace(
            request,
            slices=last - first + 1,
            spacing_mm=completion.geometry.spacing[2],
            known={n - first: hu for n, hu in zip(numbers, seen.hu, strict=True)},
            pixel_mm=seen.pixel_mm,
            like=None,
        ),
        on_progress=on_progress,
        on_slices=take,
        is_cancelled=is_cancelled,
        on_warning=on_warning,
    )
    facts = {**made.metadata, "completion": completion.how, "given_slices": str(len(completion.given))}
    if completion.real:
        facts["real_slices"] = format_slices(k + 1 for k in completion.real)
    return CTVolume(result, completion.geometry, facts)


def _grid(scan: CTVolume) -> LikeGrid:
    grid = LikeGrid(scan.shape, scan.geometry)
    if not grid.slicewise:
        raise InputError(
            "The scan is not stored in axial slices.", remedy="Store it slice by slice from feet to head, or back."
        )
    return grid


def _runs(numbers: list[int]) -> Iterator[range]:
    """Maximal runs of neighbouring numbers; ``numbers`` rise."""
    start = 0
    for n in range(1, len(numbers) + 1):
        if n == len(numbers) or numbers[n] != numbers[n - 1] + 1:
            yield range(numbers[start], numbers[n - 1] + 1)
            start = n


def _on_model_grid(scan: CTVolume, chosen: list[int], model: GenerationModel) -> GridSlices:
    """Slices of the scan on the model's grid, from the feet to the head, as the training prepares them."""
    from CTDiffusionLogic.corpus.resample import to_grid

    plan = model.card["plan"]
    part = CTVolume(np.ascontiguousarray(scan.hu[chosen]), scan.geometry)
    return to_grid(to_standard_axes(part), size=int(plan["image_size"]), fov_mm=float(plan["fov_mm"]))


def _on_scan_grid(hu: NDArray[np.int16], seen: GridSlices, grid: LikeGrid) -> NDArray[np.int16]:
    rows, columns = grid.shape[grid.axes[1]], grid.shape[grid.axes[2]]
    dy, dx = grid.spacing_mm[1:]
    top, bottom, left, right = seen.window_mm
    return resample_slices(
        hu,
        (rows, columns),
        (dy, dx),
        ((bottom - top) / hu.shape[1], (right - left) / hu.shape[2]),
        shift_mm=((top + bottom - rows * dy) / 2, (left + right - columns * dx) / 2),
    )


def _narrow_view(seen: GridSlices, scan: CTVolume) -> str:
    top, bottom, left, right = seen.window_mm
    height, width = bottom - top, right - left
    standard = to_standard_axes(CTVolume(scan.hu[:1], scan.geometry))
    whole = standard.shape[1] * standard.spacing[1], standard.shape[2] * standard.spacing[0]
    if height >= whole[0] - 2 * standard.spacing[1] and width >= whole[1] - 2 * standard.spacing[0]:
        return ""
    return (
        f"The model sees {width:.0f} x {height:.0f} mm around the body; the scan shows {whole[1]:.0f} x "
        f"{whole[0]:.0f} mm: beyond, new slices are air."
    )
