"""PySide6's classes under PythonQt's rules: what ``import qt`` gives in Slicer.

Differences that matter, and that are imitated here: a Qt property is an attribute (``button.text``, not
``button.text()``); ``object.connect("clicked(bool)", function)`` names the signal; an attribute that does not exist
cannot be set either, so a misspelt property is an error.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from functools import cache
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from . import facts
from .copy_facts import normalizedSignature


class _FacadeType(type(QtCore.QObject)):
    """isinstance(x, qt.QWidget) holds for every QWidget, whichever module made it."""

    def __instancecheck__(cls, instance: Any) -> bool:
        real = cls.__dict__.get("_real")
        return isinstance(instance, real) if real is not None else type.__instancecheck__(cls, instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        real = cls.__dict__.get("_real")
        return issubclass(subclass, real) if real is not None else type.__subclasscheck__(cls, subclass)


#: Not empty while Qt builds a form's widgets.
formsBeingLoaded: list[str] = []


class Facade:
    """What PythonQt adds to every QObject."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # PySide looks for these two in the object's own class only, not in its bases.
        for name in ("connect", "disconnect"):
            if name not in cls.__dict__:
                setattr(cls, name, getattr(Facade, name))

    @property
    def name(self: Any) -> str:
        return QtCore.QObject.objectName(self)

    @name.setter
    def name(self: Any, value: str) -> None:
        QtCore.QObject.setObjectName(self, value)

    def className(self: Any) -> str:
        return slicerClassName(self)

    def delete(self: Any) -> None:
        QtCore.QObject.deleteLater(self)

    def connect(self: Any, signal: str, receiver: Any, slot: str | None = None) -> bool:
        """Call ``receiver`` (a function, or a QObject whose ``slot`` is named) whenever ``signal`` is emitted."""
        boundSignal, signature = _findSignal(self, signal)
        target = receiver if slot is None else getattr(receiver, slot.partition("(")[0])
        call = _caller(target, signature)
        # The lists of connections live as long as the object: PythonQt too holds its receivers strongly.
        self.__dict__.setdefault("_connections", []).append((signature, target, call))
        boundSignal.connect(call)
        return True

    def disconnect(self: Any, signal: str, receiver: Any, slot: str | None = None) -> bool:
        """Undo connect; False where there was no such connection."""
        boundSignal, signature = _findSignal(self, signal)
        target = receiver if slot is None else getattr(receiver, slot.partition("(")[0])
        connections = self.__dict__.get("_connections", [])
        for index, (otherSignature, otherTarget, call) in enumerate(connections):
            if otherSignature == signature and otherTarget == target:
                boundSignal.disconnect(call)
                del connections[index]
                return True
        return False

    def findChildren(self: Any, kind: Any = QtCore.QObject, name: str = "") -> list[Any]:
        """Return the children of a class (or of a class name) and, where given, of a name."""
        found = QtCore.QObject.findChildren(self, QtCore.QObject, name) if name else _descendants(self)
        if isinstance(kind, str):
            return [child for child in found if child.inherits(kind)]
        return [child for child in found if isinstance(child, kind)]

    def findChild(self: Any, kind: Any = QtCore.QObject, name: str = "") -> Any:
        """Return the first of findChildren, or None."""
        found = self.findChildren(kind, name)
        return found[0] if found else None

    def __setattr__(self: Any, attribute: str, value: Any) -> None:
        if formsBeingLoaded and not attribute.startswith("_") and isinstance(value, QtCore.QObject):
            return  # PySide makes every widget of a form an attribute of the form; PythonQt does not
        cls = type(self)
        isOwnClass = "_real" not in cls.__dict__ and "_slicerClass" not in cls.__dict__
        if not (isOwnClass or attribute.startswith("_") or hasattr(cls, attribute)):
            if attribute in [bytes(name.data()).decode() for name in QtCore.QObject.dynamicPropertyNames(self)]:
                self.setProperty(attribute, value)
                return
            raise facts.refusal(slicerClassName(self), attribute)
        super().__setattr__(attribute, value)


def _descendants(parent: Any) -> list[Any]:
    found: list[Any] = []
    for child in QtCore.QObject.children(parent):
        found.append(child)
        found += _descendants(child)
    return found


def slicerClassName(instance: Any) -> str:
    """Return the class name that the object would have in Slicer."""
    for cls in type(instance).__mro__:
        if "_slicerClass" in cls.__dict__:
            return cls.__dict__["_slicerClass"]
        if "_real" in cls.__dict__:
            return cls.__name__
    return type(instance).__name__


