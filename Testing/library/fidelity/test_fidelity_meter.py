"""How far a model in training is from real scans: the stretches, the floor, the measurement.

The measurement must see: volumes of other texture, and of another part of the body. It need not see: which patient a
stretch is of, or how far apart the scans' slices are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_model import write_random_model

from CTDiffusionLogic.bundle import load_model
from CTDiffusionLogic.errors import Cancelled, InputError
from CTDiffusionLogic.fidelity.volumes import LabVolume
from CTDiffusionLogic.generation import GenerationModel, generate
from CTDiffusionLogic.generation_request import GenerationRequest
from CTDiffusionLogic.sampling import DEFAULT_SAMPLER
from CTDiffusionLogic.training.fidelity_meter import FidelityMeter, MeterOptions
from CTDiffusionLogic.training.fidelity_scans import (
    GridScan,
    choose_places,
    common_spacing_mm,
    cut_stretch,
    find_stretches,
    thinned,
)
from CTDiffusionLogic.training.fidelity_volumes import ShortVolumes, make_short_volumes

SIZE, PIXEL = 64, 6.0
KNOWN = {"body_range_mm": (0.0, 330.0), "pixel_mm": PIXEL, "sampling": {"guidance": 1.5}}
SMALL = MeterOptions(volumes=3, steps=2, detail_steps=2, draws=6, rounds=8, images_per_volume=6)


class Moments:
    """A cheap extractor: what an image's grey values and edges are like."""

    name = "moments"
    sha256 = "0" * 64
    dimensions = 4

    def features(self, images, pixel_mm):
        scaled = images / 500.0
        edges = np.abs(np.diff(scaled, axis=2)).mean(axis=(1, 2))
        rows = scaled.mean(axis=2)
        columns = [scaled.mean(axis=(1, 2)), scaled.std(axis=(1, 2)), edges, rows.std(axis=1)]
        return np.stack(columns, axis=1).astype(np.float32)


def body(positions_mm, seed: int, noise: float = 20.0) -> np.ndarray:
    """Slices of a cylinder that changes along the body, a little different in each patient."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    width = 0.36 + 0.02 * rng.standard_normal()
    lung = 0.22 + 0.01 * rng.standard_normal()
    slices = []
    for z in positions_mm:
        image = np.where((rows / 0.8) ** 2 + columns**2 < width**2, 40.0, -1000.0)
        image[(rows / 0.8) ** 2 + columns**2 < (lung * np.clip((z - 100) / 200, 0, 1)) ** 2] = -800.0
        slices.append(image + noise * rng.standard_normal(image.shape))
    return np.clip(np.stack(slices), -1024, 3071).astype(np.int16)


def scan(name: str, *, gap: float, low: float, count: int, held_out: bool = False, seed: int = 0) -> GridScan:
    hu = body(low + gap * np.arange(count), seed)
    return GridScan(name, f"patient {name}", held_out, hu, gap, PIXEL, low)


@pytest.fixture(scope="module")
def scans() -> list[GridScan]:
    return [
        scan("a", gap=3.0, low=0.0, count=120, seed=1),
        scan("b", gap=2.0, low=20.0, count=150, seed=2),
        scan("c", gap=6.0, low=-10.0, count=60, seed=3),
        scan("d", gap=5.0, low=40.0, count=50, held_out=True, seed=4),
        scan("e", gap=3.0, low=90.0, count=80, held_out=True, seed=5),
    ]


@pytest.fixture(scope="module")
def meter(scans) -> FidelityMeter:
    return FidelityMeter(scans, Moments(), **KNOWN, options=SMALL)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> GenerationModel:
    path = write_random_model(tmp_path_factory.mktemp("model") / "noise.safetensors", image_size=SIZE)
    return GenerationModel.from_file(load_model(path))


def like_real(meter: FidelityMeter, *, seed: int = 9, shift_mm: float = 0.0, noise: float = 20.0) -> list[LabVolume]:
    """Volumes of further "patients" at the meter's places: what a perfect model would make."""
    volumes = []
    wanted = meter.wanted
    for number, place in enumerate(wanted.places_mm):
        offsets = (np.arange(wanted.slices) - (wanted.slices - 1) / 2) * wanted.spacing_mm
        hu = body(place + shift_mm + offsets, seed + number, noise)
        one = GridScan("new", "new", False, hu, wanted.spacing_mm, PIXEL, place + offsets[0])
        (stretch,) = find_stretches(
            [one], [place], spacing_mm=wanted.spacing_mm, extent_mm=wanted.slices * wanted.spacing_mm
        )
        volumes.append(replace(cut_stretch(one, stretch), id=f"made {number}"))
    return volumes


