"""Copy the needed facts about Slicer's classes into slicer_api.json.

    python Testing/host/copy_facts.py FOLDER    # holds qt-classes.json and python-api.json

The folder's files list what Slicer's headers and Python sources offer to Python: names, types, signatures.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

#: Classes that the host stands in for, and that forms and panels of scripted modules commonly use.
QT_CLASSES = [
    "ctkCheckBox",
    "ctkCheckableComboBox",
    "ctkCheckablePushButton",
    "ctkCollapsibleButton",
    "ctkCollapsibleGroupBox",
    "ctkColorPickerButton",
    "ctkComboBox",
    "ctkDirectoryButton",
    "ctkDoubleRangeSlider",
    "ctkDoubleSlider",
    "ctkDoubleSpinBox",
    "ctkErrorLogAbstractModel",
    "ctkErrorLogModel",
    "ctkExpandButton",
    "ctkExpandableWidget",
    "ctkFittedTextBrowser",
    "ctkLayoutFactory",
    "ctkLayoutManager",
    "ctkMenuButton",
    "ctkMessageBox",
    "ctkPathLineEdit",
    "ctkPathListWidget",
    "ctkPopupWidget",
    "ctkPushButton",
    "ctkRangeWidget",
    "ctkSearchBox",
    "ctkSliderWidget",
    "ctkCommandLineParser",
    "ctkVTKAbstractView",
    "ctkVTKRenderView",
    "ctkVTKSliceView",
    "ctkVTKChartView",
    "ctkThumbnailLabel",
    "qMRMLAbstractViewWidget",
    "qMRMLCheckableNodeComboBox",
    "qMRMLCollapsibleButton",
    "qMRMLLayoutManager",
    "qMRMLNodeComboBox",
    "qMRMLPlotView",
    "qMRMLPlotWidget",
    "qMRMLRangeWidget",
    "qMRMLSliceControllerWidget",
    "qMRMLSliceView",
    "qMRMLSliceWidget",
    "qMRMLSliderWidget",
    "qMRMLSpinBox",
    "qMRMLSubjectHierarchyComboBox",
    "qMRMLSubjectHierarchyModel",
    "qMRMLSubjectHierarchyTreeView",
    "qMRMLTableView",
    "qMRMLTableWidget",
    "qMRMLThreeDView",
    "qMRMLThreeDWidget",
    "qMRMLViewControllerBar",
    "qMRMLVolumeInfoWidget",
    "qMRMLVolumeThresholdWidget",
    "qMRMLWidget",
    "qMRMLWindowLevelWidget",
    "qSlicerAbstractCoreModule",
    "qSlicerAbstractModule",
    "qSlicerAbstractModuleFactoryManager",
    "qSlicerAbstractModulePanel",
    "qSlicerAbstractModuleWidget",
    "qSlicerApplication",
    "qSlicerCommandOptions",
    "qSlicerCoreApplication",
    "qSlicerCoreCommandOptions",
    "qSlicerCoreIOManager",
    "qSlicerExtensionsManagerModel",
    "qSlicerIOManager",
    "qSlicerLayoutManager",
    "qSlicerLoadableModule",
    "qSlicerMainWindow",
    "qSlicerModuleFactoryManager",
    "qSlicerModuleManager",
    "qSlicerModulePanel",
    "qSlicerModuleSelectorToolBar",
    "qSlicerModulesMenu",
    "qSlicerScriptedFileReader",
    "qSlicerScriptedLoadableModule",
    "qSlicerScriptedLoadableModuleWidget",
    "qSlicerSubjectHierarchyPluginHandler",
    "qSlicerSubjectHierarchyPluginLogic",
    "qSlicerWidget",
]

#: Python modules under the name by which they are imported; a folder stands for all files in it.
PYTHON_MODULES = {
    "slicer.util": "Base/Python/slicer/util.py",
    "slicer.ScriptedLoadableModule": "Base/Python/slicer/ScriptedLoadableModule.py",
    "slicer.packaging": "Base/Python/slicer/packaging.py",
    "slicer.i18n": "Base/Python/slicer/i18n.py",
    "slicer.testing": "Base/Python/slicer/testing.py",
    "slicer.parameterNodeWrapper": "Base/Python/slicer/parameterNodeWrapper/",
    "SampleData": "Modules/Scripted/SampleData/SampleData.py",
    "DICOMLib": "Modules/Scripted/DICOMLib/",
    "DICOMScalarVolumePlugin": "Modules/Scripted/DICOMPlugins/DICOMScalarVolumePlugin.py",
}


def normalizedSignature(signature: str) -> str:
    """Return "name(type,type)": no parameter names, no defaults, no const references; as Qt writes it.

    "currentNodeChanged(vtkMRMLNode* node)" becomes "currentNodeChanged(vtkMRMLNode*)".
    """
    name, _, inside = signature.partition("(")
    types = []
    depth = 0
    part = ""
    for character in inside.rpartition(")")[0] + ",":
        depth += {"<": 1, "(": 1, ">": -1, ")": -1}.get(character, 0)
        if character != "," or depth > 0:
            part += character
            continue
        declared = part.partition("=")[0].replace("const ", " ").replace("&", " ").strip()
        declared = re.sub(r"\s*\*\s*", "* ", declared).strip()
        words = re.findall(r"[\w:]+<.*>\*?|[\w:]+\*?", declared)
        if words:
            isCompound = words[0] in ("unsigned", "long") and len(words) > 1
            types.append(" ".join(words[:2]) if isCompound else words[0])
        part = ""
    return f"{name.strip()}({','.join(types)})"


def _qtClass(raw: dict[str, Any]) -> dict[str, Any]:
    callables = [*raw["slots"], *raw["invokables"]]
    return {
        "base": raw["base"],
        "properties": raw["properties"],
        "signals": sorted(map(normalizedSignature, raw["signals"])),
        "methods": sorted({normalizedSignature(text) for text in callables if not text.startswith("qWarning")}),
    }


def _pythonModule(modules: dict[str, Any], place: str) -> dict[str, Any]:
    functions: list[str] = []
    classes: dict[str, Any] = {}
    for path, raw in modules.items():
        if path == place or (place.endswith("/") and path.startswith(place)):
            functions += raw["functions"]
            classes |= raw["classes"]
    public = {name: facts for name, facts in classes.items() if not name.startswith("_")}
    return {"functions": sorted(functions), "classes": public}


def main(folder: Path) -> None:
    """Write slicer_api.json from the two files in ``folder``."""
    qtFacts = json.loads((folder / "qt-classes.json").read_text())
    pythonFacts = json.loads((folder / "python-api.json").read_text())
    known = qtFacts["classes"]
    facts = {
        "source": qtFacts["source"],
        "slicer": re.search(r"\d+\.\d+\.\d+", qtFacts["source"]).group(),
        "qt": {name: _qtClass(known[name]) for name in sorted(QT_CLASSES) if name in known},
        "python": {name: _pythonModule(pythonFacts["modules"], place) for name, place in PYTHON_MODULES.items()},
    }
    lines = ["{", *(f' "{key}": {json.dumps(facts[key])},' for key in ("source", "slicer"))]
    for key, last in (("qt", False), ("python", True)):
        lines.append(f' "{key}": {{')
        rows = [f'  "{name}": {json.dumps(value)}' for name, value in facts[key].items()]
        lines += [row + "," for row in rows[:-1]] + rows[-1:]
        lines.append(" }" if last else " },")
    lines.append("}")
    (Path(__file__).parent / "slicer_api.json").write_text("\n".join(lines) + "\n")
    missing = sorted(set(QT_CLASSES) - set(known))
    print(f"not in {folder}: {' '.join(missing) or 'nothing'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
