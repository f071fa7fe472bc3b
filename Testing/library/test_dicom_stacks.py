"""Which slices make a series, in which order, and what is said of those that make none."""

import numpy as np
import pytest
from dicom_files import scan_hu, write_series
from pydicom.uid import generate_uid

from CTDiffusionLogic.dicom_series import find_series
from CTDiffusionLogic.volume_io import read_volume

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


@pytest.mark.real_data
def test_real_series_without_a_slice(ct_data, tmp_path, refused):
    for path in sorted((ct_data / "dicom" / "chest_lungdxA0002").iterdir()):
        if path.name != "1-11.dcm":
            (tmp_path / path.name).symlink_to(path)
    assert "lacks 1 slice" in refused(tmp_path)
