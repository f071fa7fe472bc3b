"""What slicer.parameterNodeWrapper keeps in a parameter node: types, checks of values, and how they are stored.

Stored as in Slicer, so that scenes are alike: text under the parameter's name, nodes as references, members of packs
and lists under "name.member".
"""

from __future__ import annotations

import collections.abc
import enum
import pathlib
import types
import typing
from dataclasses import dataclass
from typing import Any

import slicer
import slicer.util


class Validator:
    """A condition on a value."""

    def validate(self, value: Any) -> None:
        """Raise ValueError for a value that is not allowed."""
        raise NotImplementedError


class NotNone(Validator):
    def validate(self, value: Any) -> None:
        if value is None:
            raise ValueError("Value must not be None")


@dataclass
class IsInstance(Validator):
    classtype: Any

    def validate(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"Value must be of type {self.classtype}, is {type(value)}: {value!r}")


@dataclass
class WithinRange(Validator):
    minimum: Any
    maximum: Any

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within [{self.minimum}, {self.maximum}], is {value}")


@dataclass
class Minimum(Validator):
    minimum: Any

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, is {value}")


@dataclass
class Maximum(Validator):
    maximum: Any

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, is {value}")


@dataclass
class Choice(Validator):
    choices: Any

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value must be one of {self.choices}, is {value!r}")


@dataclass
class Exclude(Validator):
    excludedValues: Any

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            raise ValueError(f"Value must not be one of {self.excludedValues}, is {value!r}")


@dataclass
class Default:
    value: Any = None


@dataclass
class Decimals:
    value: int


@dataclass
class SingleStep:
    value: float


@dataclass
class Label:
    label: str


def splitAnnotations(kind: Any) -> tuple[Any, list[Any]]:
    """Return the bare type and its annotations."""
    if typing.get_origin(kind) is typing.Annotated:
        bare, *annotations = typing.get_args(kind)
        return bare, annotations
    return kind, []


def annotation(kind: Any, which: type) -> Any:
    """Return the first annotation of class ``which``, or None."""
    return next((found for found in splitAnnotations(kind)[1] if isinstance(found, which)), None)


def isParameterPack(thing: Any) -> bool:
    """Whether a class or object was made by parameterPack."""
    return getattr(thing, "_is_parameterPack", False)


class Store:
    """How values of one type are kept in a parameter node.

    Args:
        kind: The type, possibly annotated with validators.
    """

    def __init__(self, kind: Any) -> None:
        self.kind, annotations = splitAnnotations(kind)
        self.validators = [found for found in annotations if isinstance(found, Validator)]
        origin = typing.get_origin(self.kind)
        options = typing.get_args(self.kind) if origin in (typing.Union, types.UnionType) else ()
        self.isOptional = bool(options)
        if self.isOptional:
            if len(options) != 2 or options[1] is not type(None):
                raise NotImplementedError(f"parameters of type {kind} are not in Testing/host")
            self.inner: Any = Store(options[0])
        elif origin is list:
            self.inner = Store(typing.get_args(self.kind)[0])
        elif not self._isPlain():
            raise NotImplementedError(f"parameters of type {kind} are not in Testing/host")

    @property
    def isNode(self) -> bool:
        return isinstance(self.kind, type) and issubclass(self.kind, slicer.vtkMRMLNode)

    @property
    def isEnum(self) -> bool:
        return isinstance(self.kind, type) and issubclass(self.kind, enum.Enum)

    @property
    def isList(self) -> bool:
        return typing.get_origin(self.kind) is list

    def _isPlain(self) -> bool:
        isPath = isinstance(self.kind, type) and issubclass(self.kind, pathlib.PurePath)
        return (
            self.kind in (int, float, str, bool) or isPath or self.isNode or self.isEnum or isParameterPack(self.kind)
        )

    def default(self) -> Any:
        """Return the value of a parameter that declares none."""
        if self.isOptional or self.isNode:
            return None
        if self.isList:
            return []
        return next(iter(self.kind)) if self.isEnum else self.kind()

    def validate(self, value: Any) -> None:
        """Raise ValueError or TypeError where ``value`` must not be stored."""
        if self.isOptional:
            if value is not None:
                self.inner.validate(value)
        elif not self.isList:
            if not self.isNode:
                NotNone().validate(value)
            IsInstance((int, float) if self.kind is float else self.kind).validate(value)
        for validator in self.validators:
            validator.validate(value)

    def isIn(self, node: Any, name: str) -> bool:
        """Whether the parameter node has a value."""
        if self.isOptional:
            return node.HasParameter(f"{name}.1") or self.inner.isIn(node, f"{name}.0")
        if self.isList:
            return node.HasParameter(f"{name}.len")
        if isParameterPack(self.kind):
            first, store = next(iter(self.kind._stores.items()))
            return store.isIn(node, f"{name}.{first}")
        return node.HasParameter(name)

    def write(self, node: Any, name: str, value: Any) -> None:
        """Store a value; observers of the node are called once."""
        self.validate(value)
        with slicer.util.NodeModify(node):
            if self.isOptional:
                self.remove(node, name)
                if value is None:
                    node.SetParameter(f"{name}.1", "True")
                else:
                    self.inner.write(node, f"{name}.0", value)
            elif self.isList:
                self.remove(node, name)
                for index, element in enumerate(value):
                    self.inner.write(node, f"{name}.{index}", element)
                node.SetParameter(f"{name}.len", str(len(value)))
            elif isParameterPack(self.kind):
                for member, store in self.kind._stores.items():
                    store.write(node, f"{name}.{member}", getattr(value, member))
            elif self.isNode:
                node.SetParameter(name, "")
                node.SetNodeReferenceID(name, value.GetID() if value is not None else None)
            else:
                node.SetParameter(name, value.name if self.isEnum else str(value))

    def read(self, node: Any, name: str) -> Any:
        """Return the value; lists and packs write back what is changed in them."""
        if self.isOptional:
            return None if node.HasParameter(f"{name}.1") else self.inner.read(node, f"{name}.0")
        if self.isList:
            length = int(node.GetParameter(f"{name}.len"))
            elements = [self.inner.read(node, f"{name}.{index}") for index in range(length)]
            return ObservedList(elements, lambda values: self.write(node, name, values))
        if isParameterPack(self.kind):
            pack = self.kind()
            for member, store in self.kind._stores.items():
                pack._values[member] = store.read(node, f"{name}.{member}")
            pack.__dict__["_save"] = lambda: self.write(node, name, pack)
            return pack
        if self.isNode:
            return node.GetNodeReference(name)
        text = node.GetParameter(name)
        if self.kind is bool:
            return text == "True"
        return self.kind[text] if self.isEnum else self.kind(text)

    def remove(self, node: Any, name: str) -> None:
        """Forget the value."""
        if self.isOptional:
            node.UnsetParameter(f"{name}.1")
            if self.inner.isIn(node, f"{name}.0"):
                self.inner.remove(node, f"{name}.0")
        elif self.isList:
            for index in range(int(node.GetParameter(f"{name}.len") or 0)):
                self.inner.remove(node, f"{name}.{index}")
            node.UnsetParameter(f"{name}.len")
        else:
            if self.isNode:
                node.RemoveNodeReferenceIDs(name)
            node.UnsetParameter(name)


