"""The form loader: makes the stand-ins that a .ui file names, and its connections, which Qt cannot make for them."""

from __future__ import annotations

import logging
from typing import Any
from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import ctk_widgets, facts, mrml_widgets, pythonqt
from .copy_facts import normalizedSignature


class QUiLoader(QtUiTools.QUiLoader):
    """qt.QUiLoader: an unknown class, property, signal or slot in a form is an error."""

    def createWidget(self, className: str, parent: Any = None, name: str = "") -> Any:
        """Return a new widget; called by Qt for every widget of the form."""
        cls = ctk_widgets.CLASSES.get(className) or mrml_widgets.CLASSES.get(className)
        if cls is None and isinstance(getattr(QtWidgets, className, None), type):
            cls = pythonqt.facade(getattr(QtWidgets, className))
        if cls is None:
            raise NotImplementedError(f"{className} is not in Testing/host")
        widget = cls(parent)
        widget.setObjectName(name)
        self._keep(widget)
        return widget

    def createLayout(self, className: str, parent: Any = None, name: str = "") -> Any:
        """Return a new layout; called by Qt for every layout of the form."""
        cls = pythonqt.facade(getattr(QtWidgets, className))
        layout = cls(parent) if isinstance(parent, QtWidgets.QWidget) else cls()
        layout.setObjectName(name)
        self._keep(layout)
        return layout

    def _keep(self, made: Any) -> None:
        # Python's side of each object must live as long as the form.
        self._kept.append(made)

    def load(self, device: Any, parent: Any = None) -> Any:
        """Return the form's widget.

        :param device: an open QFile.
        """
        self._kept: list[Any] = []
        form = ElementTree.fromstring(bytes(device.readAll().data()))
        own = _takeOwnProperties(form)
        connections = form.find("connections")
        found = [] if connections is None else list(connections)
        if connections is not None:
            form.remove(connections)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(form))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        pythonqt.formsBeingLoaded.append("a form")
        widget = super().load(buffer, parent)
        pythonqt.formsBeingLoaded.pop()
        if widget is None:
            logging.error(self.errorString())
            return None
        widget._kept = self._kept
        for name, attribute, value in own:
            setattr(_named(widget, name), attribute, value)
        for connection in found:
            _connect(widget, connection)
        return widget


def _takeOwnProperties(form: ElementTree.Element) -> list[tuple[str, str, Any]]:
    """Take the properties that Slicer's classes have of their own out of the form; Qt knows only its classes'."""
    taken = []
    for widget in form.iter("widget"):
        className, name = widget.get("class", ""), widget.get("name", "")
        for element in widget.findall("property"):
            attribute = element.get("name", "")
            if element.get("stdset") == "0":
                continue
            if attribute not in facts.members(className):
                raise facts.refusal(className, attribute)
            if attribute in facts.properties(className):
                widget.remove(element)
                taken.append((name, attribute, _value(className, element[0])))
    return taken


def _value(className: str, element: ElementTree.Element) -> Any:
    text = element.text or ""
    converters = {"bool": lambda t: t == "true", "number": int, "double": float, "string": str, "cstring": str}
    if element.tag in converters:
        return converters[element.tag](text)
    if element.tag == "stringlist":
        return [child.text or "" for child in element]
    if element.tag in ("enum", "set"):
        total: Any = 0
        for part in filter(None, text.split("|")):
            total |= _constant(className, part)
        return total
    raise NotImplementedError(f"property of kind <{element.tag}> of {className} is not in Testing/host")


def _constant(className: str, text: str) -> Any:
    """Return the value of "Qt::AlignRight" or "ctkPathLineEdit::Files"."""
    owner, _, key = text.rpartition("::")
    if owner == "Qt":
        return getattr(QtCore.Qt, key)
    cls: Any = ctk_widgets.CLASSES.get(owner.split("::")[0]) or facts.qtClass(owner.split("::")[0])
    if not hasattr(cls, key):
        raise facts.refusal(owner or className, key)
    return getattr(cls, key)


def _named(form: Any, name: str) -> Any:
    return form if form.name == name else form.findChild(QtCore.QObject, name)


def _connect(form: Any, connection: ElementTree.Element) -> None:
    names = {tag: connection.findtext(tag, "") for tag in ("sender", "signal", "receiver", "slot")}
    sender, receiver = _named(form, names["sender"]), _named(form, names["receiver"])
    if sender is None or receiver is None:
        raise AttributeError(f"the form's connection names a widget that it lacks: {names}")
    className = pythonqt.slicerClassName(receiver)
    if not facts.hasSignature(className, names["slot"], "methods"):
        raise facts.refusal(className, normalizedSignature(names["slot"]))
    sender.connect(names["signal"], receiver, names["slot"])
