"""What the distances see and what they need not, on phantoms with known faults.

The stand-in extractor is a bank of fixed random filters at three scales: cheap, the same on every machine, and weaker
than any real extractor. Eight phantoms stand for real scans, four others for synthetic volumes that get a fault which
grows. Each test says which planes must see it. The proofs of the arithmetic are in test_frechet.py.
"""

import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from CTDiffusionLogic.fidelity.distances import compare_features, measure_features
from CTDiffusionLogic.fidelity.planes import Protocol, choose_protocol
from CTDiffusionLogic.fidelity.results import PLANES
from CTDiffusionLogic.fidelity.volumes import to_lab_volume
from CTDiffusionLogic.phantom import torso_phantom

SLICES, SIZE, SPACING = 30, 80, (5.0, 5.0, 5.0)


class RandomFilters:
    """Mean after a ReLU and root mean square of 8 random 5 x 5 filters of zero mean, at three scales."""

    name, sha256, dimensions = "filters", "f" * 64, 49

    def features(self, images, pixel_mm):
        bank = np.random.default_rng(0).normal(size=(8, 1, 5, 5)).astype(np.float32)
        bank -= bank.mean(axis=(2, 3), keepdims=True)
        values = torch.from_numpy(images)[:, None] / 1000
        found = [4 * values.mean(dim=(2, 3))]
        for _ in range(3):
            answers = functional.conv2d(values, torch.from_numpy(bank))
            found += [answers.relu().mean(dim=(2, 3)), answers.square().mean(dim=(2, 3)).sqrt()]
            values = functional.avg_pool2d(values, 2)
        return torch.cat(found, dim=1).numpy()


def phantom(seed, *, stretch=1.0):
    """A phantom whose slices are ``stretch`` times as far apart as it says."""
    drawn = torso_phantom(slices=SLICES, spacing_mm=(5.0, 5.0, 5.0 * stretch), size=SIZE, seed=seed)
    return replace(to_lab_volume(drawn, id=str(seed)), spacing_mm=SPACING)


EXTRACTOR = RandomFilters()


@pytest.fixture(scope="module")
def lab():
    """Volumes, protocol and measures of the real ones."""
    every = [phantom(seed) for seed in range(12)]
    protocol = choose_protocol(
        [v.spacing_mm for v in every],
        [v.extent_mm for v in every],
        wanted=Protocol(images_per_volume=18, coarsest_axial_mm=5.0, axial_pixel_mm=5.0),
    )
    return every[8:], protocol, [measure_features(volume, protocol, [EXTRACTOR]) for volume in every[:8]]


def distances(lab, fault):
    """Fréchet and kernel distance per plane, and the floors, of the synthetic phantoms with ``fault(volume, rng)``."""
    synthetic, protocol, real = lab
    faulty = [fault(v, np.random.default_rng(zlib.crc32(v.id.encode()))) for v in synthetic]
    made = [measure_features(volume, protocol, [EXTRACTOR]) for volume in faulty]
    section = compare_features(real, made, [EXTRACTOR], rounds=0)
    return {
        kind: {
            plane: figure for figure in section.figures for plane in PLANES if figure.key == f"{kind}.filters.{plane}"
        }
        for kind in ("frechet", "kernel")
    }


def must_grow(lab, fault, sizes, *, planes=PLANES):
    """Every plane named sees the fault: at the least size no better than without, then larger and above the floor."""
    steps = [distances(lab, lambda volume, rng, size=size: fault(volume, size, rng)) for size in sizes]
    for kind in ("frechet", "kernel"):
        for plane in planes:
            values = [step[kind][plane].synthetic.value for step in steps]
            assert np.all(np.diff(values) > 0), (kind, plane, values)
            assert values[-1] > steps[0][kind][plane].floor.high, (kind, plane, values)
    return steps


def with_hu(volume, hu):
    return replace(volume, hu=np.clip(np.rint(hu), -1024, 3071).astype(np.int16))


