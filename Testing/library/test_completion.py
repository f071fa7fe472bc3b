"""A scan completed: its own slices unaltered and in their place, the new ones where they belong."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from random_model import write_random_model
from scipy.ndimage import gaussian_filter

from CTDiffusionLogic import generation
from CTDiffusionLogic.bundle import load_model
from CTDiffusionLogic.completion import complete, extension, filling, thinning
from CTDiffusionLogic.dicom_read import read_dicom_folder
from CTDiffusionLogic.dicom_write import write_synthetic_dicom
from CTDiffusionLogic.errors import InputError, UsageError
from CTDiffusionLogic.generation import GenerationModel
from CTDiffusionLogic.generation_request import GenerationRequest
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.image_files import read_image_file
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import write_volume

#: Columns of the direction matrix for scans stored in several ways, all of axial slices.
STORED = {
    "to the head": np.eye(3),
    "to the feet": np.diag([1.0, -1.0, -1.0]),
    "mirrored": np.diag([-1.0, -1.0, 1.0]),
    "rows and columns swapped": np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
}
REQUEST = GenerationRequest(seed=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = write_random_model(tmp_path_factory.mktemp("model") / "noise.safetensors")
    return GenerationModel.from_file(load_model(path))


def scan(direction=None, *, slices=10, spacing=(5.0, 4.0, 3.0)) -> CTVolume:
    """A body that is not in the middle and looks different on every side; slices differ by noise only."""
    random = np.random.default_rng(0)
    pixels = np.full((80, 72), -1000.0)
    pixels[14:64, 8:54] = 40
    pixels[20:34, 12:22] = 700
    pixels = gaussian_filter(pixels, 2.5)
    hu = np.stack([pixels + random.normal(0, 5, pixels.shape) for _ in range(slices)])
    return CTVolume(np.rint(hu).astype(np.int16), Geometry(spacing, (-11.0, 22.0, 33.0), direction))


@pytest.fixture
def echo(monkeypatch):
    """Instead of a model: what is asked for comes back as the nearest known slice; requests are recorded."""
    asked = []

    def generate(model, request, *, on_slices, **_):
        asked.append(request)
        for n in range(request.slices):
            near = min(request.known, key=lambda k: abs(k - n))
            on_slices(n, request.known[near][None])
        return CTVolume(np.zeros((1, 1, 1), np.int16), Geometry((1, 1, 1)), {"synthetic": "yes"})

    monkeypatch.setattr(generation, "generate", generate)
    return asked


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("towards", ["head", "feet"])
def test_an_extension_lies_on_the_right_side_and_in_line(stored, towards, model, echo):
    original = scan(STORED[stored], spacing=(6.5, 6.0, 3.0))  # wider than the model's view, which follows the body
    longer = complete(model, extension(original, 4, towards=towards), REQUEST)
    assert longer.shape == (14, 80, 72)
    assert longer.spacing == original.spacing
    # Every voxel of the scan is where it was in the patient, with its HU.
    own = [k for k in range(14) if k in extension(original, 4, towards=towards).given]
    assert np.array_equal(longer.hu[own], original.hu)
    first = longer.geometry.ijk_to_lps @ (0, 0, own[0], 1)
    assert np.allclose(first, original.geometry.ijk_to_lps @ (0, 0, 0, 1))
    new = [k for k in range(14) if k not in own]
    heights = [(longer.geometry.ijk_to_lps @ (0, 0, k, 1))[2] for k in new]
    old = [(longer.geometry.ijk_to_lps @ (0, 0, k, 1))[2] for k in own]
    assert min(heights) > max(old) if towards == "head" else max(heights) < min(old)
    # New slices continue the anatomy without a shift: half a pixel of the scan would show at the edges.
    nearest = original.hu.mean(axis=0)
    inside = np.maximum(longer.hu[new].mean(axis=0), -1000)  # beyond the view: -1024
    assert np.abs(inside - nearest)[6:-6, 4:-4].mean() < 12
    shifts = {
        (dy, dx): np.abs(np.roll(inside, (dy, dx), (0, 1)) - nearest)[6:-6, 4:-4].mean()
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    }
    assert min(shifts, key=shifts.get) == (0, 0)
    assert min(v for k, v in shifts.items() if k != (0, 0)) > 2 * shifts[0, 0]


def test_a_fill_keeps_the_grid_and_hides_what_is_made_anew(model, echo):
    original = scan(slices=12)
    original.hu[4:7] = 3000  # spoiled: must not be seen
    filled = complete(model, filling(original, [4, 5, 6]), REQUEST)
    assert filled.geometry.is_close(original.geometry)
    kept = [0, 1, 2, 3, 7, 8, 9, 10, 11]
    assert np.array_equal(filled.hu[kept], original.hu[kept])
    assert filled.hu[4:7].max() < 1000
    (request,) = echo
    assert sorted(request.known) == kept
    assert filled.metadata["real_slices"] == "1-4,8-12"
    assert filled.metadata["completion"] == "filled slices 5-7"


@pytest.mark.parametrize("stored", ["to the head", "to the feet"])
def test_thin_slices_out_of_thick_ones(stored, model, echo):
    original = scan(STORED[stored])
    thin = complete(model, thinning(original, 1.5), REQUEST)
    assert thin.shape == (19, 80, 72)
    assert thin.spacing == (5.0, 4.0, 1.5)
    assert np.array_equal(thin.hu[::2], original.hu)
    assert np.allclose(thin.geometry.ijk_to_lps @ (0, 0, 18, 1), original.geometry.ijk_to_lps @ (0, 0, 9, 1))
    assert thin.metadata["real_slices"] == "1-19:2"


def test_what_was_asked_for_must_make_sense(model):
    original = scan()
    with pytest.raises(UsageError, match=r"1\.3 mm does not divide") as refused:
        thinning(original, 1.3)
    assert "1.5, 1, 0.75" in refused.value.remedy
    with pytest.raises(UsageError, match="does not divide"):
        thinning(original, 3.0)
    with pytest.raises(UsageError, match="1 to 10"):
        filling(original, [9, 10])
    with pytest.raises(UsageError, match="nothing is left"):
        filling(original, range(10))
    with pytest.raises(UsageError, match="positive"):
        extension(original, 0)
    sagittal = CTVolume(original.hu, Geometry((1, 1, 1), direction=np.eye(3)[:, [1, 2, 0]]))
    with pytest.raises(InputError, match="axial"):
        extension(sagittal, 3)


def test_a_long_scan_is_shown_to_the_model_only_near_the_new_slices(model, echo):
    original = CTVolume(np.tile(scan(slices=1).hu, (1100, 1, 1)), Geometry((5.0, 4.0, 1.0)))
    longer = complete(model, extension(original, 2), REQUEST)
    assert longer.shape[0] == 1102
    (request,) = echo
    assert len(request.known) == 250
    assert request.slices == 252


def test_with_a_denoiser_each_slice_comes_once_and_the_seed_matters_only_for_new_ones(model):
    original = scan()
    seen, warnings = {}, []

    def note(first, hu):
        for k, pixels in enumerate(hu, start=first):
            assert k not in seen
            seen[k] = pixels.copy()

    filled = complete(model, filling(original, [3, 6, 7]), REQUEST, on_slices=note, on_warning=warnings.append)
    assert sorted(seen) == list(range(10))
    assert np.array_equal(np.stack([seen[k] for k in range(10)]), filled.hu)
    assert filled.metadata["synthetic"] == "yes"
    assert filled.metadata["given_slices"] == "7"
    assert any("Slices 1-3,5-6,9-10 of the result" in text and "real person" in text for text in warnings)
    other = complete(model, filling(original, [3, 6, 7]), GenerationRequest(seed=4))
    differs = [k for k in range(10) if not np.array_equal(other.hu[k], filled.hu[k])]
    assert differs == [3, 6, 7]


def test_air_beyond_the_models_view_is_said(model, echo):
    wide = scan(spacing=(10.0, 9.0, 3.0))  # 720 x 720 mm; the model sees 384
    warnings = []
    longer = complete(model, extension(wide, 1), REQUEST, on_warning=warnings.append)
    assert any("beyond, new slices are air" in text for text in warnings)
    assert longer.hu[-1, 0, 0] == -1024


def test_a_completed_synthetic_volume_has_no_real_slices(model, echo):
    original = scan()
    made = CTVolume(original.hu, original.geometry, {"synthetic": "yes"})
    assert "real_slices" not in complete(model, extension(made, 2), REQUEST).metadata
    partly = CTVolume(original.hu, original.geometry, {"synthetic": "yes", "real_slices": "1-4"})
    assert complete(model, extension(partly, 2, towards="feet"), REQUEST).metadata["real_slices"] == "3-6"


def test_dicom_says_which_slices_are_real(tmp_path, model, echo):
    original = scan(np.diag([1.0, 1.0, -1.0]))  # left-handed: written from the last slice to the first
    longer = complete(model, extension(original, 2), REQUEST)
    assert longer.metadata["real_slices"] == "3-12"
    files = write_synthetic_dicom(longer, tmp_path / "out")
    images = [pydicom.dcmread(path) for path in files]
    assert {image.SyntheticData for image in images} == {"YES"}
    assert [image.ImageComments.split()[0] for image in images] == ["REAL:"] * 10 + ["SYNTHETIC"] * 2
    assert "Slices 1-10 show a real person" in images[0].PatientComments
    assert images[0].SeriesDescription.startswith("SYNTHETIC, PARTLY REAL:")
    assert "not acquired" not in images[0].DerivationDescription
    assert "only slices 1-10 were acquired" in images[0].DerivationDescription
    back = read_dicom_folder(tmp_path / "out")
    assert back.metadata["real_slices"] == "1-10"
    assert np.array_equal(back.hu, longer.hu[::-1])


def test_nifti_says_that_it_is_partly_real(tmp_path, model, echo):
    write_volume(complete(model, extension(scan(), 2), REQUEST), tmp_path / "a.nii.gz")
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(tmp_path / "a.nii.gz"))
    reader.ReadImageInformation()
    assert "PARTLY REAL" in reader.GetMetaData("descrip")
    assert read_image_file(tmp_path / "a.nii.gz").metadata["synthetic"] == "yes"


def test_a_nifti_that_is_partly_real_stays_so_when_it_is_extended_or_exported(tmp_path, model):
    write_volume(complete(model, extension(scan(), 2), REQUEST), tmp_path / "a.nii.gz")
    back = read_image_file(tmp_path / "a.nii.gz")
    count = back.shape[0]
    assert complete(model, extension(back, 1), REQUEST).metadata["real_slices"] == f"1-{count}", "any may be real"
    write_synthetic_dicom(back, tmp_path / "out")
    images = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    assert "its source did not say which" in images[0].PatientComments
    assert {image.ImageComments for image in images} == {"May be REAL: a slice of a scan"}
