"""Walks Python files and forms for names of Qt, ctk and Slicer, and complains about those that do not exist.

What is looked at in Python: everything reached from ``qt``, ``ctk`` and ``slicer``; what is made of their classes; the
widgets of the forms (``ui.name`` and ``self._ui.name``); signals named in ``connect``; calls of Slicer's Python
functions with their arguments.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import slicer
import slicer.util
from PySide6 import QtCore

from . import facts

#: Classes of what methods return, as far as modules go on from there.
RETURNS = {
    ("qSlicerApplication", "layoutManager"): "qSlicerLayoutManager",
    ("qSlicerApplication", "moduleManager"): "qSlicerModuleManager",
    ("qSlicerApplication", "commandOptions"): "qSlicerCommandOptions",
    ("qSlicerCoreApplication", "extensionsManagerModel"): "qSlicerExtensionsManagerModel",
    ("qSlicerApplication", "settings"): "QSettings",
    ("qSlicerApplication", "userSettings"): "QSettings",
    ("qSlicerApplication", "ioManager"): "qSlicerIOManager",
    ("qSlicerLayoutManager", "sliceWidget"): "qMRMLSliceWidget",
    ("qSlicerLayoutManager", "threeDWidget"): "qMRMLThreeDWidget",
    ("qSlicerLayoutManager", "plotWidget"): "qMRMLPlotWidget",
    ("qSlicerLayoutManager", "tableWidget"): "qMRMLTableWidget",
    ("qMRMLSliceWidget", "sliceView"): "qMRMLSliceView",
    ("qMRMLSliceWidget", "sliceController"): "qMRMLSliceControllerWidget",
    ("qMRMLThreeDWidget", "threeDView"): "qMRMLThreeDView",
    ("qMRMLPlotWidget", "plotView"): "qMRMLPlotView",
    ("QApplication", "clipboard"): "QClipboard",
    ("qSlicerApplication", "clipboard"): "QClipboard",
}
#: Attributes of the module ``slicer`` that slicer-core has not, with the class of what they are.
SLICER_OBJECTS = {
    "app": "qSlicerApplication",
    "mrmlScene": "vtkMRMLScene",
    "modules": "",
    "selfTests": "",
    "dicomDatabase": "",
}
#: Names in slicer.util that are neither functions nor classes.
UTIL_CONSTANTS = {"EXIT_SUCCESS", "EXIT_FAILURE", "DATA_STORE_URL", "TESTING_DATA_URL"}
#: In Qt 6, but not in Slicer's Qt 5.15.
QT6_ONLY = {
    "QCheckBox": {"checkStateChanged"},
    "QLabel": {"resourceProvider", "setResourceProvider"},
    "QWidget": {"setScreen"},
    "QFont": {"setFamilies", "families"},
    "QComboBox": {"labelDrawingMode", "setLabelDrawingMode"},
    "QColor": {"isValidColorName", "fromString"},
}


class _Walker(ast.NodeVisitor):
    def __init__(self, path: str, widgets: dict[str, str]) -> None:
        self._path, self._widgets = path, widgets
        self._classes: dict[str, str] = {}  # "self._timer" and the like: class of what was assigned
        self.complaints: list[str] = []

    def complain(self, node: ast.AST, text: str) -> None:
        line = f"{self._path}:{getattr(node, 'lineno', 0)}: {text}"
        if line not in self.complaints:
            self.complaints.append(line)

    # What an expression is

    def classOf(self, node: ast.AST) -> str:
        """Return the class of a value; "" where that is not known."""
        if isinstance(node, ast.Call):
            called = _dotted(node.func)
            if called.startswith(("qt.Q", "ctk.ctk", "slicer.q")) and called.count(".") == 1:
                return called.partition(".")[2]
            if isinstance(node.func, ast.Attribute):
                owner = self.classOf(node.func.value) or _dotted(node.func.value).removeprefix("qt.")
                for ancestor in facts.ancestry(owner) if owner else []:
                    if (ancestor, node.func.attr) in RETURNS:
                        return RETURNS[ancestor, node.func.attr]
            return ""
        name = _dotted(node)
        if name.startswith("slicer.") and name.count(".") == 1:
            return SLICER_OBJECTS.get(name.partition(".")[2], "")
        widget = re.fullmatch(r"(?:self\.)?_?ui\.(\w+)", name)
        return self._widgets.get(widget.group(1), "") if widget else self._classes.get(name, "")

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        made = self.classOf(node.value)
        for target in node.targets:
            if (name := _dotted(target)) and (made or name in self._classes):
                self._classes[name] = made

    # Names

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level == 0 and node.module in facts.FACTS["python"]:
            for alias in node.names:
                if alias.name not in _pythonNames(node.module):
                    self.complain(node, f"{node.module} has no {alias.name!r}")
        elif node.level == 0 and node.module in ("qt", "ctk"):
            for alias in node.names:
                self._checkModule(node, [node.module, alias.name])
        elif node.level == 0 and node.module == "slicer":
            for alias in node.names:
                self._checkModule(node, ["slicer", alias.name])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        parts = _dotted(node).split(".")
        if parts[0] in ("qt", "ctk", "slicer") and len(parts) > 1:
            self._checkModule(node, parts)
        owner = self.classOf(node.value)
        if owner.startswith("vtk"):
            if not hasattr(getattr(slicer, owner), node.attr):
                self.complain(node, f"{owner} has no {node.attr!r}")
        elif owner and facts.isKnown(owner):
            self._checkMember(node, owner, node.attr)
        self.generic_visit(node)

    def _checkMember(self, node: ast.AST, owner: str, attribute: str) -> None:
        ancestors = facts.ancestry(owner)
        bases = [base.__name__ for base in (facts.qtClass(ancestors[-1]) or object).__mro__]
        if attribute not in facts.members(owner):
            self.complain(node, f"{owner} has no {attribute!r}")
        elif any(attribute in QT6_ONLY.get(base, ()) for base in (*ancestors, *bases)):
            self.complain(node, f"{owner}.{attribute} is in Qt 6 only")

    def _checkModule(self, node: ast.AST, parts: list[str]) -> None:
        module, name = parts[0], parts[1]
        if module == "qt":
            cls: Any = QtCore.Qt if name == "Qt" else facts.qtClass(name) if name.startswith("Q") else None
            if cls is None:
                self.complain(node, f"qt has no {name!r}")
            elif len(parts) > 2 and not hasattr(cls, parts[2]) and parts[2] not in facts.members(name):
                self.complain(node, f"qt.{name} has no {parts[2]!r}")
            elif len(parts) > 3 and isinstance(getattr(cls, parts[2], None), type):
                self.complain(node, f"PythonQt has qt.{name}.{parts[3]}, without {parts[2]!r}")
        elif module == "ctk":
            if name not in facts.FACTS["qt"]:
                self.complain(node, f"ctk has no {name!r} (or copy_facts.QT_CLASSES lacks it)")
        elif name in ("util", "packaging", "i18n", "testing", "parameterNodeWrapper", "ScriptedLoadableModule"):
            if len(parts) > 2 and parts[2] not in _pythonNames(f"slicer.{name}"):
                self.complain(node, f"slicer.{name} has no {parts[2]!r}")
        elif name.startswith(("qMRML", "qSlicer")):
            if name not in facts.FACTS["qt"]:
                self.complain(node, f"slicer has no {name!r} (or copy_facts.QT_CLASSES lacks it)")
        elif name not in SLICER_OBJECTS and not hasattr(slicer, name):
            self.complain(node, f"slicer has no {name!r}")

    # Calls

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        function = node.func
        if not isinstance(function, ast.Attribute):
            return
        owner = self.classOf(function.value)
        if function.attr in ("connect", "disconnect") and node.args and isinstance(node.args[0], ast.Constant):
            self._checkSignal(node, owner, str(node.args[0].value))
        elif owner and _isProperty(owner, function.attr):
            self.complain(node, f"{owner}.{function.attr} is a property: PythonQt has it without parentheses")
        parts = _dotted(function).split(".")
        if len(parts) == 3 and parts[0] == "slicer":
            self._checkArguments(node, f"slicer.{parts[1]}", parts[2])

    def _checkSignal(self, node: ast.AST, owner: str, signal: str) -> None:
        if owner and facts.isKnown(owner):
            if not facts.hasSignature(owner, signal, "signals"):
                self.complain(node, f"{owner} has no signal {signal!r}")
        elif not any(facts.hasSignature(name, signal, "signals") for name in _allClasses()):
            self.complain(node, f"no class has a signal {signal!r}")

    def _checkArguments(self, node: ast.Call, module: str, function: str) -> None:
        declared = _signatures(module).get(function)
        if declared is None or any(isinstance(argument, ast.Starred) for argument in node.args):
            return
        keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg is not None}
        try:
            if any(keyword.arg is None for keyword in node.keywords):
                declared.bind_partial(*node.args, **keywords)
            else:
                declared.bind(*node.args, **keywords)
        except TypeError as error:
            self.complain(node, f"{module}.{function}{declared}: {error}")


def _dotted(node: ast.AST) -> str:
    """Return "a.b.c" for names and attributes, else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def _pythonNames(module: str) -> set[str]:
    known = facts.FACTS["python"][module]
    names = {text.partition("(")[0] for text in known["functions"]} | set(known["classes"])
    return names | (UTIL_CONSTANTS if module == "slicer.util" else set())


