"""Training of the feature network: faults of known size, known losses, the same network from the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from CTDiffusionLogic.cli.events import Failed, Finished, Progress, Started, Warned, parse_line
from CTDiffusionLogic.cli.main import main
from CTDiffusionLogic.errors import Cancelled, InputError, UsageError
from CTDiffusionLogic.fidelity.extractors import get_extractor
from CTDiffusionLogic.fidelity.feature_training import FeatureTrainingOptions, train_features, vicreg_losses
from CTDiffusionLogic.fidelity.feature_views import (
    FAULTS,
    LARGEST,
    ViewOptions,
    add_faults,
    draw_faults,
    draw_views,
)
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import write_volume


def only(**severities: float) -> np.ndarray:
    return np.array([[severities.get(name, 0.0) for name in FAULTS]], np.float32)


def flat(hu: float, side: int = 96) -> torch.Tensor:
    return torch.full((1, side, side), hu)


def generator() -> np.random.Generator:
    return np.random.default_rng(5)


class TestViews:
    def test_severities_lie_in_their_ranges_and_many_are_none(self):
        found = draw_faults(4000, generator(), ViewOptions())
        assert found.shape == (4000, 4)
        assert found[:, :2].min() == 0
        assert found.min(axis=0)[2:] == pytest.approx(-1, abs=0.01)
        assert found.max(axis=0) == pytest.approx(1, abs=0.01)
        assert (found == 0).all(axis=1).mean() == pytest.approx(0.4 + 0.6 * 0.4**4, abs=0.03)
        assert (found == 0).mean(axis=0) == pytest.approx(0.4 + 0.6 * 0.4, abs=0.03)

    def test_no_fault_changes_nothing(self):
        image = torch.from_numpy(generator().normal(0, 100, (1, 64, 64))).float()
        torch.testing.assert_close(add_faults(image, only(), generator()), image, atol=1e-3, rtol=0)

    def test_an_offset_is_exact(self):
        found = add_faults(flat(40), only(offset=-0.5), generator())
        torch.testing.assert_close(found, flat(40 - 0.5 * LARGEST[2]))

    def test_noise_has_the_standard_deviation_it_says(self):
        found = add_faults(flat(40), only(noise=0.5), generator())
        assert float(found.std()) == pytest.approx(0.25 * LARGEST[1], rel=0.01)
        assert float(found.mean()) == pytest.approx(40, abs=3)

    @pytest.mark.parametrize("severity", [0.4, 0.7, 1.0])
    def test_blur_is_a_gaussian_of_the_size_it_says(self, severity):
        point = torch.zeros(1, 65, 65)
        point[0, 32, 32] = 1
        found = add_faults(point, only(blur=severity), generator())[0].double()
        squares = (torch.arange(65) - 32.0) ** 2
        assert float(found.sum()) == pytest.approx(1, rel=1e-4)
        assert float((found.sum(0) * squares).sum()) == pytest.approx((severity * LARGEST[0]) ** 2, rel=0.01)

    @pytest.mark.parametrize("severity", [-1.0, 0.0, 1.0])
    def test_wrong_spacing_changes_the_size(self, severity):
        rows, columns = np.mgrid[:200, :200]
        disc = np.where(np.hypot(rows - 99.5, columns - 99.5) < 30, 0, -1000).astype(np.int16)
        options = ViewOptions(shift=0.0, coarsest=1.0, untouched=0.0, size=160)
        found = draw_views([disc], [only(spacing=severity)], generator(), options)
        area = float((found > -500).sum())
        assert area == pytest.approx(np.pi * (30 / 2 ** (severity * LARGEST[3])) ** 2, rel=0.02)
        assert float(found.min()) == pytest.approx(-1000, abs=1)  # air beyond the image, too

    def test_untouched_windows_have_the_image_s_own_pixels(self):
        image = generator().choice([-1000, 600], (120, 130)).astype(np.int16)
        own, means = {-1000, 600}, {-1000, -600, -200, 200, 600}
        found = []
        for seed in range(8):
            view = draw_views([image], [only()], np.random.default_rng(seed), ViewOptions(untouched=1.0))
            found.append(set(np.rint(view.numpy().ravel()).astype(int).tolist()))
        assert all(values in (own, means) for values in found)
        assert own in found
        assert means in found

    def test_windows_of_one_image_overlap_and_stay_upright(self):
        ramp = np.broadcast_to(np.arange(200, dtype=np.int16)[:, None], (200, 200))
        first, second = draw_views([ramp], [only()] * 2, generator(), ViewOptions(coarsest=1.0, untouched=0.0))
        inside = first[:, 32]
        inside = inside[inside > 0]
        assert bool((inside.diff() > 0).all())
        assert abs(float(first.mean() - second.mean())) < 60


class TestLosses:
    def test_equal_views_of_unit_variance_without_correlations_cost_nothing(self):
        rows = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        losses = vicreg_losses(rows, rows)
        assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(
            {"invariance": 0, "variance": 0, "covariance": 0}, abs=1e-6
        )

    def test_each_fault_costs_its_own_term(self):
        rows = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        collapsed = vicreg_losses(0 * rows, 0 * rows)
        assert float(collapsed["variance"]) == pytest.approx(0.99, abs=1e-3)  # 1 - sqrt(1e-4)
        assert float(vicreg_losses(rows, rows + 2)["invariance"]) == pytest.approx(4)
        same = rows[:, :1].expand(-1, 2)
        # Covariance 4/3 off the diagonal, twice, squared, per 2 features, for two views, times 0.04.
        assert float(vicreg_losses(same, same)["covariance"]) == pytest.approx(2 * (4 / 3) ** 2 * 0.04, rel=1e-5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three scans of two patients that pass for real, and one that says it is synthetic."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(3):
        volume = torso_phantom(slices=40, spacing_mm=(5.0, 5.0, 4.0), size=80, seed=number)
        write_volume(CTVolume(volume.hu, volume.geometry, {}), folder / f"scan{number}.nrrd")
    write_volume(volume, folder / "synthetic.nrrd")
    rows = "".join(f"scan{number}.nrrd,patient{number // 2},torso\n" for number in range(3))
    (folder / "INDEX.csv").write_text("file,patient,region\n" + rows)
    return folder


@pytest.fixture
def options(data, tmp_path):
    return FeatureTrainingOptions(
        data=(data,), out=tmp_path / "net.safetensors", max_minutes=None, steps=3, batch=4, images_per_plane=6
    )


class TestTraining:
    def test_the_same_seed_gives_the_same_network_and_another_another(self, options, tmp_path):
        first = train_features(replace(options, hold_out=("patient1",), note="phantoms"))
        again = train_features(
            replace(options, hold_out=("patient1",), note="phantoms", out=tmp_path / "b.safetensors")
        )
        a, b = (get_extractor(result.path) for result in (first, again))
        images = np.random.default_rng(0).uniform(-1000, 1000, (2, 64, 64)).astype(np.float32)
        np.testing.assert_array_equal(a.features(images, 1.0), b.features(images, 1.0))
        training = dict(a.card["training"])
        assert training.pop("held_out_patients") == ["patient1"]
        assert (training["scans"], training["patients"], training["steps"]) == (2, 1, 3)
        assert training["data"] == "phantoms"
        other = train_features(replace(options, hold_out=("patient1",), seed=1, out=tmp_path / "c.safetensors"))
        assert not np.allclose(get_extractor(other.path).features(images, 1.0), a.features(images, 1.0), atol=0.1)

    def test_what_is_left_out_is_said(self, options):
        events = []
        result = train_features(options, on_event=lambda name, facts: events.append((name, facts)))
        skipped = [facts for name, facts in events if name == "skipped"]
        assert [facts["path"].name for facts in skipped] == ["synthetic.nrrd"]
        assert "is synthetic" in skipped[0]["reason"]
        assert (result.scans, result.patients) == (3, 2)

    def test_stopping_leaves_nothing(self, options):
        asked = iter([False] * 5 + [True])
        with pytest.raises(Cancelled):
            train_features(options, is_cancelled=lambda: next(asked))
        assert not options.out.exists()

    def test_a_training_needs_an_end_and_scans(self, options, data, tmp_path):
        with pytest.raises(UsageError, match="never end"):
            replace(options, steps=None)
        with pytest.raises(UsageError, match="nobody"):
            train_features(replace(options, hold_out=("nobody",)))
        with pytest.raises(InputError, match="None of the scans"):
            train_features(replace(options, data=(data / "synthetic.nrrd",)))
        assert not list(tmp_path.iterdir())


class TestCommand:
    def test_it_trains_and_says_what_it_wrote(self, data, tmp_path, capfd, monkeypatch):
        out = tmp_path / "net.safetensors"
        words = ["train-features", str(data), "--out", str(out), "--steps", "1", "--threads", "1"]
        monkeypatch.setattr("sys.argv", ["ctdiffusion", *words])
        code, events = run(capfd, *words, "--hold-out", "patient1")
        assert code == 0
        assert isinstance(events[0], Started)
        assert any(isinstance(event, Progress) and event.phase == "reading" for event in events)
        assert any(isinstance(event, Warned) and "is synthetic" in event.message for event in events)
        finished = events[-1]
        assert isinstance(finished, Finished)
        assert finished.outputs == (str(out),)
        extractor = get_extractor(out)
        assert finished.details["sha256"] == extractor.sha256
        assert (finished.details["steps"], finished.details["patients"]) == (1, 1)
        assert (
            extractor.card["training"]["command"]
            == f"ctdiffusion train-features {data} --out {out} --steps 1 --threads 1"
        )

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["nowhere", "--out", "a.safetensors"], 1, "nowhere does not exist"),
            ([".", "--out", "a.pth"], 2, "does not end in .safetensors"),
            ([".", "--out", "a.safetensors", "--max-minutes", "0"], 2, "max-minutes"),
            ([".", "--out", "a.safetensors"], 1, "No CT scans found"),
        ],
    )
    def test_wrong_use(self, words, code, said, tmp_path, monkeypatch, capfd):
        monkeypatch.chdir(tmp_path)
        found, events = run(capfd, "train-features", *words)
        assert found == code
        assert isinstance(events[-1], Failed)
        assert said in events[-1].message


def run(capfd, *words: str) -> tuple[int, list]:
    code = main([*words, "--events", "json"])
    return code, [parse_line(line) for line in capfd.readouterr().out.splitlines()]
