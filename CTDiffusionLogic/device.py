"""Where to compute: choose a device by name, say what it is, how much memory it has, and whether it works.

``auto`` takes CUDA if a tiny computation really works on it, else Apple's MPS, else the CPU. A name
that was asked for is taken or refused, never replaced by another one without a word.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CTDiffusionLogic.errors import ResourceError, UsageError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

#: What :func:`tiny_computation` gives; from the same sums in float64 with NumPy (see the test).
TINY_RESULT = 152.835
TINY_TOLERANCE = 0.5  # a GPU may round products to TF32 (10 bits)

_TORCH_REMEDY = "Install it with: python -m pip install torch (in 3D Slicer: the PyTorch extension)."


def import_torch() -> Any:
    """Import torch.

    Raises:
        ResourceError: If torch is missing or half installed; the message carries the cause.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ResourceError(f"PyTorch is not installed ({error}).", remedy=_TORCH_REMEDY) from error
    except (ImportError, OSError) as error:  # a broken install fails while it loads its libraries
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ResourceError(
            f"PyTorch is installed but does not load: {cause}.",
            remedy="Reinstall it with: python -m pip install --force-reinstall --no-cache-dir torch.",
        ) from error
    return torch


def check_device_name(name: str) -> str:
    """Return ``name`` if it is one of auto, cpu, mps, cuda, cuda:N; does not import torch.

    Raises:
        UsageError: If it is none of them.
    """
    kind, _, index = name.partition(":")
    if name in ("auto", "cpu", "mps", "cuda") or (kind == "cuda" and index.isdecimal()):
        return name
    raise UsageError(f"Unknown device {name!r}.", remedy="Use auto, cpu, cuda, cuda:1 or mps.")


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called ``name``.

    Args:
        name: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        UsageError: If the name is none of these.
        ResourceError: If torch is missing, or the device asked for is not there or does not compute.
    """
    check_device_name(name)
    torch = import_torch()
    if name != "auto":
        device = torch.device(name)
        _require(device)
        return device
    for candidate in ("cuda", "mps"):
        if _present(candidate):
            device = torch.device(candidate)
            try:
                _require(device)
                return device
            except ResourceError as error:
                log.warning("%s Going on with the CPU, which is slower.", error.message)
    return torch.device("cpu")


def describe_device(device: torch.device | str) -> str:
    """One short line for people: kind, name, memory. For example ``CPU (x86_64), 8 threads, 31.2 GB``."""
    torch = import_torch()
    kind = torch.device(device).type
    total, _ = memory(device)
    size = f", {format_bytes(total)}" if total else ""
    if kind == "cuda":
        return f"GPU {torch.cuda.get_device_name(device)} ({device}){size}"
    if kind == "mps":
        return f"Apple GPU (mps){size}"
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}), {threads} thread{'s' if threads != 1 else ''}{size}"


def memory(device: torch.device | str = "cpu") -> tuple[int | None, int | None]:
    """Total and free memory of ``device`` in bytes; None where the system does not say.

    On Linux a container's limit counts as the total. ``"cpu"`` works without torch.
    """
    if str(device).startswith("cuda"):
        free, total = import_torch().cuda.mem_get_info(device)
        return total, free
    return _system_memory()  # MPS shares it


def set_threads(threads: int | None) -> None:
    """Compute with ``threads`` CPU threads; None leaves torch's own choice.

    Raises:
        UsageError: If ``threads`` is not positive.
    """
    if threads is None:
        return
    if threads < 1:
        raise UsageError(f"The number of threads must be at least 1, got {threads}.")
    import_torch().set_num_threads(threads)


def tiny_computation(device: torch.device | str) -> float:
    """A 3 x 3 convolution and a sum on ``device``; gives :data:`TINY_RESULT` where the device is sound."""
    torch = import_torch()
    pixels = torch.arange(64, dtype=torch.float32).reshape(1, 1, 8, 8).to(device)
    weights = torch.arange(9, dtype=torch.float32).reshape(1, 1, 3, 3).to(device)
    return float((torch.nn.functional.conv2d(pixels.sin(), weights.cos(), padding=1) ** 2).sum().cpu())


def format_bytes(count: float) -> str:
    """``1536`` -> ``1.5 kB``; steps of 1024."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1024 or unit == "GB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"


def _present(kind: str) -> bool:
    torch = import_torch()
    return bool(torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available())


def _require(device: torch.device) -> None:
    """Raise ResourceError unless ``device`` is there and computes the known result."""
    torch = import_torch()
    if device.type == "cuda" and not torch.cuda.is_available():
        build = "built without CUDA" if torch.version.cuda is None else f"built for CUDA {torch.version.cuda}"
        raise ResourceError(
            f"No CUDA device can be used: PyTorch {torch.__version__} is {build} and finds no GPU it can drive.",
            remedy="Use --device auto or --device cpu, or see what `ctdiffusion doctor` says.",
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ResourceError(
            f"There is no device {device}: {torch.cuda.device_count()} CUDA device(s) found.",
            remedy="Numbers begin at cuda:0.",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ResourceError("No Apple GPU (mps) can be used here.", remedy="Use --device auto or --device cpu.")
    try:
        result = tiny_computation(device)
    except RuntimeError as error:  # no kernel image for this GPU, driver too old, no memory left
        raise ResourceError(
            f"The device {device} is there but does not compute: {str(error).splitlines()[0]}.",
            remedy="Use --device cpu, or install a PyTorch built for this GPU.",
        ) from error
    if not abs(result - TINY_RESULT) <= TINY_TOLERANCE:
        raise ResourceError(
            f"The device {device} computes wrongly: {result:.4f} instead of {TINY_RESULT}.",
            remedy="Use --device cpu and check the GPU and its driver.",
        )


def _system_memory() -> tuple[int | None, int | None]:
    if sys.platform == "win32":
        return _windows_memory()
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        pairs = (line.split(":") for line in meminfo.read_text().splitlines() if ":" in line)
        values = {key: int(value.split()[0]) * 1024 for key, value in pairs if value.split()}
        total, free = values.get("MemTotal"), values.get("MemAvailable")
        return _within_container(total, free)
    try:  # macOS does not say what is free without a subprocess: take half of what there is
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None, None
    return total, total // 2


def _within_container(total: int | None, free: int | None) -> tuple[int | None, int | None]:
    """Lower the two to the limits of the control group (version 2), if there are any."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no control group, or "max": no limit
        return total, free
    return min(total or limit, limit), max(min(free or limit, limit - used), 0)


def _windows_memory() -> tuple[int | None, int | None]:
    """GlobalMemoryStatusEx; https://learn.microsoft.com/windows/win32/api/sysinfoapi."""

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            ("total", ctypes.c_ulonglong),
            ("free", ctypes.c_ulonglong),
            ("rest", ctypes.c_ulonglong * 5),
        )

    status = Status(length=ctypes.sizeof(Status))
    kernel32 = getattr(ctypes, "windll").kernel32  # noqa: B009  (only there on Windows)
    if not kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None, None
    return int(status.total), int(status.free)
