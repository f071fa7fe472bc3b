"""``ctdiffusion evaluate`` as a process, through all rooms, on small phantoms.

The feature network has random weights: what it computes means nothing, but goes through everything a trained one does.
"""

from __future__ import annotations

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from CTDiffusionLogic.cli.events import Finished, Progress, Started, Warned
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.volume import to_hu_int16
from CTDiffusionLogic.volume_io import write_volume

ROOMS = ["frechet", "coherence", "physics", "diversity", "copies"]
CARD = {"architecture": {"widths": [4, 6, 8, 12], "components": 8}}


@pytest.fixture(scope="session")
def extractor(tmp_path_factory) -> Path:
    """A feature network of random weights."""
    import torch

    from CTDiffusionLogic.fidelity.extractors.ctfeatures import FeatureNet
    from CTDiffusionLogic.fidelity.extractors.feature_file import save_feature_file

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("features") / "random.safetensors"
    save_feature_file(path, FeatureNet(**CARD["architecture"]).state_dict(), CARD)
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Volumes that pass for real scans, of six patients; synthetic ones, noisier; slices that do not fit together."""
    folder = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(0)

    def draw(name: str, seed: int, *, noise: float = 0.0, made: bool = False) -> None:
        volume = torso_phantom(slices=32, size=64, spacing_mm=(6.5, 6.5, 4.0), seed=seed)
        hu = to_hu_int16(volume.hu + rng.normal(0, noise, volume.shape)) if noise else volume.hu
        metadata = {"synthetic": "yes", "model": "m", "seed": str(seed)} if made else {}
        write_volume(replace(volume, hu=hu, metadata=metadata), folder / f"{name}.nrrd")

    for n in range(3):
        draw(f"real/r{n}", n)
        draw(f"training/t{n}", 20 + n)
        draw(f"made/m{n}", 40 + n, noise=60, made=True)
    draw("one/m0", 40, noise=60, made=True)
    draw("independent/i0", 60, noise=200, made=True)
    return folder


def words(data: Path, extractor: Path, *more: object) -> list[object]:
    return ["evaluate", "--device", "cpu", "--images-per-volume", 4, "--extractor", extractor, *more]


def test_a_whole_report(run, data, extractor, tmp_path):
    groups = ["--real", data / "real", "--synthetic", data / "made", "--independent", data / "independent"]
    groups += ["--training", data / "training"]
    ended = run(*words(data, extractor, *groups, "--out", "a", "--events", "json"))
    assert ended.code == 0, ended.err
    assert isinstance(ended.events[0], Started)
    assert isinstance(ended.events[-1], Finished)
    assert [e.done for e in ended.events if isinstance(e, Progress)] == list(range(10 + len(ROOMS) + 1))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["plots", "report.html", "report.json"]
    report = json.loads((tmp_path / "a" / "report.json").read_text(encoding="utf-8"))
    assert [section["key"] for section in report["sections"]] == ROOMS
    assert all(section["figures"] for section in report["sections"]), "every room can tell something of these"
    assert report["counts"]["real"] == {"volumes": 3, "patients": 3}
    assert report["counts"]["held-out"] == {"volumes": 3, "patients": 3}
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") > 10
    assert "http" not in page.replace("http-equiv", "")
    assert "data:image" not in json.dumps(report)  # pictures of patients are in the page that says so
    coherence = report["sections"][1]
    assert coherence["details"]["independent_slices"]
    assert any("independent slices" in curve["lines"] for curve in coherence["curves"])
    figures = {figure["key"]: figure for section in report["sections"] for figure in section["figures"]}
    noisy = figures["coherence.difference.6mm"]
    assert noisy["synthetic"]["value"] > 3 * noisy["floor"]["value"]  # the fault that was put in is seen
    assert noisy["standing"] == "far off"
    # The same seed gives the same figures; another run only other times.
    again = run(*words(data, extractor, *groups, "--out", "b"))
    assert again.code == 0, again.err
    assert again.out.splitlines()[-1] == "b/plots"
    other = json.loads((tmp_path / "b" / "report.json").read_text(encoding="utf-8"))
    for key in ("sections", "inputs", "protocol", "counts", "warnings"):
        assert other[key] == report[key], key
    for plot in (tmp_path / "a" / "plots").iterdir():
        assert plot.read_bytes() == (tmp_path / "b" / "plots" / plot.name).read_bytes()


def test_one_scan_and_one_volume_give_warnings_and_a_report(run, data, extractor, tmp_path):
    groups = ["--real", data / "real" / "r0.nrrd", "--synthetic", data / "one"]
    ended = run(*words(data, extractor, *groups, "--out", "a", "--events", "json"))
    assert ended.code == 0, ended.err
    said = " ".join(event.message for event in ended.events if isinstance(event, Warned))
    assert "of one patient" in said
    assert "fewer than 8 synthetic volumes" in said
    report = json.loads((tmp_path / "a" / "report.json").read_text(encoding="utf-8"))
    assert [section["key"] for section in report["sections"]] == ROOMS
    copies = report["sections"][-1]
    assert copies["standing"] == "not told"
    assert "--training" in " ".join(copies["warnings"])


def test_synthetic_volumes_are_no_real_scans(run, data, extractor, tmp_path):
    ended = run(*words(data, extractor, "--real", data / "one", "--synthetic", data / "made", "--out", "a"))
    assert ended.code == 1
    assert "No real volumes are left" in ended.failure
    assert "is synthetic, not a real scan" in ended.failure
    (tmp_path / "empty").mkdir()
    ended = run(*words(data, extractor, "--real", "empty", "--synthetic", data / "made", "--out", "a"))
    assert ended.code == 1
    assert "No CT scans found in empty" in ended.failure
    assert not (tmp_path / "a").exists()


def test_stopping_leaves_nothing(start, data, extractor, tmp_path):
    groups = ["--real", data / "real", "--synthetic", data / "made", "--out", "a", "--events", "json"]
    process = start(*words(data, extractor, *groups))
    while "progress" not in (line := process.stdout.readline()):
        assert line, process.stderr.read()
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert process.wait(timeout=120) == 130
    assert time.monotonic() - began < 120
    assert not list(tmp_path.glob("*a*"))
