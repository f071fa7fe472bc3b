"""Synthetic volumes in Slicer's DICOM module: what the plug-in DICOMSyntheticCTPlugin offers, writes and loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .DerivedVolumes import isDerived
from .ExportRequest import ExportRequest
from .ExportSource import exportSource, withoutMark
from .Provenance import setProvenance
from .SyntheticFile import recogniseFile

#: The scalar volume plug-in, which would mark a synthetic CT as ORIGINAL\PRIMARY, says 0.5.
EXPORT_CONFIDENCE = 1.0
IMPORT_CONFIDENCE = 0.95
#: What the import asks Slicer's DICOM database for.
TAGS = {"syntheticData": "0008,001C", "manufacturer": "0008,0070"}
OUR_MANUFACTURER = "CTDiffusion"
_SCALAR_PLUGIN = "DICOMScalarVolumePlugin"


def nodeOfItem(itemID: int) -> Any:
    """Return the data node of a subject hierarchy item, or None."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    return hierarchy.GetItemDataNode(itemID) if hierarchy is not None else None


def exportables(itemID: int, pluginName: str) -> list[Any]:
    """Return what can be written of a subject hierarchy item: one series of a synthetic volume, else nothing.

    :param pluginName: the plug-in's key in slicer.modules.dicomPlugins.
    """
    node = nodeOfItem(itemID)
    if node is None or not node.IsA("vtkMRMLScalarVolumeNode") or not recogniseFile(node) or isDerived(node):
        return []
    exportable = slicer.qSlicerDICOMExportable()
    exportable.name = _("Synthetic CT")
    exportable.tooltip = _(
        "Writes a CT series that is marked as synthetic, with what made it. The patient's and the study's tags are "
        "not written: they may be those of the real scan beside it."
    )
    exportable.subjectHierarchyItemID = itemID
    exportable.pluginClass = pluginName
    exportable.confidence = EXPORT_CONFIDENCE
    exportable.setTag("SeriesDescription", f"SYNTHETIC {withoutMark(node.GetName())}")
    return [exportable]


def writeExportables(chosen: list[Any]) -> str:
    """Write what the user has chosen in Slicer's dialog, each into a folder of its own.

    :return: why it failed, for the user; empty if all is written.
    """
    from CTDiffusionLogic.errors import CTDiffusionError

    try:
        for exportable in chosen:
            node = nodeOfItem(exportable.subjectHierarchyItemID)
            if node is None or node.GetScene() is None:
                return _("The volume is not in the scene any more. Close this window and export another one.")
            words = exportable.tag("SeriesDescription") or ""
            writeDicom(node, exportable.directory, description=words)
    except CTDiffusionError as error:
        return str(error)
    return ""


def writeDicom(node: Any, folder: str | Path, *, description: str = "") -> Path:
    """Write one synthetic volume as DICOM, at once: the dialog waits.

    :param node: a volume node that is marked as synthetic.
    :param folder: gets a folder with the files.
    :param description: of the series; by default the volume's name.
    :return: the folder with the files.
    :raises CTDiffusionLogic.errors.CTDiffusionError: if it may not or cannot be written; nothing is left behind then.
    """
    from CTDiffusionLogic.dicom_write import write_synthetic_dicom

    source = exportSource(node)
    (path,) = ExportRequest(folder=Path(folder)).outputs([source])
    write_synthetic_dicom(source.volume(), path, description=withoutMark(description) or source.description)
    return path


def isOurs(file: str) -> bool:
    """Whether a file of Slicer's DICOM database is a slice that CTDiffusion has written."""
    database = slicer.dicomDatabase
    return (
        database.fileValue(file, TAGS["syntheticData"]) == "YES"
        and database.fileValue(file, TAGS["manufacturer"]) == OUR_MANUFACTURER
    )


def loadables(fileLists: list[Any]) -> list[Any]:
    """Return what can be loaded of our own series: what the scalar volume plug-in finds, with more confidence.

    :param fileLists: the files of each series.
    """
    plugin = slicer.modules.dicomPlugins.get(_SCALAR_PLUGIN)
    ours = [files for files in fileLists if files and isOurs(files[0])]
    if plugin is None or not ours:
        return []
    found = plugin().examineForImport(ours)
    for loadable in found:
        if loadable.selected:
            loadable.confidence = IMPORT_CONFIDENCE
    return found


def loadSynthetic(loadable: Any) -> Any:
    """Load one of our series as the scalar volume plug-in does, and mark the volume as synthetic, with its origin.

    :return: the volume node, or None if it could not be loaded.
    """
    import pydicom

    from CTDiffusionLogic.dicom_headers import own_metadata

    node = slicer.modules.dicomPlugins[_SCALAR_PLUGIN]().load(loadable)
    if node:
        setProvenance(node, own_metadata(pydicom.dcmread(loadable.files[0], stop_before_pixels=True)))
    return node or None
