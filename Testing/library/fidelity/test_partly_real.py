"""Completed scans: only what was made of them is measured, and the report says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity.evaluate import EvaluateOptions, evaluate
from CTDiffusionLogic.fidelity.inputs import find_inputs
from CTDiffusionLogic.fidelity.partly_real import cut_out, longest_stack, made_slices
from CTDiffusionLogic.fidelity.results import Section
from CTDiffusionLogic.fidelity.rooms import FunctionRoom
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.volume import CTVolume, flip_slices
from CTDiffusionLogic.volume_io import read_volume, write_volume


@pytest.mark.parametrize(
    ("count", "real", "wanted"),
    [
        (60, range(40), range(40, 60)),  # extended towards the head
        (60, range(20, 60), range(20)),
        (30, [n for n in range(30) if not 10 <= n < 15], range(10, 15)),  # filled
        (9, range(0, 9, 2), range(1, 9, 2)),  # thinned to half
        (13, range(0, 13, 4), range(1, 13, 2)),  # to a quarter: two of each three new ones
        (10, (2, 3, 4), range(5, 10)),
        (5, (), range(5)),
        (3, range(3), range(0)),
        (1, (), range(1)),
    ],
)
def test_the_longest_even_stack_without_real_slices(count, real, wanted):
    found = longest_stack(count, set(real))
    assert list(found) == list(wanted)
    assert not set(found) & set(real)


def test_what_volumes_say_of_themselves():
    shape = (10, 4, 4)
    assert made_slices(shape, {}) is None
    assert made_slices(shape, {"real_slices": "1-6"}) == range(6, 10)
    for facts, words in (
        ({"partly_real": "yes"}, "does not say which"),
        ({"real_slices": "all"}, "cannot be read"),
        ({"real_slices": "1-10"}, "All of its slices are real"),
    ):
        with pytest.raises(InputError, match=words):
            made_slices(shape, facts)


def test_a_stack_lies_where_its_slices_lay():
    volume = torso_phantom(slices=8, size=16, spacing_mm=(20.0, 20.0, 5.0), seed=1)
    volume = replace(volume, metadata={"synthetic": "yes", "slab_slices": "8", "model_sha256": "0" * 64})
    part = cut_out(volume, range(1, 8, 3))
    assert np.array_equal(part.hu, volume.hu[[1, 4, 7]])
    assert part.spacing == (20.0, 20.0, 15.0)
    corner = np.array([0, 0, 1, 1])  # of slice 1, in voxels
    np.testing.assert_allclose(part.geometry.origin, (volume.geometry.ijk_to_lps @ corner)[:3])
    assert part.metadata["measured_slices"] == "2-8:3"
    assert "slab_slices" not in part.metadata
    assert part.metadata["given_slices"], "no borders of slabs are looked for"


def completed(path, real, *, flipped=False, slices=12):
    """A phantom, slices named in ``real`` (from 1) at 40 HU, the others at 200: what is measured shows."""
    volume = torso_phantom(slices=slices, size=40, spacing_mm=(10.0, 10.0, 12.0), seed=3)
    hu = np.full_like(volume.hu, 200)
    for number in real:
        hu[number - 1] = 40
    text = f"{real[0]}-{real[-1]}" if real.step == 1 else f"{real[0]}-{real[-1]}:{real.step}"
    made = CTVolume(hu, volume.geometry, {"synthetic": "yes", "model": "m", "real_slices": text})
    if flipped:
        turned = flip_slices(made)
        made = replace(turned, metadata={**made.metadata, "real_slices": f"{slices + 1 - real[-1]}-{slices}"})
    write_volume(made, path)


@pytest.fixture
def real(tmp_path):
    """Scans of two patients."""
    for n in range(2):
        (tmp_path / f"sub-{n}").mkdir()
        volume = torso_phantom(slices=12, size=40, spacing_mm=(10.0, 10.0, 12.0), seed=n)
        write_volume(CTVolume(volume.hu, volume.geometry), tmp_path / f"sub-{n}" / "scan.nrrd")
    return (tmp_path / "sub-0", tmp_path / "sub-1")


@pytest.mark.parametrize(("name", "flipped"), [("a.nrrd", False), ("a.nrrd", True), ("a.mha", False), ("a/", False)])
def test_only_synthetic_slices_are_measured_in_every_format(tmp_path, real, name, flipped):
    completed(f"{tmp_path}/{name}", range(1, 8), flipped=flipped)
    place = tmp_path / name.strip("/")
    seen = {}

    def measure(volume):
        seen[volume.id] = volume.hu.copy()
        return volume.id

    def compare(_measures, _seed):
        return Section(key="k", title="K", verdict="V")

    def rooms(options, scans):
        assert {scan.shape[0] for scan in scans} == {12, 5}, "protocols are chosen for what is measured"
        return [FunctionRoom("k", "K", ("real", "synthetic"), measure, compare)], {}

    report = evaluate(EvaluateOptions(real=real, synthetic=(place,)), rooms=rooms).report
    made = report.volumes("synthetic")[0]
    assert seen[made.id].shape == (5, 40, 40)
    assert set(np.unique(seen[made.id])) == {200}
    assert made.origin["measured_slices"] == ("1-5" if flipped else "8-12")
    assert made.origin["real_slices"]
    assert any("only 5 of its 12 slices" in warning and made.id in warning for warning in report.warnings)


def test_a_thinned_scan_stands_for_its_new_slices(tmp_path, real):
    completed(tmp_path / "thin.nrrd", range(1, 12, 2), slices=11)
    inputs = find_inputs({"real": real, "synthetic": (tmp_path / "thin.nrrd",)})
    scan = next(scan for scan in inputs.scans if "synthetic" in scan.groups)
    volume, said = scan.read()
    assert scan.shape == volume.hu.shape == (5, 40, 40)
    assert scan.spacing_mm == pytest.approx((24.0, 10.0, 10.0))
    assert set(np.unique(volume.hu)) == {200}
    assert said.origin["measured_slices"] == "2-10:2"
    assert any("one in 2" in sentence for sentence in inputs.warnings)


def test_a_nifti_that_is_partly_real_is_left_out_since_it_cannot_say_where(tmp_path, real):
    completed(tmp_path / "part.nii.gz", range(1, 8))
    completed(tmp_path / "whole.nrrd", range(1, 2))
    assert read_volume(tmp_path / "part.nii.gz").metadata["partly_real"] == "yes"
    write_volume(read_volume(tmp_path / "part.nii.gz"), tmp_path / "again.nii.gz")
    assert read_volume(tmp_path / "again.nii.gz").metadata["partly_real"] == "yes", "copies say so, too"
    inputs = find_inputs({"real": real, "synthetic": (tmp_path / "part.nii.gz", tmp_path / "whole.nrrd")})
    assert [item.reason for item in inputs.left_out if "partly real" in item.reason]
    assert [scan.ref.path.name for scan in inputs.scans if "synthetic" in scan.groups] == ["whole.nrrd"]
