"""How a real scan is to be completed, as the ``ctdiffusion generate`` command is told.

Slices count from 0 here, as Slicer and arrays count them; the command counts from 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from slicer.i18n import tr as _

from .ExportSource import ExportSource
from .GenerateRequest import GenerateRequest
from .SceneVolumes import AIR_HU

if TYPE_CHECKING:
    from CTDiffusionLogic.completion import Completion

#: What can be done: continue a scan, make spoiled slices anew, put slices between.
EXTEND, FILL, THIN = "extend", "fill", "thin"
HOWS = (EXTEND, FILL, THIN)
SIDES = ("head", "feet")
#: As the library has them (CTDiffusionLogic.cli.generate); a test compares.
MAX_SLICES, MIN_SPACING_MM = 1000, 0.25


@dataclass(frozen=True, kw_only=True)
class CompleteRequest:
    """What to do with a scan: one of ``extend``, ``missing`` and ``spacingMm``.

    :param extend: so many slices are added at the scan's own distance.
    :param towards: on which side of the body: "head" or "feet".
    :param missing: slices that are made anew, from 0, as the scan is stored.
    :param spacingMm: the distance that slices have afterwards; it must divide the scan's own.
    :param generation: model, seed, steps, sampler and device; its other fields do not count.
    """

    extend: int | None = None
    towards: str = SIDES[0]
    missing: tuple[int, ...] = ()
    spacingMm: float | None = None
    generation: GenerateRequest = field(default_factory=GenerateRequest)

    @property
    def how(self) -> str:
        """EXTEND, FILL or THIN.

        :raises CTDiffusionLogic.errors.UsageError: if not exactly one of them is asked for.
        """
        from CTDiffusionLogic.errors import UsageError

        asked = {EXTEND: self.extend is not None, FILL: bool(self.missing), THIN: self.spacingMm is not None}
        if sum(asked.values()) != 1:
            raise UsageError(
                _("A scan is either extended, or filled, or made of thinner slices."),
                remedy=_("Give one of extend, missing and spacingMm."),
            )
        return next(how for how, isAsked in asked.items() if isAsked)

    def completion(self, scan: ExportSource) -> Completion:
        """Return where the scan's slices lie in the result, as the library plans it; without the scan's voxels.

        :raises CTDiffusionLogic.errors.CTDiffusionError: if this scan cannot be completed so.
        """
        from CTDiffusionLogic.completion import extension, filling, thinning
        from CTDiffusionLogic.errors import UsageError
        from CTDiffusionLogic.volume import CTVolume

        how, slices = self.how, scan.shape[0]
        volume = CTVolume(np.broadcast_to(np.int16(AIR_HU), scan.shape), scan.geometry, scan.metadata)
        if how == EXTEND:
            if not 1 <= (self.extend or 0) <= MAX_SLICES or self.towards not in SIDES:
                raise UsageError(
                    _("1 to {n} slices can be added, towards head or feet; asked for were {slices}, {side}.").format(
                        n=MAX_SLICES, slices=self.extend, side=self.towards
                    )
                )
            planned = extension(volume, self.extend or 0, towards="head" if self.towards == "head" else "feet")
        elif how == FILL:
            if min(self.missing) < 0 or max(self.missing) >= slices:
                raise UsageError(
                    _("The scan has no slice {slice}.").format(
                        slice=min(self.missing) if min(self.missing) < 0 else max(self.missing)
                    ),
                    remedy=_("Its slices are 0 to {last}.").format(last=slices - 1),
                )
            planned = filling(volume, self.missing)
        else:
            planned = thinning(volume, self.spacingMm or 0.0)
            if planned.geometry.spacing[2] < MIN_SPACING_MM:
                raise UsageError(
                    _("Slices {mm:.3g} mm apart are too thin; at least {least} mm are possible.").format(
                        mm=planned.geometry.spacing[2], least=MIN_SPACING_MM
                    )
                )
        count, _known = modelSlices(planned)
        if count > MAX_SLICES:
            raise UsageError(
                _("The model would have to see {n} slices at once; at most {most} are possible.").format(
                    n=count, most=MAX_SLICES
                ),
                remedy=_("Add fewer, or complete the scan in parts."),
            )
        return planned

    def words(self, folder: Path) -> list[str]:
        """Return the command, with its files in ``folder``."""
        from CTDiffusionLogic.slice_ranges import format_slices

        generation = replace(self.generation, slices=self.extend, spacingMm=self.spacingMm, count=1, bodyMm=None)
        generation = generation.withOwnMatrix()
        words = [*generation.words(folder, isLike=False), f"--{self.how}={scanFile(folder)}"]
        if self.how == EXTEND:
            words.append(f"--towards={self.towards}")
        elif self.how == FILL:
            words.append(f"--missing={format_slices(number + 1 for number in self.missing)}")
        return words


def scanFile(folder: Path) -> Path:
    """Where the scan is."""
    return folder / "scan.nrrd"


def modelSlices(planned: Completion) -> tuple[int, set[int]]:
    """Return how many slices the model sees, and which of them are the scan's: those that it makes, and around them.

    :param planned: from CompleteRequest.completion.
    """
    from CTDiffusionLogic.completion import CONTEXT_MM

    missing, count = planned.missing, planned.shape[0]
    reach = int(np.ceil(CONTEXT_MM / planned.geometry.spacing[2]))
    first, last = max(0, missing[0] - reach), min(count - 1, missing[-1] + reach)
    return last - first + 1, {number - first for number in planned.given if first <= number <= last}