class ObservedList(collections.abc.MutableSequence):
    """A list in the parameter node: every change is stored at once."""

    def __init__(self, values: list[Any], save: Any) -> None:
        self._list, self._save = values, save

    def __len__(self) -> int:
        return len(self._list)

    def __getitem__(self, index: Any) -> Any:
        return self._list[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._list[index] = value
        self._save(self._list)

    def __delitem__(self, index: Any) -> None:
        del self._list[index]
        self._save(self._list)

    def insert(self, index: int, item: Any) -> None:
        self._list.insert(index, item)
        self._save(self._list)

    def __eq__(self, other: object) -> bool:
        return self._list == (other._list if isinstance(other, ObservedList) else other)

    __hash__ = None

    def __repr__(self) -> str:
        return f"ObservedList({self._list})"


def declaredParameters(cls: type) -> dict[str, tuple[Any, Any]]:
    """Return type and default of every annotated name of a class, in order."""
    found = {}
    for name, kind in typing.get_type_hints(cls, include_extras=True).items():
        declared = annotation(kind, Default)
        ownDefault = declared.value if declared is not None else Store(kind).default()
        found[name] = (kind, getattr(cls, name, ownDefault))
    return found


def parameterPack(classtype: Any = None) -> Any:
    """Class decorator: a group of parameters, "sampling.steps"."""
    if classtype is None:
        return parameterPack
    declared = declaredParameters(classtype)
    classtype._stores = {name: Store(kind) for name, (kind, _default) in declared.items()}
    classtype._kinds = {name: kind for name, (kind, _default) in declared.items()}
    classtype._is_parameterPack = True
    defaults = {name: default for name, (_kind, default) in declared.items()}

    def init(self: Any, *values: Any, **named: Any) -> None:
        unknown = set(named) - set(defaults)
        if unknown:
            raise TypeError(f"__init__() got an unexpected keyword argument {unknown.pop()!r}")
        given = {**defaults, **dict(zip(defaults, values, strict=False)), **named}
        self.__dict__.update(_values=given, _save=None)
        for name, value in given.items():
            self._stores[name].validate(value)

    def member(name: str) -> property:
        def put(self: Any, value: Any) -> None:
            self._stores[name].validate(value)
            self._values[name] = value
            if self._save is not None:
                self._save()

        return property(lambda self: self._values[name], put)

    def setValue(self: Any, name: str, value: Any) -> None:
        first, _, rest = name.partition(".")
        if rest:
            getattr(self, first).setValue(rest, value)
        setattr(self, first, getattr(self, first) if rest else value)

    def getValue(self: Any, name: str) -> Any:
        first, _, rest = name.partition(".")
        return getattr(self, first).getValue(rest) if rest else getattr(self, first)

    for name in declared:
        setattr(classtype, name, member(name))
    classtype.__init__, classtype.setValue, classtype.getValue = init, setValue, getValue
    classtype.__eq__ = lambda self, other: isinstance(other, classtype) and self._values == other._values
    classtype.__hash__ = None
    classtype.__repr__ = lambda self: f"{classtype.__name__}({self._values})"
    return classtype
