"""The physics of CT: known answers, and which faults it must see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from volumes_for_tests import blurred, changed, lab, noisy, phantom

from CTDiffusionLogic.fidelity.body_grid import body_grid
from CTDiffusionLogic.fidelity.noise_spectrum import measure_noise, noise_power
from CTDiffusionLogic.fidelity.outline import circumference, measure_outline
from CTDiffusionLogic.fidelity.physics import compare_physics, measure_physics
from CTDiffusionLogic.fidelity.tissue import HU_CENTRES, TISSUES
from CTDiffusionLogic.fidelity.volumes import to_lab_volume
from CTDiffusionLogic.volume_io import read_volume

RNG = np.random.default_rng(0)


def disc(radius, *, size=100, slices=12, centre=(50.0, 50.0)):
    """A cylinder of 1 in 0; ``radius`` in pixels, one number or one per slice."""
    y, x = np.mgrid[:size, :size]
    radius = np.broadcast_to(np.asarray(radius, dtype=float), (slices,))
    return (np.hypot(y - centre[0], x - centre[1])[None] < radius[:, None, None]).astype(float)


def water(noise_hu=20.0, *, pixel_mm=2.0, fwhm=0.0):
    """A cylinder of soft tissue in air, 160 mm across, with white or smoothed noise everywhere."""
    size = round(200 / pixel_mm)
    hu = -990 + 1040 * disc(80 / pixel_mm, size=size, centre=(size / 2, size / 2))
    noise = RNG.standard_normal(hu.shape)
    if fwhm:
        noise = ndimage.gaussian_filter(noise, (0, fwhm, fwhm))
        noise /= noise.std()
    return lab(hu + noise_hu * noise, spacing_mm=(3.0, pixel_mm, pixel_mm))


@pytest.fixture(scope="module")
def real():
    return [measure_physics(phantom(seed, slices=12, pixel_mm=2.6, size=152)) for seed in range(4)]


@pytest.fixture(scope="module")
def one_more():
    return phantom(9, slices=12, pixel_mm=2.6, size=152)


def figures_of(real, *synthetic):
    section = compare_physics(real, synthetic, rounds=0)
    return {figure.key: figure.synthetic.value for figure in section.figures}


# Tissues


def test_tissues_of_known_hu_and_volume_are_recovered():
    inside = {"fat": (-100, 30.0), "soft_tissue": (45, 20.0), "lung": (-820, 15.0), "bone": (500, 6.0)}
    hu = np.full((12, 100, 100), -996.0)
    for value, radius in inside.values():
        hu[disc(radius) > 0] = value
    measures = measure_physics(lab(hu + 8 * RNG.standard_normal(hu.shape)))
    for key, (value, _) in inside.items():
        assert measures.tissues.values[key] == pytest.approx(value, abs=4), key
    assert measures.tissues.values["air"] == pytest.approx(-996, abs=1)
    areas = {key: radius**2 for key, (_, radius) in inside.items()}
    assert measures.tissues.shares["fat"] == pytest.approx(1 - areas["soft_tissue"] / areas["fat"], abs=0.01)
    assert measures.tissues.shares["bone"] == pytest.approx(areas["bone"] / areas["fat"], abs=0.01)
    assert measures.tissues.body.sum() == pytest.approx(1)
    assert (measures.tissues.body * HU_CENTRES).sum() == pytest.approx(
        sum(
            v * (a - b)
            for (v, _), a, b in zip(inside.values(), areas.values(), [*list(areas.values())[1:], 0], strict=True)
        )
        / areas["fat"],
        abs=8,
    )


def test_the_phantoms_tissues_are_where_it_draws_them(one_more):
    found = measure_physics(one_more).tissues.values
    assert found["lung"] == pytest.approx(-860, abs=30)
    assert found["fat"] == pytest.approx(-105, abs=6)
    assert 45 < found["soft_tissue"] < 115  # muscle or liver
    assert found["air"] == pytest.approx(-1000, abs=3)


def test_a_tissue_that_is_not_there_is_not_told():
    measures = measure_physics(water())
    assert set(measures.tissues.values) == {"soft_tissue", "air"}
    assert any("lung, fat, bone" in warning for warning in measures.warnings)


def test_the_slope_of_another_tissue_is_no_peak():
    """Fat and muscle blurred into one hump between them: neither has a peak of its own."""
    hu = np.where(disc(40) > 0, -29 + 40 * RNG.standard_normal((12, 100, 100)), -1000)
    assert not {"fat", "soft_tissue"} & set(measure_physics(lab(hu)).tissues.values)


def test_every_tissue_says_where_its_range_is_published():
    assert all(tissue.source and tissue.expected[0] < tissue.expected[1] for tissue in TISSUES)


# Noise


@pytest.mark.parametrize("pixel_mm", [1.0, 2.0])
def test_white_noise_has_a_flat_spectrum_of_known_height(pixel_mm):
    volume = water(20.0, pixel_mm=pixel_mm)
    noise = measure_noise(volume, body_grid(volume))
    assert noise.regions >= 20
    assert noise.soft_hu == pytest.approx(20, rel=0.03)
    assert noise.power == pytest.approx(20**2 * pixel_mm**2, rel=0.15)
    assert noise.frequencies[-1] == pytest.approx(0.5 / pixel_mm, rel=0.1)


def test_noise_power_adds_up_to_the_variance():
    """Parseval: the integral over the plane of frequencies is the variance."""
    regions = 15 * RNG.standard_normal((200, 24, 24))
    frequencies, power = noise_power(regions, dy=1.0, dx=1.0)
    assert power.mean() * 1.0 == pytest.approx(15**2, rel=0.02)  # a square of one cycle/mm on each side
    assert np.all(np.diff(frequencies) > 0)


def test_smooth_noise_of_the_same_strength_has_lower_frequencies():
    white, smooth = (compare_physics([], [measure_physics(water(20, fwhm=f))], rounds=0) for f in (0.0, 1.0))
    values = [{f.key: f.synthetic.value for f in section.figures} for section in (white, smooth)]
    assert values[1]["physics.noise.soft"] == pytest.approx(values[0]["physics.noise.soft"], rel=0.25)
    assert values[1]["physics.noise.frequency"] < 0.8 * values[0]["physics.noise.frequency"]


def test_noise_of_air_is_measured_and_padding_is_not():
    volume = water(10.0)
    assert measure_physics(volume).noise.air_hu == pytest.approx(10, rel=0.1)
    padded = changed(volume, np.where(volume.hu < -900, -1024, volume.hu))
    measures = measure_physics(padded)
    assert measures.noise.air_hu is None
    assert "air" not in measures.tissues.values
    assert any("padding" in warning for warning in measures.warnings)


def test_edges_are_not_taken_for_noise(one_more):
    """The phantom's own noise, about 11 HU at its pixels, not its organs."""
    assert 8 < measure_physics(one_more).noise.soft_hu < 16


