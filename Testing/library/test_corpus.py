"""From scans to training slabs."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from CTDiffusionLogic.corpus import slabs
from CTDiffusionLogic.corpus.augment import crop_box, draw_crop, jitter_hu
from CTDiffusionLogic.corpus.body_position import fit_body_position, scan_position_mm
from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.corpus.prepare import PrepareOptions, coarse_slices, prepare
from CTDiffusionLogic.corpus.resample import find_body, orient, to_grid
from CTDiffusionLogic.corpus.slabs import anatomy_slab, draw_anatomy_positions, draw_detail_mask, jittered_intensity
from CTDiffusionLogic.corpus.split import held_out_patients
from CTDiffusionLogic.corpus.stream import SlabStream
from CTDiffusionLogic.denoiser.intensity import hu_to_intensity
from CTDiffusionLogic.errors import InputError, UsageError
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.scan_search import find_scans
from CTDiffusionLogic.volume import AIR_HU, MAX_HU, CTVolume
from CTDiffusionLogic.volume_io import write_volume


def phantom(**changes):
    return torso_phantom(**({"slices": 24, "size": 96, "spacing_mm": (4.2, 4.2, 5.0)} | changes))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, rough_body_positions):
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(4):
        write_volume(phantom(seed=seed, slices=20 + 4 * seed), folder / f"sub-{seed}.nii.gz")
    write_volume(phantom(slices=3), folder / "short.nii.gz")
    search = find_scans([folder])
    options = PrepareOptions(image_size=128, hold_out=("sub-1",))
    return prepare(search.found, search.skipped, folder / "run", options), folder / "run"


def test_orienting_undoes_flips_and_permutations():
    hu = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    straight = CTVolume(hu, Geometry((1.0, 2.0, 3.0)))
    # The same voxels, stored with columns running right, rows to the head and slices to the back.
    direction = np.array([[-1, 0, 0], [0, 0, 1], [0, 1, 0]], dtype=float)
    stored = CTVolume(
        np.ascontiguousarray(hu.transpose(1, 0, 2)[:, :, ::-1]), Geometry((1.0, 3.0, 2.0), (3.0, 0.0, 0.0), direction)
    )
    again = orient(stored)
    assert np.array_equal(again.hu, straight.hu)
    assert again.geometry.is_close(straight.geometry)


def test_body_is_found_and_the_table_is_not_part_of_it():
    hu = np.full((6, 100, 120), -1024, dtype=np.int16)
    hu[:, 30:70, 40:90] = 40
    hu[:, 80:82, 5:115] = 100  # a table, apart from the body
    box = find_body(CTVolume(hu, Geometry((4.0, 4.0, 5.0))))
    assert abs(box.top - 120) <= 12 and abs(box.bottom - 280) <= 12
    assert abs(box.left - 160) <= 12 and abs(box.right - 360) <= 12


def test_an_empty_scan_has_the_whole_slice_as_its_body():
    box = find_body(CTVolume(np.full((4, 50, 60), -1024, dtype=np.int16), Geometry((2.0, 2.0, 2.0))))
    assert (box.bottom, box.right) == (100, 120)


def test_grid_keeps_hu_and_true_size():
    hu = np.full((4, 100, 100), -1024, dtype=np.int16)
    hu[:, 40:60, 30:70] = 60  # 80 mm x 160 mm
    grid = to_grid(CTVolume(hu, Geometry((4.0, 4.0, 5.0))), size=128, fov_mm=256.0)
    assert grid.pixel_mm == pytest.approx(2.0)
    inside = grid.hu[0] > -480
    assert inside.any(axis=1).sum() * grid.pixel_mm == pytest.approx(80, abs=4)
    assert inside.any(axis=0).sum() * grid.pixel_mm == pytest.approx(160, abs=4)
    assert grid.hu[0, 64, 64] == 60
    front, back, right, left = grid.body_box  # the body's edges are where its voxels are
    assert (back - front) * 256 == pytest.approx(80, abs=12) and (left - right) * 256 == pytest.approx(160, abs=12)
    assert (front + back) / 2 == pytest.approx(0.5, abs=0.03)


def test_a_small_field_of_view_keeps_its_own_size():
    grid = to_grid(CTVolume(np.zeros((4, 50, 40), dtype=np.int16), Geometry((2.0, 2.0, 5.0))), size=64, fov_mm=448.0)
    assert grid.pixel_mm == pytest.approx(100 / 64)
    assert grid.hu[0, 32, 0] == -1024, "beyond the scan there is air"


def test_resampling_does_not_alias():
    hu = np.zeros((2, 256, 256), dtype=np.int16)
    hu[..., ::2] = 1000  # stripes finer than the grid
    grid = to_grid(CTVolume(hu, Geometry((1.0, 1.0, 5.0))), size=64, fov_mm=256.0)
    assert abs(int(grid.hu[0, 30, 30]) - 500) < 30


def test_split_holds_out_patients_and_checks_their_names():
    patients = ["a", "a", "b", "c", "d"]
    assert len(held_out_patients(patients, seed=3)) == 1
    assert held_out_patients(patients, seed=3) == held_out_patients(patients, seed=3)
    assert held_out_patients(patients, named=["b", "c"]) == {"b", "c"}
    with pytest.raises(UsageError, match="nobody"):
        held_out_patients(patients, named=["nobody"])
    with pytest.raises(UsageError, match="Every patient"):
        held_out_patients(["a"], named=["a"])


def test_plan_survives_its_file_and_names_what_was_skipped(prepared):
    corpus, run = prepared
    plan = CorpusPlan.load(run / "plan.json")
    assert plan == corpus.plan
    assert {s.patient for s in plan.held_out} == {"sub-1"}
    assert len(plan.train) == 3
    [(path, reason)] = plan.skipped
    assert path.endswith("short.nii.gz") and "3 slices" in reason and "8" in reason


def test_synthetic_scans_are_named(prepared):
    corpus, run = prepared  # of phantoms, which are synthetic
    assert CorpusPlan.load(run / "plan.json").synthetic_warning == (
        "4 of 4 scans are synthetic: sub-0.nii.gz, sub-1.nii.gz, sub-2.nii.gz, sub-3.nii.gz. "
        "A model learns their faults with them."
    )
    scans = corpus.plan.scans
    real = tuple(dataclasses.replace(s, synthetic=False) for s in scans)
    assert dataclasses.replace(corpus.plan, scans=real).synthetic_warning == ""
    mixed = dataclasses.replace(corpus.plan, scans=(*real[1:], scans[0]))
    assert mixed.synthetic_warning.startswith("1 of 4 scans is synthetic: sub-0.nii.gz. ")
    many = dataclasses.replace(corpus.plan, scans=scans * 5)
    assert many.synthetic_warning.count("sub-") == 10
    assert "and 10 more" in many.synthetic_warning


def test_a_broken_plan_is_refused(tmp_path):
    (tmp_path / "plan.json").write_text('{"version": 99}')
    with pytest.raises(InputError, match=r"plan\.json"):
        CorpusPlan.load(tmp_path / "plan.json")


def test_statistics_are_those_of_the_slabs(prepared):
    corpus, _ = prepared
    # Detail slabs also come at wider gaps and with corrupted anatomy: their residuals are larger.
    for stage, tolerance in (("anatomy", 0.15), ("detail", 0.6)):
        stream = SlabStream(corpus.plan, corpus.cache, stage=stage, batch=32, slices=8, patch=64)
        spread = float(torch.cat([stream.batch(n)[0] for n in range(4)]).std())
        assert spread == pytest.approx(corpus.plan.sigma_data[stage], rel=tolerance)


def test_batches_depend_on_seed_and_number_alone(prepared):
    corpus, _ = prepared
    stream = SlabStream(corpus.plan, corpus.cache, stage="detail", batch=3, slices=8, patch=32, seed=5)
    ahead = list(stream.batches(iter([4, 7, 9]), threads=2))
    for number, (x0, conditions) in zip([4, 7, 9], ahead, strict=True):
        again, told = stream.batch(number)
        assert torch.equal(x0, again)
        assert torch.equal(conditions.coarse, told.coarse) and torch.equal(conditions.mask, told.mask)
    assert not torch.equal(ahead[0][0], ahead[1][0])
    other = SlabStream(corpus.plan, corpus.cache, stage="detail", batch=3, slices=8, patch=32, seed=6)
    assert not torch.equal(other.batch(4)[0], ahead[0][0])


def test_conditions_are_physical(prepared):
    corpus, _ = prepared
    stream = SlabStream(corpus.plan, corpus.cache, stage="anatomy", batch=48, slices=8, dropout=0.0)
    x0, told = stream.batch(0)
    assert x0.shape == (48, 8, 64, 64) and x0.dtype == torch.float32
    assert float(x0.abs().max()) <= 1 + 1e-5
    gaps = told.offsets_mm.diff(dim=1)
    assert float(gaps.min()) >= 0.93 * 5.0 - 1e-3, "never nearer than the slices of the scan, but for taller bodies"
    assert float(gaps.max()) <= 2.1 * corpus.plan.max_gap_mm
    assert float(told.offsets_mm.mean(dim=1).abs().max()) < 1e-3
    low, high = corpus.plan.body_range_mm
    assert float(told.body_mm.min()) > low - 40 and float(told.body_mm.max()) < high + 40
    assert set(told.mask.unique().tolist()) == {0.0, 1.0}
    hidden = SlabStream(corpus.plan, corpus.cache, stage="anatomy", batch=8, slices=8, dropout=1.0).batch(0)[1]
    assert torch.isnan(hidden.body_mm).all() and torch.isnan(hidden.body_box).all()
    assert told.body_box.shape == (48, 4) and float((told.body_box[:, 1] - told.body_box[:, 0]).min()) > 0.2


def test_corrupted_known_slices_stay_near_the_truth(prepared):
    corpus, _ = prepared
    x0, told = SlabStream(corpus.plan, corpus.cache, stage="anatomy", batch=48, slices=8).batch(1)
    error = (told.known - x0).abs().amax(dim=(1, 2, 3))
    assert (error == 0).any(), "some stay clean"
    assert (error > 0).any() and float((told.known - x0).std()) < 0.1


@pytest.mark.parametrize(("count", "gap_mm"), [(8, 2.0), (9, 5.0), (30, 8.0), (240, 2.5), (1000, 0.6)])
def test_positions_lie_in_the_scan_whatever_its_length(count, gap_mm):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        positions, mask = draw_anatomy_positions(count, gap_mm, 36.0, rng, slices=8)
        assert positions[0] >= 0 and positions[-1] < count
        assert (np.diff(positions) > 0).all()
        assert 0 <= mask.sum() < 8
        seen.add(int(mask.sum()))
    assert 0 in seen and len(seen) > 3
    assert all(draw_detail_mask(rng, 8).sum() < 8 for _ in range(100))


def test_crops_beyond_the_image_are_air_and_tell_their_pixel_size():
    rng = np.random.default_rng(1)
    hu = np.full((3, 64, 64), 50, dtype=np.int16)
    for _ in range(50):
        crop = draw_crop(64, rng)
        block = crop.cut(hu, np.array([0, 2]))
        assert block.shape == (2, crop.height, crop.width)
        covered = (block == 50).sum() / block.size
        assert covered > 0.5 and set(np.unique(block)) <= {-1024, 50}
        zoom = math.sqrt(crop.height * crop.width) / 64
        assert crop.pixel_factor in (1.0, pytest.approx(zoom, rel=0.02))


def test_the_body_box_follows_the_crop():
    hu = np.full((1, 100, 100), -1024, dtype=np.int16)
    hu[:, 30:70, 20:90] = 50
    rng = np.random.default_rng(4)
    for _ in range(20):
        crop = draw_crop(100, rng)
        block = crop.cut(hu, np.array([0]))[0] == 50
        rows, columns = np.flatnonzero(block.any(axis=1)), np.flatnonzero(block.any(axis=0))
        top, bottom, left, right = crop_box((0.3, 0.7, 0.2, 0.9), crop, 100)
        assert max(top, 0) * crop.height == pytest.approx(rows[0], abs=1e-6)
        assert min(bottom, 1) * crop.height == pytest.approx(rows[-1] + 1, abs=1e-6)
        assert max(left, 0) * crop.width == pytest.approx(columns[0], abs=1e-6)
        assert min(right, 1) * crop.width == pytest.approx(columns[-1] + 1, abs=1e-6)


def test_bodies_are_learnt_taller_and_shorter_than_they_are(prepared):
    corpus, _run = prepared
    plan, scan = corpus.plan, corpus.plan.train[0]
    hu = np.load(corpus.cache / f"{scan.id}.npy")
    lengths = []
    for seed in range(60):
        rng, again = (np.random.default_rng(seed) for _ in range(2))
        slab = anatomy_slab(hu, scan, plan, rng, slices=8)
        positions, _ = draw_anatomy_positions(len(hu), scan.gap_mm, plan.max_gap_mm, again, slices=8)
        offsets = (positions - positions.mean()) * scan.gap_mm
        factor = slab.offsets_mm[0] / offsets[0]
        assert slab.offsets_mm == pytest.approx(factor * offsets, rel=1e-4), "all distances alike"
        lengths.append(factor)
    assert 0.93 <= min(lengths) < 0.95 and 1.05 < max(lengths) <= 1.07


def test_jitter_is_small_and_keeps_air():
    hu = np.array([[-1024, 0, 40, 3071]], dtype=np.int16)
    for seed in range(20):
        changed = jitter_hu(hu, np.random.default_rng(seed)).astype(int)
        assert changed[0, 0] <= -990 and abs(changed[0, 2] - 40) <= 9 and changed.max() <= 3071


def test_a_table_of_jittered_intensities_gives_the_values_pixel_by_pixel():
    hu = np.random.default_rng(0).integers(AIR_HU, MAX_HU + 1, (3, 20, 20)).astype(np.int16)
    hu[0, 0, :2] = AIR_HU, MAX_HU
    for seed in range(5):
        wanted = hu_to_intensity(jitter_hu(hu, np.random.default_rng(seed)))
        assert np.array_equal(jittered_intensity(hu, np.random.default_rng(seed)), wanted)


def test_body_position_aligns_scans_of_different_extent():
    """Two scans of one body, one of them cut short, find the same axis; a third, unseen, is placed too."""
    whole = phantom(slices=40, seed=1)
    slices = coarse_slices(whole.hu, 32)
    parts = [
        (slices[:26], 5.0, 12.6),
        (slices[14:], 5.0, 12.6),
        (coarse_slices(phantom(slices=40, seed=2).hu, 32), 5.0, 12.6),
    ]
    net = fit_body_position(parts, steps=150)
    first = scan_position_mm(net, parts[0][0], 5.0, 12.6)
    second = scan_position_mm(net, parts[1][0], 5.0, 12.6)
    assert second - first == pytest.approx(14 * 5.0, abs=15)
    inner = scan_position_mm(net, slices[8:30], 5.0, 12.6)
    assert inner - first == pytest.approx(8 * 5.0, abs=20)


def test_coverage_counts_patients_not_scans(prepared):
    corpus, _ = prepared
    scan = dataclasses.replace(corpus.plan.train[0], body_mm=0.0, slices=11, gap_mm=10.0)
    other = dataclasses.replace(scan, id="x", slices=6)
    from CTDiffusionLogic.corpus.plan import coverage

    assert coverage([scan, other], 0.0, 100.0, bins=10) == [1] * 10
    someone = dataclasses.replace(other, patient="else")
    assert coverage([scan, someone], 0.0, 100.0, bins=10) == [2] * 6 + [1] * 4


def test_coarse_slices_average_intensities_not_hu():
    hu = np.zeros((1, 64, 64), dtype=np.int16)
    hu[:, :, ::2] = -1024
    expected = hu_to_intensity(np.array([0, -1024], dtype=np.int16)).mean()
    assert coarse_slices(hu, 16)[0, 8, 8] == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("anatomy_size", [64, 32, 16])
def test_the_coarse_version_of_a_patch_is_that_of_the_whole_image(prepared, anatomy_size, monkeypatch):
    """Blurred, which reaches farthest; its noise would differ."""
    plan = dataclasses.replace(prepared[0].plan, anatomy_size=anatomy_size)

    def blurred(small, rng, most):
        return torch.nn.functional.avg_pool2d(small[:, None], 3, 1, 1, count_include_pad=False)[:, 0], 0.0

    def batches():
        stream = SlabStream(plan, prepared[1] / "cache", stage="detail", batch=4, slices=8, patch=32)
        return [stream.batch(number)[1].coarse for number in range(4)]

    monkeypatch.setattr(slabs, "_corrupt_coarse", blurred)
    narrow = batches()
    monkeypatch.setattr(slabs, "_widen", lambda first, patch, size, margin: (0, size))
    for patch, whole in zip(narrow, batches(), strict=True):
        assert torch.allclose(patch, whole, atol=1e-6)