def test_without_a_fault_they_are_near_the_floor(lab):
    found = distances(lab, lambda volume, _: volume)
    for plane in PLANES:
        frechet, kernel = found["frechet"][plane], found["kernel"][plane]
        assert frechet.synthetic.value < 1.3 * frechet.floor.high
        assert kernel.synthetic.value < kernel.floor.high + (kernel.floor.high - kernel.floor.low)


def test_blur_is_seen_in_all_planes(lab):
    must_grow(
        lab, lambda v, size, _: with_hu(v, ndimage.gaussian_filter(v.hu.astype(np.float32), size)), [0, 0.6, 1.0, 2.0]
    )


def test_blur_within_slices_is_seen_in_all_planes(lab):
    must_grow(
        lab,
        lambda v, size, _: with_hu(v, ndimage.gaussian_filter(v.hu.astype(np.float32), (0, size, size))),
        [0, 1.0, 2.0, 3.0],
    )


def test_noise_is_seen_in_all_planes(lab):
    must_grow(lab, lambda v, size, rng: with_hu(v, v.hu + rng.normal(0, size + 1e-6, v.hu.shape)), [0, 30, 60, 120])


def test_a_shift_of_hu_is_seen_in_all_planes(lab):
    must_grow(lab, lambda v, size, _: with_hu(v, v.hu + size * (v.hu > -950)), [0, 60, 120, 240])


def test_a_wrong_slice_spacing_is_seen_from_the_side(lab):
    """The slices are further apart than the header says. Axial images need not see it: each is right."""
    must_grow(
        lab,
        lambda v, stretch, _: phantom(int(v.id), stretch=stretch),
        [1.0, 1.3, 1.6],
        planes=("coronal", "sagittal"),
    )


def test_a_wrong_pixel_size_is_seen_in_axial_images(lab):
    """Bodies too small for a header that is wrong by a factor, in all planes."""
    must_grow(
        lab,
        lambda v, size, _: replace(
            v,
            spacing_mm=(5.0, 5.0 * size, 5.0 * size),
            body=type(v.body)(*(size * edge for edge in (v.body.top, v.body.bottom, v.body.left, v.body.right))),
        ),
        [1.0, 0.85, 0.7],
    )


def test_shuffled_slices_are_seen_from_the_side_only(lab):
    """Slices of the central part swapped over a growing range: axial images come from the same set as before."""

    def shuffle(volume, reach, rng):
        order, inside = np.arange(SLICES), slice(6, 24)
        order[inside] = order[inside][np.argsort(order[inside] + reach * rng.uniform(-0.5, 0.5, 18), kind="stable")]
        return replace(volume, hu=volume.hu[order])

    steps = must_grow(lab, shuffle, [0, 3, 6, 18], planes=("coronal", "sagittal"))
    axial = [step["frechet"]["axial"].synthetic.value for step in steps]
    np.testing.assert_allclose(axial, axial[0], rtol=1e-3)  # all 18 central slices are looked at


def test_slices_made_each_for_itself_are_seen_from_the_side(lab):
    """The fault of independent slices: brightness jumps from slice to slice. Axial images need not see it."""
    must_grow(
        lab,
        lambda v, size, rng: with_hu(v, v.hu + rng.normal(0, size + 1e-6, (SLICES, 1, 1)) * (v.hu > -950)),
        [0, 40, 60, 120],  # 20 HU and less are lost among the differences of patients
        planes=("coronal", "sagittal"),
    )


def test_a_lost_mode_is_seen(lab):
    """All slices show the lower part of the body, ever less of it: the chest is a mode that the model has dropped.

    One volume repeated, if it is like a real one, need not be seen well by these: the diversity room looks for that.
    """

    def lost(volume, share, _):
        return replace(volume, hu=volume.hu[np.arange(SLICES) * round(SLICES * (1 - share)) // SLICES])

    must_grow(lab, lost, [0, 0.2, 0.4, 0.6])
