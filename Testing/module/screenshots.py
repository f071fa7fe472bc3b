"""Pictures of the module's panel: every section, and what it says while it works and when it fails.

    python Testing/module/screenshots.py [--out FOLDER] [--model FILE] [--parts PART ...]   (or: make screenshots)

In Slicer's light and dark colours; sheets of them, for the README, go to FOLDER/sheets. The panel is the real one in
the host of the tests: sizes and texts are true, the looks of ctk's widgets are the stand-ins'. Without ``--model`` a
model of random weights generates.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "Testing")]

# ruff: noqa: E402 (the host needs the path)
import numpy as np
import slicer
from host.module_host import ModuleHost
from PySide6 import QtCore, QtWidgets
from screenshot_sheets import writeSheets
from screenshot_theme import THEMES, setTheme

#: Width of Slicer's module panel as it is after the first start.
WIDTH = 480
SHOWN_STEP = 100  #: Samples of a training are shown from this step on: before, they are noise.
#: What can be taken by itself: a training takes minutes on a busy computer.
PARTS = ("sections", "completion", "generation", "training")


class Camera:
    """Takes the pictures.

    Args:
        host: The host with the module opened.
        folder: Where the pictures go.
    """

    def __init__(self, host: ModuleHost, folder: Path) -> None:
        self._host, self._folder = host, folder
        self.paths: list[Path] = []
        host.panelArea.setVerticalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def take(self, widget: Any, name: str) -> None:
        """Save "name-light.png" and "name-dark.png" of a widget at its own height."""
        panel = self._host.panelArea.widget()
        for theme in THEMES:
            setTheme(theme)
            QtWidgets.QMainWindow.resize(self._host.mainWindow, WIDTH, 400)
            self._host.process(0.05)
            height = QtWidgets.QWidget.sizeHint(panel).height() + 20
            QtWidgets.QMainWindow.resize(self._host.mainWindow, WIDTH, max(400, height))
            self._host.process(0.05)
            path = self._folder / f"{name}-{theme}.png"
            self._host.screenshot(widget, path)
            self.paths.append(path)


def sectionsOf(panel: Any) -> list[Any]:
    """Return the outermost collapsible groups of a panel, in order."""
    import ctk

    groups = panel.findChildren(ctk.ctkCollapsibleButton)
    return [group for group in groups if not any(other.isAncestorOf(group) for other in groups if other is not group)]


def openAll(panel: Any, *, isOpen: bool = True) -> None:
    """Open every group of a panel, those inside others too."""
    import ctk

    for group in panel.findChildren(ctk.ctkCollapsibleButton):
        group.collapsed = not isOpen


def addVolumes() -> None:
    """Put a real volume into the scene, and a synthetic one beside it."""
    from CTDiffusionLib import SceneVolumes

    hu = np.full((24, 64, 64), -1000, np.int16)
    hu[:, 12:52, 8:56] = 40
    ijkToRAS = np.diag([-6.0, -6.0, 3.0, 1.0])
    real = SceneVolumes.insertVolume(hu, ijkToRAS, "CT chest")
    metadata = {"model": "torso", "seed": 7, "steps": 20, "version": "1.0"}
    SceneVolumes.insertSyntheticVolume(hu, ijkToRAS, metadata=metadata, reference=real)


def takeSections(host: ModuleHost, camera: Camera, widget: Any) -> None:
    """Every section as it is when a scan and a synthetic volume are there."""
    panel = widget.parent
    widget.sections.export._ui.exportFolderEdit.currentPath = "/data/CTDiffusion export"
    widget.sections.evaluate._ui.evaluateFolderEdit.currentPath = "/data/CTDiffusion reports"
    widget.sections.complete._ui.completeVolumeSelector.setCurrentNodeIndex(0)
    for section in sectionsOf(panel):
        name = section.name.removesuffix("CollapsibleButton")
        camera.take(section, f"section-{name}")
    for selector in panel.findChildren(slicer.qMRMLNodeComboBox):
        if "ynthetic" in selector.name:
            selector.setCurrentNodeIndex(selector.nodeCount() - 1)
        elif "real" in selector.name.lower():
            selector.setCurrentNodeIndex(0)
    camera.take(panel, "panel")
    camera.take(widget.parent.findChild(name="compareCollapsibleButton"), "compare-ready")


def takeInstallation(camera: Camera, widget: Any) -> None:
    """The section Install while packages are missing, while they are installed, when that fails, and when all is well.

    Nothing is installed: the doctor's findings and pip's words are given.
    """
    from CTDiffusionLib import InstallFailure
    from CTDiffusionLib.GenerateDevices import Device

    finder, panel = widget.sections.devices, widget.sections.install
    logic, section = panel._logic, panel._ui.installCollapsibleButton
    kept = finder.devices, finder.checks, finder.problem
    panel._ui.offlineCollapsibleButton.collapsed = True
    finder.devices, finder.problem = [], "CTDiffusion cannot work here."
    finder.checks = [
        {"name": name, "status": status, "text": "not installed", "remedy": "", "cause": "missing"}
        for name, status in (("torch", "problem"), ("diffusers", "problem"), ("accelerate", "note"))
    ]
    finder.changed.emit()
    camera.take(section, "install-missing")
    logic.step, logic.progress = "Installing PyTorch", (81, 200)
    for line in ("pip install torch>=2.6", "Collecting torch>=2.6", "Downloading torch-2.9.0.whl (200 MB)"):
        logic.said.emit(line)
    logic.changed.emit()
    camera.take(section, "install-running")
    logic.step = ""
    words = ["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"]
    logic.said.emit(words[0])
    logic.ended.emit(InstallFailure.endingOf(None, 1, output=words))
    logic.changed.emit()
    panel._ui.installLogCollapsibleButton.collapsed = False
    camera.take(section, "install-failed")
    finder.devices = [Device("cpu", "CPU (x86_64), 8 threads, 31.2 GB")]
    finder.checks = [{"name": "torch", "status": "ok", "text": "2.9.0+cpu", "remedy": "", "cause": ""}]
    finder.problem, panel._ending = "", None
    finder.changed.emit()
    panel._ui.installLogCollapsibleButton.collapsed = True
    camera.take(section, "install-ready")
    panel._ui.offlineCollapsibleButton.collapsed = False
    camera.take(section, "install-offline")
    finder.devices, finder.checks, finder.problem = kept
    panel._ui.installLogText.plainText = ""
    finder.changed.emit()


def takeGeneration(host: ModuleHost, camera: Camera, widget: Any, model: Path) -> None:
    """The section Generate while it works, when it is done, and when it fails."""
    generate = widget.sections.generate
    ui, section = generate._ui, widget.parent.findChild(name="generateCollapsibleButton")
    ui.generateAdvancedCollapsibleButton.collapsed = True
    ui.modelFileEdit.currentPath = str(model)
    ui.slicesSpinBox.value = 24
    ui.stepsSpinBox.value, ui.detailStepsSpinBox.value = 8, 4  # soon done: a run is to be seen, not its volume
    host.click(ui.generateButton)
    run = generate._run
    host.process(until=lambda: ui.generateProgressBar.value > 0.3 * ui.generateProgressBar.maximum > 0, timeout=300)
    camera.take(section, "generate-running")
    host.process(until=lambda: not run.isRunning, timeout=600)
    camera.take(section, "generate-done")
    broken = host.folder / "damaged.safetensors"
    content = bytearray(model.read_bytes())
    content[-100] ^= 255
    broken.write_bytes(content)
    ui.modelFileEdit.currentPath = str(broken)
    host.click(ui.generateButton)
    host.process(until=lambda: not generate._run.isRunning, timeout=120)
    ui.generateLogCollapsibleButton.collapsed = False
    camera.take(section, "generate-failed")


def takeCompletion(host: ModuleHost, camera: Camera, widget: Any, model: Path) -> None:
    """The section Complete for each thing it can do, while it works, when it is done, and when it cannot."""
    complete, generate = widget.sections.complete, widget.sections.generate._ui
    ui, section = complete._ui, widget.parent.findChild(name="completeCollapsibleButton")
    generate.modelFileEdit.currentPath = str(model)
    camera.take(section, "complete-nothing")
    ui.completeVolumeSelector.setCurrentNodeIndex(0)
    camera.take(section, "complete-extend")
    ui.completeHowComboBox.setCurrentIndex(2)
    camera.take(section, "complete-thin")
    ui.completeHowComboBox.setCurrentIndex(1)
    ui.completeFirstSpinBox.value, ui.completeLastSpinBox.value = 12, 24
    camera.take(section, "complete-refused")
    ui.completeLastSpinBox.value = 15
    camera.take(section, "complete-ready")
    generate.stepsSpinBox.value, generate.detailStepsSpinBox.value = 8, 4
    host.click(ui.completeButton)
    run = complete._run
    host.process(until=lambda: ui.completeProgressBar.maximum > 0 or not run.isRunning, timeout=300)
    camera.take(section, "complete-running")
    host.process(until=lambda: not run.isRunning, timeout=600)
    ui.completeLogCollapsibleButton.collapsed = True
    camera.take(section, "complete-done")


def takeExport(host: ModuleHost, camera: Camera, widget: Any) -> None:
    """The section Export when volumes are written, and when it is asked to write them again."""
    export = widget.sections.export
    ui, section = export._ui, widget.parent.findChild(name="exportCollapsibleButton")
    ui.exportFolderEdit.currentPath = str(host.folder / "export")
    selector = ui.exportVolumesSelector
    selector.check(selector.nodeFromIndex(0))
    host.click(ui.exportButton)
    camera.take(section, "export-running")
    host.process(until=lambda: not export._run.isRunning, timeout=300)
    ui.exportLogCollapsibleButton.collapsed = True
    camera.take(section, "export-done")
    host.click(ui.exportButton)
    camera.take(section, "export-failed")


def takeReaderStudy(host: ModuleHost, camera: Camera, widget: Any) -> None:
    """The section Reader study when it can start, while a reader chooses and rates, and with results."""
    reader = widget.sections.reader
    ui, section = reader._ui, widget.parent.findChild(name="readerCollapsibleButton")
    selector = ui.readerVolumesSelector
    for index in range(selector.nodeCount()):
        selector.check(selector.nodeFromIndex(index))
    ui.readerItemsSpinBox.value = 6
    ui.readerFileEdit.currentPath = str(host.folder / "study.csv")
    camera.take(section, "reader-ready")
    host.click(ui.readerStartButton)
    host.process(until=lambda: reader._steps is None, timeout=120)
    host.click(ui.readerChoice1Button)
    camera.take(section, "reader-asks")
    for number in range(6):
        host.click([ui.readerChoice1Button, ui.readerChoice2Button][number % 2])
        host.click(ui.readerConfidence3Button)
    camera.take(section, "reader-results")
    damaged = host.folder / "damaged study.csv"
    damaged.write_text("not,a,study\n1,2,3\n")
    ui.readerFileEdit.currentPath = str(damaged)
    camera.take(section, "reader-refused")


def takeMeasurement(host: ModuleHost, camera: Camera, widget: Any) -> None:
    """The section Measure when it can start, with a report, and with a file that is no report."""
    from evaluation_report import write_report_json

    evaluate = widget.sections.evaluate
    ui, section = evaluate._ui, widget.parent.findChild(name="evaluateCollapsibleButton")
    ui.evaluateAdvancedCollapsibleButton.collapsed = True
    (host.folder / "more scans").mkdir()
    host.answers.append(str(host.folder / "more scans"))
    host.click(ui.evaluateAddRealFolderButton)
    for row in (ui.evaluateRealListWidget, ui.evaluateSyntheticListWidget):
        row.item(0).setCheckState(QtCore.Qt.CheckState.Checked)
    ui.evaluateFolderEdit.currentPath = "/data/CTDiffusion reports"
    camera.take(section, "measure-ready")
    for folder in ("measurement 2026-11-22 15.04", "no report"):
        path = write_report_json(host.folder / folder)
        if folder == "no report":
            (path / "report.json").write_text("{}")
        host.answers.append(str(path / "report.json"))
        host.click(ui.evaluateEarlierButton)
        camera.take(section, "measure-done" if folder != "no report" else "measure-refused")
    host.click(ui.evaluateLayoutButton)


def takeMeasuring(host: ModuleHost, camera: Camera, widget: Any) -> None:
    """The section Measure while a worker measures, and when a file has gone meanwhile."""
    evaluate = widget.sections.evaluate
    ui, section = evaluate._ui, widget.parent.findChild(name="evaluateCollapsibleButton")
    ui.evaluateAdvancedCollapsibleButton.collapsed = True
    ui.evaluateFolderEdit.currentPath = str(host.folder / "reports")
    for row in (ui.evaluateRealListWidget, ui.evaluateSyntheticListWidget):
        row.item(0).setCheckState(QtCore.Qt.CheckState.Checked)
    host.click(ui.evaluateButton)
    run = evaluate._run
    host.process(until=lambda: not run.isRunning or ui.evaluateProgressBar.maximum > 0, timeout=300)
    camera.take(section, "measure-running")
    if run.isRunning:
        host.click(ui.evaluateButton)
    host.process(until=lambda: not run.isRunning, timeout=300)
    gone = host.folder / "one more.nrrd"
    gone.touch()
    host.answers.append([str(gone)])
    host.click(ui.evaluateAddSyntheticFilesButton)
    host.click(ui.evaluateButton)
    gone.unlink()
    host.process(until=lambda: not evaluate._run.isRunning, timeout=300)
    ui.evaluateLogCollapsibleButton.collapsed = True
    camera.take(section, "measure-failed")


def _hasLearnt(run: Any, ui: Any) -> bool:
    """Whether the section shows a training that goes on, with samples that are more than noise."""
    isTraining = ui.trainStatusLabel.text.startswith("Training")
    return isTraining and ui.sampleLabel.visible and (run.savedStep or 0) >= SHOWN_STEP


def takeTraining(host: ModuleHost, camera: Camera, widget: Any) -> None:
    """The section Train while it learns from phantoms, when it has been stopped, and when it fails."""
    from CTDiffusionLogic.phantom import torso_phantom
    from CTDiffusionLogic.volume_io import write_volume

    train = widget.sections.train
    ui, section = train._ui, widget.parent.findChild(name="trainCollapsibleButton")
    for group in (ui.dicomCollapsibleButton, ui.trainAdvancedCollapsibleButton):
        group.collapsed = True
    scans = host.folder / "scans"
    for seed, slices in enumerate((24, 24, 24, 4)):
        phantom = torso_phantom(slices=slices, size=64, spacing_mm=(6.3, 6.3, 8.0), seed=seed)
        write_volume(phantom, scans / f"phantom{seed}.nii.gz")
    host.answers.append(str(scans))
    host.click(ui.addFolderButton)
    host.choose(ui.trainPresetComboBox, "tiny")
    host.choose(ui.imageSizeComboBox, "64")
    ui.minutesSpinBox.value = 30
    ui.runFolderEdit.currentPath = str(host.folder / "my training")
    run = train._logic.train(
        host.folder / "my training", folders=[scans], preset="tiny", imageSize=64, maxMinutes=30,
        checkpointMinutes=0.2, waitForCompletion=False,
    )  # fmt: skip
    train.follow(run)
    train.onParametersModified()
    ui.trainProgressBar.visible = True
    host.process(until=lambda: _hasLearnt(run, ui), timeout=1800)
    camera.take(section, "train-running")
    host.click(ui.trainButton)
    host.process(until=lambda: not run.isRunning, timeout=900)
    camera.take(section, "train-stopped")
    for path in scans.iterdir():
        path.unlink()
    ui.runFolderEdit.currentPath = str(host.folder / "another training")
    host.click(ui.trainButton)
    host.process(until=lambda: not train._run.isRunning, timeout=900)
    ui.trainLogCollapsibleButton.collapsed = False
    camera.take(section, "train-failed")


def takeAll(folder: Path, model: Path, *, withGeneration: bool = True, parts: Sequence[str] = PARTS) -> list[Path]:
    """Take every picture and return the files.

    Args:
        folder: Where they go; it is made.
        model: Generates.
        withGeneration: Whether workers are started; else there are the sections only.
        parts: Which of PARTS are taken.
    """
    paths: list[Path] = []
    for part in parts if withGeneration else ["sections"]:
        with ModuleHost() as host:  # a new one each: what a part leaves in the panel is not in the next
            host.loadModule("CTDiffusion")
            if not withGeneration:
                from CTDiffusionLib.GenerateDevices import DeviceFinder

                DeviceFinder.ask = lambda finder: None
            addVolumes()
            widget = host.openModule("CTDiffusion")
            if withGeneration:
                host.process(until=lambda devices=widget.sections.devices: not devices.isAsking, timeout=300)
            openAll(widget.parent)
            camera = Camera(host, folder)
            if part == "sections":
                takeSections(host, camera, widget)
                takeInstallation(camera, widget)
                takeMeasurement(host, camera, widget)
                takeReaderStudy(host, camera, widget)
            elif part == "completion":
                takeCompletion(host, camera, widget, model)
            elif part == "generation":
                takeGeneration(host, camera, widget, model)
                takeExport(host, camera, widget)
                takeMeasuring(host, camera, widget)
            else:
                takeTraining(host, camera, widget)
            paths += camera.paths
    return paths


def main() -> None:
    """Read the command line and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "screenshots", metavar="FOLDER")
    parser.add_argument("--model", type=Path, metavar="FILE")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        model = options.model
        if model is None:
            from random_model import write_random_model

            model = write_random_model(Path(temporary) / "noise.safetensors")
        for path in takeAll(options.out, model, parts=options.parts):
            print(path)
    print(*writeSheets(options.out, options.out / "sheets"), sep="\n")


if __name__ == "__main__":
    main()
