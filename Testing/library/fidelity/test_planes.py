"""Images are cut at the right places, at equal resolution from unequal grids, and nothing is used twice."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from CTDiffusionLogic.corpus.resample import BodyBox
from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity.planes import Protocol, axis_weights, choose_protocol, cut_planes
from CTDiffusionLogic.fidelity.results import PLANES
from CTDiffusionLogic.fidelity.volumes import LabVolume, to_lab_volume
from CTDiffusionLogic.phantom import torso_phantom

FINE = (1.0, 0.8, 0.8)


def lab_volume(hu, spacing=(2.0, 2.0, 2.0), body=None):
    hu = np.asarray(hu).astype(np.int16)
    _, rows, columns = (n * d for n, d in zip(hu.shape, spacing, strict=True))
    return LabVolume("v", "p", hu, spacing, body or BodyBox(0.0, rows, 0.0, columns))


def ramps(slices=60, rows=50, columns=40):
    """HU tell where a voxel is: ten times the slice, the row plus 0.5 apart... one axis at a time."""
    z, y, x = np.indices((slices, rows, columns))
    return {"z": lab_volume(10 * z), "y": lab_volume(10 * y), "x": lab_volume(10 * x)}


def protocol_for(*volumes, **wanted):
    return choose_protocol([v.spacing_mm for v in volumes], [v.extent_mm for v in volumes], wanted=Protocol(**wanted))


def test_anti_aliasing_is_torchs():
    values = np.random.default_rng(0).normal(size=(1, 1, 1, 96)).astype(np.float32)
    for count in (32, 40, 96, 130):
        expected = functional.interpolate(
            torch.from_numpy(values), size=(1, count), mode="bilinear", antialias=True, align_corners=False
        )
        pixel = 96 / count
        ours = axis_weights(96, 1.0, np.arange(count) * pixel, pixel) @ values[0, 0, 0]
        inner = slice(3, -3)  # at the ends torch renormalises, here there is air outside
        np.testing.assert_allclose(ours[inner], expected[0, 0, 0].numpy()[inner], atol=1e-4)


def test_thick_slices_are_averages_of_thin_ones():
    weights = axis_weights(12, 1.0, [0, 3, 6, 9], 3.0, slices=True)
    np.testing.assert_allclose(weights @ np.arange(12), [1, 4, 7, 10], atol=1e-6)
    np.testing.assert_allclose(axis_weights(4, 3.0, [0, 3, 6, 9], 3.0, slices=True), np.eye(4), atol=1e-6)
    np.testing.assert_allclose(axis_weights(4, 3.0, [4.5], 3.0, slices=True), [[0, 0.5, 0.5, 0]], atol=1e-6)


def test_images_show_the_places_they_claim():
    """Positions are exact: rows and columns of each plane run along the right axes, and the head is up."""
    volumes = ramps()
    protocol = protocol_for(*volumes.values(), side_mm=80.0, images_per_volume=5, central_part=1.0)
    assert (protocol.pixel_mm, protocol.axial_pixel_mm, protocol.height_mm) == (2.0, 2.0, 120.0)
    z, y, x = (cut_planes(volumes[name], protocol) for name in "zyx")
    assert z["axial"].shape == (5, 40, 40)
    assert z["coronal"].shape == z["sagittal"].shape == (5, 60, 40)
    # Rows of 50: the window of 40 begins at row 5. Columns: all 40.
    np.testing.assert_allclose(y["axial"][0, :, 0], 10 * np.arange(5, 45), atol=1e-3)
    np.testing.assert_allclose(x["axial"][0, 0], 10 * np.arange(40), atol=1e-3)
    np.testing.assert_allclose(x["coronal"][0, 0], 10 * np.arange(40), atol=1e-3)
    np.testing.assert_allclose(y["sagittal"][0, 0], 10 * np.arange(5, 45), atol=1e-3)
    for plane in ("coronal", "sagittal"):
        np.testing.assert_allclose(z[plane][0, :, 0], 10 * np.arange(60)[::-1], atol=1e-3)
    # Which planes: evenly spread over the axis across.
    np.testing.assert_allclose(z["axial"][:, 0, 0], 10 * np.array([6, 18, 30, 42, 54]) - 5, atol=6)
    np.testing.assert_allclose(np.diff(y["coronal"][:, 0, 0]), 100, atol=1e-3)
    np.testing.assert_allclose(np.diff(x["sagittal"][:, 0, 0]), 80, atol=1e-3)


def test_the_window_follows_the_body_and_air_lies_beyond_the_scan():
    hu = np.full((40, 60, 60), -1024)
    hu[:, 4:20, 4:20] = 40
    volume = lab_volume(hu, body=BodyBox(8.0, 40.0, 8.0, 40.0))
    protocol = protocol_for(volume, side_mm=60.0)
    images = cut_planes(volume, protocol)
    body = images["axial"] > 0
    rows = np.flatnonzero(body.any(axis=(0, 2)))
    assert (rows[0] + rows[-1]) / 2 == pytest.approx((body.shape[1] - 1) / 2, abs=0.5)
    assert images["axial"][:, 0, 0] == pytest.approx(-1000)  # begins 6 mm outside the scan
    assert (images["coronal"] > 0).any(axis=(1, 2)).all()  # all planes pass through the body
    assert (images["sagittal"] > 0).any(axis=(1, 2)).all()
    assert min(i.min() for i in images.values()) >= -1000


@pytest.mark.parametrize("plane", PLANES[1:])
def test_a_thin_scan_and_its_thick_copy_give_nearly_the_same_images(plane):
    """1 mm against 3 mm slices: the thin one is averaged as the thick one was made. It need not see the grid."""
    thin = to_lab_volume(torso_phantom(slices=120, spacing_mm=(3.0, 3.0, 1.0), size=128, seed=1), id="thin")
    thick = LabVolume(
        "thick",
        "p",
        thin.hu.reshape(40, 3, 128, 128).mean(axis=1).round().astype(np.int16),
        (3.0, 3.0, 3.0),
        thin.body,
    )
    protocol = protocol_for(thin, thick, coarsest_axial_mm=3.0, axial_pixel_mm=3.0)
    assert protocol.pixel_mm == 3.0
    one, other = cut_planes(thin, protocol)[plane], cut_planes(thick, protocol)[plane]
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= 1.0  # rounding to whole HU
    # Without the averaging they would differ by far more.
    raw = thin.hu[1::3].astype(np.float32)
    assert np.abs(raw - thick.hu).mean() > 5


def test_axial_images_of_thin_and_thick_slices_have_equal_noise():
    """Planes lie on each volume's own grid, up to half a thick slice apart: equal noise, not equal pixels."""
    thin = np.random.default_rng(5).normal(0, 60, (120, 40, 40))
    volumes = lab_volume(thin, (1.0, 2.0, 2.0)), lab_volume(thin.reshape(40, 3, 40, 40).mean(axis=1), (3.0, 2.0, 2.0))
    one, other = (cut_planes(volume, protocol_for(*volumes))["axial"].std() for volume in volumes)
    assert one == pytest.approx(60 / np.sqrt(3), rel=0.03)
    assert other == pytest.approx(one, rel=0.03)