# Outline


def test_a_cylinder_has_the_outline_of_one():
    outline = measure_outline(body_grid(lab(-1000 + 1050 * disc(40.0))))
    assert outline.area_cm2 == pytest.approx(np.pi * 80**2 / 100, rel=0.01)
    assert outline.circumference_mm == pytest.approx(2 * np.pi * 80, rel=0.03)
    assert outline.circle_ratio == pytest.approx(1, rel=0.03)
    assert (outline.pieces, outline.holes) == (1, 0)
    assert (outline.movement_mm, outline.roughness_mm) == (0, 0)


def test_a_cone_moves_and_is_not_rough():
    radius = 30 + 0.75 * np.arange(12)  # 1.5 mm a slice: 3 mm in 6 mm
    outline = measure_outline(body_grid(lab(-1000 + 1050 * disc(radius))))
    assert outline.movement_mm == pytest.approx(3.0, rel=0.06)
    assert outline.roughness_mm < 0.02 * outline.circumference_mm.mean()  # the pixels' own


def test_a_torn_outline_is_longer_than_that_of_a_whole_body_of_its_size():
    """The fault that distances of image features hardly see: the more bites, the longer."""
    angle = np.arctan2(*np.mgrid[-50:50, -50:50])
    ratios = []
    for depth in (0.0, 0.1, 0.2, 0.3):
        edge = 36.0 * (1 + depth * np.cos(9 * angle))
        inside = np.hypot(*np.mgrid[-50:50, -50:50]) < edge
        ratios.append(
            measure_outline(body_grid(lab(-1000 + 1050.0 * np.repeat(inside[None], 12, axis=0)))).circle_ratio
        )
    assert ratios == sorted(ratios) and ratios[-1] > 1.5 * ratios[0]


def test_a_square_is_too_long_by_the_known_factor():
    """The estimate is right on average over directions; a square along the pixels is the farthest off."""
    assert circumference(np.pad(np.ones((1, 10, 10), bool), ((0, 0), (3, 3), (3, 3))), 1.0, 1.0)[0] == pytest.approx(
        np.pi / 4 * 40
    )


def test_holes_and_pieces_are_counted():
    hu = -1000 + 1050 * disc(40.0)
    for centre in ((40.0, 40.0), (60.0, 55.0)):
        hu[disc(5.0, centre=centre) > 0] = -990
    hu[disc(4.0, centre=(8.0, 8.0)) > 0] = 40
    outline = measure_outline(body_grid(lab(hu)))
    assert (outline.pieces, outline.holes) == (2, 2)


def test_a_body_that_the_image_cuts_off_has_no_outline():
    measures = measure_physics(lab(np.full((12, 60, 60), 40.0) + RNG.standard_normal((12, 60, 60))))
    assert measures.outline is None
    assert any("cuts off" in warning for warning in measures.warnings)


# Which faults must show, and how.


def must_grow(real, volumes, *keys):
    found = [figures_of(real, measure_physics(volume)) for volume in volumes]
    for key in keys:
        values = [figures[key] for figures in found]
        assert values == sorted(values), f"{key}: {values}"
        assert values[-1] > 1.2 * values[0], f"{key}: {values}"


