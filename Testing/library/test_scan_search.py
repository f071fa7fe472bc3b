"""Finding scans: what is found, whose it is, what is left out and why."""

import csv
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import scan_hu, write_series

from CTDiffusionLogic.dicom_series import pseudonym
from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.scan_search import find_scans


def write_image(path: Path, shape: tuple[int, ...] = (3, 4, 5), *, fill: int = -500) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.full(shape, fill, np.int16), isVector=False), str(path))
    return path


def write_index(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def test_all_kinds_in_deep_folders(tmp_path):
    for name in ("a.nii.gz", "x/b.nii", "x/y/c.nrrd", "x/d.mha", "e.NRRD"):
        write_image(tmp_path / name)
    write_series(tmp_path / "dicom" / "one", scan_hu(4), names=lambda k: f"IM{k}")
    write_series(tmp_path / "dicom" / "two", scan_hu(6, seed=1))
    result = find_scans([tmp_path])
    assert {s.path.name: s.kind for s in result.found} == {
        "a.nii.gz": ".nii.gz",
        "b.nii": ".nii",
        "c.nrrd": ".nrrd",
        "d.mha": ".mha",
        "e.NRRD": ".nrrd",
        "one": "dicom",
        "two": "dicom",
    }
    assert result.skipped == ()
    assert len({s.id for s in result.found}) == 7
    assert {s.path.name: s.shape for s in result.found}["two"] == (6, 12, 10)
    assert [str(s.path) for s in result.found] == sorted(str(s.path) for s in result.found)


def test_what_is_found_can_be_read(tmp_path):
    write_image(tmp_path / "a.nii.gz", fill=-321)
    write_series(tmp_path / "d", scan_hu(4))
    image, series = find_scans([tmp_path]).found
    assert (image.read().hu == -321).all()
    assert image.read().metadata["patient"] == "a"
    np.testing.assert_array_equal(series.read().hu, scan_hu(4))
    assert pickle.loads(pickle.dumps(series)) == series  # worker processes get them


def test_each_scan_once(tmp_path):
    path = write_image(tmp_path / "sub" / "a.nrrd")
    paths = write_series(tmp_path / "d", scan_hu(4))
    found = find_scans([tmp_path, tmp_path / "sub", path, paths[0], tmp_path / "d"]).found
    assert [s.path.name for s in found] == ["d", "a.nrrd"]


def test_several_series_in_one_folder_are_several_scans(tmp_path):
    write_series(tmp_path / "d", scan_hu(4), names=lambda k: f"a{k}")
    write_series(tmp_path / "d", scan_hu(6, seed=1), names=lambda k: f"b{k}")
    found = find_scans([tmp_path]).found
    assert sorted(s.shape[0] for s in found) == [4, 6]
    assert len({s.id for s in found}) == 2
    for scan in found:
        assert scan.read().shape == scan.shape


def test_names_do_not_change_when_the_data_move(tmp_path):
    for place in ("here", "there"):
        write_image(tmp_path / place / "x" / "a.nrrd")
        write_image(tmp_path / place / "y" / "a.nrrd")
    here, there = (find_scans([tmp_path / place]).found for place in ("here", "there"))
    assert [s.id for s in here] == [s.id for s in there]
    assert len({s.id for s in here}) == 2
    (tmp_path / "here" / "x" / "a.nrrd").unlink()  # nor when other scans go
    assert find_scans([tmp_path / "here"]).found[0].id == here[1].id


def test_links_that_lead_in_circles(tmp_path):
    write_image(tmp_path / "data" / "a.nrrd")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "up").symlink_to(tmp_path)
    elsewhere = write_image(tmp_path / "elsewhere" / "b.nrrd")
    (tmp_path / "data" / "link").symlink_to(elsewhere.parent)
    assert len(find_scans([tmp_path / "data"]).found) == 2


# --- Patients and labels ---------------------------------------------------------------------------------


def test_patients(tmp_path):
    write_image(tmp_path / "bids" / "sub-07" / "ses-1" / "ct" / "sub-07_ses-1_ct.nii.gz")
    write_image(tmp_path / "bids" / "sub-07" / "ses-2" / "ct" / "sub-07_ses-2_ct.nii.gz")
    write_image(tmp_path / "plain.nii.gz")
    write_series(tmp_path / "d", scan_hu(4))
    found = find_scans([tmp_path]).found
    assert [s.patient for s in found] == ["sub-07", "sub-07", pseudonym("Doe-4711"), "plain"]
    assert "4711" not in str(found)


@pytest.mark.parametrize("start", ["", "images", "images/sub", "images/sub/a.nrrd"])
def test_index_beside_or_above(tmp_path, start):
    write_image(tmp_path / "images" / "sub" / "a.nrrd")
    index = write_index(
        tmp_path / "INDEX.csv", [{"id": "case1", "file": "images/sub/a.nrrd", "patient": "p9", "region": "chest"}]
    )
    result = find_scans([tmp_path / start])
    assert [p.resolve() for p in result.index] == [index.resolve()]
    assert [(s.id, s.patient, s.label) for s in result.found] == [("case1", "p9", "chest")]


def test_index_for_a_dicom_folder(tmp_path):
    write_series(tmp_path / "d" / "study" / "series", scan_hu(4))
    write_index(tmp_path / "INDEX.csv", [{"file": "d/study", "patient": "p9", "region": "abdomen"}])
    (scan,) = find_scans([tmp_path]).found
    assert (scan.patient, scan.label) == ("p9", "abdomen")


