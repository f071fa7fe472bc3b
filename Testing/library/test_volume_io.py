"""Files of every format: round trips, equal bytes, and what is refused and how it is said."""

import gzip
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from CTDiffusionLogic.errors import InputError, OutputError, UsageError
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.image_files import AIRLIKE_HU
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import output_kind, read_volume, write_volume

FILES = (".nrrd", ".nii", ".nii.gz", ".mha")
OUTPUTS = (*FILES, "")  # "" is a folder of DICOM


def random_volume(number: int, shape: tuple[int, int, int] = (5, 7, 9), **metadata: str) -> CTVolume:
    rng = np.random.default_rng(number)
    hu = rng.integers(-1024, 3072, shape).astype(np.int16)
    direction = Rotation.random(random_state=number).as_matrix()
    geometry = Geometry(tuple(rng.uniform(0.3, 5, 3)), tuple(rng.uniform(-900, 900, 3)), direction)
    return CTVolume(hu, geometry, metadata)


def smooth_image(shape=(20, 30, 40)) -> sitk.Image:
    hu = np.linspace(-900, 1500, int(np.prod(shape))).reshape(shape)
    noise = np.random.default_rng(0).normal(0, 30, shape)
    return sitk.GetImageFromArray((hu + noise).astype(np.int16))


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


# --- What is refused -------------------------------------------------------------------------------------


@pytest.fixture
def refused(capfd):
    """Reads a path that must be refused with one clear line, and gives back that line."""

    def check(path: Path, *, about: Path | None = None) -> str:
        with pytest.raises(InputError) as caught:
            read_volume(path)
        message = str(caught.value)
        assert str(about or path) in message
        assert caught.value.remedy
        assert "\n" not in message
        assert not re.search(r"itk|0x[0-9a-f]{6}|Traceback", message, re.IGNORECASE), message
        assert capfd.readouterr().err == ""  # nothing spills past the one message
        return message

    return check


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


# --- Writing ---------------------------------------------------------------------------------------------


def test_suffixes_say_what_is_written(tmp_path):
    assert output_kind("a/b.nii.gz") == ".nii.gz"
    assert output_kind("a/B.NRRD") == ".nrrd"
    assert output_kind("a/folder") == "dicom"
    assert output_kind("a/v1.2/") == "dicom"
    assert output_kind(tmp_path) == "dicom"
    for name in ("scan.dcm", "scan.mhd", "scan.png", "scan.nhdr"):
        with pytest.raises(UsageError, match=re.escape(name)):
            output_kind(name)
        with pytest.raises(UsageError):
            write_volume(random_volume(0), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_replaced_and_folders_are_made(tmp_path):
    path = tmp_path / "new" / "deep" / "v.nrrd"
    write_volume(random_volume(0), path)
    write_volume(random_volume(1), path)
    np.testing.assert_array_equal(read_volume(path).hu, random_volume(1).hu)
    assert [p.name for p in path.parent.iterdir()] == ["v.nrrd"]


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "v.d").mkdir()
    (tmp_path / "v.d" / "letter.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"v\.d.*not empty"):
        write_volume(random_volume(0), tmp_path / "v.d")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file"):
        write_volume(random_volume(0), tmp_path / "file" / "v.nrrd")
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "letter.txt", "v.d"]


def large_volume() -> CTVolume:
    return random_volume(0, shape=(12, 128, 128))


LIMITED = """
    import resource, signal, sys
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    sys.path[:0] = [{tests!r}]
    from test_volume_io import *
    try:
        write_volume(large_volume(), sys.argv[1])
    except OutputError as error:
        print(error)
        sys.exit(7)
"""


@pytest.mark.parametrize("suffix", OUTPUTS)
def test_a_file_that_may_not_grow_leaves_nothing(tmp_path, suffix):
    """The kernel refuses the write halfway, as it does on a full disk or over quota."""
    script = textwrap.dedent(LIMITED).format(tests=str(Path(__file__).parent))
    path = tmp_path / "out" / f"v{suffix}"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, env=environment)
    assert done.returncode == 7, done.stderr
    assert str(path) in done.stdout
    assert "Free some space" in done.stdout
    assert done.stderr == ""
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]).returncode:
        pytest.skip("mounting a small disk takes root")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("suffix", OUTPUTS)
def test_a_full_disk_leaves_nothing_new_and_keeps_the_old(small_disk, suffix, capfd):
    old = small_disk / f"old{suffix or '.nrrd'}"
    write_volume(random_volume(1), old)
    path = small_disk / f"v{suffix}" if not suffix else old
    with pytest.raises(OutputError, match="o space left") as caught:
        write_volume(large_volume(), path)
    assert str(path) in str(caught.value)
    assert "Free some space" in caught.value.remedy
    assert capfd.readouterr().err == ""
    assert [p.name for p in small_disk.iterdir()] == [old.name]
    np.testing.assert_array_equal(read_volume(old).hu, random_volume(1).hu)


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
