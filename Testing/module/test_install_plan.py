"""What an installation would do on other systems, and what pip's words mean; nothing is run here."""

from __future__ import annotations

import sys
import types

import pytest
from CTDiffusionLib import InstallPlan
from CTDiffusionLib.InstallCheck import stateOf
from CTDiffusionLib.InstallFailure import endingOf
from CTDiffusionLib.InstallPlan import CONSTRAINTS, CPU_INDEX, makePlan


def options(step):
    """The words of a step without those that every one has."""
    return [
        w for w in step.words[1:] if not w.startswith(("--retries", "--timeout", "--no-", "--disable", "--progress"))
    ]


@pytest.mark.parametrize(
    ("platform", "card", "extra", "size"),
    [
        ("linux", "cpu", ["--extra-index-url", CPU_INDEX], 220),
        ("linux", "cuda", [], 4000),
        ("win32", "cpu", [], 220),
        ("darwin", "mac", [], 100),
    ],
)
def test_pip_gets_the_small_build_where_there_is_no_card(monkeypatch, platform, card, extra, size):
    monkeypatch.setattr(InstallPlan, "accelerator", lambda: card)
    monkeypatch.setattr(InstallPlan.sys, "platform", platform)
    plan = makePlan(["torch"], source="pip")
    (step,) = plan.steps
    assert options(step) == [*extra, "torch>=2.6", "--constraint", CONSTRAINTS]
    assert step.packages == ("torch",)  # the only one that is not pinned
    assert plan.downloadMB == size


def test_pytorch_comes_first_and_is_pinned_for_the_rest():
    plan = makePlan(["diffusers", "torch", "accelerate"], source="pip")
    torch, rest = plan.steps
    assert torch.packages == ("torch",)
    assert rest.packages == ("diffusers", "accelerate")
    assert options(rest) == ["diffusers>=0.36", "accelerate>=1.2", "--constraint", CONSTRAINTS]


def test_by_the_extension():
    words = ("install", "torch>=2.6", "torchvision")
    tool, torch = makePlan(["torch"], source="extension", torchWords=words, hasLightTheTorch=False).steps
    assert (tool.module, tool.words[-3]) == ("pip", "light-the-torch>=0.5")
    assert (torch.module, torch.words[0]) == ("light_the_torch", "install")
    assert options(torch) == ["torch>=2.6", "torchvision", "--constraint", CONSTRAINTS]
    assert torch.packages == ("torch", "torchvision")


def test_repair_removes_and_installs_over_what_is_left(monkeypatch, tmp_path):
    (tmp_path / "nvidia_cublas_cu12-12.8.dist-info").mkdir()
    monkeypatch.setattr(InstallPlan.sysconfig, "get_paths", lambda: {"purelib": str(tmp_path)})
    plan = makePlan(["diffusers"], ["torch", "safetensors"], source="folder", folder="/wheels")
    removal, torchAlone, torch, againAlone, rest = plan.steps
    assert removal.mayFail
    assert removal.words[-4:] == ("torch", "safetensors", "torchvision", "nvidia_cublas_cu12")
    for step in (torchAlone, againAlone):
        assert {"--ignore-installed", "--no-deps"} <= set(step.words)
    for step in (torch, rest):  # their requirements, but nothing that is there and good enough
        assert not {"--ignore-installed", "--no-deps", "--force-reinstall", "--upgrade"} & set(step.words)
    for step in plan.steps[1:]:
        assert {"--no-index", "/wheels"} <= set(step.words)
    assert plan.downloadMB == 0


