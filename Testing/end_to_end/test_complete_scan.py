"""``ctdiffusion generate --extend``, ``--fill`` and ``--thin`` with a model of random weights."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from command import tree
from dicom_files import scan_hu, write_series

from CTDiffusionLogic.cli.events import Slices, Warned, parse_line
from CTDiffusionLogic.cli.main import main
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import read_volume, write_volume


@pytest.fixture
def scan(tmp_path) -> CTVolume:
    volume = CTVolume(scan_hu(9, 48, 40), Geometry((5.0, 5.5, 3.0), (1.0, 2.0, 3.0)))
    write_volume(volume, tmp_path / "scan.nii.gz")
    return volume


def here(capfd, *words) -> tuple[int, list]:
    """Run the command in this process."""
    code = main(["generate", *map(str, words), "--events", "json"])
    return code, [parse_line(line) for line in capfd.readouterr().out.splitlines()]


def test_two_extensions_with_previews(model, run, scan, tmp_path):
    words = ("--model", model, "--extend", "scan.nii.gz", "--slices", "3", "--towards", "feet", "--count", "2")
    ended = run("generate", *words, "--out", "x/a.nrrd", "--preview-dir", "p", "--events", "json")
    assert ended.code == 0, ended.err
    first, second = (read_volume(tmp_path / f"x/a-{n}.nrrd") for n in (1, 2))
    started = ended.events[0]
    assert first.shape == tuple(started.details["shape"]) == (12, 48, 40)
    assert np.allclose(first.geometry.ijk_to_lps, started.details["ijk_to_lps"], atol=1e-4)
    assert first.geometry.origin == pytest.approx((1.0, 2.0, 3.0 - 9.0))
    for volume in (first, second):
        assert np.array_equal(volume.hu[3:], scan.hu)
        assert volume.metadata["synthetic"] == "yes"
        assert volume.metadata["real_slices"] == "4-12"
        assert volume.metadata["completion"] == "3 slices added towards the feet"
    assert not np.array_equal(first.hu[:3], second.hu[:3])
    preview = np.empty_like(second.hu)
    for e in ended.events:
        if isinstance(e, Slices) and e.volume == 2:
            preview[e.first : e.first + e.count] = np.load(tmp_path / e.path)
    assert np.array_equal(preview, second.hu)
    assert len([e for e in ended.events if isinstance(e, Warned) and "real person" in e.message]) == 1


def test_a_dicom_series_filled_as_dicom(model, tmp_path, capfd):
    write_series(tmp_path / "series", scan_hu(9), origin=(-100, -90, 20))
    sources = {str(d.SOPInstanceUID): d for d in map(pydicom.dcmread, (tmp_path / "series").iterdir())}
    original = read_volume(tmp_path / "series")
    words = ("--fill", tmp_path / "series", "--missing", "4,6-7", "--out", f"{tmp_path}/out/")
    code, events = here(capfd, "--model", model, *words)
    assert code == 0, events[-1]
    images = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    theirs = next(iter(sources.values()))
    for number, image in enumerate(images, start=1):
        assert image.FrameOfReferenceUID == theirs.FrameOfReferenceUID
        assert image.StudyInstanceUID != theirs.StudyInstanceUID
        assert image.PatientID != theirs.PatientID
        source = sources[image.SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert source.ImagePositionPatient == image.ImagePositionPatient
        assert image.ImageComments.startswith("SYNTHETIC" if number in (4, 6, 7) else "REAL")
    filled = read_volume(tmp_path / "out")
    same = [bool((a == b).all()) for a, b in zip(filled.hu, original.hu, strict=True)]
    assert [n for n, is_same in enumerate(same, start=1) if not is_same] == [4, 6, 7]


def test_thin_slices(model, scan, tmp_path, capfd):
    words = ("--thin", tmp_path / "scan.nii.gz", "--spacing-mm", "1.5", "--out", tmp_path / "thin.mha")
    code, events = here(capfd, "--model", model, *words)
    assert code == 0, events[-1]
    thin = read_volume(tmp_path / "thin.mha")
    assert thin.spacing == pytest.approx((5.0, 5.5, 1.5))
    assert np.array_equal(thin.hu[::2], scan.hu)
    assert thin.metadata["real_slices"] == "1-17:2"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--extend scan.nii.gz", "--extend needs --slices"),
        ("--extend scan.nii.gz --slices 3 --spacing-mm 2", "--spacing-mm does not go with --extend"),
        ("--extend scan.nii.gz --slices 3 --like scan.nii.gz", "--like does not go with --extend"),
        ("--extend scan.nii.gz --slices 3 --independent-slices", "--independent-slices does not go with --extend"),
        ("--fill scan.nii.gz", "--fill needs --missing"),
        ("--fill scan.nii.gz --missing 9-10", "among the scan's, 1 to 9"),
        ("--fill scan.nii.gz --missing 9-7", "runs backwards"),
        ("--fill scan.nii.gz --missing 2 --thin scan.nii.gz", "not allowed with"),
        ("--thin scan.nii.gz", "--thin needs --spacing-mm"),
        ("--thin scan.nii.gz --spacing-mm 1.3", "1.3 mm does not divide"),
        ("--missing 3", "--missing goes with --fill only"),
        ("--towards head", "--towards goes with --extend only"),
    ],
)
def test_wrong_use(words, message, model, scan, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = main(["generate", "--model", str(model), "--out", "a.nrrd", *words.split()])
    text = capfd.readouterr()
    assert code == 2
    assert message in text.err
    assert tree(tmp_path) == {"scan.nii.gz"}
