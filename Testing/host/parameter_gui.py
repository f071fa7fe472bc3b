"""Which widgets may show which parameters, and how: the connectors of slicer.parameterNodeWrapper."""

from __future__ import annotations

import enum
import pathlib
from collections.abc import Callable
from typing import Any

import slicer

from .parameter_types import Choice, Decimals, Maximum, Minimum, SingleStep, WithinRange, annotation, splitAnnotations


class Connector:
    """One widget and one parameter.

    Args:
        widget: The widget; its exact class decides.
        signal: Name of the signal that tells of the user's changes.
        read: Returns the widget's value.
        write: Sets it.
    """

    def __init__(self, widget: Any, signal: str, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self.widget, self.read, self.write = widget, read, write
        self._signal = signal
        self._slot: Any = None

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        """Call ``callback`` on changes; None to stop."""
        if self._slot is not None:
            self._bound().disconnect(self._slot)
            self._slot = None
        if callback is not None and self._signal:
            self._slot = lambda *_arguments: callback()
            self._bound().connect(self._slot)

    def _bound(self) -> Any:
        return getattr(self.widget, self._signal)


def createGuiConnector(widget: Any, kind: Any) -> Connector:
    """Return the connector for a widget and an annotated type; RuntimeError where Slicer has none."""
    import ctk
    import qt

    bare, _annotations = splitAnnotations(kind)
    exact = type(widget)

    def attribute(name: str, signal: str, convert: Callable[[Any], Any] = lambda value: value) -> Connector:
        def write(value: Any) -> None:
            if getattr(widget, name) != value:
                setattr(widget, name, value)

        return Connector(widget, signal, lambda: convert(getattr(widget, name)), write)

    if bare is bool and exact in (qt.QCheckBox, ctk.ctkCheckBox):
        return attribute("checked", "toggled")
    if bare is bool and exact in (qt.QPushButton, ctk.ctkCheckablePushButton):
        widget.checkable = True
        return attribute("checked", "toggled")
    if bare is int and exact in (qt.QSlider, qt.QSpinBox):
        _setBounds(widget, kind, (-(2**31), 2**31 - 1), isBoundNeeded=exact is qt.QSlider)
        return attribute("value", "valueChanged")
    sliders = (ctk.ctkSliderWidget, slicer.qMRMLSliderWidget)
    if bare in (int, float) and exact in (qt.QDoubleSpinBox, *sliders):
        decimals = annotation(kind, Decimals)
        if bare is int or decimals is not None:
            widget.decimals = 0 if bare is int else decimals.value
        _setBounds(widget, kind, (float("-inf"), float("inf")), isBoundNeeded=exact in sliders)
        return attribute("value", "valueChanged", bare)
    if bare in (int, float, str, bool) and exact in (qt.QComboBox, ctk.ctkComboBox):
        choice = annotation(kind, Choice)
        if choice is None:
            raise RuntimeError("ComboBoxToStringableConnector requires the Choice annotation to be used.")
        return _comboConnector(widget, {str(value): value for value in choice.choices})
    if isinstance(bare, type) and issubclass(bare, enum.Enum) and exact in (qt.QComboBox, ctk.ctkComboBox):
        label = getattr(bare, "label", lambda value: value.name)
        return _comboConnector(widget, {label(value): value for value in bare})
    if bare is str and exact is qt.QLineEdit:
        return attribute("text", "textChanged")
    if bare is str and exact is qt.QLabel:
        return attribute("text", "")
    if bare is str and exact is qt.QTextEdit:
        return Connector(widget, "textChanged", widget.toPlainText, widget.setPlainText)
    if isinstance(bare, type) and issubclass(bare, pathlib.PurePath):
        if exact is ctk.ctkPathLineEdit:
            return Connector(
                widget,
                "currentPathChanged",
                lambda: bare(widget.currentPath),
                lambda value: setattr(widget, "currentPath", str(value)),
            )
        if exact is ctk.ctkDirectoryButton:
            return Connector(
                widget,
                "directoryChanged",
                lambda: bare(widget.directory),
                lambda value: setattr(widget, "directory", str(value)),
            )
    if isinstance(bare, type) and issubclass(bare, slicer.vtkMRMLNode) and exact is slicer.qMRMLNodeComboBox:
        widget.nodeTypes = [bare.__name__]
        return Connector(widget, "currentNodeChanged", widget.currentNode, widget.setCurrentNode)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{kind}' to widget type '{exact}'.")


def _setBounds(widget: Any, kind: Any, extremes: tuple[Any, Any], *, isBoundNeeded: bool) -> None:
    both, low, high = (annotation(kind, which) for which in (WithinRange, Minimum, Maximum))
    if isBoundNeeded and both is None and (low is None or high is None):
        raise RuntimeError(f"Cannot have a connection to {type(widget).__name__} where the type is unbounded.")
    step = annotation(kind, SingleStep)
    if step is not None:
        widget.singleStep = step.value
    widget.minimum = both.minimum if both else low.minimum if low else extremes[0]
    widget.maximum = both.maximum if both else high.maximum if high else extremes[1]


def _comboConnector(widget: Any, values: dict[str, Any]) -> Connector:
    # As in Slicer: the items are made anew, so what the form says about them does not count.
    widget.clear()
    for label in values:
        widget.addItem(label)
    choices = list(values.values())

    def write(value: Any) -> None:
        if value not in choices:
            raise ValueError(f"Unable to find value {value} in choices {choices}")
        widget.currentIndex = choices.index(value)

    return Connector(widget, "currentIndexChanged", lambda: choices[widget.currentIndex], write)
