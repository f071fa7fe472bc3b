"""``ctdiffusion info`` and ``export-dicom`` on small files made here."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import torch

from CTDiffusionLogic.bundle import save_model
from CTDiffusionLogic.cli.events import Finished, Warned, parse_line
from CTDiffusionLogic.cli.main import main
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import read_volume, write_volume


def volume(*, synthetic: bool = False, spacing=(1.5, 1.5, 3.0), slices: int = 4) -> CTVolume:
    hu = np.full((slices, 12, 10), -1000, np.int16)
    hu[:, 3:9, 2:8] = 40
    metadata = {"synthetic": "yes", "model": "tiny", "seed": "7"} if synthetic else {}
    return CTVolume(hu, Geometry(spacing, (-10.0, -20.0, 5.0)), metadata)


def run(words, capfd):
    code = main([*map(str, words), "--events", "json"])
    out, err = capfd.readouterr()
    events = [parse_line(line) for line in out.splitlines()]
    return code, events, err


def test_scan(tmp_path, capfd):
    write_volume(volume(), tmp_path / "a.nii.gz")
    code, events, err = run(["info", tmp_path / "a.nii.gz"], capfd)
    assert (code, err) == (0, "")
    details = events[-1].details
    assert details["size"] == [10, 12, 4]
    assert details["spacing_mm"] == pytest.approx([1.5, 1.5, 3.0])
    assert details["hu_range"] == "-1000 to 40"
    assert details["orientation"] == "LPS"
    assert main(["info", str(tmp_path / "a.nii.gz")]) == 0
    assert "size: 10 x 12 x 4" in capfd.readouterr().out


def test_scan_with_oddities(tmp_path, capfd):
    odd = volume(spacing=(0.1, 0.2, 40.0), slices=2)
    odd.hu[:] = 30
    write_volume(odd, tmp_path / "odd.nrrd")
    code, events, _ = run(["info", tmp_path / "odd.nrrd"], capfd)
    assert code == 0
    remarks = " ".join(e.message for e in events if isinstance(e, Warned))
    for words in ("does not look like a CT", "not square", "0.1 x 0.2 mm, which is unusual", "40 mm apart", "only 2"):
        assert words in remarks


def test_oblique(tmp_path, capfd):
    c, s = np.cos(0.3), np.sin(0.3)
    tilted = CTVolume(volume().hu, Geometry((1, 1, 2), direction=np.array([[1, 0, 0], [0, -c, s], [0, -s, -c]])))
    write_volume(tilted, tmp_path / "a.nrrd")
    _, events, _ = run(["info", tmp_path / "a.nrrd"], capfd)
    assert events[-1].details["orientation"] == "LAI, oblique"


def test_model(tmp_path, capfd):
    path = tmp_path / "m.safetensors"
    sha256 = save_model(path, {"anatomy.w": torch.zeros(3)}, {"name": "mine", "stages": {"anatomy": {}, "detail": {}}})
    code, events, _ = run(["info", path], capfd)
    assert code == 0
    assert events[-1] == Finished(
        (), {"kind": "model", "sha256": sha256, "card": {"name": "mine", "stages": {"anatomy": {}, "detail": {}}}}
    )
    renamed = path.rename(tmp_path / "m.weights")  # found by content
    assert run(["info", renamed], capfd)[0] == 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("no.nrrd", None, "does not exist"),
        ("a.pt", b"\x80\x02}q\x00.", "pickle"),
        ("a.safetensors", b"text", "not a safetensors file"),
        ("a.txt", b"some text\n" * 20, "neither an image file nor DICOM"),
        ("a.nrrd", b"some text", "not a readable .nrrd file"),
        ("folder", ..., "No CT scans found"),
    ],
)
def test_unusable(tmp_path, capfd, name, content, words):
    path = tmp_path / name
    if content is ...:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    code, events, err = run(["info", path], capfd)
    assert (code, err) == (1, "")
    assert words in events[-1].message
    assert name in events[-1].message
    assert events[-1].remedy


@pytest.mark.parametrize("name", ["a.nrrd", "a.nii.gz", "a.mha", "dicom/"])
def test_export_of_what_we_wrote(tmp_path, capfd, name):
    source = f"{tmp_path}/{name}"
    write_volume(volume(synthetic=True), source)
    code, events, _ = run(["export-dicom", source, "--out", tmp_path / "out"], capfd)
    assert code == 0, events[-1]
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == 4
    assert pydicom.dcmread(files[0]).SyntheticData == "YES"
    assert np.array_equal(read_volume(tmp_path / "out").hu, volume().hu)
    assert events[-1].outputs == (str(tmp_path / "out"),)


def test_a_volume_that_does_not_say_it_is_synthetic(tmp_path, capfd):
    write_volume(volume(), tmp_path / "a.nii.gz")
    words = ["export-dicom", tmp_path / "a.nii.gz", "--out", tmp_path / "out"]
    code, events, _ = run(words, capfd)
    assert code == 1
    assert "does not say that it is synthetic" in events[-1].message
    assert "--declare-synthetic" in events[-1].remedy
    assert not (tmp_path / "out").exists()
    assert run([*words, "--declare-synthetic"], capfd)[0] == 0
    made = pydicom.dcmread(next((tmp_path / "out").iterdir()))
    assert "declared by the user" in made.DerivationDescription


def test_real_dicom_is_never_relabelled(tmp_path, capfd):
    write_volume(volume(synthetic=True), f"{tmp_path}/real/")
    for path in (tmp_path / "real").iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.SyntheticData
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.save_as(path)
    for given in (tmp_path / "real", next((tmp_path / "real").iterdir())):
        words = ["export-dicom", given, "--out", tmp_path / "out", "--declare-synthetic"]
        code, events, _ = run(words, capfd)
        assert code == 1
        assert "a real scan is never exported" in events[-1].message
        assert not (tmp_path / "out").exists()


def test_export_never_writes_into_a_folder_with_files(tmp_path, capfd):
    write_volume(volume(synthetic=True), tmp_path / "a.nrrd")
    code, events, _ = run(["export-dicom", tmp_path / "a.nrrd", "--out", tmp_path], capfd)
    assert code == 1
    assert "not empty" in events[-1].message
    assert [p.name for p in tmp_path.iterdir()] == ["a.nrrd"]


@pytest.mark.parametrize("name", ["b.nrrd", "b.nii.gz", "b.mha", "b/"])
def test_export_in_every_format_keeps_the_origin(tmp_path, capfd, name):
    write_volume(volume(synthetic=True), tmp_path / "a.nrrd")
    code, events, _ = run(["export", tmp_path / "a.nrrd", "--out", f"{tmp_path}/{name}"], capfd)
    assert code == 0, events[-1]
    made = read_volume(tmp_path / name)
    assert np.array_equal(made.hu, volume().hu)
    assert made.geometry.is_close(volume().geometry)
    assert made.metadata["synthetic"] == "yes"
    assert events[-1].outputs == (str(tmp_path / name.strip("/")),)


def test_export_replaces_a_file_only_if_it_is_told_to(tmp_path, capfd):
    write_volume(volume(synthetic=True), tmp_path / "a.nrrd")
    (tmp_path / "b.nrrd").write_text("mine")
    words = ["export", tmp_path / "a.nrrd", "--out", tmp_path / "b.nrrd"]
    code, events, _ = run(words, capfd)
    assert (code, events[-1].code) == (1, "cannot-write")
    assert "exists already" in events[-1].message
    assert (tmp_path / "b.nrrd").read_text() == "mine"
    assert run([*words, "--overwrite"], capfd)[0] == 0


def test_export_as_dicom_names_patient_study_and_series_and_tells_its_progress(tmp_path, capfd):
    write_volume(volume(synthetic=True), tmp_path / "a.nrrd")
    named = ["--patient-name=A^B", "--patient-id-prefix=X", "--study-description=S", "--description=D"]
    code, events, _ = run(["export-dicom", tmp_path / "a.nrrd", "--out", tmp_path / "out", *named], capfd)
    assert code == 0
    image = pydicom.dcmread(next((tmp_path / "out").iterdir()))
    assert str(image.PatientName) == "SYNTHETIC^A^B"
    assert image.PatientID.startswith("SYNTHETIC-X-")
    assert (image.StudyDescription, image.SeriesDescription) == ("SYNTHETIC S", "SYNTHETIC D")
    assert [(event.done, event.of) for event in events if event.event == "progress"] == [(4, 4)]


def test_export_can_be_cancelled(tmp_path, capfd):
    write_volume(volume(synthetic=True), tmp_path / "a.nrrd")
    (tmp_path / "stop").touch()
    words = ["export", tmp_path / "a.nrrd", "--out", f"{tmp_path}/out/", "--cancel-file", tmp_path / "stop"]
    code, events, _ = run(words, capfd)
    assert (code, events[-1].code) == (130, "cancelled")
    assert not (tmp_path / "out").exists()
