"""Reading DICOM series: every voxel in HU at its place."""

import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import AXIAL, scan_hu, write_series
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless
from scipy.spatial.transform import Rotation

from CTDiffusionLogic.dicom_series import find_series, pseudonym
from CTDiffusionLogic.volume_io import read_volume

# --- Reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_oblique_series_lies_where_its_headers_say(tmp_path, seed):
    hu = scan_hu(5, seed=seed)
    directions = Rotation.random(random_state=seed).as_matrix()
    orientation = directions[:, :2].T.ravel()
    order = np.random.default_rng(seed).permutation(5)  # file names say nothing about the order
    write_series(tmp_path, hu, orientation=orientation, origin=(5, -9, 30), names=lambda k: f"x{order[k]}")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.hu, hu)
    np.testing.assert_allclose(volume.geometry.direction, directions, atol=1e-6)
    np.testing.assert_allclose(volume.spacing, (0.7, 0.8, 2.5), atol=1e-6)
    np.testing.assert_allclose(volume.geometry.origin, (5, -9, 30), atol=1e-6)


def test_itk_reads_the_same(tmp_path):
    write_series(tmp_path, scan_hu(4))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.hu, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(volume.geometry.origin, image.GetOrigin())
    np.testing.assert_allclose(volume.spacing, image.GetSpacing())


def test_every_slice_has_its_own_rescaling(tmp_path):
    hu = scan_hu(3)

    def other_scale(k, image):
        if k == 1:
            image.RescaleSlope, image.RescaleIntercept = "0.5", "-2000"
            image.PixelData = ((hu[k].astype(int) + 2000) * 2).astype("<i2").tobytes()

    write_series(tmp_path, hu, change=other_scale)
    np.testing.assert_array_equal(read_volume(tmp_path).hu, hu)


def test_padding_becomes_air(tmp_path):
    hu = scan_hu(3)
    hu[:, 0, :4] = -3000

    def padded(k, image):
        image.PixelPaddingValue = -3000 + 1024

    write_series(tmp_path, hu, change=padded)
    volume = read_volume(tmp_path)
    assert (volume.hu[:, 0, :4] == -1024).all()
    np.testing.assert_array_equal(volume.hu[:, 1:], hu[:, 1:])


def test_padding_with_a_value_of_tissue_only_where_it_fills_the_corners(tmp_path):
    hu = np.maximum(scan_hu(3), -1000)
    hu[:, 5, 5] = 0  # water, stored as 0: a stray padding value of 0 must not make holes of air
    write_series(tmp_path / "stray", hu, intercept=0, change=lambda k, i: setattr(i, "PixelPaddingValue", 0))
    assert (read_volume(tmp_path / "stray").hu[:, 5, 5] == 0).all()
    hu[:, [0, 0, -1, -1], [0, -1, 0, -1]] = 0
    write_series(tmp_path / "real", hu, intercept=0, change=lambda k, i: setattr(i, "PixelPaddingValue", 0))
    assert (read_volume(tmp_path / "real").hu[:, [0, 5], [0, 5]] == -1024).all()


def test_twelve_bits_stored(tmp_path):
    """Bits above BitsStored hold rubbish on some scanners."""
    hu = scan_hu(3)

    def twelve_bits(k, image):
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, 0
        stored = (hu[k].astype(int) + 1024).astype("<u2")
        image.PixelData = stored.tobytes()

    write_series(tmp_path, hu, change=twelve_bits)
    np.testing.assert_array_equal(read_volume(tmp_path).hu, hu)


def test_metadata_name_the_scanner_but_not_the_patient(tmp_path):
    def named(k, image):
        image.Manufacturer, image.ConvolutionKernel, image.KVP = "ACME", "B40f", "120"
        image.PatientBirthDate, image.InstitutionName = "19700101", "General Hospital"

    write_series(tmp_path, scan_hu(3), change=named)
    metadata = read_volume(tmp_path).metadata
    assert (metadata["manufacturer"], metadata["kernel"], metadata["kvp"]) == ("ACME", "B40f", "120")
    assert metadata["patient"] == pseudonym("Doe-4711")
    assert not re.search("Doe|4711|1970|Hospital", str(metadata))
    assert "synthetic" not in metadata


def test_pseudonyms_are_stable_and_differ():
    assert pseudonym("Doe-4711") == "p18f2200b2dac"  # splits by patient rely on it from version to version
    assert pseudonym("Doe-4711") != pseudonym("Doe-4712")


def test_one_file_stands_for_its_series(tmp_path):
    paths = write_series(tmp_path, scan_hu(4))
    write_series(tmp_path, scan_hu(3, seed=1), names=lambda k: f"other{k}")
    assert read_volume(paths[2]).shape[0] == 4


