"""Installations that are cancelled, killed or closed, or fail for want of permission or space."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import pytest
from install_section import Panel, fakeWheels, slowServer
from process_groups import isGone
from python_environments import writeWheel

pytestmark = pytest.mark.usefixtures("noPackageServer")


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