def test_growing_noise_shows(real, one_more):
    volumes = [noisy(one_more, sigma) for sigma in (0, 10, 20, 40)]
    must_grow(real, volumes, "physics.noise.soft", "physics.noise.air", "physics.noise.spectrum")


def test_growing_blur_shows(real, one_more):
    volumes = [blurred(one_more, (0, sigma, sigma)) for sigma in (0, 0.5, 0.8, 1.2)]
    must_grow(real, volumes, "physics.noise.spectrum", "physics.histogram.body")


def test_a_growing_shift_of_hu_shows_in_full(real, one_more):
    body = one_more.hu > -900
    volumes = [changed(one_more, one_more.hu + shift * body) for shift in (0, 20, 40, 80)]
    must_grow(real, volumes, "physics.histogram.body", "physics.histogram.whole")
    fat = [figures_of(real, measure_physics(volume))["physics.peak.fat"] for volume in volumes[:2]]
    assert fat[1] - fat[0] == pytest.approx(20, abs=3)


def test_wrong_contrast_shows(real, one_more):
    volumes = [changed(one_more, -1000 + (one_more.hu + 1000) * factor) for factor in (1.0, 1.05, 1.1, 1.2)]
    must_grow(real, volumes, "physics.histogram.body")


def test_a_jumping_outline_shows(real, one_more):
    jumps = np.random.default_rng(2).choice([-1, 1], size=len(one_more.hu))
    volumes = [
        changed(one_more, np.stack([np.roll(p, n * j, axis=1) for p, j in zip(one_more.hu, jumps, strict=True)]))
        for n in (0, 1, 2, 4)
    ]
    must_grow(real, volumes, "physics.outline.movement")


def test_what_physics_need_not_see(real, one_more):
    """The order of slices: histograms and noise are the same. The outline sees it."""
    order = np.random.default_rng(5).permutation(len(one_more.hu))
    before = figures_of(real, measure_physics(one_more))
    after = figures_of(real, measure_physics(changed(one_more, one_more.hu[order])))
    for key in ("physics.histogram.body", "physics.peak.fat", "physics.share.lung"):
        assert after[key] == pytest.approx(before[key], rel=0.02)
    assert after["physics.noise.soft"] == pytest.approx(before["physics.noise.soft"], rel=0.1)
    assert after["physics.outline.movement"] > 1.5 * before["physics.outline.movement"]


# Comparing


def test_real_against_itself_is_zero_and_the_floor_is_not(real):
    for figure in compare_physics(real, real, rounds=20).figures:
        if figure.better == "lower":
            assert figure.synthetic.value == pytest.approx(0, abs=1e-9)
            assert figure.floor.value > 0
        else:
            assert figure.synthetic == figure.floor


def test_the_section_names_what_lies_outside_published_ranges(real, one_more):
    shifted = changed(one_more, np.where(one_more.hu > -900, np.minimum(one_more.hu + 60, 3000), one_more.hu))
    section = compare_physics(real, [measure_physics(shifted)], rounds=0)
    assert not section.details["references"]["fat"]["synthetic_inside"]
    assert section.details["references"]["fat"]["real_inside"]
    assert any("Fat lies at" in warning for warning in section.warnings)
    assert "(outside: " in section.verdict
    assert {curve.key for curve in section.curves} == {"physics.histogram", "physics.noise"}


def test_a_lost_peak_is_named(real):
    """A body without contrast between fat and muscle, as models make that have learnt too little."""
    hu = np.where(disc(40) > 0, -29 + 40 * RNG.standard_normal((12, 100, 100)), -1000)
    section = compare_physics(real, [measure_physics(lab(hu))], rounds=0)
    assert "no peak of lung, fat, soft tissue" in section.verdict


@pytest.mark.parametrize("shape", [(1, 40, 40), (3, 8, 8), (12, 1, 1)])
def test_tiny_volumes_give_what_they_can_and_say_what_is_missing(shape):
    measures = measure_physics(lab(50 + 20 * RNG.standard_normal(shape)))
    section = compare_physics([measures], [replace(measures, id="other")], rounds=0)
    assert section.warnings
    assert "nan" not in str(section.to_dict()).lower()


def test_nothing_to_compare():
    section = compare_physics([], [])
    assert section.figures == []
    assert "empty" in section.warnings[0]


@pytest.mark.real_data
def test_a_real_scan_has_the_physics_of_ct(ct_data):
    scan = read_volume(ct_data / "nifti" / "abd_pancreascb001.nii.gz")
    measures = measure_physics(to_lab_volume(scan, id="scan"))
    assert measures.warnings == ()
    for tissue in TISSUES:
        low, high = tissue.expected
        assert low <= measures.tissues.values[tissue.key] <= high, tissue.key
    assert 5 < measures.noise.soft_hu < 25
    assert measures.noise.regions > 100
    assert measures.outline.movement_mm < 3
    assert 500 < measures.outline.area_cm2.mean() < 1200