def _findSignal(instance: Any, signal: str) -> tuple[Any, str]:
    """Return the bound signal and its normalized signature; a signal that Slicer lacks is refused."""
    signature = normalizedSignature(signal)
    className = slicerClassName(instance)
    isOwn = instance.metaObject().indexOfSignal(signature) >= 0 and className not in facts.FACTS["qt"]
    if not isOwn and not facts.hasSignature(className, signature, "signals"):
        raise AttributeError(f"{className} has no signal {signature!r} in Slicer {facts.SLICER_VERSION}")
    bound = getattr(instance, signature.partition("(")[0])
    overload = getattr(type(instance), "_overloads", {}).get(signature)
    if overload is not None:
        return bound[overload], signature
    types_ = signature.partition("(")[2].rstrip(")")
    for python, qtName in ((int, "int"), (str, "QString"), (bool, "bool"), (float, "double")):
        if (types_ == qtName and f"({qtName})" in str(bound)) or (types_ == qtName and _hasOverload(bound, python)):
            return bound[python], signature
    return bound, signature


def _hasOverload(bound: Any, python: type) -> bool:
    try:
        bound[python]
    except (KeyError, IndexError):
        return False
    return True


def _caller(target: Callable[..., Any], signature: str) -> Callable[..., Any]:
    """Return a function that calls ``target`` with as many of the signal's arguments as it takes, as PythonQt does."""
    sent = 0 if signature.endswith("()") else signature.count(",") + 1
    code = getattr(getattr(target, "__func__", target), "__code__", None)
    if code is not None and not code.co_flags & inspect.CO_VARARGS:
        taken = code.co_argcount - (1 if inspect.ismethod(target) else 0)
        sent = min(sent, taken)

    def call(*arguments: Any) -> None:
        target(*arguments[:sent])

    return call


class _PropertyAttribute(property):
    """A Qt property as attribute; on the class it is the static function of that name, if there is one."""

    static: Any = None

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None and self.static is not None:
            return self.static  # QTimer.singleShot(ms, function), but timer.singleShot = True
        return super().__get__(instance, owner)


def _propertyAttribute(cls: type, name: str, isWritable: bool) -> property:
    capital = name[0].upper() + name[1:]
    prefixed = getattr(cls, f"is{capital}", None) or getattr(cls, f"has{capital}", None)
    named = getattr(cls, name, None)
    getter = prefixed or (named if callable(named) else None)
    setter = getattr(cls, f"set{capital}", None)

    def get(self: Any) -> Any:
        return getter(self) if getter is not None else QtCore.QObject.property(self, name)

    def put(self: Any, value: Any) -> None:
        if setter is not None:
            setter(self, value)
        else:
            QtCore.QObject.setProperty(self, name, value)

    attribute = _PropertyAttribute(get, put if isWritable else None)
    if prefixed is not None and type(named).__name__ == "builtin_function_or_method":
        attribute.static = named
    return attribute


@cache
def facade(cls: Any) -> Any:
    """Return ``cls`` (a QObject class of PySide6) under PythonQt's rules."""
    meta = cls.staticMetaObject
    members: dict[str, Any] = {"_real": cls, "__module__": "qt", "__doc__": None}
    for index in range(meta.propertyCount()):
        described = meta.property(index)
        members[described.name()] = _propertyAttribute(cls, described.name(), described.isWritable())
    if hasattr(cls, "exec"):
        members["exec_"] = lambda self, *arguments: self.exec(*arguments)
    return _FacadeType(cls.__name__, (Facade, cls), members)


def qtModule(overrides: dict[str, Any]) -> types.ModuleType:
    """Return the module that ``import qt`` finds.

    :param overrides: classes to use instead of Qt's own, by name.
    """
    module = types.ModuleType("qt")
    module.Qt = QtCore.Qt

    def getClass(name: str) -> Any:
        cls = facts.qtClass(name) if name.startswith("Q") else None
        if cls is None:
            raise AttributeError(f"module 'qt' has no {name!r}")
        isObject = isinstance(cls, type) and issubclass(cls, QtCore.QObject)
        made = facade(cls) if isObject else cls
        setattr(module, name, made)
        return made

    module.__getattr__ = getClass
    for name, value in overrides.items():
        setattr(module, name, value)
    return module


#: Base classes of the stand-ins.
QWidget = facade(QtWidgets.QWidget)
QObject = facade(QtCore.QObject)
QAbstractButton = facade(QtWidgets.QAbstractButton)
QApplication = facade(QtWidgets.QApplication)
QComboBox = facade(QtWidgets.QComboBox)
QCheckBox = facade(QtWidgets.QCheckBox)
QPushButton = facade(QtWidgets.QPushButton)
QMessageBox = facade(QtWidgets.QMessageBox)
QTextBrowser = facade(QtWidgets.QTextBrowser)
QMainWindow = facade(QtWidgets.QMainWindow)
QAction = facade(QtGui.QAction)
