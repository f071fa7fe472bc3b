"""PyTorch through Slicer's PyTorch extension, and without it."""

from __future__ import annotations

import sys
import types

import pytest
import slicer
from install_section import Panel, fakeWheels
from python_environments import writeWheel

pytestmark = pytest.mark.usefixtures("noPackageServer")


def pyTorchUtils(monkeypatch, arguments):
    """Put the PyTorch extension's module into Slicer."""
    module = types.ModuleType("PyTorchUtils")
    module.__spec__ = types.SimpleNamespace(name="PyTorchUtils", loader=None)
    module.PyTorchUtilsLogic = type("PyTorchUtilsLogic", (), {"_getPipInstallArguments": staticmethod(arguments)})
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)


def asIn2024(forceComputationBackend=None, torchVersionRequirement=None, torchvisionVersionRequirement=None):
    return ["install", "torch" + (torchVersionRequirement or ""), "torchvision"]


def test_torch_as_its_extension_does_it(host, bare, monkeypatch, tmp_path):
    wheels = fakeWheels(tmp_path / "wheels")
    writeWheel(wheels, "torchvision", "0.20", {"torchvision/__init__.py": ""}, needs=["torch"])
    runner = "import sys, runpy; print('light', sys.argv[1:]); sys.argv[0] = 'pip'; runpy.run_module('pip', None, 'x')"
    runner = runner.replace("'x'", "'__main__'")
    writeWheel(
        wheels, "light-the-torch", "0.8", {"light_the_torch/__init__.py": "", "light_the_torch/__main__.py": runner}
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    pyTorchUtils(monkeypatch, asIn2024)
    panel = Panel(host, bare, monkeypatch)
    panel.install("Ok")
    assert "light ['install'" in panel.log
    assert "'torch>=2.6', 'torchvision'" in panel.log
    assert bare.version("torch") == "2.7"
    assert bare.version("torchvision") == "0.20"
    assert bare.version("diffusers") == "0.37"
    assert panel.result.startswith("Installed, but the test failed")


def test_light_the_torch_fails_and_pip_does_it(host, bare, monkeypatch, tmp_path):
    wheels = fakeWheels(tmp_path / "wheels")
    writeWheel(wheels, "light-the-torch", "0.8", {"light_the_torch/__init__.py": ""})  # cannot be run
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    pyTorchUtils(monkeypatch, lambda somethingElse: ["install"])  # the signature has changed
    panel = Panel(host, bare, monkeypatch)
    panel.install("Ok")
    assert panel.result.startswith("Failed: This Slicer lacks a part of its Python")
    assert bare.version("torch") is None
    panel.install("Use pip", "Ok")
    assert bare.version("torch") == "2.7"


def test_the_extension_is_offered(host, bare, monkeypatch):
    panel = Panel(host, bare, monkeypatch)
    extensions = slicer.app.extensionsManagerModel()
    extensions._isReachable = False
    panel.click(panel.ui.installButton, "Install extension")
    assert panel.result.startswith("Failed: The PyTorch extension could not be installed. Check the network")
    extensions._isReachable = True
    panel.click(panel.ui.installButton, "Install extension")
    assert panel.result == "The PyTorch extension is installed. Restart Slicer, then press Install again."
    panel.click(panel.ui.installButton, "Restart")
    assert len(slicer.app._restartReasons) == 1  # Slicer asks, because the scene may not be saved
    assert not panel.logic.isRunning
    panel.click(panel.ui.installButton, "Use pip", "Cancel")
