"""Diversity: what it must see (bodies that repeat, kinds of images that are missing) and what it need not (copies)."""

from __future__ import annotations

import dataclasses
import json
from unittest import mock

import numpy as np
import pytest

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity import diversity
from CTDiffusionLogic.fidelity.diversity import (
    MOST_IMAGES,
    PIXELS,
    DiversityMeasures,
    compare_diversity,
    measure_diversity,
    pair_ms_ssim,
)
from CTDiffusionLogic.fidelity.prdc import prdc
from CTDiffusionLogic.fidelity.volumes import to_lab_volume
from CTDiffusionLogic.phantom import torso_phantom

KEY = ("ours", "axial")


def numbers(**wanted: float) -> dict[str, float]:
    return {name: pytest.approx(value) for name, value in wanted.items()}


def test_known_answers_on_a_line():
    # Balls of radius 1 around 0, 1, 2, 3 (nearest neighbour); synthetic 0.5 and 10 have balls of radius 9.5.
    found = prdc(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([[0.5], [10.0]]), neighbours=1)
    assert dataclasses.asdict(found) == numbers(precision=0.5, recall=1.0, density=1.0, coverage=0.5)


def test_identical_sets_are_perfect_and_sets_apart_share_nothing():
    vectors = np.random.default_rng(0).normal(size=(60, 8))
    same = prdc(vectors, vectors)
    assert (same.precision, same.recall, same.coverage) == (1.0, 1.0, 1.0)
    assert same.density == pytest.approx(4 / 3), "each ball holds its middle and three neighbours"
    apart = prdc(vectors, vectors + 100)
    assert dataclasses.asdict(apart) == numbers(precision=0, recall=0, density=0, coverage=0)
    with pytest.raises(ValueError, match="cannot be compared"):
        prdc(vectors, vectors[:, :3])


def test_the_published_definitions_word_by_word():
    rng = np.random.default_rng(1)
    real, made, k = rng.normal(size=(30, 4)), rng.normal(0.7, 1.2, size=(25, 4)), 3

    def radius(x, others):
        return sorted(np.linalg.norm(x - o) for o in others)[k]  # the first is x itself

    ball = [radius(x, real) for x in real]
    inside = np.array([[np.linalg.norm(x - y) <= r for y in made] for x, r in zip(real, ball, strict=True)])
    reach = [radius(y, made) for y in made]
    found = prdc(real, made, neighbours=k)
    assert found.precision == pytest.approx(np.mean([inside[:, j].any() for j in range(25)]))
    assert found.density == pytest.approx(inside.sum() / (k * 25))
    assert found.coverage == pytest.approx(np.mean([inside[i].any() for i in range(30)]))
    covered = [any(np.linalg.norm(x - y) <= r for y, r in zip(made, reach, strict=True)) for x in real]
    assert found.recall == pytest.approx(np.mean(covered))


def people(rng, count: int, *, kinds=(0, 1), images: int = 6, name: str = "p"):
    """Volumes with features: each person a kind of body, images of one person close together."""
    result = []
    for n in range(count):
        person = rng.normal(size=5) + 8 * kinds[n % len(kinds)] * np.eye(5)[0]
        features = {KEY: (person + 0.05 * rng.normal(size=(images, 5))).astype(np.float32)}
        planes = rng.integers(0, 255, (3, PIXELS, PIXELS), dtype=np.uint8)
        result.append(DiversityMeasures(f"{name}{n}", f"{name}{n}", planes, features))
    return result


def compared(*args, **kwargs):
    """For the features: few pairs, few rounds."""
    with mock.patch.object(diversity, "MOST_PAIRS", 4):
        return compare_diversity(*args, rounds=20, **kwargs)


def values(section) -> dict[str, float]:
    return {f.key.rsplit(".", 1)[-1]: f.synthetic.value for f in section.figures}


def test_images_of_one_scan_are_no_neighbours_of_each_other():
    rng = np.random.default_rng(2)
    real, made = people(rng, 16), people(rng, 16, name="s")
    flat = [np.concatenate([m.features[KEY] for m in group]) for group in (real, made)]
    owners = [[m.id for m in group for _ in range(6)] for group in (real, made)]
    assert prdc(*flat).precision < 0.1, "as published, balls hold their own scan only"
    found = prdc(*flat, real_groups=owners[0], synthetic_groups=owners[1])
    assert found.precision > 0.7 and found.coverage > 0.7
    alone = prdc(flat[0][:6], flat[1], real_groups=owners[0][:6], synthetic_groups=owners[1])
    assert np.isnan(alone.precision) and np.isfinite(alone.recall)


