"""What Slicer's ``Reload and Test`` and ctest run, here with the panel and the DICOM module's plug-in in the host."""

from __future__ import annotations


def test_the_self_test_passes_with_the_panel(host):
    host.loadModule("DICOMSyntheticCTPlugin")
    host.openModule("CTDiffusion")
    host.module("CTDiffusion").CTDiffusionTest().runTest()
