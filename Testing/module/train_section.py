"""The opened section Train, with known devices, and volumes for it."""

from __future__ import annotations

import shutil

import numpy as np
import slicer
from sections import knowDevices

#: What a training may take on a machine that has other things to do, seconds.
PATIENCE = 900


class Panel:
    """The opened section; devices are known."""

    def __init__(self, host, monkeypatch):
        host.loadModule("CTDiffusion")
        knowDevices(monkeypatch)
        self.host = host
        self.widget = host.openModule("CTDiffusion")
        self.panel = self.widget.sections.train
        self.ui = self.panel._ui
        self.generate = self.widget.sections.generate._ui
        self.ui.trainCollapsibleButton.collapsed = False

    def choose(self, run, *folders, **values):
        for folder in folders:
            self.host.answers.append(str(folder))
            self.host.click(self.ui.addFolderButton)
        self.ui.runFolderEdit.currentPath = str(run)
        self.host.choose(self.ui.trainPresetComboBox, "tiny")
        self.host.choose(self.ui.imageSizeComboBox, "64")
        for name, value in {"minutesSpinBox": 10, **values}.items():
            getattr(self.ui, name).value = value

    def start(self, button="trainButton"):
        before = self.panel._run
        self.host.click(getattr(self.ui, button))
        assert self.panel._run is not before, self.ui.trainStatusLabel.text
        return self.panel._run

    def untilItTrains(self, run):
        self.host.process(until=lambda: run.step >= 20 or not run.isRunning, timeout=PATIENCE)
        assert run.isRunning, run.log

    def end(self, run):
        self.host.process(until=lambda: not run.isRunning, timeout=PATIENCE)
        return self.ui.trainStatusLabel.text

    def resume(self, halfTrained, tmp_path, *, untilItTrains=True):
        """Resume a copy of a training, without a limit; return what runs, once it trains or at least has begun."""
        folder = tmp_path / "half"
        shutil.copytree(halfTrained, folder)
        self.ui.runFolderEdit.currentPath = str(folder)
        self.ui.minutesSpinBox.value = 0
        assert not self.ui.trainButton.enabled  # no scans, and the folder is taken
        run = self.start("resumeButton")
        if untilItTrains:
            self.untilItTrains(run)
        else:
            self.host.process(until=lambda: '"event": "started"' in run.log, timeout=PATIENCE)
        return run

    def rows(self):
        widget = self.ui.scansListWidget
        return [widget.item(row).text() for row in range(widget.count)]


def nodes(kind):
    scene = slicer.mrmlScene
    return [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]


def insert(name, hu=None, **options):
    from CTDiffusionLib import SceneVolumes

    hu = np.full((10, 20, 20), -1000, np.int16) if hu is None else hu
    make = SceneVolumes.insertSyntheticVolume if options.get("metadata") else SceneVolumes.insertVolume
    return make(hu, np.diag([-4.0, -4.0, 5.0, 1.0]), name, **options)
