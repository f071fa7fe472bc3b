"""Keeps libraries from talking on stderr, where only our own one clear line belongs."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk

_lock = threading.Lock()


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discard what C libraries print to stderr (niftilib, MetaIO, GDCM, OpenJPEG) in this block.

    It redirects the stderr of the whole process, so blocks run one after another, and what other threads
    log meanwhile is lost: use it for short calls that are known to print.
    """
    with _lock:
        try:
            sys.stderr.flush()
            saved = os.dup(2)
        except (OSError, AttributeError, ValueError):  # no stderr (a GUI program): nothing to keep quiet
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(nowhere)


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Discard ITK's own warnings, and leave the switch as it was: in Slicer it is the whole application's."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


@contextmanager
def quiet_warnings() -> Iterator[None]:
    """Discard Python warnings: pydicom remarks on every odd value of a header, and scanners write many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
