"""Make glibc keep freed memory for the next tensor instead of giving it back to the kernel.

On Linux CPUs torch frees and takes blocks of many megabytes at every layer; by default each one is
mapped anew and its pages are faulted in again, which is a sizeable part of a training step.
"""

from __future__ import annotations

import ctypes
import sys

# malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Tune the process's allocator; returns whether it could be done (glibc only, else a no-op)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library (musl)
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 30)) and bool(mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1))
