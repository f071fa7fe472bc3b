"""The section of distances: floors at equal counts, nothing mixed, plain words; all on drawn features."""

import json

import numpy as np
import pytest

from CTDiffusionLogic.corpus.resample import BodyBox
from CTDiffusionLogic.errors import InputError, UsageError
from CTDiffusionLogic.fidelity.distances import FeatureMeasures, compare_features, measure_features
from CTDiffusionLogic.fidelity.planes import Protocol, choose_protocol
from CTDiffusionLogic.fidelity.report.standing import standing_of
from CTDiffusionLogic.fidelity.results import PLANES
from CTDiffusionLogic.fidelity.volumes import LabVolume

LENGTH = 6


class MeanAndSpread:
    """Two features per image, to see what reaches an extractor."""

    name, sha256, dimensions = "stand-in", "5" * 64, 2

    def __init__(self):
        self.pixels = []

    def features(self, images, pixel_mm):
        self.pixels.append(pixel_mm)
        return np.stack([images.mean(axis=(1, 2)), images.std(axis=(1, 2))], axis=1).astype(np.float32)


class Drawn:
    """An extractor in name only."""

    def __init__(self, name="drawn"):
        self.name, self.sha256, self.dimensions = name, name[0] * 64, LENGTH


def volumes(count, *, seed, shift=0.0, patients=None, images=8, planes=PLANES, name="drawn"):
    """Volumes whose images differ by 1 between patients and by 0.5 within."""
    rng = np.random.default_rng(seed)
    result = []
    for n in range(count):
        own = rng.normal(size=LENGTH) + shift
        features = {
            (name, plane): (own + 0.5 * rng.normal(size=(images if plane in planes else 0, LENGTH))).astype(np.float32)
            for plane in PLANES
        }
        patient = f"{seed}-{n if patients is None else n % patients}"
        result.append(
            FeatureMeasures(f"v{seed}-{n}", patient, features, Protocol(notes=("A note.",)), {name: name[0] * 64})
        )
    return result


def by_key(section):
    return {figure.key: figure for figure in section.figures}


@pytest.fixture(scope="module")
def far():
    return compare_features(volumes(12, seed=1), volumes(9, seed=2, shift=3.0), [Drawn()], rounds=60)


def test_every_figure_has_interval_floor_counts_and_extractor(far):
    figures = by_key(far)
    names = [*PLANES, "mean"]
    assert list(figures) == [
        *(f"frechet.drawn.{n}" for n in names),
        "frechet.drawn.mean.all_images",
        *(f"kernel.drawn.{n}" for n in names),
    ]
    for key, figure in figures.items():
        assert figure.synthetic.low < figure.synthetic.value < figure.synthetic.high
        assert (figure.extractor, figure.extractor_sha256) == ("drawn", "d" * 64)
        assert figure.counts["real_patients"] == 12
        assert figure.counts["synthetic_images"] == 72 * (3 if figure.plane is None else 1)
        assert figure.meaning
        assert (figure.floor is None) == key.endswith("all_images")
        if figure.floor is not None:
            assert figure.floor.low < figure.floor.value < figure.floor.high < figure.synthetic.value
    assert figures["frechet.drawn.coronal"].counts["images_per_side"] == 48
    assert figures["frechet.drawn.coronal"].plane == "coronal"
    mean = np.mean([figures[f"frechet.drawn.{plane}"].synthetic.value for plane in PLANES])
    assert figures["frechet.drawn.mean"].synthetic.value == pytest.approx(mean)
    assert figures["frechet.drawn.axial"].synthetic.value == pytest.approx(LENGTH * 9, rel=0.4)
    assert "A note." in far.warnings


def test_verdict_is_plain_and_true(far):
    figure = by_key(far)["frechet.drawn.mean"]
    assert far.verdict.startswith(f"Mean over three planes {figure.synthetic.value:.3g} (95 % ")
    assert "real scans against each other" in far.verdict
    assert "times as far from real ones as real patients are from each other" in far.verdict
    near = compare_features(volumes(12, seed=1), volumes(9, seed=3), [Drawn()], rounds=3)
    assert "about as far" in near.verdict


def test_section_is_plain_json(far):
    data = json.loads(json.dumps(far.to_dict()))
    assert data["details"]["protocol"]["images_per_volume"] == 16
    assert data["details"]["extractors"]["drawn"]["sha256"] == "d" * 64
    assert set(data["details"]["all_images"]["drawn"]) == {*PLANES, "mean"}


