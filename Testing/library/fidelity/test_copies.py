"""The search for copies: what it must see, and what must not look like a copy to it.

Must see: training scans given back, whole or in part, shifted, flipped, larger or smaller, noisy, blurred, on another
grid. Must not: other people (held-out scans, phantoms of other seeds). Need not see: copied texture, small lesions.
"""

from __future__ import annotations

import base64
import dataclasses
import json

import numpy as np
import pytest
from scipy import ndimage

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity.body_windows import NUMBERS, describe_windows
from CTDiffusionLogic.fidelity.copies import compare_copies, measure_copies
from CTDiffusionLogic.fidelity.copy_search import (
    DEFAULT_RATIO,
    Closest,
    Reference,
    ScanWindows,
    find_closest,
    limits_from,
    real_against_others,
    reference_from,
)
from CTDiffusionLogic.fidelity.volumes import LabVolume, to_lab_volume
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.scan_search import find_scans

SPACING = (5.0, 4.2, 4.2)


def phantom(seed: int) -> LabVolume:
    volume = torso_phantom(slices=40, size=96, spacing_mm=(4.2, 4.2, 5.0), seed=seed)
    return to_lab_volume(volume, id=f"phantom {seed}", patient=f"patient {seed}")


def changed(volume: LabVolume, fault: str) -> LabVolume:
    """The volume after what a model, a program or a person might have done to a copy."""
    hu, spacing = volume.hu.astype(np.float32), volume.spacing_mm
    rng = np.random.default_rng(3)
    for word in fault.split():
        if word == "left-right":
            hu = hu[:, :, ::-1]
        elif word == "front-back":
            hu = hu[:, ::-1]
        elif word == "upside-down":
            hu = hu[::-1]
        elif word == "shifted":
            hu = ndimage.shift(hu, (0, 2.5, -3.3), order=1, cval=-1000)
        elif word == "larger":
            hu = np.stack([_resized(plane, 1.06, 1.03) for plane in hu])
        elif word == "noisy":
            hu = hu + rng.normal(0, 40, hu.shape)
        elif word == "blurred":
            hu = ndimage.gaussian_filter(hu, (0, 1, 1))
        elif word == "brighter":
            hu = hu + 15
        elif word == "part":
            hu = hu[9:24]
        elif word == "regridded":
            hu, spacing = (
                ndimage.zoom(hu, (1.6, 1, 1), order=1),
                (spacing[0] * len(hu) / round(len(hu) * 1.6), 4.2, 4.2),
            )
    copy = dataclasses.replace(volume, hu=np.rint(hu).clip(-1024, 3071).astype(np.int16), spacing_mm=spacing)
    return dataclasses.replace(copy, id=fault or "same", patient=f"made: {fault}")


def _resized(plane: np.ndarray, down: float, across: float) -> np.ndarray:
    middle = (np.array(plane.shape) - 1) / 2
    matrix = np.diag([1 / down, 1 / across])
    return ndimage.affine_transform(plane, matrix, middle - matrix @ middle, order=1, cval=-1000)


