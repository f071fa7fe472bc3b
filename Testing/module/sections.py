"""What tests of the panel's sections share: devices that are known at once, and what every control must allow."""

from __future__ import annotations

from typing import Any

#: The one device of knowDevices.
CPU = "CPU (x86_64), 2 threads, 8 GB"


def knowDevices(monkeypatch: Any) -> None:
    """Let the module know the CPU as the only device, so that nobody waits for the doctor.

    To be called once the host has loaded the module.
    """
    from CTDiffusionLib import GenerateDevices

    def ask(finder: Any, **_options: Any) -> None:
        finder.devices = [GenerateDevices.Device("cpu", CPU)]
        finder.changed.emit()

    monkeypatch.setattr(GenerateDevices.DeviceFinder, "ask", ask)


def lookAt(height: float, normal: Any = (0, 0, 1), tangent: Any = (-1, 0, 0)) -> None:
    """Let the Red view, made if there is none, show the plane through (0, 0, height); axial by default."""
    import slicer

    view = slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode")
    if view is None:
        view = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSliceNode")
        view.UnRegister(None)
        view.SetLayoutName("Red")
        view = slicer.mrmlScene.AddNode(view)
    view.SetSliceToRASByNTP(*normal, *tangent, 0, 0, height, 0)


def checkControls(ui: Any, *kinds: type, atLeast: int) -> None:
    """Every control says what it does, and the keyboard reaches it.

    Args:
        ui: The section's form.
        kinds: Qt classes of controls; headings that collapse, and parts that Qt makes, are left out.
        atLeast: How many there must be.
    """
    from PySide6 import QtCore

    found = [widget for widget in vars(ui).values() if isinstance(widget, kinds) and widget.name]
    found = [w for w in found if not w.name.startswith("qt_") and "Collapsible" not in w.name]
    assert len(found) >= atLeast
    for widget in found:
        assert widget.toolTip, widget.name
        assert widget.focusPolicy != QtCore.Qt.NoFocus, widget.name


def checkKeys(ui: Any, *, atLeast: int) -> None:
    """No two labels or buttons of the section's form have the same key (with Alt)."""
    from PySide6 import QtWidgets

    kinds = (QtWidgets.QLabel, QtWidgets.QAbstractButton)
    texts = [widget.text for widget in vars(ui).values() if isinstance(widget, kinds)]
    keys = [text[text.index("&") + 1].lower() for text in texts if "&" in text]
    assert len(keys) == len(set(keys)) >= atLeast
