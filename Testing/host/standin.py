"""Stand-ins for classes of ctk and Slicer: they have the names of the real classes, and no others."""

from __future__ import annotations

from typing import Any, TypeVar

from PySide6 import QtCore

from . import facts, pythonqt

_Class = TypeVar("_Class", bound=type)


class StandIn:
    """Refuses, on reading and writing, every public attribute that the real class lacks.

    A name that the real class has and the stand-in does not is another error: what the test needs is missing here.
    """

    _slicerClass: str

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        raise _missing(type(self)._slicerClass, attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        isKnown = attribute.startswith("_") or hasattr(type(self), attribute)
        if not isKnown and not pythonqt.formsBeingLoaded:
            raise _missing(type(self)._slicerClass, attribute)
        super().__setattr__(attribute, value)

    def setProperty(self, attribute: str, value: Any) -> bool:
        """Set a property of Slicer's class, else one of Qt's, else a dynamic one."""
        if attribute in facts.properties(self._slicerClass):
            setattr(self, attribute, value)
            return True
        return QtCore.QObject.setProperty(self, attribute, value)

    def property(self, attribute: str) -> Any:
        """Return a property of Slicer's class, else one of Qt's, else a dynamic one."""
        if attribute in facts.properties(self._slicerClass):
            return getattr(self, attribute)
        return QtCore.QObject.property(self, attribute)


def _missing(className: str, attribute: str) -> Exception:
    if attribute in facts.members(className):
        # Not an AttributeError: hasattr must not quietly say that Slicer lacks it.
        return NotImplementedError(f"{className}.{attribute} exists in Slicer, but not in Testing/host: add it there")
    return facts.refusal(className, attribute)


def standsFor(name: str) -> Any:
    """Mark a class as stand-in for the real class ``name``; its public names must be the real ones."""

    def mark(cls: _Class) -> _Class:
        allowed = facts.members(name)
        for attribute, value in vars(cls).items():
            # Virtual functions of Qt that are overridden are no names of their own.
            if not attribute.startswith("_") and attribute != "staticMetaObject" and attribute not in allowed:
                raise TypeError(f"stand-in {cls.__name__}: {name} has no {attribute!r} ({value!r})")
        cls._slicerClass = name
        return cls

    return mark