def test_a_missing_kind_lowers_recall_and_coverage_but_not_precision():
    rng = np.random.default_rng(3)
    real = people(rng, 20)
    whole = values(compared(real, people(rng, 20, name="s")))
    dropped = compared(real, people(rng, 20, kinds=(0,), name="s"), extractors={"ours": "ab" * 32})
    half = values(dropped)
    assert half["recall"] < 0.6 < whole["recall"] and half["coverage"] < 0.6 < whole["coverage"]
    assert half["precision"] > 0.7
    recall = next(f for f in dropped.figures if f.key == "diversity.ours.recall")
    assert recall.extractor_sha256 == "ab" * 32 and recall.counts["real_images"] == 120
    assert recall.synthetic.high < recall.floor.value, "the floor of two halves is well above"
    one_body = [dataclasses.replace(m, features=real[0].features) for m in people(rng, 12, name="s")]
    collapsed = values(compared(real, one_body))
    assert collapsed["recall"] < 0.1 and collapsed["coverage"] < 0.3
    strange = values(compared(real, people(rng, 12, kinds=(4,), name="s")))
    assert strange["precision"] == 0.0 == strange["density"]


def test_copies_are_not_its_business():
    rng = np.random.default_rng(4)
    real = people(rng, 12)
    copies = [dataclasses.replace(m, id=f"copy {m.id}", patient=f"copy {m.id}") for m in real]
    found = values(compared(real, copies))
    assert found["precision"] == found["recall"] == found["coverage"] == 1.0


@pytest.fixture(scope="module")
def torsos():
    return [
        measure_diversity(
            to_lab_volume(
                torso_phantom(slices=30, size=64, spacing_mm=(6.0, 6.0, 5.0), seed=seed),
                id=f"t{seed}",
                patient=f"t{seed}",
            )
        )
        for seed in range(5)
    ]


def noisy(measures: DiversityMeasures, sigma: float, seed: int) -> DiversityMeasures:
    noise = np.random.default_rng(seed).normal(0, sigma, measures.planes.shape)
    planes = np.clip(measures.planes + noise, 0, 255).astype(np.uint8)
    return dataclasses.replace(measures, id=f"{measures.id} {seed}", patient=f"{seed}", planes=planes)


def test_ms_ssim_of_pairs(torsos):
    a, b = torsos[0].planes, torsos[1].planes
    assert a.shape == (15, PIXELS, PIXELS)
    assert pair_ms_ssim(a, a) == pytest.approx(1.0)
    assert pair_ms_ssim(a, b) == pytest.approx(pair_ms_ssim(b, a), abs=1e-6)
    likeness = [pair_ms_ssim(a, noisy(torsos[0], sigma, 1).planes) for sigma in (0, 10, 30, 90)]
    assert likeness == sorted(likeness, reverse=True) and likeness[0] > 0.99 and likeness[-1] < 0.8
    # The same body seen from another slice on: found along the body, not taken for another one.
    assert pair_ms_ssim(a[:11], a[4:]) == pytest.approx(1.0)
    assert np.isfinite(pair_ms_ssim(a, 255 - a)), "opposites have no similarity, but a value"


def test_a_body_made_again_and_again_is_seen(torsos):
    repeated = [noisy(torsos[0], 3, seed) for seed in range(4)]
    dropped = compare_diversity(torsos, repeated)
    fair = compare_diversity(torsos[:3], torsos[3:])
    pairs = dropped.figures[0]
    assert pairs.synthetic.value > pairs.floor.high and "more alike than people" in dropped.verdict
    assert fair.figures[0].synthetic.value == pytest.approx(fair.figures[0].floor.value, abs=0.05)
    assert pairs.counts["synthetic_pairs"] == 6 and pairs.counts["real_pairs"] == 10
    json.dumps(dropped.to_dict())
    assert compare_diversity(torsos, repeated) == dropped, "same volumes and seed, same figures"


def test_what_cannot_be_told_is_said(torsos):
    with pytest.raises(InputError, match="two synthetic"):
        compare_diversity(torsos, torsos[:1])
    one = [dataclasses.replace(m, patient="one") for m in torsos]
    section = compare_diversity(one, torsos)
    assert section.figures[0].floor is None and any("one patient" in sentence for sentence in section.warnings)


def test_the_coarse_planes_do_not_depend_on_the_grid_and_many_images_are_thinned():
    fine = torso_phantom(slices=30, size=128, spacing_mm=(3.0, 3.0, 5.0), seed=1)
    volume = to_lab_volume(fine, id="fine")
    coarse = dataclasses.replace(
        volume,
        hu=volume.hu.reshape(30, 64, 2, 64, 2).mean(axis=(2, 4)).astype(np.int16),
        spacing_mm=(5.0, 6.0, 6.0),
    )
    difference = measure_diversity(volume).planes.astype(float) - measure_diversity(coarse).planes
    assert np.abs(difference).mean() < 2.0
    rng = np.random.default_rng(5)
    many = people(rng, 4, images=MOST_IMAGES // 2)
    recall = next(f for f in compared(many, many).figures if f.key.endswith("recall"))
    assert recall.counts["real_images"] == MOST_IMAGES and recall.synthetic.value == 1.0
