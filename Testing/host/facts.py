"""What Slicer's real classes offer to Python, from slicer_api.json; and how a name they lack is refused."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from .copy_facts import normalizedSignature

FACTS: dict[str, Any] = json.loads((Path(__file__).parent / "slicer_api.json").read_text())
#: Classes that the lists leave out, read in the header that is named.
FACTS["qt"]["qSlicerDICOMExportable"] = {  # Modules/Scripted/DICOMLib/Widgets/qSlicerDICOMExportable.h
    "base": "QObject",
    "properties": {
        **dict.fromkeys(("name", "tooltip", "pluginClass", "directory"), "QString"),
        "subjectHierarchyItemID": "vtkIdType",
        "confidence": "double",
        "tags": "TagsMap",
    },
    "signals": [],
    "methods": ["setTag(QString,QString)", "tag(QString)"],
}
SLICER_VERSION: str = FACTS["slicer"]

#: Names that PythonQt or Slicer's decorators add, or that the lists leave out, with their source.
EXTRA_MEMBERS: dict[str, dict[str, str]] = {
    "QObject": {
        "name": "slicer.util.childWidgetVariables reads child.name: PythonQt's alias of objectName",
        "className": "slicer.util.findChildren calls it: PythonQt's QObject decorator",
        "delete": "PythonQt's QObject decorator (PythonQtStdDecorators.h)",
    },
    "ctkPathLineEdit": dict.fromkeys(
        ("Dirs", "Files", "Readable", "Writable", "Executable", "NoDot", "NoDotDot"), "ctkPathLineEdit.h, enum Filter"
    ),
    "QDialog": {"exec_": "slicer.util.messageBox calls it: PythonQt's spelling of exec"},
    "qSlicerCoreApplication": {
        "testingEnabled": "qSlicerBaseQTCorePythonQtDecorators.h",
        "translate": "slicer.i18n.translate calls it: QCoreApplication::translate",
    },
    "qSlicerAbstractCoreModule": {
        "widgetRepresentation": "qSlicerBaseQTGUIPythonQtDecorators.h",
        "createNewWidgetRepresentation": "qSlicerBaseQTGUIPythonQtDecorators.h",
    },
    "qSlicerAbstractModuleWidget": {"module": "qSlicerBaseQTGUIPythonQtDecorators.h"},
}


@cache
def qtClass(name: str) -> type | None:
    """Return PySide6's class of that name, or None."""
    for module in (QtWidgets, QtGui, QtCore, QtUiTools):
        if hasattr(module, name):
            return getattr(module, name)
    return None


def ancestry(name: str) -> list[str]:
    """Return ``name`` and the classes it derives from, nearest first, as far as they are known.

    The last is a Qt class (or the last that is in the lists).
    """
    names = [name]
    while names[-1] in FACTS["qt"]:
        names.append(FACTS["qt"][names[-1]]["base"])
    return names


def isKnown(name: str) -> bool:
    """Whether ``name`` is a class of the lists or one of Qt's."""
    return name in FACTS["qt"] or qtClass(name) is not None


@cache
def members(name: str) -> frozenset[str]:
    """Return every name that Python code may use on an object of class ``name``."""
    found: set[str] = set()
    for ancestor in ancestry(name):
        facts = FACTS["qt"].get(ancestor)
        if facts is not None:
            found |= set(facts["properties"])
            found |= {text.partition("(")[0] for text in (*facts["signals"], *facts["methods"])}
        elif (cls := qtClass(ancestor)) is not None:
            found |= qtMembers(ancestor)
            for base in cls.__mro__:
                found |= set(EXTRA_MEMBERS.get(base.__name__, ()))
        found |= set(EXTRA_MEMBERS.get(ancestor, ()))
    return frozenset(found)


@cache
def qtMembers(name: str) -> frozenset[str]:
    """Return the attributes and Qt properties of one of PySide6's classes."""
    cls: Any = qtClass(name)
    found = {attribute for attribute in dir(cls) if not attribute.startswith("_")}
    if hasattr(cls, "staticMetaObject"):
        meta = cls.staticMetaObject
        found |= {meta.property(index).name() for index in range(meta.propertyCount())}
    return frozenset(found)


@cache
def properties(name: str) -> dict[str, str]:
    """Return the properties of a class of the lists with their types, its bases' included; not Qt's own."""
    found: dict[str, str] = {}
    for ancestor in reversed(ancestry(name)):
        found |= FACTS["qt"].get(ancestor, {}).get("properties", {})
    return found


@cache
def _metaSignatures(name: str, kind: str) -> frozenset[str]:
    cls: Any = qtClass(name)
    if not hasattr(cls, "staticMetaObject"):
        return frozenset()
    meta = cls.staticMetaObject
    methods = [meta.method(index) for index in range(meta.methodCount())]
    isSignal = QtCore.QMetaMethod.MethodType.Signal
    return frozenset(
        bytes(method.methodSignature().data()).decode()
        for method in methods
        if (method.methodType() == isSignal) == (kind == "signals")
    )


def hasSignature(name: str, signature: str, kind: str) -> bool:
    """Whether class ``name`` has a signal ("signals") or slot ("methods") of exactly this signature.

    :param signature: for example "clicked(bool)"; parameter names and const references do not count.
    """
    wanted = normalizedSignature(signature)
    for ancestor in ancestry(name):
        facts = FACTS["qt"].get(ancestor)
        if wanted in (facts[kind] if facts is not None else _metaSignatures(ancestor, kind)):
            return True
        # The setter of a property may be a slot that the list names without its type.
        if facts is not None and kind == "methods" and wanted.startswith("set") and wanted in facts["methods"]:
            return True
    return False


def refusal(name: str, attribute: str) -> AttributeError:
    """Return the error for an attribute that the real class lacks."""
    return AttributeError(f"{name} has no attribute {attribute!r} in Slicer {SLICER_VERSION}")
