"""The scan that is completed: whether it can be, which of its slices is shown, and what will be made, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from slicer.i18n import tr as _

from . import Layouts
from .CompleteRequest import EXTEND, FILL, CompleteRequest
from .DerivedVolumes import isDerived
from .Provenance import provenance
from .SceneScans import SceneScan, sceneScan
from .VolumeGrids import hasVoxels, ijkToWorld

if TYPE_CHECKING:
    from CTDiffusionLogic.completion import Completion
    from CTDiffusionLogic.geometry import Geometry

#: The view whose slice is taken, as its layout name; people know it by this colour.
VIEW = "Red"
#: So nearly must the view look along the scan's axis, as a cosine: 10 degrees.
_ALONG = 0.985


def scanToComplete(node: Any) -> SceneScan:
    """Take hold of a scan, where transforms above it have moved it to; copies nothing.

    :param node: a scalar volume node; one that was completed before may be completed again.
    :raises CTDiffusionLogic.errors.InputError: if it cannot be completed.
    """
    from CTDiffusionLogic.errors import InputError

    why = ""
    if not hasVoxels(node) or node.GetImageData().GetNumberOfScalarComponents() != 1:
        why = _("no CT volume")
    elif isDerived(node):
        why = _("computed from other volumes")
    elif provenance(node).get("Complete") == "no":
        why = _("not complete")
    if why:
        raise InputError(
            _("The volume {name} cannot be completed: {why}.").format(name=node.GetName(), why=why),
            remedy=_("Choose another one."),
        )
    return sceneScan(node)


def shownSlice(node: Any) -> int:
    """Return the slice of a volume, from 0, that lies nearest to the middle of what the Red view shows.

    :param node: a volume node in the scene of the view.
    :raises ValueError: with the reason for people, if the view does not show a slice of it.
    """
    view = Layouts.sliceNode(node.GetScene(), VIEW)
    if view is None:
        raise ValueError(_("There is no Red view in this layout."))
    sliceToRAS = np.array([[view.GetSliceToRAS().GetElement(i, j) for j in range(4)] for i in range(4)])
    toWorld = ijkToWorld(node)
    axis, normal = toWorld[:3, 2], sliceToRAS[:3, 2]
    if abs(axis @ normal) < _ALONG * np.linalg.norm(axis) * np.linalg.norm(normal):
        raise ValueError(_("The Red view does not show the scan's own slices: set it to Axial."))
    number = int(np.rint((np.linalg.inv(toWorld) @ sliceToRAS[:, 3])[2]))
    if not 0 <= number < node.GetImageData().GetDimensions()[2]:
        raise ValueError(_("The Red view shows a place outside the scan."))
    return number


def planText(request: CompleteRequest, planned: Completion) -> str:
    """Return what will be made, for people.

    :param request: what is asked for.
    :param planned: what it means for the scan.
    """
    count, spacing = planned.shape[0], planned.geometry.spacing[2]
    scanned = planned.scan.shape[0]
    heights = [sliceHeight(planned.geometry, planned.shape, number) for number in planned.missing]
    if request.how == EXTEND:
        return _(
            "{n} new slices ({mm:.4g} mm) towards the {side}, from {first:.1f} to {last:.1f} mm in an axial view: "
            "{count} in all instead of {scanned}."
        ).format(
            n=len(heights),
            mm=len(heights) * spacing,
            side=_("head") if request.towards == "head" else _("feet"),
            first=min(heights, key=lambda height: abs(height - _middle(planned))),
            last=max(heights, key=lambda height: abs(height - _middle(planned))),
            count=count,
            scanned=scanned,
        )
    if request.how == FILL:
        return _(
            "{n} of the scan's slices are made anew, from {first:.1f} to {last:.1f} mm in an axial view. Slices count "
            "from 0 to {most}, as the last number of Slicer's Data Probe."
        ).format(n=len(heights), first=heights[0], last=heights[-1], most=scanned - 1)
    return _("Slices {new:.4g} mm apart instead of {old:.4g} mm: {count} in all instead of {scanned}.").format(
        new=spacing, old=planned.scan.spacing[2], count=count, scanned=scanned
    )


def sliceHeight(geometry: Geometry, shape: tuple[int, int, int], number: int) -> float:
    """Return where the middle of a slice lies, in mm towards the head, as the slider of an axial view shows it."""
    return float((geometry.ijk_to_ras @ ((shape[2] - 1) / 2, (shape[1] - 1) / 2, number, 1.0))[2])


def _middle(planned: Completion) -> float:
    return sliceHeight(planned.geometry, planned.shape, sorted(planned.given)[len(planned.given) // 2])