@pytest.mark.parametrize(
    ("line", "code", "remedy"),
    [
        ("OSError: [WinError 112] There is not enough space on the disk", "no-space", "Free some space"),
        ("OSError: [WinError 206] The filename or extension is too long", "long-path", "short path"),
        ("PermissionError: [WinError 5] Access is denied: 'c10.dll'", "in-use", "Restart Slicer"),
        ("OSError: [Errno 30] Read-only file system: '/opt/Slicer'", "no-permission", "administrator"),
        ("ProxyError('Cannot connect to proxy.', OSError('Tunnel: 407'))", "proxy", "HTTPS_PROXY"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "certificate", "PIP_CERT"),
        (
            "ReadTimeoutError: HTTPSConnectionPool(host='files.pythonhosted.org'): Read timed out.",
            "no-network",
            "Retry",
        ),
        ("Temporary failure in name resolution", "no-network", "Without a network"),
        ("ERROR: ResolutionImpossible: for help visit", "conflict", "The log names them"),
        ("ERROR: No matching distribution found for torch>=2.6", "not-found", "same system"),
        ("python: No module named pip", "no-pip", "Install Slicer again"),
        ("ERROR: something new", "failed", "Repair"),
    ],
)
def test_pip_in_plain_words(line, code, remedy):
    ending = endingOf(None, 1, output=["Collecting torch", line, "", "[notice] A new release of pip"])
    assert (ending.kind, ending.code) == ("failed", code)
    assert remedy in ending.remedy
    if code == "failed":
        assert "ERROR: something new" in ending.message
    if code == "not-found":
        assert ending.message.startswith("torch was not found")


def test_endings_that_are_no_failures_of_pip():
    assert endingOf(None, 0, output=["WARNING: Retrying after NewConnectionError"]).kind == "finished"
    assert endingOf(None, -9, stopReason="Cancelled.").kind == "cancelled"
    assert endingOf(None, -9).code == "killed"
    assert endingOf(None, None, startError=FileNotFoundError("PythonSlicer is missing")).code == "no-start"


def finder(*checks, devices=(), problem="", isAsking=False):
    keys = ("name", "status", "text", "cause")
    made = [{**dict(zip(keys, check, strict=False)), "remedy": ""} for check in checks]
    devices = [types.SimpleNamespace(name=name, description=name.upper()) for name in devices]
    return types.SimpleNamespace(
        isAsking=isAsking,
        isKnown=bool(devices or problem),
        checks=made,
        problem=problem,
        devices=devices,
        automatic=lambda: devices[-1] if devices else None,
    )


TORCH = ("torch", "ok", "2.9.0", "")


def test_states(monkeypatch):
    monkeypatch.setattr("CTDiffusionLib.InstallCheck.accelerator", lambda: "cuda")
    assert stateOf(finder(isAsking=True)).kind == "checking"
    assert stateOf(finder()).kind == "unknown"
    ready = stateOf(finder(TORCH, ("accelerate", "note", "not installed", "missing"), devices=["cpu"]))
    assert (ready.kind, ready.missing) == ("ready", ("accelerate",))
    assert ready.text == "Ready: PyTorch 2.9.0, CPU. Training and measuring need besides: accelerate."
    measuring = stateOf(finder(TORCH, ("monai", "note", "not installed"), ("jinja2", "ok", "3.1"), devices=["cpu"]))
    assert (measuring.kind, measuring.missing) == ("ready", ("monai",))
    unused = stateOf(
        finder(TORCH, ("GPU", "note", "none (PyTorch is built without CUDA); the CPU is used"), devices=["cpu"])
    )
    assert "NVIDIA graphics card that is not used: none (PyTorch is built without CUDA)" in unused.text
    crash = stateOf(
        finder(TORCH, ("computing", "problem", "ended with code -11", "broken"), problem="It cannot work.")
    )
    assert (crash.kind, crash.broken) == ("incomplete", ("torch",))
    assert crash.text == "Broken: PyTorch: ended with code -11."
    old = stateOf(finder(TORCH, ("diffusers", "problem", "0.9 is too old", "outdated"), problem="It cannot work."))
    assert (old.kind, old.missing) == ("incomplete", ("diffusers",))
    model = stateOf(finder(TORCH, ("model torso", "problem", "is broken"), devices=["cpu"]))
    assert model.kind == "failed"
    assert "model torso: is broken" in model.text
    assert stateOf(finder(problem="PythonSlicer is missing from this Slicer.")).kind == "failed"


def test_sizes_are_written_for_people():
    assert InstallPlan.sizeText(230) == "230 MB"
    assert InstallPlan.sizeText(4000) == "4.0 GB"
    assert "torch" not in InstallPlan.SIZES
    assert set(InstallPlan.TORCH_SIZES) == {"cpu", "mac", "cuda"}
    assert InstallPlan.accelerator() in InstallPlan.TORCH_SIZES
    assert sys.platform == "darwin" or InstallPlan.accelerator() != "mac"