def test_long_volumes_give_windows_at_several_heights_and_no_plane_twice():
    z = np.indices((120, 40, 40))[0]
    long, short = lab_volume(5 * z), lab_volume(np.zeros((50, 40, 40)))
    protocol = protocol_for(long, short, images_per_volume=8)
    assert protocol.height_mm == 100.0
    tops = cut_planes(long, protocol)["coronal"][:, 0, 20]
    assert len(np.unique(tops.round())) >= 7
    assert tops.max() - tops.min() > 250  # 70 slices to spare
    few = cut_planes(lab_volume(10 * z[:50]), protocol_for(lab_volume(z[:50]), images_per_volume=60))["axial"]
    assert len(few) == 30  # 60 % of 50 slices
    assert len(np.unique(few[:, 20, 20])) == 30


def test_the_coarsest_grid_decides_and_outliers_do_not():
    spacings = [FINE] * 4 + [(3.0, 1.6, 1.6)] * 3 + [(8.0, 0.7, 0.7), (2.0, 3.2, 3.2), FINE]
    extents = [(300.0, 400.0, 400.0)] * 7 + [(300.0, 400.0, 400.0)] * 2 + [(45.0, 400.0, 400.0)]
    protocol = choose_protocol(spacings, extents, groups=["real"] * 4 + ["synthetic"] * 3 + ["real"] * 3)
    assert (protocol.pixel_mm, protocol.axial_pixel_mm, protocol.height_mm) == (3.2, 1.6, 192.0)
    assert "2 of 10" in protocol.notes[0]
    assert "1 of 10" in protocol.notes[1]
    thick = LabVolume("t", "t", np.zeros((30, 64, 64), np.int16), (8.0, 1.0, 1.0), BodyBox(0, 64, 0, 64))
    images = cut_planes(thick, protocol)
    assert len(images["axial"]) > 0
    assert images["coronal"].shape == (0, 60, 120)
    # Where a whole group is thick, the thick slices decide.
    protocol = choose_protocol(
        spacings[:4] + [(8.0, 1.0, 1.0)] * 2, extents[:6], groups=["real"] * 4 + ["synthetic"] * 2
    )
    assert protocol.pixel_mm == 8.0
    assert any("coarse" in note for note in protocol.notes)


def test_wishes_are_kept():
    protocol = choose_protocol(
        [(3.0, 1.5, 1.5)], [(200.0, 300.0, 300.0)], wanted=Protocol(pixel_mm=1.0, axial_pixel_mm=1.0)
    )
    assert (protocol.pixel_mm, protocol.side_mm, protocol.coarsest_mm) == (1.0, 300.0, None)
    assert "interpolated" in protocol.notes[-1]
    volume = lab_volume(np.zeros((67, 100, 100)), spacing=(3.0, 1.5, 1.5))
    assert cut_planes(volume, protocol)["coronal"].shape[0] == 16


def test_protocol_is_plain_data():
    protocol = choose_protocol([FINE], [(200.0, 300.0, 300.0)])
    assert json.loads(json.dumps(protocol.to_dict())) == protocol.to_dict()
    assert protocol.to_dict()["pixel_mm"] == 1.0


def test_too_low_volumes_and_open_protocols_are_refused():
    with pytest.raises(InputError, match="too low"):
        choose_protocol([FINE], [(20.0, 300.0, 300.0)])
    with pytest.raises(InputError, match="too low"):
        choose_protocol([(10.0, 1.0, 1.0)], [(30.0, 300.0, 300.0)])
    with pytest.raises(InputError, match="0 spacings"):
        choose_protocol([], [])
    with pytest.raises(ValueError, match="choose_protocol"):
        cut_planes(lab_volume(np.zeros((40, 40, 40))), Protocol())
    for wrong in ({"pixel_mm": -1.0}, {"hu_window": (0.0, 0.0)}, {"central_part": 0.0}, {"images_per_volume": 0}):
        with pytest.raises(ValueError, match="must"):
            Protocol(**wrong)
