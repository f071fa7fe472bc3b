"""The demo program as a user runs it, on small volumes; generating itself is tested end to end elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import make_demo
import numpy as np
import pytest
from CTDiffusionLib import Layouts, Provenance, SceneVolumes
from key_figures import key_figures
from PIL import Image
from rendering import has_opengl, new_app

from CTDiffusionLogic.errors import ResourceError
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import write_volume

DEMO = Path(__file__).resolve().parents[1] / "demo" / "make_demo.py"
METADATA = {"synthetic": "yes", "model": "torso", "model_sha256": "ab" * 32, "seed": "7", "steps": "12"}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """A "synthetic" and a "real" file: two different phantoms, for what their headers say."""
    folder, paths = tmp_path_factory.mktemp("volumes"), {}
    for name, metadata, seed in (("made", METADATA, 1), ("scan", {}, 2)):
        phantom = torso_phantom(slices=12, size=64, spacing_mm=(6.4, 6.4, 16.0), seed=seed)
        paths[name] = folder / f"{name}.nrrd"
        write_volume(CTVolume(phantom.hu, phantom.geometry, metadata), paths[name])
    return paths


def _run(*arguments, **environment):
    environment = {**os.environ, **environment}
    command = [sys.executable, DEMO, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def _amber(picture):
    red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(int), 2, 0)
    return (red > 180) & (green > 120) & (blue < 110)


@pytest.fixture(scope="module")
def demo(volumes, tmp_path_factory):
    """A whole demo where there was one before: its folder, and the process."""
    out = tmp_path_factory.mktemp("whole") / "demo"
    (out / "report" / "plots").mkdir(parents=True)
    (out / "report" / "report.json").write_text("{}")
    (out / "report" / "plots" / "of the earlier demo.png").touch()
    return out, _run("--out", out, "--synthetic", volumes["made"], "--real", volumes["scan"], "--report")


def test_the_scene_and_the_pictures_hold_what_they_should(demo):
    out, finished = demo
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert "Compared with: scan" in finished.stdout

    app = new_app()
    assert app.io_manager.load_scene(out / "comparison.mrb")
    (synthetic,) = Provenance.syntheticVolumes(app.scene)
    assert synthetic.GetName() == "SYNTHETIC CT"
    facts = Provenance.provenance(synthetic)
    assert {facts[key] for key in ("Model", "ModelSha256", "Seed", "Steps")} == {"torso", "ab" * 32, "7", "12"}
    assert "Source" not in facts  # file names can name people
    real = Provenance.referenceVolume(synthetic)
    assert real.GetName() == "REAL scan"
    expected = torso_phantom(slices=12, size=64, spacing_mm=(6.4, 6.4, 16.0))
    np.testing.assert_allclose(SceneVolumes.ijkToRAS(synthetic), expected.geometry.ijk_to_ras, atol=1e-6)
    tags = Layouts.THREE_OVER_THREE.tags
    shown = [Layouts.compositeNode(app.scene, tag).GetBackgroundVolumeID() for tag in tags]
    assert shown == [synthetic.GetID()] * 3 + [real.GetID()] * 3

    for name in ("comparison.png", "comparison_soft_tissue.png"):
        with Image.open(out / name) as picture:
            amber = _amber(picture)
            height, width = amber.shape
            assert width > 1200
            assert amber[: height // 2, : width // 25].any(), "the upper row must be called SYNTHETIC at its side"
            for third in np.array_split(amber[: height // 2, width // 25 :], 3, axis=1):
                assert third.any(), "every synthetic view must say that it is synthetic"
            assert not amber[height // 2 :].any(), "no real view may say that it is synthetic"
    with Image.open(out / "comparison.png") as lung, Image.open(out / "comparison_soft_tissue.png") as soft:
        assert np.abs(np.asarray(lung, int) - np.asarray(soft, int)).mean() > 2  # another window


def test_the_key_figures_come_last_and_a_second_demo_replaces_its_report(demo):
    out, finished = demo
    lines = finished.stdout.splitlines()
    told = [n for n, line in enumerate(lines) if line.startswith(("  Through-plane coherence: ", "  Physics of CT: "))]
    assert len(told) == 2
    assert min(told) > max(n for n, line in enumerate(lines) if line.endswith(".png"))
    assert (out / "report" / "report.html").is_file()
    assert not (out / "report" / "plots" / "of the earlier demo.png").exists()


def test_a_folder_of_somebody_else_s_is_no_report(volumes, tmp_path):
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.html").write_text("precious")
    with pytest.raises(ResourceError, match="report"):
        key_figures(volumes["made"], make_demo.find_real_volume(volumes["scan"]), [], report)
    assert (report / "report.html").read_text() == "precious"


def test_without_a_real_scan_it_is_a_phantom_and_called_so(volumes, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("CTDIFFUSION_DATA", str(tmp_path / "empty"))
    assert make_demo.main(["--out", str(tmp_path / "demo"), "--synthetic", str(volumes["made"])]) == 0
    assert "the built-in phantom" in capsys.readouterr().out
    app = new_app()
    assert app.io_manager.load_scene(tmp_path / "demo" / "comparison.mrb")
    names = {node.GetName() for node in map(app.scene.GetNodeByID, _volume_ids(app.scene))}
    assert names == {"SYNTHETIC CT", "PHANTOM computed torso"}
    with Image.open(tmp_path / "demo" / "comparison.png") as picture:
        lower = _amber(picture)[picture.height // 2 :, picture.width // 25 :]
        assert all(third.any() for third in np.array_split(lower, 3, axis=1)), "the phantom's views must say so"


def _volume_ids(scene):
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    return [scene.GetNthNodeByClass(n, "vtkMRMLScalarVolumeNode").GetID() for n in range(count)]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--synthetic", "{scan}", "--real", "{scan}"], {}, "scan.nrrd does not say that it is synthetic."),
        (["--synthetic", "{made}", "--real", "{made}"], {}, "made.nrrd is synthetic."),
        (["--synthetic", "{made}", "--real", "nowhere.nrrd"], {}, "nowhere.nrrd"),
        (["--synthetic", "{made}"], {"CTDIFFUSION_DATA": "/nowhere"}, "CTDIFFUSION_DATA names /nowhere"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_1(
    volumes, tmp_path, monkeypatch, capsys, arguments, environment, message
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    arguments = [argument.format(**volumes) for argument in arguments]
    assert make_demo.main(["--out", str(tmp_path / "demo"), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert list((tmp_path / "demo").iterdir()) == []


@pytest.mark.skipif(not has_opengl(), reason="shows nothing where there is no OpenGL anyway")
def test_a_machine_without_opengl_gets_the_same_pictures(volumes, tmp_path):
    arguments = ("--synthetic", volumes["made"], "--real", volumes["scan"])
    # VTK's window for the display of another machine: cannot open here, as where Mesa is missing.
    finished = _run("--out", tmp_path / "without", *arguments, VTK_DEFAULT_OPENGL_WINDOW="vtkNoSuchWindow", DISPLAY="")
    assert finished.returncode == 0, finished.stderr
    assert "No OpenGL here" in finished.stdout
    assert "apt-get install" in finished.stdout
    assert (tmp_path / "without" / "comparison.png").is_file()
