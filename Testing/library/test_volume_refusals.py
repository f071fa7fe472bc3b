"""Files that cannot be used are refused, each with one clear line."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from volume_files import FILES, random_volume, smooth_image

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.image_files import AIRLIKE_HU
from CTDiffusionLogic.volume_io import read_volume, write_volume

# --- What is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize("keep", [0, 3, 100, 0.3, 0.6, 0.9, -2000, -20])
def test_truncated_files_are_noticed(tmp_path, refused, suffix, compress, keep):
    whole = tmp_path / f"whole{suffix}"
    sitk.WriteImage(smooth_image(), str(whole), useCompression=compress)
    data = whole.read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    refused(path)
    read_volume(whole)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_flipped_bits_in_compressed_data_are_noticed(tmp_path, refused, suffix):
    path = tmp_path / f"v{suffix}"
    sitk.WriteImage(smooth_image(), str(path), useCompression=True)
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 2, len(data) // 2 + 40):
        data[place] ^= 0x5A
    path.write_bytes(bytes(data))
    refused(path)


@pytest.mark.parametrize("suffix", [*FILES, ".nhdr", ".mhd"])
@pytest.mark.parametrize("content", [b"", b"Dear colleague,\nplease find attached\n" * 40, bytes(range(256)) * 9])
def test_other_files_under_an_image_suffix(tmp_path, refused, suffix, content):
    path = tmp_path / f"letter{suffix}"
    path.write_bytes(content)
    refused(path)


def test_gzip_of_something_else(tmp_path, refused):
    path = tmp_path / "letter.nii.gz"
    path.write_bytes(gzip.compress(b"Dear colleague" * 100))
    refused(path)


def test_several_gzip_members_are_one_file(tmp_path):
    """Made by bgzip and pigz: legal, and must not be taken for a truncated file."""
    sitk.WriteImage(smooth_image(), str(tmp_path / "v.nii"))
    data = (tmp_path / "v.nii").read_bytes()
    members = b"".join(gzip.compress(data[n : n + 9000]) for n in range(0, len(data), 9000))
    (tmp_path / "v.nii.gz").write_bytes(members)
    np.testing.assert_array_equal(read_volume(tmp_path / "v.nii.gz").hu, sitk.GetArrayFromImage(smooth_image()))


def write_array(path: Path, values: np.ndarray, **options) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(values, **options), str(path))
    return path


@pytest.mark.parametrize("name", ["v.nii.gz", "v.nrrd", "v.mha"])
def test_values_that_are_not_numbers(tmp_path, refused, name):
    values = sitk.GetArrayFromImage(smooth_image()).astype(np.float32)
    values[3, 4, 5:8] = np.nan
    assert "3 voxels that are not numbers" in refused(write_array(tmp_path / name, values))


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        (np.random.default_rng(0).gamma(2, 150, (4, 8, 8)).astype(np.int16), "from 15 to"),  # MR
        (np.random.default_rng(0).uniform(0, 1, (4, 8, 8)).astype(np.float32), "from 0 to 1,"),  # normalised
        (np.random.default_rng(0).integers(0, 256, (4, 8, 8)).astype(np.uint8), "from 0 to 255"),  # 8 bits
        (np.random.default_rng(0).integers(0, 4096, (4, 8, 8)).astype(np.uint16), "from "),  # CT + 1024
        (np.random.default_rng(0).normal(0, 1, (4, 8, 8)).astype(np.float32), "from -3 to"),  # z-scores
        (np.zeros((4, 8, 8), np.int16), "from 0 to 0"),
    ],
)
def test_images_that_are_not_ct(tmp_path, refused, values, seen):
    message = refused(write_array(tmp_path / "scan.nii.gz", values))
    assert "does not look like a CT" in message
    assert seen in message
    assert str(AIRLIKE_HU) in message
    read_volume(tmp_path / "scan.nii.gz", require_hu=False)  # whoever knows better may insist


def test_pictures_series_and_planes(tmp_path, refused):
    colour = np.zeros((4, 8, 8, 3), np.uint8)
    assert "3 values per voxel" in refused(write_array(tmp_path / "c.nrrd", colour, isVector=True))
    series = np.zeros((3, 4, 8, 8), np.int16)
    assert "8 x 8 x 4 x 3" in refused(write_array(tmp_path / "t.nii.gz", series, isVector=False))
    assert "8 x 9" in refused(write_array(tmp_path / "p.nrrd", np.zeros((9, 8), np.int16)))


def test_sheared_nifti(tmp_path, refused):
    """An affine that no grid with right angles has: a tilted gantry that was not straightened."""
    write_volume(random_volume(0), tmp_path / "v.nii")
    data = bytearray((tmp_path / "v.nii").read_bytes())
    data[252:256] = np.array([0, 2], "<i2").tobytes()  # no quaternion, sform
    rows = np.array([[1, 0, 0, 0], [0, 1, 0.4, 0], [0, 0, 1, 0]], "<f4")
    data[280:328] = rows.tobytes()
    (tmp_path / "v.nii").write_bytes(bytes(data))
    refused(tmp_path / "v.nii")


def test_paths_that_lead_nowhere(tmp_path, refused):
    assert "does not exist" in refused(tmp_path / "no.nii.gz")
    assert "does not exist" in refused(tmp_path / "no" / "folder")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    refused(tmp_path / "picture.png")
    write_volume(random_volume(0), tmp_path / "images" / "v.nrrd")
    assert "Give the file itself: v.nrrd" in refused(tmp_path / "images")
    (tmp_path / "empty").mkdir()
    assert "No CT scans found" in refused(tmp_path / "empty")


def test_random_damage_never_escapes_as_another_error(tmp_path, capfd):
    """Whatever happens to a file, reading gives a volume or an InputError."""
    rng = np.random.default_rng(0)
    for suffix in FILES:
        write_volume(random_volume(0), tmp_path / f"v{suffix}")
        whole = (tmp_path / f"v{suffix}").read_bytes()
        for _ in range(400):
            data = bytearray(whole)
            for place in rng.integers(0, min(len(data), 400), 3):
                data[place] = rng.integers(0, 256)
            (tmp_path / f"d{suffix}").write_bytes(bytes(data))
            try:
                read_volume(tmp_path / f"d{suffix}")
            except InputError as error:
                assert f"d{suffix}" in str(error)
            assert capfd.readouterr().err == ""
