"""Synthetic DICOM: it says what it is, nothing of a real patient is in it, and it lies where the volume lies."""

import re
import shutil
import subprocess
from dataclasses import astuple
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import scan_hu, write_series
from pydicom.uid import UID
from scipy.spatial.transform import Rotation

from CTDiffusionLogic.dicom_identity import SyntheticIdentity
from CTDiffusionLogic.dicom_read import read_dicom_folder
from CTDiffusionLogic.dicom_series import find_series
from CTDiffusionLogic.dicom_write import write_synthetic_dicom
from CTDiffusionLogic.errors import Cancelled, OutputError
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import CTVolume, flip_slices

FACTS = {"synthetic": "yes", "model": "torso-1", "seed": "7", "steps": "12", "source": "Doe_Jane.nii"}


def volume(slices: int = 4, *, seed: int = 0, direction: np.ndarray | None = None, **facts: str) -> CTVolume:
    geometry = Geometry((0.7, 0.8, 2.5), (-100.25, 90.125, 30.0625), direction)
    return CTVolume(scan_hu(slices, seed=seed), geometry, {**FACTS, **facts})


def datasets(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(p) for p in sorted(folder.iterdir())]


@pytest.fixture
def real_series(tmp_path):
    write_series(tmp_path / "real", scan_hu(6, seed=5), origin=(-100, -90, 20))
    return find_series(tmp_path / "real").series[0]


def test_it_says_that_it_is_synthetic(tmp_path):
    write_synthetic_dicom(volume(), tmp_path / "out", description="torso, seed 7")
    for image in datasets(tmp_path / "out"):
        assert image.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
        assert image.SyntheticData == "YES"
        assert image.ContentQualification == "RESEARCH"
        assert image.SeriesDescription == "SYNTHETIC torso, seed 7"
        assert "not acquired from a patient" in image.DerivationDescription
        assert "model: torso-1" in image.DerivationDescription
        assert "seed: 7" in image.DerivationDescription
        assert str(image.PatientName) == "SYNTHETIC^CTDiffusion"
        assert image.PatientID.startswith("SYNTHETIC-")
        assert image.Manufacturer == "CTDiffusion"
        assert image.SoftwareVersions.startswith("CTDiffusion ")
        equipment = image.ContributingEquipmentSequence[0]
        assert (equipment.Manufacturer, equipment.ManufacturerModelName) == ("CTDiffusion", "torso-1")
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"


def test_one_series_of_valid_and_different_uids(tmp_path):
    paths = write_synthetic_dicom(volume(6), tmp_path / "out")
    images = [pydicom.dcmread(p) for p in paths]
    assert len({i.SOPInstanceUID for i in images}) == 6
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({i[name].value for i in images}) == 1
    for image in images:
        uids = [e.value for e in (*image.file_meta, *image) if e.VR == "UI"]
        assert all(UID(u).is_valid for u in uids)
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
    assert [i.InstanceNumber for i in images] == [1, 2, 3, 4, 5, 6]
    write_synthetic_dicom(volume(6, seed=1), tmp_path / "other")
    theirs = datasets(tmp_path / "other")
    assert theirs[0].StudyInstanceUID != images[0].StudyInstanceUID
    assert theirs[0].PatientID != images[0].PatientID


@pytest.mark.parametrize("seed", range(6))
def test_oblique_and_left_handed_grids(tmp_path, seed):
    direction = Rotation.random(random_state=seed).as_matrix()
    if seed % 2:
        direction = direction * [1, 1, -1]
    original = volume(5, direction=direction)
    write_synthetic_dicom(original, tmp_path / "out")
    back = read_dicom_folder(tmp_path / "out")
    expected = flip_slices(original) if seed % 2 else original
    np.testing.assert_array_equal(back.hu, expected.hu)
    assert back.geometry.is_close(expected.geometry, atol_mm=1e-6)


def test_numbers_fit_into_decimal_strings(tmp_path):
    direction = Rotation.from_euler("xyz", [1e-7, 33.333333333, 1e-3]).as_matrix()
    geometry = Geometry(
        (0.123456789012345, 0.987654321098765, 1 / 3), (-1234.56789012345, 1e-9, 98765.4321), direction
    )
    write_synthetic_dicom(CTVolume(scan_hu(3), geometry), tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        image = pydicom.dcmread(path)
        for element in image:
            if element.VR == "DS" and element.value not in (None, ""):
                values = element.value if element.VM > 1 else [element.value]
                assert all(len(v.original_string) <= 16 for v in values), element
    assert read_dicom_folder(tmp_path / "out").geometry.is_close(geometry, atol_mm=1e-4)


def test_every_int16_is_kept(tmp_path):
    hu = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16).reshape(4, 128, 128)
    write_synthetic_dicom(CTVolume(hu, Geometry((1, 1, 1))), tmp_path / "out")
    stored = np.stack([i.pixel_array * i.RescaleSlope + i.RescaleIntercept for i in datasets(tmp_path / "out")])
    np.testing.assert_array_equal(stored, hu)


def test_itk_reads_it(tmp_path):
    original = volume(5, direction=Rotation.from_euler("z", 30, degrees=True).as_matrix())
    write_synthetic_dicom(original, tmp_path / "out")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "out")))
    image = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), original.hu)
    np.testing.assert_allclose(image.GetOrigin(), original.geometry.origin, atol=1e-6)
    np.testing.assert_allclose(image.GetSpacing(), original.spacing, atol=1e-6)
    np.testing.assert_allclose(image.GetDirection(), original.geometry.direction.ravel(), atol=1e-6)


