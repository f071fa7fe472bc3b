"""Round trips through every format, and what other programs wrote."""

import gzip
import time

import numpy as np
import pytest
import SimpleITK as sitk
from volume_files import FILES, OUTPUTS, random_volume, smooth_image

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import read_volume, write_volume


@pytest.mark.parametrize("suffix", OUTPUTS)
@pytest.mark.parametrize("seed", range(6))
def test_round_trip_of_oblique_volumes(tmp_path, suffix, seed):
    volume = random_volume(seed, shape=(1 + seed, 7, 9))
    path = tmp_path / f"volume{suffix}"
    write_volume(volume, path)
    back = read_volume(path)
    np.testing.assert_array_equal(back.hu, volume.hu)
    assert back.geometry.is_close(volume.geometry, atol_mm=1e-4)
    corner = np.array([8, 6, seed, 1.0])  # far from the origin, where small errors of direction add up
    np.testing.assert_allclose(back.geometry.ijk_to_lps @ corner, volume.geometry.ijk_to_lps @ corner, atol=2e-4)


@pytest.mark.parametrize("suffix", FILES)
def test_other_programs_see_the_same(tmp_path, suffix):
    volume = random_volume(3)
    write_volume(volume, tmp_path / f"v{suffix}")
    image = sitk.ReadImage(str(tmp_path / f"v{suffix}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume.hu)
    np.testing.assert_allclose(image.GetOrigin(), volume.geometry.origin, atol=1e-4)
    np.testing.assert_allclose(image.GetDirection(), volume.geometry.direction.ravel(), atol=1e-6)


def test_same_volume_same_bytes_at_another_time(tmp_path):
    volume = random_volume(1, synthetic="yes", seed="4")
    for suffix in OUTPUTS:
        write_volume(volume, tmp_path / f"a{suffix}")
    time.sleep(1.1)  # gzip headers and DICOM dates have whole seconds
    for suffix in OUTPUTS:
        paths = tmp_path / f"a{suffix}", tmp_path / "elsewhere" / f"b{suffix}"
        write_volume(volume, paths[1])
        first, second = ([f.read_bytes() for f in (sorted(p.iterdir()) if p.is_dir() else [p])] for p in paths)
        assert first == second, suffix


METADATA = {"synthetic": "yes", "model": "torso é\nv2", "note": ' 100% "a\\b" ', "empty": "", "x.y-z": "1 = 2"}


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ""])
def test_metadata_come_back_as_they_were(tmp_path, suffix):
    volume = random_volume(2)
    write_volume(CTVolume(volume.hu, volume.geometry, METADATA), tmp_path / f"v{suffix}")
    back = read_volume(tmp_path / f"v{suffix}").metadata
    assert {key: back[key] for key in METADATA} == METADATA


def test_nifti_says_that_it_is_synthetic(tmp_path):
    write_volume(random_volume(2, synthetic="yes", model="m", seed="5"), tmp_path / "v.nii.gz")
    assert read_volume(tmp_path / "v.nii.gz").metadata["synthetic"] == "yes"
    header = gzip.decompress((tmp_path / "v.nii.gz").read_bytes())[:348]
    assert b"SYNTHETIC CT by CTDiffusion, model m, seed 5" in header
    write_volume(random_volume(2), tmp_path / "real.nii.gz")
    assert "synthetic" not in read_volume(tmp_path / "real.nii.gz").metadata


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ""])
def test_no_file_names_and_patients_in_what_is_written(tmp_path, suffix):
    volume = random_volume(2, source="Doe_Jane.nii.gz", patient="p123456", id="Doe_Jane-1")
    path = tmp_path / f"v{suffix}"
    write_volume(volume, path)
    for file in [path] if path.is_file() else path.iterdir():
        assert b"Doe" not in file.read_bytes()
        assert b"p123456" not in file.read_bytes()


def test_floats_and_offsets_become_rounded_hu(tmp_path):
    values = np.array([[[-1000.4, -999.6], [40.5001, 3000.2]]], np.float32)
    for name in ("f.nii.gz", "f.nrrd", "f.mha"):
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / name))
        np.testing.assert_array_equal(read_volume(tmp_path / name).hu, [[[-1000, -1000], [41, 3000]]])


def test_headers_apart_from_their_data(tmp_path):
    for name in ("v.nhdr", "v.mhd"):
        sitk.WriteImage(smooth_image(), str(tmp_path / name))
        np.testing.assert_array_equal(read_volume(tmp_path / name).hu, sitk.GetArrayFromImage(smooth_image()))
    next(tmp_path.glob("v.raw*")).unlink()
    with pytest.raises(InputError, match=r"v\.(nhdr|mhd) .*does not exist"):
        for name in ("v.nhdr", "v.mhd"):
            read_volume(tmp_path / name)


def test_nrrd_in_ras_as_old_slicers_wrote_it(tmp_path):
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 2 1 2\n"
        "space directions: (-0.5,0,0) (0,-0.5,0) (0,0,3)\nspace origin: (10,20,30)\nendian: little\nencoding: raw\n\n"
    )
    hu = np.array([[[-1000, 0]], [[40, 1000]]], "<i2")
    (tmp_path / "v.nrrd").write_bytes(header.encode() + hu.tobytes())
    volume = read_volume(tmp_path / "v.nrrd")
    np.testing.assert_array_equal(volume.hu, hu)
    assert volume.geometry.origin == (-10, -20, 30)
    np.testing.assert_array_equal(volume.geometry.direction, np.eye(3))
    assert volume.spacing == (0.5, 0.5, 3)


def test_itk_keeps_its_own_setting(tmp_path):
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    write_volume(random_volume(0), tmp_path / "v.nrrd")
    read_volume(tmp_path / "v.nrrd")
    assert shown
    assert sitk.ProcessObject.GetGlobalWarningDisplay() == shown


def test_a_fourth_axis_of_length_one_is_no_obstacle(tmp_path):
    image = sitk.JoinSeries([smooth_image()])
    for name in ("v.nii.gz", "v.nrrd"):
        sitk.WriteImage(image, str(tmp_path / name))
        assert read_volume(tmp_path / name).shape == (20, 30, 40)


@pytest.mark.real_data
def test_every_real_scan_reads_as_itk_and_the_index_have_it(ct_data):
    import csv

    with (ct_data / "INDEX.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 25
    for row in rows:
        path = ct_data / row["file"]
        volume = read_volume(path)
        if path.is_dir():
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
            image = reader.Execute()
        else:
            image = sitk.ReadImage(str(path))
        np.testing.assert_array_equal(volume.hu, np.clip(sitk.GetArrayViewFromImage(image), -1024, 3071))
        np.testing.assert_allclose(volume.spacing, image.GetSpacing(), atol=1e-6)
        np.testing.assert_allclose(volume.geometry.origin, image.GetOrigin(), atol=1e-6)
        np.testing.assert_allclose(volume.geometry.direction.ravel(), image.GetDirection(), atol=1e-6)
        shown = row["size"].split("x")
        assert list(volume.shape[::-1]) == [int(n) for n in shown[:2]] + [int(shown[2])] or path.is_dir()
        np.testing.assert_allclose(volume.spacing, [float(v) for v in row["spacing_mm"].split("x")], rtol=2e-3)