@pytest.mark.parametrize(
    ("gap", "every"), [(6.0, 1), (5.0, 1), (8.0, 1), (3.0, 2), (2.5, 2), (2.0, 3), (1.25, 5), (0.5, 12), (10.0, 1)]
)
def test_slices_are_taken_as_far_apart_as_wanted_as_near_as_can_be(gap, every):
    assert scan("s", gap=gap, low=0.0, count=20).every(6.0) == every


def test_the_distance_of_slices_is_one_that_scans_have(scans):
    assert common_spacing_mm(scans, 6.0) == 6.0
    assert common_spacing_mm([scan("s", gap=5.0, low=0, count=20)], 6.0) == 5.0


def test_places_are_spread_over_what_scans_and_model_cover(scans):
    places = choose_places(scans[3:], low_mm=0, high_mm=250, spacing_mm=6.0, extent_mm=84.0, count=4)
    assert places == sorted(places) and len(set(places)) == 4
    assert places[0] - 42 >= 40 - 0.05 * 84 - 1 and places[-1] + 42 <= 250 + 1
    assert places[-1] - places[0] > 80
    short = scan("s", gap=2.0, low=0.0, count=20)
    assert choose_places([short], low_mm=0, high_mm=250, spacing_mm=6.0, extent_mm=84.0, count=4) == []


def test_a_stretch_lies_where_it_should_with_slices_as_they_were(scans):
    for stretch in find_stretches(scans, [150.0, 200.0], spacing_mm=6.0, extent_mm=84.0):
        own = scans[stretch.scan]
        volume = cut_stretch(own, stretch)
        middle = own.body_mm + own.gap_mm * (stretch.first + (stretch.count - 1) * stretch.every / 2)
        assert abs(middle - [150.0, 200.0][stretch.place]) <= 0.25 * 84.0
        assert volume.extent_mm[0] >= 84.0 - 1e-6
        assert volume.spacing_mm == pytest.approx((stretch.every * own.gap_mm, PIXEL, PIXEL))
        np.testing.assert_array_equal(volume.hu[1], own.hu[stretch.first + stretch.every])
        assert volume.patient == own.patient


def test_scans_of_much_thicker_slices_serve_only_where_there_are_no_others(scans):
    thick = scan("t", gap=12.0, low=0.0, count=30)
    both = find_stretches([scans[0], thick], [150.0], spacing_mm=6.0, extent_mm=84.0)
    assert [stretch.scan for stretch in both] == [0]
    assert find_stretches([thick], [150.0], spacing_mm=6.0, extent_mm=84.0)


def test_patients_take_turns_where_stretches_are_thinned(scans):
    same = [replace(s, patient="p") for s in scans[:2]] + [scans[2]]
    stretches = find_stretches(same, [150.0], spacing_mm=6.0, extent_mm=84.0)
    kept = thinned(stretches, same, per_place=2, seed=0)
    assert len(stretches) == 3 and {same[stretch.scan].patient for stretch in kept} == {"p", "patient c"}
    assert kept == thinned(stretches, same, per_place=2, seed=0)


def test_a_perfect_model_reaches_the_floor_and_faults_do_not(meter):
    good = meter.compare(like_real(meter))
    assert good["against"] == "held-out"
    assert good["frechet_floor_low"] <= good["frechet_floor"] <= good["frechet_floor_high"]
    assert good["frechet"] < 3 * good["frechet_floor_high"]
    assert good["frechet_low"] <= good["frechet"] <= good["frechet_high"]
    planes = [good[f"frechet_{plane}"] for plane in ("axial", "coronal", "sagittal")]
    assert good["frechet"] == pytest.approx(np.mean(planes), rel=1e-4)
    worse = [meter.compare(like_real(meter, noise=noise))["frechet"] for noise in (20.0, 60.0, 120.0, 240.0)]
    assert worse == sorted(worse) and worse[-1] > 20 * worse[0]
    assert good["outline_real_low"] <= good["outline"] <= good["outline_real_high"]
    elsewhere = meter.compare(like_real(meter, shift_mm=100.0))
    assert elsewhere["frechet"] > 3 * good["frechet"] and elsewhere["kid"] > good["kid"]
    assert elsewhere["frechet_training"] > good["frechet_training"]
    assert elsewhere["frechet_floor"] == good["frechet_floor"], "the floor knows nothing of the model"