def test_given_index_wins(tmp_path):
    write_image(tmp_path / "data" / "a.nrrd")
    write_index(tmp_path / "data" / "INDEX.csv", [{"file": "a.nrrd", "patient": "near", "region": ""}])
    given = write_index(tmp_path / "mine.csv", [{"file": "data/a.nrrd", "patient": "mine", "region": "leg"}])
    result = find_scans([tmp_path / "data"], index=given)
    assert [s.patient for s in result.found] == ["mine"]
    assert result.index == (given,)


def test_indexes_that_are_none(tmp_path):
    write_image(tmp_path / "a.nrrd")
    (tmp_path / "INDEX.csv").write_text("title,author\nwar,peace\n")  # somebody's books
    assert find_scans([tmp_path]).index == ()
    with pytest.raises(InputError, match="lacks the columns file, patient, region"):
        find_scans([tmp_path], index=tmp_path / "INDEX.csv")
    with pytest.raises(InputError, match=r"no\.csv"):
        find_scans([tmp_path], index=tmp_path / "no.csv")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match=r"binary\.csv"):
        find_scans([tmp_path], index=tmp_path / "binary.csv")


def test_scans_that_only_the_index_knows(tmp_path):
    write_image(tmp_path / "a.nrrd")
    rows = [{"file": name, "patient": "p", "region": ""} for name in ("a.nrrd", "gone.nrrd")]
    write_index(tmp_path / "INDEX.csv", rows)
    assert [(s.path.name, s.reason) for s in find_scans([tmp_path]).skipped] == [
        ("gone.nrrd", "is named in INDEX.csv but does not exist")
    ]


# --- What is left out ------------------------------------------------------------------------------------


def test_reasons(tmp_path):
    write_image(tmp_path / "good.nrrd")
    write_image(tmp_path / "four.nii.gz", (2, 3, 4, 5))
    (tmp_path / "text.nii.gz").write_text("not an image")
    (tmp_path / "text.dcm").write_text("not an image")
    (tmp_path / "notes.txt").write_text("nobody takes this for a scan")
    (tmp_path / ".hidden.nii.gz").write_text("macOS writes such files")
    write_series(tmp_path / "mr", scan_hu(4), change=lambda k, i: setattr(i, "Modality", "MR"))
    write_series(tmp_path / "holes", scan_hu(4), change=missing_third)
    result = find_scans([tmp_path])
    assert [s.path.name for s in result.found] == ["good.nrrd"]
    reasons = {s.path.name: s.reason for s in result.skipped}
    assert reasons.keys() == {"four.nii.gz", "text.nii.gz", "text.dcm", "mr", "holes"}
    assert "not a three-dimensional volume" in reasons["four.nii.gz"]
    assert "no NIfTI header" in reasons["text.nii.gz"]
    assert reasons["text.dcm"] == "is not a DICOM file"
    assert "is MR, not CT" in reasons["mr"]
    assert "lacks 1 slice" in reasons["holes"]
    assert not any(str(tmp_path) in reason for reason in reasons.values())  # the path stands beside it


def missing_third(k, image):
    if k == 2:
        raise StopIteration


def test_nothing_found(tmp_path):
    with pytest.raises(InputError, match="No CT scans found") as caught:
        find_scans([tmp_path])
    assert str(tmp_path) in str(caught.value)
    (tmp_path / "text.dcm").write_text("not an image")
    with pytest.raises(InputError, match=r"text\.dcm: is not a DICOM file"):
        find_scans([tmp_path])
    with pytest.raises(InputError, match=r"nowhere does not exist"):
        find_scans([tmp_path / "nowhere"])
    (tmp_path / "letter.txt").write_text("x")
    with pytest.raises(InputError, match=r"neither an image file nor DICOM"):
        find_scans([tmp_path / "letter.txt"])


def test_a_dicom_folder_that_is_gone_by_the_time_it_is_read(tmp_path):
    paths = write_series(tmp_path / "d", scan_hu(3))
    (scan,) = find_scans([tmp_path]).found
    for path in paths:
        path.unlink()
    with pytest.raises(InputError, match="d has lost its DICOM files"):
        scan.read()


def test_searching_reads_headers_only(tmp_path):
    """1,000 files of 2 MB each, made of holes: reading voxels would take many times as long."""
    path = write_image(tmp_path / "0.nii", (16, 256, 256))
    head = path.read_bytes()[:352]
    for n in range(1, 1000):
        with (tmp_path / f"{n}.nii").open("wb") as file:
            file.write(head)
            file.truncate(path.stat().st_size)
    start = time.process_time()
    assert len(find_scans([tmp_path]).found) == 1000
    assert time.process_time() - start < 10  # measured 0.9 s


@pytest.mark.real_data
def test_the_real_scans(ct_data):
    result = find_scans([ct_data])
    assert result.skipped == ()
    assert [p.name for p in result.index] == ["INDEX.csv"]
    with (ct_data / "INDEX.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert {s.id: (s.patient, s.label) for s in result.found} == {
        name: (row["patient"], row["region"]) for name, row in rows.items()
    }
    assert len({s.patient for s in result.found}) == 23
