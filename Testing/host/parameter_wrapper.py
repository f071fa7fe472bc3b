"""Stand-in for slicer.parameterNodeWrapper: typed parameters of a scene's parameter node, bound to widgets."""

from __future__ import annotations

import types
import weakref
from typing import Any

import slicer.util
import vtk

from . import facts, parameter_types
from .parameter_gui import createGuiConnector
from .parameter_types import Store, declaredParameters, isParameterPack, parameterPack, splitAnnotations

_PROPERTY = "SlicerParameterName"


class _Cached:
    """A parameter's value, read anew whenever the node is modified; as in Slicer."""

    def __init__(self, store: Store, node: Any, name: str, default: Any) -> None:
        self.store, self.node, self.name, self.default = store, node, name, default
        if not store.isIn(node, name):
            store.write(node, name, default)
        self._isWriting = False
        self._value = store.read(node, name)
        weak = weakref.ref(self)
        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: _refresh(weak()))

    def __del__(self) -> None:
        self.node.RemoveObserver(self._tag)

    def refresh(self) -> None:
        if not self._isWriting:
            if not self.store.isIn(self.node, self.name):
                self.store.write(self.node, self.name, self.default)
            self._value = self.store.read(self.node, self.name)

    def read(self) -> Any:
        return self._value

    def write(self, value: Any) -> None:
        self._isWriting = True
        try:
            with slicer.util.NodeModify(self.node):
                self.store.write(self.node, self.name, value)
                self._value = self.store.read(self.node, self.name)
        finally:
            self._isWriting = False


def _refresh(cached: _Cached | None) -> None:
    if cached is not None:
        cached.refresh()


def parameterNodeWrapper(classtype: Any = None) -> Any:
    """Class decorator: the annotated names become parameters of the node given to the constructor."""
    if classtype is None:
        return parameterNodeWrapper
    declared = declaredParameters(classtype)
    for name in _METHODS.keys() & {*declared, *vars(classtype)}:
        raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
    for name in declared:
        setattr(classtype, name, _parameter(name))
    classtype.allParameters = declared
    classtype._is_parameter_node_wrapper = True
    for name, method in _METHODS.items():
        setattr(classtype, name, method)
    return classtype


def isParameterNodeWrapper(thing: Any) -> bool:
    """Whether a class or object was made by parameterNodeWrapper."""
    return getattr(thing, "_is_parameter_node_wrapper", False)


def _parameter(name: str) -> property:
    return property(lambda self: self._impl[name].read(), lambda self, value: self._impl[name].write(value))


def _init(self: Any, parameterNode: Any, prefix: str | None = None) -> None:
    assert parameterNode is not None
    self.parameterNode = parameterNode
    self._guis: dict[int, tuple[dict[str, Any], int]] = {}
    self._isUpdatingGui = False
    self._impl = {
        name: _Cached(Store(kind), parameterNode, f"{prefix or ''}{name}", default)
        for name, (kind, default) in self.allParameters.items()
    }


def _dataType(self: Any, name: str) -> Any:
    first, _, rest = name.partition(".")
    if first not in self.allParameters:
        raise ValueError(f"Cannot find a param with the given name: {first} (there are {list(self.allParameters)})")
    kind = self.allParameters[first][0]
    for part in filter(None, rest.split(".")):
        pack = splitAnnotations(kind)[0]
        if not isParameterPack(pack) or part not in pack._kinds:
            raise ValueError(f"{pack} has no member '{part}'")
        kind = pack._kinds[part]
    return kind


def _getValue(self: Any, name: str) -> Any:
    first, _, rest = name.partition(".")
    value = self._impl[first].read()
    return value.getValue(rest) if rest else value


def _setValue(self: Any, name: str, value: Any) -> None:
    first, _, rest = name.partition(".")
    if rest:
        self._impl[first].read().setValue(rest, value)
    else:
        self._impl[first].write(value)


def _connectGui(self: Any, gui: Any) -> int:
    """Bind the widgets whose property SlicerParameterName names a parameter."""
    import qt

    isWidget = getattr(gui, "isWidgetType", lambda: False)()
    widgets = gui.findChildren(qt.QWidget) if isWidget else list(vars(gui).values())
    named = {widget.property(_PROPERTY): widget for widget in widgets if widget.property(_PROPERTY)}
    return _connectParametersToGui(self, named)


def _connectParametersToGui(self: Any, mapping: dict[str, Any]) -> int:
    kinds = {name: _dataType(self, name) for name in mapping}
    connectors = {name: createGuiConnector(widget, kinds[name]) for name, widget in mapping.items()}
    for name, connector in connectors.items():
        connector.write(_getValue(self, name))
        connector.onChanged(_toParameter(self, name, connector))
    tag = max(self._guis, default=-1) + 1
    observer = self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: _updateGui(self))
    self._guis[tag] = (connectors, observer)
    return tag


def _toParameter(self: Any, name: str, connector: Any) -> Any:
    def callback() -> None:
        if not self._isUpdatingGui:
            with slicer.util.NodeModify(self.parameterNode):
                _setValue(self, name, connector.read())

    return callback


def _updateGui(self: Any) -> None:
    if self._isUpdatingGui:
        return
    self._isUpdatingGui = True
    try:
        with slicer.util.NodeModify(self.parameterNode):
            for connectors, _observer in list(self._guis.values()):
                for name, connector in connectors.items():
                    connector.write(_getValue(self, name))
    finally:
        self._isUpdatingGui = False


def _disconnectGui(self: Any, tag: int) -> None:
    if tag in self._guis:
        connectors, observer = self._guis.pop(tag)
        for connector in connectors.values():
            connector.onChanged(None)
        self.parameterNode.RemoveObserver(observer)


_METHODS: dict[str, Any] = {
    "__init__": _init,
    "dataType": _dataType,
    "getValue": _getValue,
    "setValue": _setValue,
    "connectGui": _connectGui,
    "connectParametersToGui": _connectParametersToGui,
    "disconnectGui": _disconnectGui,
    "default": lambda self, name: parameter_types.Default(self.allParameters[name][1]),
    "StartModify": lambda self: self.parameterNode.StartModify(),
    "EndModify": lambda self, wasModified: self.parameterNode.EndModify(wasModified),
    "AddObserver": lambda self, event, callback, priority=0.0: self.parameterNode.AddObserver(
        event, callback, priority
    ),
    "RemoveObserver": lambda self, tag: self.parameterNode.RemoveObserver(tag),
    "Modified": lambda self: self.parameterNode.Modified(),
}


def newModule() -> types.ModuleType:
    """Return the module slicer.parameterNodeWrapper."""
    name = "slicer.parameterNodeWrapper"
    module = types.ModuleType(name)
    offered = (
        "Choice Decimals Default Exclude IsInstance Label Maximum Minimum NotNone SingleStep Validator WithinRange"
    )
    for attribute in (*offered.split(), "isParameterPack"):
        setattr(module, attribute, getattr(parameter_types, attribute))
    for function in (parameterNodeWrapper, isParameterNodeWrapper, parameterPack, createGuiConnector):
        setattr(module, function.__name__, function)

    def refuse(attribute: str) -> Any:
        known = facts.FACTS["python"][name]
        if attribute in known["classes"] or attribute in {text.partition("(")[0] for text in known["functions"]}:
            raise NotImplementedError(f"{name}.{attribute} exists in Slicer, but not in Testing/host: add it there")
        raise AttributeError(f"module {name!r} has no attribute {attribute!r} in Slicer {facts.SLICER_VERSION}")

    module.__getattr__ = refuse
    return module
