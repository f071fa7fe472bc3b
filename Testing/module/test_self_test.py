"""What Slicer's ``Reload and Test`` and ctest run, here with the panel and the DICOM module's plug-in in the host."""

from __future__ import annotations

import slicer


def test_the_self_test_passes_with_the_panel(host):
    host.loadModule("DICOMSyntheticCTPlugin")
    host.openModule("CTDiffusion")
    host.module("CTDiffusion").CTDiffusionTest().runTest()


def test_the_self_test_passes_as_reload_and_test_runs_it(host):
    host.openModule("CTDiffusion")
    slicer.selfTests["CTDiffusion"](msec=1)