def test_what_was_measured_says_with_what_and_of_how_much(meter):
    facts = meter.compare(like_real(meter))
    assert (facts["extractor"], facts["extractor_sha256"]) == ("moments", "0" * 64)
    assert facts["protocol_sha256"] == meter.digest
    counts = facts["counts"]
    assert counts["synthetic_volumes"] == 3 and counts["real_patients"] == 2 and counts["training_patients"] == 3
    assert counts["synthetic_images"] == 3 * 3 * 6
    assert "patient" not in str(meter.describe()).replace("patients", "")


def test_equal_volumes_give_equal_figures_and_another_choice_another_digest(meter, scans):
    again = FidelityMeter(scans, Moments(), **KNOWN, options=SMALL)
    assert again.compare(like_real(again)) == meter.compare(like_real(meter))
    other = FidelityMeter(scans, Moments(), **KNOWN, options=replace(SMALL, detail_steps=3))
    assert other.digest != meter.digest
    guided = FidelityMeter(scans, Moments(), **{**KNOWN, "sampling": {"guidance": 2.0}}, options=SMALL)
    assert guided.digest != meter.digest
    digests = {}
    for sampler in (DEFAULT_SAMPLER, "sde"):
        said = KNOWN["sampling"] | {"sampler": sampler}
        digests[sampler] = FidelityMeter(scans, Moments(), **{**KNOWN, "sampling": said}, options=SMALL).digest
    assert digests == {DEFAULT_SAMPLER: meter.digest, "sde": digests["sde"]}
    assert digests["sde"] != meter.digest
    fewer = FidelityMeter(scans[1:], Moments(), **KNOWN, options=SMALL)
    assert fewer.digest != meter.digest


def test_without_held_out_patients_those_learnt_from_are_split_for_the_floor(scans):
    meter = FidelityMeter(scans[:3], Moments(), **KNOWN, options=SMALL)
    facts = meter.compare(like_real(meter))
    assert facts["against"] == "training" and facts["frechet_floor"] > 0
    assert "frechet_training" not in facts
    alone = FidelityMeter(scans[:1], Moments(), **KNOWN, options=SMALL)
    facts = alone.compare(like_real(alone))
    assert "frechet_floor" not in facts and facts["frechet"] >= 0


def test_held_out_scans_that_are_too_short_leave_those_learnt_from(scans):
    short = scan("s", gap=2.0, low=100.0, count=20, held_out=True)
    meter = FidelityMeter([*scans[:3], short], Moments(), **KNOWN, options=SMALL)
    assert meter.against == "training"
    with pytest.raises(InputError, match="No scan is 84 mm long"):
        FidelityMeter([short], Moments(), **KNOWN, options=SMALL)


@pytest.mark.parametrize(("said", "sampler"), [({"sampler": "multistep"}, "multistep"), ({}, DEFAULT_SAMPLER)])
def test_volumes_made_together_are_those_made_one_by_one(model, said, sampler):
    model = replace(model, card={**model.card, "sampling": said})
    wanted = ShortVolumes(places_mm=(150.0, 300.0), slices=14, spacing_mm=6.0, steps=2, detail_steps=2, seed=3)
    told: list[tuple[int, int]] = []
    together = make_short_volumes(model, wanted, on_progress=lambda done, of, *_: told.append((done, of)))
    request = GenerationRequest(
        slices=14, spacing_mm=6.0, seed=3, steps=2, detail_steps=2, body_mm=150.0, sampler=sampler
    )
    alone = generate(model, request)
    # Batches of another size round differently: an HU here and there.
    assert np.abs(together[0].hu.astype(int) - alone.hu).max() <= 2
    assert together[0].geometry.spacing == alone.geometry.spacing
    assert np.abs(together[1].hu.astype(int) - together[0].hu).mean() > 5, "each from noise of its own"
    assert told[-1][0] == told[-1][1] and told == sorted(told)
    again = make_short_volumes(model, wanted)
    np.testing.assert_array_equal(again[1].hu, together[1].hu)


def test_cancel_is_heard_between_passes_and_between_scans(model, meter):
    answers = iter([False, False, True])
    with pytest.raises(Cancelled):
        meter.make(model, is_cancelled=lambda: next(answers))
    with pytest.raises(Cancelled):
        meter.compare(like_real(meter), is_cancelled=lambda: True)


def test_a_model_goes_through_and_noise_is_far_from_real(model, meter):
    torch.manual_seed(0)
    facts = meter.compare(meter.make(model))
    assert facts["frechet"] > 5 * facts["frechet_floor_high"]
