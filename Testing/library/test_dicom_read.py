"""DICOM series: sorted, separated, rescaled; and everything that is wrong with one, by name."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import AXIAL, scan_hu, write_series
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless, generate_uid
from scipy.spatial.transform import Rotation

from CTDiffusionLogic.dicom_read import read_dicom_folder
from CTDiffusionLogic.dicom_series import find_series, pseudonym
from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.volume_io import read_volume


@pytest.fixture
def refused(capfd):
    """Reads a folder that must be refused with one clear line, and gives back that line."""

    def check(path: Path) -> str:
        with pytest.raises(InputError) as caught:
            read_volume(path)
        message = str(caught.value)
        assert str(path) in message
        assert caught.value.remedy
        assert "\n" not in message
        assert capfd.readouterr().err == ""
        return message

    return check


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


# --- Which slices belong together -------------------------------------------------------------------------


def test_localizer_within_the_series_is_left_out(tmp_path):
    uid = generate_uid()
    write_series(tmp_path, scan_hu(6), series_uid=uid)
    write_series(
        tmp_path,
        scan_hu(1, 30, 20),
        series_uid=uid,
        orientation=(1, 0, 0, 0, 0, -1),
        names=lambda k: "scout.dcm",
        change=lambda k, i: setattr(i, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    )
    assert read_volume(tmp_path).shape == (6, 12, 10)
    scout = next(s for s in find_series(tmp_path).series if s.problem)
    assert "localizer" in scout.problem


def test_stray_image_of_another_matrix_is_left_out(tmp_path):
    uid = generate_uid()
    write_series(tmp_path, scan_hu(12), series_uid=uid)
    write_series(tmp_path, scan_hu(1, 30, 20), series_uid=uid, names=lambda k: "dose.dcm")
    assert read_volume(tmp_path).shape == (12, 12, 10)
    (path, reason), *rest = find_series(tmp_path).rejected
    assert path.name == "dose.dcm"
    assert "orientation or matrix" in reason
    assert rest == []


def test_two_series_in_one_folder(tmp_path, refused):
    write_series(tmp_path, scan_hu(4), names=lambda k: f"a{k}")
    write_series(tmp_path / "below", scan_hu(5, seed=1), names=lambda k: f"b{k}")
    message = refused(tmp_path)
    assert "2 CT series" in message
    assert "4 slices" in message
    assert "5 slices" in message
    assert sorted(s.shape[0] for s in find_series(tmp_path).usable) == [4, 5]
    assert read_volume(tmp_path / "below").shape[0] == 5


def test_one_series_in_several_folders(tmp_path):
    for n in (0, 1):
        (tmp_path / f"DIR{n}").mkdir()
    write_series(tmp_path, scan_hu(6), names=lambda k: f"DIR{k % 2}/IMG{k}")
    np.testing.assert_array_equal(read_volume(tmp_path).hu, scan_hu(6))


def test_other_things_among_the_slices(tmp_path):
    write_series(tmp_path, scan_hu(4))
    (tmp_path / "README.txt").write_text("about this scan")
    (tmp_path / "letter.dcm").write_text("Dear colleague")
    (tmp_path / ".DS_Store").write_bytes(b"\0" * 200)
    write_series(tmp_path / "mr", scan_hu(3), change=lambda k, i: setattr(i, "Modality", "MR"))
    assert read_volume(tmp_path).shape[0] == 4
    assert [(p.name, reason) for p, reason in find_series(tmp_path).rejected] == [
        ("letter.dcm", "is not a DICOM file")
    ]


# --- What is refused --------------------------------------------------------------------------------------


def drop(*numbers):
    def change(k, image):
        if k in numbers:
            raise StopIteration

    return change


def test_missing_slice_is_named(tmp_path, refused):
    write_series(tmp_path, scan_hu(9), change=drop(4))
    message = refused(tmp_path)
    assert "lacks 1 slice (between slices 4 and 5, at -42.5 and -37.5 mm)" in message


def test_several_missing_slices(tmp_path, refused):
    write_series(tmp_path, scan_hu(15), change=drop(4, 5, 9))
    assert "lacks 3 slices (between slices 4 and 5, at -42.5 and -35.0 mm, and in other places)" in refused(tmp_path)


@pytest.mark.parametrize(("count", "distance"), [(3, 5.0), (200, 0.5), (60, 0.2)])
def test_one_missing_slice_is_noticed_in_long_and_thin_and_short_stacks(tmp_path, refused, count, distance):
    write_series(tmp_path, scan_hu(count + 1, 2, 2), spacing=(1, 1, distance), change=drop(1))
    assert "lacks 1 slice" in refused(tmp_path)


def test_uneven_slices_are_named(tmp_path, refused):
    def thicker(k, image):
        image.ImagePositionPatient = [-100, -90, 2.5 * k if k < 6 else 12.5 + 3.7 * (k - 5)]

    write_series(tmp_path, scan_hu(10), change=thicker)
    message = refused(tmp_path)
    assert "uneven slices" in message
    assert "from 2.50 to 3.70 mm" in message


def test_positions_rounded_by_the_scanner_are_accepted(tmp_path):
    def rounded(k, image):
        image.ImagePositionPatient = [-100, -90, round(0.625 * k, 1)]

    write_series(tmp_path, scan_hu(40, 4, 4), spacing=(1, 1, 0.625), change=rounded)
    assert read_volume(tmp_path).spacing[2] == pytest.approx(0.625, abs=2e-3)


def test_gantry_tilt_is_named_with_its_angle(tmp_path, refused):
    angle = np.radians(12.0)

    def tilted(k, image):  # the table moves along z while the image planes lean
        image.ImagePositionPatient = [-100, -90, -50 + 2.5 * k]

    orientation = (1, 0, 0, 0, np.cos(angle), np.sin(angle))
    write_series(tmp_path, scan_hu(8), orientation=orientation, change=tilted)
    message = refused(tmp_path)
    assert "gantry tilted by 12.0 degrees" in message
    assert "dcm2niix" in message


def test_tilted_planes_that_follow_their_normal_are_no_tilt(tmp_path):
    angle = np.radians(12.0)
    write_series(tmp_path, scan_hu(8), orientation=(1, 0, 0, 0, np.cos(angle), np.sin(angle)))
    assert read_volume(tmp_path).shape[0] == 8


def test_slices_shifted_sideways(tmp_path, refused):
    def shifted(k, image):
        image.ImagePositionPatient = [-100 + (7 if k >= 5 else 0), -90, -50 + 2.5 * k]

    write_series(tmp_path, scan_hu(9), change=shifted)
    assert "shifted sideways from slice 6 on, at (-93.0, -90.0, -37.5) mm" in refused(tmp_path)


def test_copies_are_dropped_with_a_note(tmp_path):
    write_series(tmp_path, scan_hu(5))
    for n in (1, 3):
        (tmp_path / f"copy{n}.dcm").write_bytes((tmp_path / f"00{n}.dcm").read_bytes())
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.hu, scan_hu(5))
    assert volume.metadata["notes"] == "2 duplicate slices dropped"


def test_two_different_slices_in_one_place(tmp_path, refused):
    """Two phases of one heart, under one series UID."""
    uid = generate_uid()
    write_series(tmp_path, scan_hu(4), series_uid=uid, names=lambda k: f"a{k}.dcm")
    write_series(tmp_path, scan_hu(4, seed=1), series_uid=uid, names=lambda k: f"b{k}.dcm")
    message = refused(tmp_path)
    assert "two different slices at position (-100.0, -90.0, -50.0) mm, in a0.dcm and b0.dcm" in message


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


@pytest.mark.real_data
def test_real_series_without_a_slice(ct_data, tmp_path, refused):
    for path in sorted((ct_data / "dicom" / "chest_lungdxA0002").iterdir()):
        if path.name != "1-11.dcm":
            (tmp_path / path.name).symlink_to(path)
    assert "lacks 1 slice" in refused(tmp_path)
