"""Files that are no CT, or damaged, are refused, each with one clear line."""

import subprocess
import sys

import numpy as np
import pydicom
import pytest
from dicom_files import scan_hu, write_series

from CTDiffusionLogic.dicom_read import read_dicom_folder
from CTDiffusionLogic.errors import InputError


@pytest.mark.parametrize(("modality", "shown"), [("MR", "is MR, not CT"), ("PT", "is PT, not CT"), ("", "unknown")])
def test_other_modalities(tmp_path, refused, modality, shown):
    write_series(tmp_path, scan_hu(4), change=lambda k, i: setattr(i, "Modality", modality))
    assert shown in refused(tmp_path)


def test_values_that_are_not_hu(tmp_path, refused):
    write_series(tmp_path / "a", scan_hu(4), change=lambda k, i: setattr(i, "RescaleType", "MGML"))
    assert "MGML" in refused(tmp_path / "a")

    def raw(k, image):
        del image.RescaleSlope, image.RescaleIntercept, image.RescaleType

    write_series(tmp_path / "b", scan_hu(4), change=raw)
    assert "does not look like a CT" in refused(tmp_path / "b")


def test_no_pixel_data(tmp_path, refused):
    def empty(k, image):
        if k == 2:
            del image.PixelData

    write_series(tmp_path, scan_hu(4), change=empty)
    assert "002.dcm has no pixel data" in refused(tmp_path)


def test_truncated_slice(tmp_path, refused):
    path = write_series(tmp_path, scan_hu(4, 30, 30))[2]
    path.write_bytes(path.read_bytes()[:-700])
    assert "002.dcm is truncated" in refused(tmp_path)


@pytest.mark.parametrize("keep", [0, 100, 140, 200, 300, 500, 700])
def test_slice_that_ends_in_its_header(tmp_path, refused, keep):
    paths = write_series(tmp_path, scan_hu(1))
    paths[0].write_bytes(paths[0].read_bytes()[:keep])
    refused(tmp_path)


def test_unknown_compression_is_named(tmp_path, refused):
    for path in write_series(tmp_path, scan_hu(3)):
        image = pydicom.dcmread(path)
        image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
        image.PixelData = pydicom.encaps.encapsulate([b"\0\1" * 50])
        image["PixelData"].is_undefined_length = True
        image.save_as(path)
    message = refused(tmp_path)
    assert "MPEG2" in message
    assert "pylibjpeg" in message


def test_colour_pictures_and_reports(tmp_path, refused):
    write_series(tmp_path / "c", scan_hu(2), change=lambda k, i: setattr(i, "SamplesPerPixel", 3))
    assert "colour picture" in refused(tmp_path / "c")

    def report(k, image):
        for name in ("Rows", "Columns", "PixelData"):
            delattr(image, name)
        image.Modality = "SR"

    write_series(tmp_path / "r", scan_hu(2), change=report)
    assert "is not an image but SR" in refused(tmp_path / "r")

    def capture(k, image):
        del image.ImagePositionPatient, image.ImageOrientationPatient

    write_series(tmp_path / "s", scan_hu(2), change=capture)
    assert "without a position" in refused(tmp_path / "s")


def test_random_damage_never_escapes_as_another_error(tmp_path, capfd):
    rng = np.random.default_rng(0)
    path = write_series(tmp_path, scan_hu(1))[0]
    whole = path.read_bytes()
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(128, len(data), 4):
            data[place] = rng.integers(0, 256)
        path.write_bytes(bytes(data))
        try:
            read_dicom_folder(tmp_path)
        except InputError as error:
            assert str(tmp_path) in str(error)
    assert capfd.readouterr().err == ""


def test_nothing_on_stderr_for_odd_but_legal_files(tmp_path):
    """pydicom remarks on invalid values through warnings, which only a fresh process shows."""

    def odd(k, image):
        image.PatientID = "x" * 100
        image.add_new("StudyDate", "DA", "yesterday")
        image.PixelData += b"\0" * 10  # longer than it must be

    with pytest.warns(UserWarning):
        write_series(tmp_path, scan_hu(3), change=odd)
    script = "import sys; from CTDiffusionLogic.volume_io import read_volume; print(read_volume(sys.argv[1]).shape)"
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True)
    assert done.stdout.strip() == "(3, 12, 10)", done.stderr
    assert done.stderr == ""