def test_dates_only_when_asked(tmp_path):
    write_synthetic_dicom(volume(), tmp_path / "out")
    assert all(i.StudyDate == i.StudyTime == "" for i in datasets(tmp_path / "out"))
    write_synthetic_dicom(volume(), tmp_path / "dated", created=datetime(2026, 3, 4, 5, 6, 7))
    assert all((i.StudyDate, i.StudyTime) == ("20260304", "050607") for i in datasets(tmp_path / "dated"))


def test_nothing_of_the_reference_patient_is_copied(tmp_path, real_series):
    write_synthetic_dicom(volume(), tmp_path / "out", reference=real_series)
    real = pydicom.dcmread(real_series.slices[0].path)
    for path in (tmp_path / "out").iterdir():
        assert b"Doe" not in path.read_bytes()
        image = pydicom.dcmread(path)
        assert image.StudyInstanceUID != real.StudyInstanceUID
        assert image.SeriesInstanceUID != real.SeriesInstanceUID
        assert image.FrameOfReferenceUID != real.FrameOfReferenceUID  # same grid is not same space
        sources = [s.ReferencedSOPInstanceUID for s in image.SourceImageSequence]
        assert sources == [s.sop_uid for s in real_series.slices]
        assert all(s.ReferencedSOPClassUID == real.SOPClassUID for s in image.SourceImageSequence)


def test_volume_in_the_space_of_its_reference(tmp_path, real_series):
    inside = CTVolume(scan_hu(4), Geometry((0.7, 0.8, 2.5), (-100, -90, 22.5)), FACTS)
    write_synthetic_dicom(inside, tmp_path / "out", reference=real_series, same_space=True)
    for k, image in enumerate(datasets(tmp_path / "out")):
        assert image.FrameOfReferenceUID == real_series.frame_of_reference_uid
        (source,) = image.SourceImageSequence
        assert source.ReferencedSOPInstanceUID == real_series.slices[k + 1].sop_uid


def test_long_and_odd_texts_stay_valid(tmp_path):
    odd = volume(2, model="a\\b\n" + "long name " * 20, note="x" * 5000)
    with pytest.MonkeyPatch.context() as patch:  # pydicom shall refuse what the standard refuses
        patch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.RAISE)
        write_synthetic_dicom(odd, tmp_path / "out", description="d" * 100)
    image = datasets(tmp_path / "out")[0]
    assert len(image.SeriesDescription) <= 64
    assert len(image.DerivationDescription) <= 1024
    assert image.ManufacturerModelName.startswith("a b long name")
    assert read_dicom_folder(tmp_path / "out").metadata["note"] == "x" * 5000


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    write_synthetic_dicom(volume(), tmp_path / "out")  # empty: taken
    with pytest.raises(OutputError, match=r"out cannot be written: that folder is not empty") as caught:
        write_synthetic_dicom(volume(seed=1), tmp_path / "out")
    assert "new folder" in caught.value.remedy
    np.testing.assert_array_equal(read_dicom_folder(tmp_path / "out").hu, volume().hu)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_failure_halfway_leaves_nothing(tmp_path, monkeypatch):
    written = []

    def fail_at_the_third(self, path, **options):
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        Path(path).write_bytes(b"x")

    monkeypatch.setattr(pydicom.Dataset, "save_as", fail_at_the_third)
    with pytest.raises(OutputError, match="No space left"):
        write_synthetic_dicom(volume(), tmp_path / "deep" / "out")
    assert len(written) == 3
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_a_validator_finds_no_fault(tmp_path, real_series):
    write_synthetic_dicom(volume(3), tmp_path / "out", reference=real_series)
    for path in (tmp_path / "out").iterdir():
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]
        # SyntheticData came into the standard in 2022; older validators do not know it.
        assert [e for e in errors if "(0x0008,0x001c)" not in e] == []


def test_patient_and_study_are_called_what_the_user_likes_after_the_word_synthetic(tmp_path):
    identity = SyntheticIdentity("Torso^Batch 7", "PHANTOM", "Noise study\\1")
    write_synthetic_dicom(volume(2), tmp_path / "out", identity=identity)
    image = datasets(tmp_path / "out")[0]
    assert str(image.PatientName) == "SYNTHETIC^Torso^Batch 7"
    assert re.fullmatch(r"SYNTHETIC-PHANTOM-[0-9a-f]{8}", image.PatientID)
    assert image.StudyDescription == "SYNTHETIC Noise study 1"
    write_synthetic_dicom(volume(2), tmp_path / "usual")
    usual = datasets(tmp_path / "usual")[0]
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):  # an archive must not mix them
        assert image[name].value != usual[name].value


@pytest.mark.parametrize("text", ["", "synthetic", "^^", "a=b\\c\n" * 40, "Müller^Jörg", "SYNTHETIC^A", "x" * 500])
def test_no_words_can_make_it_look_real(tmp_path, text):
    identity = SyntheticIdentity(text, text, text)
    assert SyntheticIdentity(*astuple(identity)) == identity  # nothing is put before it twice
    write_synthetic_dicom(volume(1), tmp_path / "out", identity=identity)
    image = datasets(tmp_path / "out")[0]
    for value in (str(image.PatientName), image.PatientID, image.StudyDescription):
        assert value.upper().startswith("SYNTHETIC")
        assert len(value) <= 64
        assert not set("\\\n") & set(value)
    assert "=" not in str(image.PatientName)  # it would begin another spelling


def test_what_on_slice_raises_leaves_nothing_behind(tmp_path):
    seen = []

    def stop_at_two(done, of):
        seen.append((done, of))
        if done == 2:
            raise Cancelled()

    with pytest.raises(Cancelled):
        write_synthetic_dicom(volume(4), tmp_path / "out", on_slice=stop_at_two)
    assert seen == [(1, 4), (2, 4)]
    assert list(tmp_path.iterdir()) == []