def _signatures(module: str) -> dict[str, inspect.Signature]:
    found = {}
    for text in facts.FACTS["python"].get(module, {"functions": []})["functions"]:
        try:
            tree: Any = ast.parse(f"def {re.sub(r'->.*', '', text)}: pass").body[0]
        except SyntaxError:
            continue
        namespace: dict[str, Any] = {}
        # Only names and whether there is a default count.
        declared = tree.args
        for argument in (*declared.posonlyargs, *declared.args, *declared.kwonlyargs):
            argument.annotation = None
        declared.defaults = [ast.Constant(None) for _ in declared.defaults]
        declared.kw_defaults = [value and ast.Constant(None) for value in declared.kw_defaults]
        for star in (declared.vararg, declared.kwarg):
            if star is not None:
                star.annotation = None
        exec(ast.unparse(tree), namespace)
        found[tree.name] = inspect.signature(namespace[tree.name])
    return found


def _isProperty(owner: str, attribute: str) -> bool:
    if attribute in facts.properties(owner):
        return True
    cls: Any = facts.qtClass(facts.ancestry(owner)[-1])
    if not hasattr(cls, "staticMetaObject"):
        return False
    return cls.staticMetaObject.indexOfProperty(attribute) >= 0 and attribute != "singleShot"


def _allClasses() -> list[str]:
    common = (
        "QAbstractButton QAbstractItemView QAction QApplication QClipboard QComboBox QDialog QDoubleSpinBox QLabel"
    )
    more = "QLineEdit QListWidget QPlainTextEdit QShortcut QSlider QSpinBox QTabWidget QTableWidget QTextEdit QTimer"
    return [*facts.FACTS["qt"], *common.split(), *more.split()]


