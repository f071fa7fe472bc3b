"""Plug-in for Slicer's DICOM module: writes synthetic volumes as synthetic CT, and knows them when they come back.

Slicer's scalar volume plug-in would write them as ORIGINAL\\PRIMARY, as if a scanner had made them.
"""

from __future__ import annotations

import logging
from typing import Any

import slicer
from CTDiffusionLib import ExportDicom
from DICOMLib import DICOMPlugin
from slicer.i18n import tr as _


class DICOMSyntheticCTPluginClass(DICOMPlugin):
    """What the DICOM module calls; the work is done by CTDiffusionLib.ExportDicom."""

    def __init__(self) -> None:
        super().__init__()
        self.loadType = _("Synthetic CT")
        self.tags.update(ExportDicom.TAGS)

    def examineForImport(self, fileLists: list[Any]) -> list[Any]:
        """Return loadables for series that CT Diffusion has written, and for no others."""
        return ExportDicom.loadables(fileLists)

    def load(self, loadable: Any) -> Any:
        """Load one of them; the volume is marked as synthetic."""
        return ExportDicom.loadSynthetic(loadable)

    def examineForExport(self, subjectHierarchyItemID: int) -> list[Any]:
        """Return one exportable for a volume that is marked as synthetic, and none for anything else."""
        return ExportDicom.exportables(subjectHierarchyItemID, self.__module__)

    def export(self, exportables: list[Any]) -> str:
        """Write them; return why it failed, or an empty text."""
        problem = ExportDicom.writeExportables(exportables)
        if problem:
            logging.error("CTDiffusion: %s", problem)
        return problem


class DICOMSyntheticCTPlugin:
    """By this class Slicer knows the plug-in as a module; it has no panel."""

    def __init__(self, parent: Any) -> None:
        parent.title = "DICOM Synthetic CT Plugin"
        parent.categories = ["Developer Tools.DICOM Plugins"]
        parent.dependencies = ["CTDiffusion"]
        parent.contributors = ["CTDiffusion contributors"]
        parent.helpText = "Writes and loads the DICOM series of CT Diffusion. It is used by the DICOM module."
        parent.acknowledgementText = ""
        parent.hidden = True
        if not hasattr(slicer.modules, "dicomPlugins"):  # it may be loaded before the DICOM module
            slicer.modules.dicomPlugins = {}
        slicer.modules.dicomPlugins["DICOMSyntheticCTPlugin"] = DICOMSyntheticCTPluginClass