@pytest.fixture(scope="module")
def training():
    return [phantom(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def measured(training):
    return [measure_copies(volume) for volume in training]


@pytest.fixture(scope="module")
def held_out():
    return [measure_copies(phantom(seed)) for seed in (20, 21)]


COPIES = (
    "same",
    "left-right",
    "front-back",
    "upside-down",
    "shifted left-right",
    "larger shifted",
    "noisy",
    "blurred brighter",
    "part",
    "regridded left-right noisy",
)


def test_copies_are_flagged_however_they_were_changed(training, measured, held_out):
    made = [measure_copies(changed(training[n % 5], fault)) for n, fault in enumerate(COPIES)]
    section = compare_copies(measured, made, held_out)
    ratios = section.details["synthetic_ratios"]
    assert all(ratio < section.details["ratio_limit"] for ratio in ratios.values()), ratios
    assert section.verdict.startswith("10 of 10 volumes are closer to one training patient")
    assert section.figures[0].synthetic.value == 100.0
    # The pairs name the scan that was copied, at the place it was copied from.
    scans = {fault: training[n % 5].id for n, fault in enumerate(COPIES)}
    assert all(pair["training"] == scans[pair["synthetic"]] and pair["copy"] for pair in closest(section))


def closest(section):
    return section.details["closest_pairs"]


def test_other_people_are_not(measured, held_out):
    made = [measure_copies(phantom(seed)) for seed in (30, 31, 32)]
    section = compare_copies(measured, made, held_out)
    assert section.verdict.startswith("No volume is closer to a training scan than other people are: 0 of 3.")
    assert section.figures[0].synthetic.value == 0.0 == section.figures[0].floor.value
    assert 0.5 < section.figures[0].synthetic.high / 100 < 0.8, "three volumes prove little: Clopper and Pearson"
    assert not any(pair["copy"] for pair in closest(section))


def test_one_copy_among_others_is_found_and_shown(training, measured, held_out):
    part = changed(training[3], "part shifted")
    made = [measure_copies(phantom(40)), measure_copies(part), measure_copies(phantom(41))]
    section = compare_copies(measured, made, held_out)
    assert section.verdict.startswith("1 of 3 volumes is closer")
    first = closest(section)[0]
    assert (first["synthetic"], first["training"], first["copy"]) == (part.id, "phantom 3", True)
    assert first["training_mm"] - first["synthetic_mm"] == pytest.approx(9 * 5.0, abs=10.0), (
        "the part began at slice 9"
    )
    assert base64.b64decode(first["picture"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    json.dumps(section.to_dict())  # plain data
    assert compare_copies(measured, made, held_out) == section, "same volumes, same section"


def test_the_ratio_grows_with_what_is_done_to_a_copy(training, measured):
    reference = reference_from(measured)

    def ratio(noise_planes: float) -> float:
        """A copy that turns into another phantom."""
        other = phantom(50)
        hu = (1 - noise_planes) * training[2].hu + noise_planes * other.hu
        mixed = dataclasses.replace(training[2], hu=hu.astype(np.int16))
        return find_closest(describe_windows(mixed.hu, mixed.spacing_mm).numbers, reference).ratio

    ratios = [ratio(share) for share in (0.0, 0.1, 0.3, 1.0)]
    assert ratios == sorted(ratios) and ratios[0] < 0.2 and ratios[-1] > 0.6, ratios


def test_scans_of_held_out_patients_do_not_count_when_they_were_trained_on(measured, held_out):
    again = [dataclasses.replace(measured[0], id="second scan")]  # of patient 0, whom the model knows
    made = [held_out[0]]
    assert compare_copies(measured, made, [*held_out, *again]).details["held_out_volumes"] == 2


def test_what_cannot_be_told_is_said(training, measured, held_out):
    made = [measure_copies(phantom(30)), measure_copies(changed(training[0], "left-right"))]
    alone = compare_copies(measured[:1], made, held_out)
    assert any("one training patient only" in sentence for sentence in alone.warnings)
    assert [pair["copy"] for pair in closest(alone)] == [True, False], "nearly identical ones are found all the same"
    two = compare_copies(measured[:2], made, [])
    assert any("No real scan tells" in sentence for sentence in two.warnings)
    assert two.details["ratio_limit"] == DEFAULT_RATIO
    with pytest.raises(InputError, match="without training scans"):
        compare_copies([], made, held_out)


def test_a_copy_of_somebody_trained_on_under_two_names_is_found(training, measured, held_out):
    twin = dataclasses.replace(measured[1], id="twin", patient="other name")
    made = [measure_copies(changed(training[1], "same"))]
    section = compare_copies([*measured, twin], made, held_out)
    assert section.details["synthetic_ratios"]["same"] > 0.9, "the ratio is blind here"
    assert closest(section)[0]["copy"]
    assert any("2 of the 8 real scans" in sentence for sentence in section.warnings), section.warnings


def test_flips_change_nothing_and_too_little_is_refused():
    volume = phantom(7)
    numbers = describe_windows(volume.hu, SPACING).numbers
    assert numbers.shape == (33, NUMBERS), "200 mm hold 40 planes of 5 mm, that is 33 windows"
    for axes in (0, 1, 2, (0, 1, 2)):
        flipped = describe_windows(np.flip(volume.hu, axes), SPACING).numbers
        assert np.allclose(flipped if axes in (1, 2) else flipped[::-1], numbers, atol=1e-3)
    with pytest.raises(InputError, match="35 mm long"):
        describe_windows(volume.hu[:7], SPACING)
    empty = LabVolume("air", "air", np.full((20, 64, 64), -1000, np.int16), SPACING, volume.body)
    with pytest.raises(InputError, match="no body"):
        measure_copies(empty)


def test_known_answers_of_the_search():
    # Three patients on a line, at 0, 1 and 4; all volumes below are one window long.
    numbers = np.array([[0.0], [1.0], [4.0]], np.float32)
    reference = Reference(numbers, np.array([5, 6, 7]), np.zeros(1, np.float32), np.ones(1, np.float32))
    halfway = find_closest(np.array([[0.5]], np.float32), reference)
    assert halfway.ratio == pytest.approx(1.0) and halfway.distance == pytest.approx(0.5)
    near = find_closest(np.array([[3.0]], np.float32), reference)
    assert (near.patient, near.match, near.ratio) == (7, 2, pytest.approx(0.5))
    without = find_closest(np.array([[3.8]], np.float32), reference, without=7)
    assert (without.patient, without.ratio) == (6, pytest.approx(2.8 / 3.8))
    assert find_closest(np.zeros((0, 1), np.float32), reference) is None
    # Two windows: their ratios are averaged as 0.5 and 0.125 are to 0.25.
    two = find_closest(np.array([[3.0], [4 - 1 / 3]], np.float32), reference)
    assert two.ratio == pytest.approx(0.25) and two.window == 1


def test_limits():
    real = [Closest(ratio, distance, 0, 0, 0) for ratio, distance in ((0.8, 2.0), (0.9, 1.0), (0.85, 3.0), (0.7, 4.0))]
    limits = limits_from(real, patients=3)
    assert limits.calibrated and limits.ratio < 0.7 and limits.distance == 2.5 / 4
    assert not any(limits.is_copy(one) for one in real), "other people are no copies"
    assert limits.is_copy(Closest(0.3, 2.0, 0, 0, 0)) and limits.is_copy(Closest(0.9, 0.1, 0, 0, 0))
    few = limits_from(real[:2], patients=3)
    assert not few.calibrated and few.ratio == DEFAULT_RATIO
    assert limits_from(real[:2], patients=1).ratio == 0.0, "with one patient there are no ratios"


@pytest.mark.real_data
def test_real_scans(ct_data):
    """One patient's three scans are closer to each other than other people are; held-out patients are not copies."""
    names = ("wb_acrinflt001_a", "wb_acrinflt001_c", "chest_lungfcp0001", "chest_rider0117", "chest_cmbcrc01068")
    names = (*names, "abd_kits00072", "abd_cptacpda00189")
    found = {scan.id: scan for scan in find_scans([ct_data]).found}
    scans = {}
    for name in names:
        volume = to_lab_volume(found[name].read(), id=name, patient=found[name].patient)
        scans[name] = ScanWindows(name, volume.patient, describe_windows(volume.hu, volume.spacing_mm))
    held_out = scans.pop("abd_cptacpda00189")
    second = scans.pop("wb_acrinflt001_c")
    training = list(scans.values())
    reference = reference_from(training)
    real = real_against_others([held_out, *training], training, reference)
    limits = limits_from(real, patients=len(training))
    again = find_closest(second.windows.numbers, reference)
    assert sorted(scan.patient for scan in training)[again.patient] == second.patient
    assert again.ratio < min(limits.real_ratios), "another scan of a training patient is not new"
    copied = np.flip(found["chest_rider0117"].read().hu, 2)
    copy = find_closest(describe_windows(copied, (1.6, 1.289, 1.289)).numbers, reference)
    assert limits.is_copy(copy) and copy.ratio < 0.3
    assert not limits.is_copy(find_closest(held_out.windows.numbers, reference))