def complaintsOfPython(source: str, path: str, widgets: dict[str, str]) -> list[str]:
    """Return one line for each name that does not exist.

    :param source: Python code.
    :param path: what to call it.
    :param widgets: class of each widget of the forms, by name.
    """
    walker = _Walker(path, widgets)
    walker.visit(ast.parse(source))
    return walker.complaints


def widgetsOfForm(path: Path) -> dict[str, str]:
    """Return the class of each widget of a form by its name."""
    return {widget.get("name", ""): widget.get("class", "") for widget in ElementTree.parse(path).iter("widget")}


def complaintsOfForm(source: str, path: str) -> list[str]:
    """Return one line for each class, property, value, signal and slot of a .ui file that does not exist."""
    form = ElementTree.fromstring(source)
    complaints = [f"{path}: {text}" for text in _formComplaints(form)]
    return list(dict.fromkeys(complaints))


def _formComplaints(form: ElementTree.Element) -> Iterator[str]:
    classes = {element.get("name", ""): element.get("class", "") for element in form.iter("widget")}
    listed = {custom.findtext("class", ""): custom.findtext("extends", "") for custom in form.iter("customwidget")}
    for name, className in classes.items():
        if not facts.isKnown(className):
            yield f"{name}: there is no class {className!r}"
        elif className in facts.FACTS["qt"] and className not in listed:
            yield f"{name}: {className} is not among the form's custom widgets"
    for element in (*form.iter("widget"), *form.iter("layout"), *form.iter("action")):
        className = element.get("class", "QAction")
        for described in element.findall("property"):
            name = element.get("name", "")
            if described.get("name") == "buddy":  # Qt Designer's way to name the widget that a label is for
                if described.findtext("cstring") not in classes:
                    yield f"{name}: there is no widget for buddy {described.findtext('cstring')!r}"
            else:
                yield from _propertyComplaints(name, className, described)
    for connection in form.iter("connection"):
        for who, what, kind in (("sender", "signal", "signals"), ("receiver", "slot", "methods")):
            name, signature = connection.findtext(who, ""), connection.findtext(what, "")
            if name not in classes:
                yield f"connection: there is no widget {name!r}"
            elif facts.isKnown(classes[name]) and not facts.hasSignature(classes[name], signature, kind):
                yield f"connection: {classes[name]} has no {what} {signature!r}"


def _propertyComplaints(name: str, className: str, described: ElementTree.Element) -> Iterator[str]:
    attribute = described.get("name", "")
    if described.get("stdset") == "0" or not facts.isKnown(className):
        return
    # Qt Designer's own names of a layout's margins.
    if attribute in ("leftMargin", "topMargin", "rightMargin", "bottomMargin", "margin", "horizontalSpacing"):
        return
    if not _isProperty(className, attribute):
        yield f"{name}: {className} has no property {attribute!r}"
        return
    if facts.properties(className).get(attribute, "").endswith("(read only)"):
        yield f"{name}: {className}.{attribute} cannot be set"
    for value in (*described.iter("enum"), *described.iter("set")):
        for part in filter(None, (value.text or "").split("|")):
            owner, _, key = part.rpartition("::")
            owner = owner.split("::")[0]
            cls: Any = QtCore.Qt if owner == "Qt" else facts.qtClass(owner)
            if not hasattr(cls, key) and (owner not in facts.FACTS["qt"] or key not in facts.members(owner)):
                yield f"{name}: there is no {part!r}"