def test_a_single_slice(tmp_path):
    write_series(tmp_path, scan_hu(1))
    volume = read_volume(tmp_path)
    assert volume.shape == (1, 12, 10)
    assert volume.spacing[2] == 2.5  # SliceThickness
    assert "single slice" in volume.metadata["notes"]


def test_files_without_the_dicom_mark(tmp_path):
    """Old exports have neither preamble nor file header; the suffix is all there is to go by."""
    for path in write_series(tmp_path, scan_hu(3)):
        image = pydicom.dcmread(path)
        plain = Dataset()
        plain.update(image)
        plain.save_as(path, implicit_vr=True, little_endian=True)
        assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(read_volume(tmp_path).hu, scan_hu(3))


@pytest.mark.parametrize("compressor", ["JPEG2000", "JPEG"])
def test_compressed_slices(tmp_path, compressor):
    """pydicom brings no decoder for these; SimpleITK does."""
    hu = scan_hu(3)
    for path in write_series(tmp_path / "plain", hu):
        stored = sitk.Cast(sitk.ReadImage(str(path), imageIO="GDCMImageIO") + 1024, sitk.sitkUInt16)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        writer.SetFileName(str(tmp_path / "packed.dcm"))
        writer.Execute(stored)
        image, packed = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "packed.dcm")
        assert packed.file_meta.TransferSyntaxUID.is_compressed
        image.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
        image.PixelRepresentation, image.BitsAllocated, image.BitsStored, image.HighBit = 0, 16, 16, 15
        image["PixelData"] = packed["PixelData"]
        image.save_as(path)
    np.testing.assert_array_equal(read_volume(tmp_path / "plain").hu, hu)


def test_run_length_encoding(tmp_path):
    for path in write_series(tmp_path, scan_hu(3)):
        image = pydicom.dcmread(path)
        image.compress(RLELossless, generate_instance_uid=False)
        image.save_as(path)
    np.testing.assert_array_equal(read_volume(tmp_path).hu, scan_hu(3))


def enhanced(folder: Path, hu: np.ndarray, *, drop: int | None = None) -> Path:
    """All slices in one multi-frame file, in reverse order, positions and rescaling in functional groups."""
    parts = [pydicom.dcmread(p) for p in write_series(folder / "parts", hu)]
    first = parts[0]
    image = FileDataset("", {}, file_meta=first.file_meta, preamble=b"\0" * 128)
    for name in ("Modality", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns", "ImageType"):
        image[name] = first[name]
    for name in ("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"):
        image[name] = first[name]
    image.PixelRepresentation = 1
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    image.SOPInstanceUID = first.SOPInstanceUID

    def group(**values) -> Sequence:
        item = Dataset()
        for name, value in values.items():
            setattr(item, name, value)
        return Sequence([item])

    shared = Dataset()
    shared.PixelMeasuresSequence = group(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=first.ImageOrientationPatient)
    image.SharedFunctionalGroupsSequence = Sequence([shared])
    frames, pixels = [], b""
    for k, part in reversed(list(enumerate(parts))):
        if k == drop:
            continue
        frame = Dataset()
        frame.PlanePositionSequence = group(ImagePositionPatient=part.ImagePositionPatient)
        frame.PixelValueTransformationSequence = group(
            RescaleSlope="1", RescaleIntercept=str(-1024 - k), RescaleType="HU"
        )
        frames.append(frame)
        pixels += (hu[k].astype(int) + 1024 + k).astype("<i2").tobytes()
    image.PerFrameFunctionalGroupsSequence = Sequence(frames)
    image.NumberOfFrames, image.PixelData = len(frames), pixels
    image["PixelData"].VR = "OW"
    (folder / "whole").mkdir()
    image.save_as(folder / "whole" / "enhanced", enforce_file_format=True)
    return folder / "whole"


def test_multi_frame_file(tmp_path):
    hu = scan_hu(5)
    volume = read_volume(enhanced(tmp_path, hu))
    np.testing.assert_array_equal(volume.hu, hu)
    assert volume.spacing == pytest.approx((0.7, 0.8, 2.5))
    assert volume.geometry.origin == pytest.approx((-100, -90, -50))


def test_multi_frame_file_that_lacks_a_frame(tmp_path, refused):
    assert "lacks 1 slice" in refused(enhanced(tmp_path, scan_hu(6), drop=2))


@pytest.mark.real_data
def test_real_series(ct_data):
    search = find_series(ct_data / "dicom")
    assert search.rejected == ()
    assert [(s.folder.name, s.shape[0], s.problem, s.notes) for s in search.series] == [
        ("abd_cptacpda00189", 35, "", ()),
        ("chest_lungdxA0002", 30, "", ()),
    ]
    volume = read_volume(ct_data / "dicom" / "abd_cptacpda00189")
    assert volume.hu.min() == -1024  # padding of -2000 stored, that is -3024 HU
    assert tuple(volume.geometry.direction[:, :2].T.ravel()) == AXIAL