@pytest.mark.parametrize("synthetic", [3, 12, 40])
def test_synthetic_volumes_as_good_as_real_ones_reach_the_floor(synthetic):
    """Whatever their number: the floor is made of as many images. All images of 40 volumes would look better."""
    ratios, unequal, kernels, spread = [], [], [], []
    for seed in range(6):
        section = compare_features(
            volumes(12, seed=10 * seed), volumes(synthetic, seed=10 * seed + 1), [Drawn()], rounds=0, seed=seed
        )
        figures = by_key(section)
        mean = figures["frechet.drawn.mean"]
        ratios.append(mean.synthetic.value / mean.floor.value)
        unequal.append(section.details["all_images"]["drawn"]["mean"] / mean.floor.value)
        kernels.append(figures["kernel.drawn.mean"].synthetic.value)
        spread.append(figures["kernel.drawn.mean"].floor.high - figures["kernel.drawn.mean"].floor.low)
    assert np.mean(ratios) == pytest.approx(1, abs=0.3)
    assert np.mean(unequal) < 0.8 or synthetic < 12
    assert abs(np.mean(kernels)) < np.mean(spread)


def test_fewer_images_make_all_figures_larger_together():
    """The bias of small counts is in figure and floor alike, and the section warns of it."""
    few = compare_features(volumes(4, seed=1, images=2), volumes(4, seed=2, images=2), [Drawn()], rounds=0)
    many = compare_features(volumes(40, seed=1), volumes(40, seed=2), [Drawn()], rounds=0)
    one, other = (by_key(section)["frechet.drawn.mean"] for section in (few, many))
    assert one.synthetic.value > 2 * other.synthetic.value
    assert one.floor.value > 2 * other.floor.value
    assert any("4 images with 6 features" in warning for warning in few.warnings)
    assert not any("6 features" in warning for warning in many.warnings)


def test_scans_of_one_patient_stay_together():
    """Four scans each of three patients: three splits, whole patients resampled."""
    section = compare_features(volumes(12, seed=1, patients=3), volumes(5, seed=2), [Drawn()], rounds=5)
    counts = by_key(section)["frechet.drawn.axial"].counts
    assert (counts["real_patients"], counts["real_volumes"], counts["splits"]) == (3, 12, 3)
    assert any("only 3 patients" in warning for warning in section.warnings)


def test_one_patient_has_no_floor_and_one_synthetic_volume_no_kernel_distance():
    section = compare_features(volumes(4, seed=1, patients=1), volumes(1, seed=2), [Drawn()], rounds=5)
    figures = by_key(section)
    assert list(figures) == [f"frechet.drawn.{n}" for n in (*PLANES, "mean")]
    assert figures["frechet.drawn.mean"].floor is None
    assert figures["frechet.drawn.mean"].synthetic.value == pytest.approx(
        section.details["all_images"]["drawn"]["mean"]
    )
    assert "too few real patients" in section.verdict
    assert any("one patient" in w for w in section.warnings)
    assert any("need images of two patients and of two synthetic volumes" in w for w in section.warnings)
    assert any("(1 and 1 were given)" in w for w in section.warnings)


@pytest.mark.parametrize(("patients", "splits"), [(2, 0), (3, 3), (4, 3), (5, 10)])
def test_kernel_distances_have_a_floor_from_three_patients_on(patients, splits):
    section = compare_features(volumes(patients, seed=1), volumes(5, seed=2, shift=3.0), [Drawn()], rounds=20)
    for name in (*PLANES, "mean"):
        figure = by_key(section)[f"kernel.drawn.{name}"]
        assert figure.counts["splits"] == splits
        assert (figure.floor is None) == (splits == 0)
        if figure.floor is not None:
            assert figure.floor.low <= figure.floor.value <= figure.floor.high < figure.synthetic.value
            assert standing_of(figure) == "far off"
    told = " ".join(section.warnings)
    assert ("takes three patients; 2 were given" in told) == (patients == 2)
    assert (f"rests on {splits} splits of {patients} patients" in told) == (patients > 2)


def test_a_kernel_floor_of_three_patients_is_without_bias():
    """Its three splits (two against one) cancel out exactly; their range says how different the patients are."""
    figures = by_key(compare_features(volumes(3, seed=4), volumes(2, seed=5), [Drawn()], rounds=0))
    floor = figures["kernel.drawn.axial"].floor
    assert floor.value == pytest.approx(0, abs=1e-9)
    assert floor.low < -0.1 < 0.1 < floor.high


