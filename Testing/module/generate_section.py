"""The section Generate, opened in the host: what its tests press, wait for and look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from sections import knowDevices

#: What a generation may take on a machine that has other things to do, seconds.
PATIENCE = 900


class GenerateSection:
    """The opened section; devices are known, so that only one test has to wait for the doctor.

    Args:
        host: The Qt host.
        monkeypatch: pytest's.
        withDoctor: Whether the doctor is asked for devices all the same.
    """

    def __init__(self, host: Any, monkeypatch: Any, *, withDoctor: bool = False) -> None:
        host.loadModule("CTDiffusion")
        if not withDoctor:
            knowDevices(monkeypatch)
        self.host = host
        self.widget = host.openModule("CTDiffusion")
        self.panel = self.widget.sections.generate
        self.ui = self.panel._ui
        self.compare = self.widget.sections.compare._ui

    def choose(self, model: Path, **values: float) -> None:
        """Choose a model file, and values of spin boxes by their names; 10 slices of 2.5 mm if nothing is said."""
        self.ui.modelFileEdit.currentPath = ""  # a file that is there already would be no change
        self.ui.modelFileEdit.currentPath = str(model)
        for name, value in {"slicesSpinBox": 10, "spacingSpinBox": 2.5, **values}.items():
            getattr(self.ui, name).value = value

    def slow(self, model: Path) -> None:
        """Slices come one after the other, for a long time."""
        self.choose(model, slicesSpinBox=1000, spacingSpinBox=1.0, stepsSpinBox=1, detailStepsSpinBox=25)

    def start(self) -> Any:
        """Press Generate and return the run."""
        self.host.click(self.ui.generateButton)
        assert self.panel._run is not None, self.ui.generateStatusLabel.text
        return self.panel._run

    def end(self, run: Any) -> str:
        """Wait for the end of a run and return what the section says then."""
        self.host.process(until=lambda: not run.isRunning, timeout=PATIENCE)
        return self.ui.generateStatusLabel.text


def volumes() -> list[Any]:
    """All volumes of the scene, in their order."""
    scene = slicer.mrmlScene
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    return [scene.GetNthNodeByClass(n, "vtkMRMLScalarVolumeNode") for n in range(count)]
