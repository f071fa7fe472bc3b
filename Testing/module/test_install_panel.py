"""The section Install in the host: real clicks, the real pip in throw-away environments, no network."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest
import slicer
from install_section import FAKES, Panel, fakeWheels
from python_environments import PythonEnvironment, packInstalled, writeWheel
from sections import checkControls

pytestmark = [
    pytest.mark.usefixtures("noPackageServer"),
    pytest.mark.skipif(sys.platform == "win32", reason="the environments are made for Linux and macOS"),
]


def test_from_missing_by_way_of_broken_to_ready(host, tmp_path, monkeypatch, capsys):
    environment = PythonEnvironment(tmp_path / "python", lacks=["safetensors", "matplotlib"])
    panel = Panel(host, environment, monkeypatch)
    ui = panel.ui
    assert panel.status.startswith("Missing: safetensors.")
    assert "About 21 MB to download, 62 MB on the disk" in panel.status
    assert not ui.installCollapsibleButton.collapsed
    assert "missing" in ui.installCollapsibleButton.text
    assert "safetensors" in panel.widget.sections.devices.problem  # the section Generate says so, too

    wheels = tmp_path / "wheels"
    broken = writeWheel(wheels, "safetensors", "0.9.0", {"safetensors/__init__.py": "raise ImportError('half of it')"})
    writeWheel(wheels, "matplotlib", "99.0", {"matplotlib/__init__.py": ""}, needs=["numpy", "torch"])
    for name in ("numpy", "torch"):  # newer, and to be left alone
        writeWheel(wheels, name, "99.0", {f"{name}/__init__.py": ""})
    ui.packagesFolderEdit.currentPath = str(wheels)
    panel.install("Ok")
    asked = host.messages[-1].text
    assert "safetensors, matplotlib will be installed" in asked
    assert "Nothing will be downloaded" in asked
    assert environment.version("safetensors") == "0.9.0"
    assert environment.version("numpy") is None
    assert environment.version("torch") is None
    assert panel.status.startswith("Broken: safetensors: installed but does not import (ImportError: half of it)")
    assert panel.result.startswith("Installed, but the test failed. Press Repair")

    broken.unlink()
    packInstalled(wheels, "safetensors")
    with host.heartbeat() as heartbeat:
        panel.click(ui.repairButton, "Ok")
        assert ui.installButton.text == "Cancel"
        panel.wait()
    with capsys.disabled():
        print(f"\nwhile installing: longest block of the GUI {1000 * heartbeat.longest:.0f} ms")
    assert panel.result == "Done: everything is installed and works.", panel.log
    assert panel.status.startswith("Ready: PyTorch 2.")
    assert "CPU" in panel.status
    assert "Test passed: one slice of " in panel.status
    assert ui.installCollapsibleButton.text == "Installation: ready"
    assert not ui.installButton.enabled
    assert ui.installButton.toolTip == "Everything is installed."
    assert panel.widget.sections.devices.automatic().name == "cpu"
    ui.installLogCollapsibleButton.collapsed = False
    host.click(ui.copyInstallLogButton)
    log = slicer.app.clipboard().text()
    assert "pip uninstall --yes" in log
    assert "Successfully installed safetensors" in log
    assert log.endswith("[finished]")


def test_nothing_is_downloaded_without_consent(host, bare, monkeypatch):
    panel = Panel(host, bare, monkeypatch)
    assert panel.status.startswith("Missing: numpy, scipy, SimpleITK, pydicom, PyTorch, diffusers, safetensors.")
    assert not panel.ui.repairButton.enabled
    panel.click(panel.ui.installButton, "Use pip", "Cancel")
    asked = host.messages[-1].text
    assert "safetensors, accelerate, matplotlib, pillow, monai, jinja2 will be installed into" in asked
    assert "About 398 MB will be downloaded; they take about 1.5 GB on the disk." in asked
    assert not panel.logic.isRunning
    panel.click(panel.ui.installButton, "Cancel")
    assert not panel.logic.isRunning
    assert panel.log == ""


def test_no_network(host, bare, monkeypatch):
    panel = Panel(host, bare, monkeypatch)
    panel.install("Use pip", "Ok")
    assert panel.result.startswith("Failed: The package server cannot be reached. Check the network and press Retry")
    assert panel.ui.installButton.text == "Retry"
    assert "Retrying" in panel.log
    assert panel.status.startswith("Missing: ")
    panel.install("Ok")  # it is remembered that pip shall do it
    assert panel.result.startswith("Failed: The package server cannot be reached.")


def test_the_folder_lacks_a_package(host, bare, monkeypatch, tmp_path):
    panel = Panel(host, bare, monkeypatch)
    panel.ui.packagesFolderEdit.currentPath = str(tmp_path / "nowhere")
    panel.install()
    assert panel.result.startswith("Failed: There is no folder ")
    panel.ui.packagesFolderEdit.currentPath = str(fakeWheels(tmp_path / "wheels", ["torch", "numpy"]))
    panel.install("Ok")
    assert "was not found in a version for this system" in panel.result
    assert "filled on the same system" in panel.result
    assert bare.version("torch") == "2.7"
    assert panel.ui.installButton.text == "Retry"
    fakeWheels(tmp_path / "wheels")
    panel.install("Ok")
    assert {bare.version(name) for name in FAKES} == set(FAKES.values())
    assert panel.result.startswith("Installed, but the test failed. Press Repair")  # they are not what they say
    assert panel.status.startswith("Broken: PyTorch: ")
    assert panel.ui.repairButton.enabled
    assert panel.ui.installButton.toolTip == "Nothing is missing, but something is broken: press Repair."


def test_torch_is_never_replaced(host, bare, monkeypatch, tmp_path):
    wheels = fakeWheels(tmp_path / "wheels")
    pip = [bare.python, "-m", "pip", "install", "--no-index", "--find-links", wheels, "torch", "numpy"]
    subprocess.run(pip, check=True, capture_output=True)
    for name in ("torch", "numpy"):
        writeWheel(wheels, name, "99.0", {f"{name}/__init__.py": ""})
    writeWheel(wheels, "diffusers", "99.0", {"diffusers/__init__.py": ""}, needs=["torch>=50"])
    panel = Panel(host, bare, monkeypatch)
    panel.ui.packagesFolderEdit.currentPath = str(wheels)
    panel.install("Ok")  # the older diffusers, which goes with this torch
    assert bare.version("torch") == "2.7"
    assert bare.version("numpy") == "2.0"
    assert bare.version("diffusers") == "0.37"
    bare.python.with_name("activate").unlink()
    (wheels / "diffusers-0.37-py3-none-any.whl").unlink()
    subprocess.run([bare.python, "-m", "pip", "uninstall", "-y", "diffusers"], check=True, capture_output=True)
    host.click(panel.ui.checkInstallButton)
    panel.wait()
    panel.install("Ok")
    assert bare.version("torch") == "2.7"
    assert "do not go together" in panel.result, panel.log


def test_one_thing_at_a_time(host, bare, monkeypatch):
    panel = Panel(host, bare, monkeypatch)
    with monkeypatch.context() as busy:
        busy.setattr(panel.logic._worker, "isRunning", lambda kind: kind == "generate")
        panel.click(panel.ui.installButton)
        assert panel.result.startswith("Failed: A generation or a training is running.")
    packaging = types.SimpleNamespace(isPipInstallInProgress=lambda: True)
    monkeypatch.setattr(slicer, "packaging", packaging, raising=False)
    panel.click(panel.ui.installButton)
    assert panel.result.startswith("Failed: Another extension is installing packages.")
    assert not panel.logic.isRunning


def test_instructions_can_be_copied(host, bare, monkeypatch, tmp_path):
    panel = Panel(host, bare, monkeypatch)
    panel.ui.offlineCollapsibleButton.collapsed = False
    host.click(panel.ui.copyOfflineButton)
    text = slicer.app.clipboard().text()
    assert f'"{panel.launcher}" -m pip download --dest packages' in text
    assert '"torch>=2.6"' in text
    panel.ui.packagesFolderEdit.currentPath = str(tmp_path)
    assert f'-m pip install --no-index --find-links "{tmp_path}" "numpy>=1.26"' in panel.ui.offlineText.plainText


def test_everything_has_a_tool_tip_and_can_be_reached(host, bare, monkeypatch):
    from PySide6 import QtWidgets

    panel = Panel(host, bare, monkeypatch)
    checkControls(panel.ui, QtWidgets.QPushButton, QtWidgets.QPlainTextEdit, atLeast=7)