def test_patients_without_images_of_a_plane_do_not_take_its_kernel_floor_away():
    """Four patients, one of them too low for coronal images: the floor is that of the other three."""
    real = [*volumes(3, seed=1), *volumes(1, seed=5, planes=("axial",))]
    figures = by_key(compare_features(real, volumes(3, seed=2), [Drawn()], rounds=5))
    assert figures["kernel.drawn.coronal"].counts["splits"] == 3
    assert figures["kernel.drawn.coronal"].floor is not None


def test_a_missing_plane_is_named_and_no_mean_is_told():
    section = compare_features(
        volumes(6, seed=1), volumes(4, seed=2, planes=("axial", "coronal")), [Drawn()], rounds=5
    )
    assert {figure.plane for figure in section.figures} == {"axial", "coronal"}
    assert section.verdict.startswith("Axial images only: distance")
    assert any("too few sagittal" in warning for warning in section.warnings)
    some = volumes(6, seed=1, planes=("axial",)) + volumes(6, seed=4)
    figures = by_key(compare_features(some, volumes(4, seed=2), [Drawn()], rounds=5))
    assert figures["frechet.drawn.coronal"].counts["real_patients"] == 6
    assert figures["frechet.drawn.axial"].counts["real_patients"] == 12
    with pytest.raises(InputError, match="no plane"):
        compare_features(volumes(3, seed=1, planes=("axial",)), volumes(3, seed=2, planes=("sagittal",)), [Drawn()])


def test_extractors_and_protocols_are_never_mixed():
    def both(count, seed):
        one, two = volumes(count, seed=seed), volumes(count, seed=seed, shift=100.0 * seed, name="other")
        return [
            FeatureMeasures(
                a.id, a.patient, {**a.features, **b.features}, a.protocol, {**a.extractors, **b.extractors}
            )
            for a, b in zip(one, two, strict=True)
        ]

    real, synthetic = both(4, 1), both(4, 2)
    alone = compare_features(volumes(4, seed=1), volumes(4, seed=2), [Drawn()], rounds=5)
    section = compare_features(real, synthetic, [Drawn(), Drawn("other")], rounds=5)
    assert by_key(section)["frechet.drawn.mean"] == by_key(alone)["frechet.drawn.mean"]
    assert by_key(section)["frechet.other.mean"].synthetic.value > 1e4
    assert section.verdict.startswith("drawn: mean over three planes")
    assert " other: mean over three planes" in section.verdict

    with pytest.raises(UsageError, match="not made by"):
        compare_features(volumes(4, seed=1), volumes(4, seed=2, name="other"), [Drawn()])
    changed = Drawn()
    changed.sha256 = "0" * 64
    with pytest.raises(UsageError, match="not made by"):
        compare_features(volumes(4, seed=1), volumes(4, seed=2), [changed])
    with pytest.raises(UsageError, match="one name"):
        compare_features(volumes(4, seed=1), volumes(4, seed=2), [Drawn(), Drawn()])
    other = [FeatureMeasures(m.id, m.patient, m.features, Protocol(), m.extractors) for m in volumes(4, seed=2)]
    with pytest.raises(UsageError, match="another protocol"):
        compare_features(volumes(4, seed=1), other, [Drawn()])
    with pytest.raises(InputError, match="no synthetic volumes"):
        compare_features(volumes(4, seed=1), [], [Drawn()])
    with pytest.raises(UsageError, match="no feature extractor"):
        compare_features(volumes(4, seed=1), volumes(4, seed=2), [])


def test_measuring_tells_the_extractor_each_planes_pixel_size():
    hu = np.random.default_rng(0).normal(0, 100, (40, 60, 60)).astype(np.int16)
    volume = LabVolume("v", "p", hu, (3.0, 2.0, 2.0), BodyBox(0, 120, 0, 120))
    protocol = choose_protocol([volume.spacing_mm], [volume.extent_mm])
    extractor = MeanAndSpread()
    measures = measure_features(volume, protocol, [extractor])
    assert extractor.pixels == [2.0, 3.0, 3.0]
    assert (measures.id, measures.patient, measures.extractors) == ("v", "p", {"stand-in": "5" * 64})
    assert {plane: f.shape for (_, plane), f in measures.features.items()} == dict.fromkeys(PLANES, (16, 2))
    low = LabVolume("low", "p", hu[:10], (3.0, 2.0, 2.0), volume.body)
    measures = measure_features(low, protocol, [extractor])
    assert [measures.features["stand-in", plane].shape for plane in PLANES] == [(6, 2), (0, 2), (0, 2)]
