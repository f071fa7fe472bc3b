"""Through-plane coherence: known answers, and which faults it must see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from volumes_for_tests import blurred, changed, lab, noisy, phantom

from CTDiffusionLogic.fidelity.body_grid import body_grid, common_pixel_mm, steps_around
from CTDiffusionLogic.fidelity.coherence import compare_coherence, measure_coherence
from CTDiffusionLogic.fidelity.periodicity import border_excess, difference_profile, find_periods, strongest
from CTDiffusionLogic.fidelity.slice_pairs import measure_pairs
from CTDiffusionLogic.fidelity.volumes import to_lab_volume
from CTDiffusionLogic.fidelity.z_spectrum import fast_share, measure_z_spectrum
from CTDiffusionLogic.volume_io import read_volume

RNG = np.random.default_rng(0)
WHITE = 50 + 20 * RNG.standard_normal((64, 40, 40))


@pytest.fixture(scope="module")
def torso():
    return phantom(slices=64)


@pytest.fixture(scope="module")
def real():
    return [measure_coherence(phantom(seed, slices=48)) for seed in range(4)]


def figures_of(real, *synthetic):
    section = compare_coherence(real, synthetic, rounds=0)
    return {figure.key: figure.synthetic.value for figure in section.figures}


# The grid


@pytest.mark.parametrize("gap", [1.0, 1.25, 2.0, 2.5, 3.0, 4.25, 6.0])
def test_steps_interpolate_a_measure_that_is_linear_in_the_distance(gap):
    steps = steps_around(6.0, gap, 64)
    assert sum(weight for _, weight in steps) == pytest.approx(1)
    assert sum(weight * step * gap for step, weight in steps) == pytest.approx(6.0)


def test_steps_are_not_told_below_the_gap_nor_beyond_the_volume():
    assert steps_around(1.5, 1.6, 64) == [(1, 1.0)]  # near enough
    assert steps_around(1.5, 3.0, 64) == []
    assert steps_around(24.0, 3.0, 9) == []


def test_the_body_is_found_without_its_table(torso):
    grid = body_grid(torso)
    assert grid.found
    assert grid.touches == 0
    middle = grid.body[32]
    area_cm2 = middle.sum() * grid.spacing_mm[1] * grid.spacing_mm[2] / 100
    assert 540 < area_cm2 < 680  # a superellipse of about 170 x 108 mm half axes
    assert grid.hu[32][middle].min() < -700  # lungs belong to the body
    below = grid.hu[32][~middle]
    assert (below > -300).mean() < 0.05


def test_common_pixels_are_those_of_the_coarsest():
    assert common_pixel_mm([(3.0, 0.7, 0.7), (1.0, 1.2, 1.2)]) == 2.0
    assert common_pixel_mm([(3.0, 0.7, 0.7), (1.0, 2.7, 2.5)]) == 2.7


# Pairs of slices


def test_a_constant_volume_has_no_differences():
    measures = measure_coherence(lab(np.full((64, 40, 40), 40.0)))
    assert set(measures.pairs) == {3.0, 6.0, 12.0, 24.0}
    assert all(p.mean_difference == 0 and p.mean_ssim == pytest.approx(1) for p in measures.pairs.values())
    assert measures.differences is None
    assert compare_coherence([measures], [measures]).figures  # and nothing breaks


@pytest.mark.parametrize("gap", [1.0, 2.5, 3.0])
def test_white_noise_differs_by_two_sigma_over_root_pi_at_every_distance(gap):
    pairs = measure_pairs(body_grid(lab(WHITE, spacing_mm=(gap, 2.0, 2.0))), (3.0, 12.0))
    for measured in pairs.values():
        assert measured.mean_difference == pytest.approx(2 * 20 / np.sqrt(np.pi), rel=0.02)
        assert measured.differences.sum() == pytest.approx(1)


def test_the_same_body_gives_the_same_at_the_same_distance_whatever_its_slices_and_pixels():
    """Thin slices of small pixels beside thick slices of large ones: no fault that may show."""
    thin = measure_coherence(phantom(slices=64, spacing_mm=2.0, pixel_mm=2.4, size=160), pixel_mm=4.0)
    thick = measure_coherence(phantom(slices=32, spacing_mm=4.0, pixel_mm=3.2, size=120), pixel_mm=4.0)
    for distance in (6.0, 12.0):
        a, b = thin.pairs[distance], thick.pairs[distance]
        assert a.mean_difference == pytest.approx(b.mean_difference, rel=0.1)
        assert a.mean_ssim == pytest.approx(b.mean_ssim, abs=0.03)


# Spectrum along z


@pytest.mark.parametrize("gap", [1.0, 3.0])
def test_white_noise_has_a_flat_spectrum_of_known_height(gap):
    volume = lab(WHITE if gap == 3 else np.concatenate([WHITE, WHITE[::-1]]), spacing_mm=(gap, 2.0, 2.0))
    spectrum = measure_z_spectrum(body_grid(volume))
    assert spectrum.power[1:-1] == pytest.approx(2 * 20**2 * gap, rel=0.1)
    assert fast_share(10 * np.log10(spectrum.power), spectrum.frequencies) == pytest.approx(0.5, abs=0.06)


def test_a_wave_along_z_peaks_at_its_frequency():
    z = 3.0 * np.arange(64)
    wave = 50 + 40 * np.sin(2 * np.pi * z / 12.0)
    spectrum = measure_z_spectrum(body_grid(lab(np.broadcast_to(wave[:, None, None], (64, 40, 40)))))
    assert spectrum.frequencies[np.argmax(spectrum.power)] == pytest.approx(1 / 12, abs=1 / 64)
    total = spectrum.power.sum() * np.diff(spectrum.frequencies).mean()
    assert total == pytest.approx(40**2 / 2, rel=0.15)


# Periods


@pytest.mark.parametrize("period", [4, 6, 8])
def test_steps_between_slabs_are_found_with_their_period(torso, period):
    slabs = np.arange(64) // period
    offsets = np.random.default_rng(period).choice([-25.0, 25.0], size=slabs.max() + 1)
    offsets[1::2] = -offsets[::2][: len(offsets[1::2])]  # neighbours always differ
    volume = changed(torso, np.where(torso.hu > -900, torso.hu + offsets[slabs][:, None, None], torso.hu))
    found = measure_coherence(volume).differences
    best, percent, evidence = strongest(np.stack([found.modulation, found.evidence])[None])
    assert best in (period, 2 * period)
    assert evidence > 3
    before = measure_coherence(torso).differences
    assert percent > 2 * before.modulation[list(range(2, 17)).index(best)]


@pytest.mark.parametrize("period", [5, 8, 14])
def test_steps_in_noise_are_found_as_what_they_are(period):
    hu = WHITE + 12.0 * (np.arange(64) // period % 2)[:, None, None]
    found = find_periods(difference_profile(body_grid(lab(hu))))
    best, _, evidence = strongest(np.stack([found.modulation, found.evidence])[None])
    assert best == period
    assert evidence > 5


def test_no_period_is_found_where_there_is_none(torso):
    """Neither in noise, whose every period is chance, nor in a body, whose changes along z are not periodic."""
    evidence = []
    for seed in range(6):
        profile = np.exp(0.05 * np.random.default_rng(seed).standard_normal(63))
        evidence.append(find_periods(profile).evidence)
    assert np.mean(evidence) < 1
    assert np.nanmax(np.mean(evidence, axis=0)) < 2
    assert measure_coherence(torso).sharpness.evidence.max() < 3


def test_every_second_slice_blurred_shows_in_the_sharpness(torso):
    hu = torso.hu.astype(float)
    hu[::2] = blurred(torso, (0, 1.0, 1.0)).hu[::2]
    found = measure_coherence(changed(torso, hu)).sharpness
    assert strongest(np.stack([found.modulation, found.evidence])[None])[0] == 2


def test_slab_borders_are_where_the_plan_has_them():
    profile = np.full(63, 10.0)
    assert border_excess(profile, 8) == pytest.approx(0, abs=1e-6)
    profile[7::8] = 12.0  # where windows of 8 slices join at the first noise level
    assert border_excess(profile, 8) == pytest.approx(20, abs=3)
    assert border_excess(np.full(5, 10.0), 8) is None  # one slab


def test_borders_are_only_told_of_volumes_whose_slabs_are_known():
    made = {"synthetic": "yes", "model_sha256": "ab"}
    assert measure_coherence(lab(WHITE, **made)).borders is not None
    assert measure_coherence(lab(WHITE, synthetic="yes")).borders is None
    assert measure_coherence(lab(WHITE, given_slices="4", **made)).borders is None
    assert measure_coherence(lab(WHITE)).borders is not None  # a real scan, as if


# Which faults must show, and how: the distances grow with the fault.


def must_grow(real, volumes, *keys):
    measures = [measure_coherence(volume) for volume in volumes]
    found = [figures_of(real, m) for m in measures]
    for key in keys:
        values = [figures[key] for figures in found]
        assert values == sorted(values), f"{key}: {values}"
        assert values[-1] > 1.2 * values[0], f"{key}: {values}"


@pytest.fixture(scope="module")
def one_more():
    return phantom(9, slices=48)


def test_growing_noise_shows(real, one_more):
    volumes = [noisy(one_more, sigma) for sigma in (0, 20, 40, 80)]
    must_grow(real, volumes, "coherence.difference.3mm", "coherence.spectrum", "coherence.fast_share")


def test_growing_blur_along_z_shows(real, one_more):
    volumes = [blurred(one_more, (sigma, 0, 0)) for sigma in (0, 0.7, 1.5, 3.0)]
    must_grow(real, volumes, "coherence.difference.3mm", "coherence.ssim.3mm", "coherence.spectrum")


def test_growing_flicker_shows(real, one_more):
    volumes = [noisy(one_more, sigma, per_slice=True) for sigma in (0, 15, 30, 60)]
    must_grow(real, volumes, "coherence.difference.3mm", "coherence.spectrum", "coherence.fast_share")


def test_shuffled_slices_show(real, one_more):
    rng = np.random.default_rng(3)
    some = np.concatenate([rng.permutation(24), np.arange(24, 48)])
    volumes = [one_more, *(changed(one_more, one_more.hu[new]) for new in (some, rng.permutation(48)))]
    must_grow(real, volumes, "coherence.difference.3mm", "coherence.ssim.3mm", "coherence.fast_share")


def test_a_wrong_distance_of_slices_shows(real, one_more):
    wrong = [replace(one_more, spacing_mm=(gap, *one_more.spacing_mm[1:])) for gap in (3.0, 2.0, 1.2)]
    must_grow(real, wrong, "coherence.difference.6mm", "coherence.ssim.6mm")


def test_what_coherence_need_not_see(one_more):
    """An offset of all HU, and slices in reverse order: the same differences, spectrum and periods."""
    test = one_more
    plain = measure_coherence(test)
    reverse = measure_coherence(changed(test, test.hu[::-1]))
    for distance, measured in plain.pairs.items():
        assert reverse.pairs[distance].mean_difference == pytest.approx(measured.mean_difference, rel=0.05)
    shifted = measure_coherence(changed(test, np.minimum(test.hu.astype(int) + 15, 3000)))
    assert shifted.pairs[3.0].mean_difference == pytest.approx(plain.pairs[3.0].mean_difference, rel=0.02)


# Comparing


def test_slabs_are_spoken_of_and_bodies_without_are_not(real, one_more):
    slabs = np.arange(48) // 6 % 2
    hu = np.where(one_more.hu > -900, one_more.hu + 40 * slabs[:, None, None], one_more.hu)
    verdict = compare_coherence(real, [measure_coherence(changed(one_more, hu))], rounds=0).verdict
    assert "rise and fall every 6 slices" in verdict
    assert "No period" in compare_coherence(real, [measure_coherence(one_more)], rounds=0).verdict


def test_real_against_itself_is_zero_and_the_floor_is_not(real):
    section = compare_coherence(real, real)
    for figure in section.figures:
        if figure.better == "lower":
            assert figure.synthetic.value == pytest.approx(0, abs=1e-9)
            assert figure.floor.value > 0
        else:
            assert figure.synthetic.value == figure.floor.value


def test_the_floor_keeps_patients_apart(real):
    """Two copies of a scan under one name are one patient: no floor."""
    twice = [real[0], replace(real[0], id="again")]
    assert all(
        figure.floor is None for figure in compare_coherence(twice, real[1:]).figures if figure.better == "lower"
    )


def test_independent_slices_stand_beside(real, one_more):
    test = one_more
    order = np.random.default_rng(4).permutation(48)
    independent = [measure_coherence(changed(test, test.hu[order]))]
    section = compare_coherence(real, [measure_coherence(test)], independent=independent)
    values = {figure.key: figure.synthetic.value for figure in section.figures}
    baseline = section.details["independent_slices"]
    assert baseline["coherence.difference.3mm"] > 2 * values["coherence.difference.3mm"]
    assert "independent slices" in section.verdict
    for curve in section.curves:
        assert set(curve.lines) == {"real", "synthetic", "independent slices"}
        assert all(len(line) == len(curve.x) and np.isfinite(line).all() for line in curve.lines.values())


def test_groups_of_different_slices_are_warned_of(real):
    section = compare_coherence(real, [measure_coherence(phantom(5, slices=20, spacing_mm=8.0))])
    text = " ".join(section.warnings)
    assert "3, 6 mm apart are not in all groups" in text
    assert "not equally far apart" in text
    assert {f.key for f in section.figures if ".difference." in f.key} == {
        "coherence.difference.12mm",
        "coherence.difference.24mm",
    }


@pytest.mark.parametrize("shape", [(1, 40, 40), (3, 40, 40), (12, 8, 8), (30, 1, 1)])
def test_tiny_volumes_give_what_they_can_and_say_what_is_missing(shape):
    measures = measure_coherence(lab(50 + 20 * RNG.standard_normal(shape)))
    section = compare_coherence([measures], [measures])
    assert section.warnings
    assert "NaN" not in str(section.to_dict())
    assert "nan" not in str(section.to_dict())


def test_nothing_to_compare():
    section = compare_coherence([], [])
    assert section.figures == []
    assert "empty" in section.warnings[0]


@pytest.mark.real_data
def test_a_real_scan_has_no_slabs_and_little_power_at_high_frequencies(ct_data):
    measures = measure_coherence(to_lab_volume(read_volume(ct_data / "nifti" / "abd_pancreascb001.nii.gz"), id="scan"))
    assert measures.warnings == ()
    assert np.max(measures.differences.modulation) < 4
    assert abs(measures.borders) < 5
    power = measures.spectrum.power
    assert power[0] > 30 * power[-1]
    differences = [pair.mean_difference for pair in measures.pairs.values()]
    assert differences == sorted(differences)
