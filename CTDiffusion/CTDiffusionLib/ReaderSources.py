"""The volumes of a reader study: which ones take part, and how they are found again and read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from .DerivedVolumes import isDerived
from .Provenance import isPartlyReal
from .SlicerHost import nodesByClass, sceneOrDefault
from .SyntheticFile import recogniseFile
from .VolumeGrids import hasVoxels, huArray, ijkToWorld

#: Place of the sources that are nodes.
SCENE = "scene"


def countByOrigin(volumes: Sequence[Any]) -> tuple[int, int]:
    """Return how many of the volumes are real and how many say that they are synthetic."""
    synthetic = sum(recogniseFile(node) for node in volumes)
    return len(volumes) - synthetic, synthetic


def sceneProblem(volumes: Sequence[Any]) -> str:
    """Why volumes of the scene cannot take part; "" if they can."""
    for node in volumes:
        if isDerived(node):
            return _("{name} was computed from other volumes. Choose the volumes themselves.").format(
                name=node.GetName()
            )
        if isPartlyReal(node):
            return _("{name} is partly real: it belongs to neither group.").format(name=node.GetName())
        if not hasVoxels(node):
            return _("{name} has no voxels yet.").format(name=node.GetName())
    return ""


def findSources(volumes: Sequence[Any], realFolder: str = "", syntheticFolder: str = "") -> tuple[list, list]:
    """Return the real and the synthetic sources (reader_study.Source): nodes first, then files.

    :param volumes: scalar volume nodes; what they say about their origin decides.
    :param realFolder: folder with real scans, or "".
    :param syntheticFolder: folder with synthetic volumes, or "": of whatever origin, marked or not.
    :raises CTDiffusionLogic.errors.InputError: if a folder has no scans.
    """
    from CTDiffusionLogic.fidelity.reader_study import Source
    from CTDiffusionLogic.scan_search import find_scans

    groups: tuple[list, list] = ([], [])
    for node in volumes:
        isSynthetic = recogniseFile(node)
        groups[isSynthetic].append(Source(node.GetID(), isSynthetic, SCENE, node.GetName()))
    for isSynthetic, folder in ((False, realFolder), (True, syntheticFolder)):
        if folder:
            place = str(Path(folder).absolute())
            scans = find_scans([place]).found
            groups[isSynthetic].extend(Source(scan.id, isSynthetic, place, scan.path.name) for scan in scans)
    return groups


class SourceReader:
    """Reads the volumes of sources, also of those that an earlier session has found.

    :param scene: a vtkMRMLScene; by default the application's.
    """

    def __init__(self, scene: Any = None) -> None:
        self._scene = sceneOrDefault(scene)
        self._scans: dict[str, dict[str, Any]] = {}  # folder: scan by id

    def find(self, source: Any) -> Any:
        """Return the node, or the scan that was found in its folder.

        :raises CTDiffusionLogic.errors.InputError: if it is not there any more.
        """
        from CTDiffusionLogic.errors import InputError
        from CTDiffusionLogic.scan_search import find_scans

        if source.place == SCENE:
            found = self._nodeOf(source)
        else:
            if source.place not in self._scans:
                self._scans[source.place] = {scan.id: scan for scan in find_scans([source.place]).found}
            found = self._scans[source.place].get(source.id)
        if found is None:
            where = _("the scene") if source.place == SCENE else source.place
            raise InputError(
                _("The study's volume {name} is not in {place}.").format(name=source.name, place=where),
                remedy=_("Load the scene that the study began with, or put the files back."),
            )
        return found

    def read(self, source: Any) -> Any:
        """Return the volume as a CTDiffusionLogic.volume.CTVolume.

        :raises CTDiffusionLogic.errors.InputError: if it is not there any more, cannot be used, or says of itself
            that it belongs to the other group.
        """
        from CTDiffusionLogic.errors import InputError
        from CTDiffusionLogic.geometry import Geometry
        from CTDiffusionLogic.volume import CTVolume, to_hu_int16

        found = self.find(source)
        if source.place != SCENE:
            volume = found.read()
            isSynthetic = volume.metadata.get("synthetic") == "yes"
        else:
            isSynthetic = recogniseFile(found)
            try:
                volume = CTVolume(
                    to_hu_int16(huArray(found), source=source.name), Geometry.from_ijk_to_ras(ijkToWorld(found))
                )
            except ValueError as error:
                raise InputError(f"{source.name}: {error}") from None
        if isSynthetic and not source.synthetic:
            raise InputError(
                _("{name} says that it is synthetic, but is among the real volumes.").format(name=source.name),
                remedy=_("Choose folders that hold one kind each."),
            )
        return volume

    def _nodeOf(self, source: Any) -> Any:
        """The node of that ID if it still has that name, else the only one of that name: IDs change with scenes."""
        node = self._scene.GetNodeByID(source.id)
        if node is not None and node.GetName() == source.name and node.IsA("vtkMRMLScalarVolumeNode"):
            return node
        named = [n for n in nodesByClass(self._scene, "vtkMRMLScalarVolumeNode") if n.GetName() == source.name]
        return named[0] if len(named) == 1 else None
