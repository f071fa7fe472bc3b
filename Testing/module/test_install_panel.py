"""The section Install in the host: real clicks, the real pip in throw-away environments, no network."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import slicer
from host.module_host import ModuleHost
from process_groups import isGone
from python_environments import PythonEnvironment, packInstalled, writeWheel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the environments are made for Linux and macOS")
FAKES = {
    "numpy": "2.0",
    "scipy": "1.14",
    "SimpleITK": "2.4",
    "pydicom": "3.0",
    "torch": "2.7",
    "diffusers": "0.37",
    "safetensors": "0.5",
    "accelerate": "1.3",
    "matplotlib": "3.9",
    "pillow": "11.0",
}


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("os.setpriority", lambda *_: None)  # a busy test machine would starve the worker
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    closed = closedPort()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{closed}/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with ModuleHost() as host:
        yield host
        host.quit()
        assert list((host.folder / "temporary").glob("CTDiffusion-*")) == []


@pytest.fixture
def bare(tmp_path):
    """An environment with nothing but pip: the doctor answers soon."""
    return PythonEnvironment(tmp_path / "python")


class Panel:
    """The opened section, once the doctor has looked at an environment."""

    def __init__(self, host, environment, monkeypatch, *, prefix=""):
        self.host, self.environment = host, environment
        self.launcher = host.folder / "bin" / "PythonSlicer"
        environment.writeLauncher(self.launcher, prefix)
        host.loadModule("CTDiffusion")
        from CTDiffusionLib import InstallPlan

        monkeypatch.setattr(InstallPlan, "CPU_INDEX", os.environ["PIP_INDEX_URL"])
        monkeypatch.setattr(InstallPlan, "accelerator", lambda: "cpu")
        self.widget = host.openModule("CTDiffusion")
        self.panel = self.widget.sections.install
        self.ui, self.logic = self.panel._ui, self.panel._logic
        self.wait()

    @property
    def status(self):
        return self.ui.installStatusLabel.text

    @property
    def result(self):
        return self.ui.installResultLabel.text

    @property
    def log(self):
        return self.ui.installLogText.plainText

    def wait(self):
        """Wait for the end of what runs, and for the doctor."""
        finder = self.widget.sections.devices
        self.host.process(until=lambda: not self.logic.isRunning and not finder.isAsking, timeout=300)

    def install(self, *answers):
        """Click Install (or Retry), answer what is asked, and wait."""
        self.click(self.ui.installButton, *answers)
        self.wait()

    def click(self, button, *answers):
        self.host.answers.extend(answers)
        self.host.click(button)
        assert not self.host.answers, "not everything was asked"

    def processID(self):
        return self.logic._job._process.processID


def closedPort():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def fakeWheels(folder, names=FAKES):
    """Wheels that go by the right names and are not what they say."""
    for name in names:
        module = {"pillow": "PIL"}.get(name, name)
        writeWheel(folder, name, FAKES[name], {f"{module}/__init__.py": ""})
    return folder


@contextmanager
def slowServer(size):
    """A package server that has torch alone, and sends it for ever so slowly."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            isFile = self.path.endswith(".whl")
            page = b'<html><body><a href="/torch-2.7-py3-none-any.whl">torch-2.7-py3-none-any.whl</a></body></html>'
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream" if isFile else "text/html")
            self.send_header("Content-Length", str(size if isFile else len(page)))
            self.end_headers()
            if not isFile:
                self.wfile.write(page)
                return
            try:
                for _ in range(size // 100_000):
                    self.wfile.write(bytes(100_000))
                    time.sleep(0.1)
            except OSError:
                pass

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


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
    assert "PyTorch, diffusers, safetensors, accelerate, matplotlib, pillow will be installed into" in asked
    assert "About 394 MB will be downloaded; they take about 1.5 GB on the disk." in asked
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


def test_cancel_while_a_file_is_downloaded(host, bare, monkeypatch):
    with slowServer(50_000_000) as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        panel = Panel(host, bare, monkeypatch)
        panel.click(panel.ui.installButton, "Use pip", "Ok")
        assert panel.status == "Installing PyTorch..."
        assert panel.widget.sections.devices.problem == "Packages are being installed."  # nothing can be generated
        host.process(until=lambda: panel.logic.progress[0] > 200_000, timeout=120)
        assert panel.logic.progress[1] == 50_000_000
        assert panel.ui.installProgressBar.value > 0
        processID = panel.processID()
        panel.click(panel.ui.installButton)
        assert panel.ui.installButton.text == "Stopping..."
        panel.wait()
    assert isGone(processID)
    assert panel.result == "Cancelled. Press Install to go on."
    assert panel.ui.installButton.text == "Install"
    assert "Progress " not in panel.log
    assert not panel.ui.installProgressBar.visible


def test_pip_is_killed(host, bare, monkeypatch):
    with slowServer(50_000_000) as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        panel = Panel(host, bare, monkeypatch)
        panel.click(panel.ui.installButton, "Use pip", "Ok")
        host.process(until=lambda: panel.logic.progress[0] > 200_000, timeout=120)
        os.killpg(panel.processID(), signal.SIGKILL)
        panel.wait()
    assert panel.result.startswith("Failed: The installation was ended from outside")
    assert panel.ui.installButton.text == "Retry"


def test_the_module_is_closed_meanwhile(host, bare, monkeypatch):
    with slowServer(50_000_000) as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        panel = Panel(host, bare, monkeypatch)
        panel.click(panel.ui.installButton, "Use pip", "Ok")
        host.process(until=lambda: panel.logic.progress[0] > 200_000, timeout=120)
        processID, folder = panel.processID(), panel.logic._job.folder
        host.reload("CTDiffusion")
    assert isGone(processID)
    assert not folder.exists()


def test_no_permission(host, bare, monkeypatch, tmp_path):
    prefix = ""
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everywhere, and there is no setpriv")
        prefix = "setpriv --bounding-set=-dac_override,-dac_read_search,-fowner --inh-caps=-all"
    wheels = fakeWheels(tmp_path / "wheels")
    panel = Panel(host, bare, monkeypatch, prefix=prefix)
    panel.ui.packagesFolderEdit.currentPath = str(wheels)
    bare.packages.chmod(0o555)
    try:
        panel.install("Ok")
    finally:
        bare.packages.chmod(0o755)
    assert panel.result.startswith("Failed: You may not write into Slicer's folder."), panel.log


def test_no_space(host, bare, monkeypatch, tmp_path):
    small = f"unshare --mount sh -c 'mount -t tmpfs -o size=64k none {bare.packages.parent}/lib-dynload' 2>&1"
    (bare.packages.parent / "lib-dynload").mkdir()
    if subprocess.run(small, shell=True, capture_output=True).returncode != 0:
        pytest.skip("a small disk can only be made by root")
    wheels = tmp_path / "wheels"
    fakeWheels(wheels)
    writeWheel(wheels, "torch", "2.8", {"torch/__init__.py": "", "torch/big": os.urandom(2_000_000)})
    # The packages' folder is put on a disk of 1 MB, with pip's own link kept outside of it.
    outside = tmp_path / "pip"
    outside.mkdir()
    for entry in bare.packages.glob("pip*"):
        shutil.move(entry, outside / entry.name)
    script = tmp_path / "small-disk"
    script.write_text(
        f'#!/bin/sh\nexec unshare --mount sh -c \'mount -t tmpfs -o size=1m none "{bare.packages}" && '
        f'PYTHONPATH="{outside}:$PYTHONPATH" exec "$0" "$@"\' "$@"\n'
    )
    script.chmod(0o755)
    panel = Panel(host, bare, monkeypatch, prefix=str(script))
    panel.ui.packagesFolderEdit.currentPath = str(wheels)
    panel.install("Ok")
    assert panel.result.startswith("Failed: There is no space left on the disk. Free some space"), panel.log


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
    from PySide6 import QtCore, QtWidgets

    panel = Panel(host, bare, monkeypatch)
    found = [w for w in vars(panel.ui).values() if isinstance(w, QtWidgets.QPushButton | QtWidgets.QPlainTextEdit)]
    assert len(found) >= 7
    for widget in found:
        assert widget.toolTip, widget.name
        assert widget.focusPolicy != QtCore.Qt.NoFocus, widget.name
