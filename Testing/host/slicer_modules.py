"""Stand-ins for modules of Slicer that ours meets: DICOM (its plug-ins) and Sample Data.

Read in Slicer 5.13 (Modules/Scripted/DICOMLib, Modules/Scripted/SampleData); Testing/module/test_export_plugin.py
compares names and arguments with the facts. With CTDIFFUSION_SLICER_PYTHON, Slicer's own files are taken (see
slicer_sources).
"""

from __future__ import annotations

import types
import urllib.request
from pathlib import Path
from typing import Any

import slicer

from .pythonqt import QObject
from .standin import StandIn, standsFor


@standsFor("qSlicerDICOMExportable")
class qSlicerDICOMExportable(StandIn, QObject):
    """One series that a plug-in offers to write, and the tags that the user may edit."""

    name = "Unknown exporter"
    tooltip = "Creates a DICOM file from the selected data"
    subjectHierarchyItemID = 0
    pluginClass = ""
    directory = ""
    confidence = 0.0

    def __init__(self) -> None:
        super().__init__()
        self._tags: dict[str, str] = {}

    def tag(self, tagName: str) -> str:
        return self._tags.get(tagName, "")

    def setTag(self, tagName: str, tagValue: str) -> None:
        self._tags[tagName] = tagValue


class DICOMLoadable:
    """One way to load some files."""

    def __init__(self, qLoadable: Any = None) -> None:
        self.files: list[str] = []
        self.name, self.tooltip, self.warning = "Unknown", "No further information available", ""
        self.selected = False
        self.confidence = 0.5


class DICOMPlugin:
    """Base of the DICOM module's plug-ins."""

    def __init__(self) -> None:
        self.loadType = "Generic DICOM"
        self.tags = {"seriesDescription": "0008,103E", "modality": "0008,0060", "instanceUID": "0008,0018"}

    def examineForImport(self, fileList: list[Any]) -> list[Any]:
        """Return loadables for lists of files."""
        return []

    def load(self, loadable: Any) -> Any:
        """Load one of them."""
        return True

    def examineForExport(self, subjectHierarchyItemID: int) -> list[Any]:
        """Return exportables for an item."""
        return []

    def export(self, exportable: Any) -> str:
        """Write them; return an error message."""
        return ""


class SampleDataSource:
    """One sample."""

    def __init__(
        self,
        sampleName: Any = None,
        sampleDescription: Any = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        checksums: Any = None,
        loadFiles: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: Any = None,
        loadFileTypes: Any = None,
        loadFileProperties: Any = None,
        loadFileType: Any = None,
    ) -> None:
        self.sampleName, self.sampleDescription = sampleName, sampleDescription or sampleName
        self.uris, self.fileNames, self.nodeNames = [uris], [fileNames], [nodeNames]
        self.loadFileTypes, self.loadFiles = [loadFileTypes], [loadFiles]
        self.customDownloader, self.thumbnailFileName = customDownloader, thumbnailFileName


class SampleDataLogic:
    """Knows the samples."""

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: Any = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: Any = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = {},  # noqa: B006 (as there)
        checksums: Any = None,
        loadFileType: Any = None,
    ) -> None:
        """Add a sample to a category."""
        source = SampleDataSource(
            sampleName=sampleName,
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            customDownloader=customDownloader,
            thumbnailFileName=thumbnailFileName,
            loadFileTypes=loadFileTypes,
        )
        _dictionary("sampleDataSources").setdefault(category, []).append(source)

    @staticmethod
    def registerUrlRewriteRule(name: str, rewriteFunction: Any) -> None:
        """Let a function change every address before it is downloaded."""
        _dictionary("sampleDataUrlRewriteRules")[name] = rewriteFunction

    @staticmethod
    def sampleDataSourcesByCategory(category: Any = None) -> Any:
        """Return the samples of a category, or all by category."""
        sources = _dictionary("sampleDataSources")
        return sources if category is None else sources.get(category, [])

    def downloadFile(
        self, uri: str, destFolderPath: str, name: str, checksum: Any = None, forceDownload: bool = False
    ) -> str:
        """Get a file; return its path."""
        for rule in _dictionary("sampleDataUrlRewriteRules").values():
            uri = rule(uri)
        path = Path(destFolderPath) / name
        if forceDownload or not path.exists() or path.stat().st_size == 0:
            urllib.request.urlretrieve(uri, path)
        return str(path)


def _dictionary(name: str) -> dict[str, Any]:
    if not hasattr(slicer.modules, name):
        setattr(slicer.modules, name, {})
    return getattr(slicer.modules, name)


#: Contents of the modules by the name under which they are imported.
MODULES = {
    "DICOMLib": {"DICOMPlugin": DICOMPlugin, "DICOMLoadable": DICOMLoadable},
    "SampleData": {"SampleDataLogic": SampleDataLogic, "SampleDataSource": SampleDataSource},
}


def newModules() -> dict[str, types.ModuleType]:
    """Return the modules by the name under which they are imported."""
    made = {}
    for name, members in MODULES.items():
        made[name] = types.ModuleType(name)
        for attribute, value in members.items():
            setattr(made[name], attribute, value)
    return made
