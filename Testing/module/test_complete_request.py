"""Completions of scans of the scene before and while a worker runs: what is planned, refused, told and kept."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import slicer
from CTDiffusionLib import CompleteData, CompleteRequest, GenerateEstimate, Provenance, SceneVolumes, Worker
from CTDiffusionLib.CompleteLogic import CompleteLogic
from CTDiffusionLib.ExportSource import exportSource
from CTDiffusionLib.GenerateRequest import GenerateRequest
from CTDiffusionLib.JobProcess import JobProcess
from sections import lookAt

from CTDiffusionLogic.bundle import read_header
from CTDiffusionLogic.cli import generate
from CTDiffusionLogic.cli.events import Failed, Warned, to_line
from CTDiffusionLogic.errors import CTDiffusionError, InputError, UsageError
from CTDiffusionLogic.volume_io import read_volume

IJK_TO_RAS = np.array([[-8.0, 0, 0, 90], [0, -8.0, 0, 80], [0, 0, 3.0, -100], [0, 0, 0, 1]])
HU = np.random.default_rng(1).integers(-1000, 200, (12, 24, 20)).astype(np.int16)


@pytest.fixture
def scan(app):
    return SceneVolumes.insertVolume(HU, IJK_TO_RAS, "Doe^Jane", scene=app.scene, volumesLogic=app.volumes_logic)


def planned(node, **asked):
    request = CompleteRequest.CompleteRequest(**asked)
    plan = request.completion(CompleteData.scanToComplete(node).source)
    return plan, CompleteData.planText(request, plan)


def moved(app, node, matrix):
    transform = app.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.asarray(matrix, float)))
    node.SetAndObserveTransformNodeID(transform.GetID())


def test_what_will_be_made_is_said(scan):
    plan, text = planned(scan, extend=5, towards="feet")
    assert plan.missing == (0, 1, 2, 3, 4)
    assert (
        text
        == "5 new slices (15 mm) towards the feet, from -103.0 to -115.0 mm in an axial view: 17 in all instead of 12."
    )
    assert "from -64.0 to -52.0 mm" in planned(scan, extend=5)[1]
    plan, text = planned(scan, missing=(4, 5, 6))
    assert plan.missing == (4, 5, 6)
    assert text.startswith(
        "3 of the scan's slices are made anew, from -88.0 to -82.0 mm in an axial view. Slices count"
    )
    assert "from 0 to 11" in text
    assert planned(scan, spacingMm=1.5)[1] == "Slices 1.5 mm apart instead of 3 mm: 23 in all instead of 12."


def test_a_scan_whose_slices_run_to_the_feet(app, scan):
    scan.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(IJK_TO_RAS @ np.diag([1.0, 1.0, -1.0, 1.0])))
    plan, text = planned(scan, extend=2, towards="head")
    assert plan.missing == (0, 1)
    assert "from -97.0 to -94.0 mm" in text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "either extended, or filled, or made of thinner"),
        ({"extend": 2, "missing": (1,)}, "either extended, or filled"),
        ({"extend": 0}, "1 to 1000 slices can be added"),
        ({"extend": 2, "towards": "left"}, "towards head or feet; asked for were 2, left"),
        ({"missing": (3, 12)}, r"no slice 12\. Its slices are 0 to 11"),
        ({"missing": (-1,)}, "no slice -1"),
        ({"missing": tuple(range(12))}, "nothing is left to go by"),
        ({"spacingMm": 1.3}, r"1\.3 mm does not divide that\. Distances that do: 1\.5, 1, 0\.75"),
        ({"spacingMm": 0.0}, "does not divide"),
        ({"spacingMm": 0.2}, r"Slices 0\.2 mm apart are too thin"),
        ({"extend": 995}, "see 1007 slices at once"),
    ],
)
def test_what_cannot_be_done_is_refused(scan, asked, said):
    with pytest.raises(UsageError, match=said):
        planned(scan, **asked)


def test_scans_that_cannot_be_completed(app, scan):
    empty = app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    with pytest.raises(InputError, match="The volume empty cannot be completed: no CT volume"):
        CompleteData.scanToComplete(empty)
    scan.SetAttribute("CTDiffusion.Derived", "checkerboard")
    with pytest.raises(InputError, match="computed from other volumes"):
        CompleteData.scanToComplete(scan)
    scan.RemoveAttribute("CTDiffusion.Derived")
    scan.SetAttribute("CTDiffusion.Complete", "no")
    with pytest.raises(InputError, match="not complete"):
        CompleteData.scanToComplete(scan)
    scan.RemoveAttribute("CTDiffusion.Complete")
    moved(app, scan, [[0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])  # it lies sagittal now
    with pytest.raises(InputError, match="not stored in axial slices"):
        planned(scan, extend=2)
    moved(app, scan, [[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(InputError, match="geometry that cannot be used"):
        CompleteData.scanToComplete(scan)


def test_the_shown_slice(app, scan):
    lookAt(-88.9)
    assert CompleteData.shownSlice(scan) == 4
    moved(app, scan, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 9.0], [0, 0, 0, 1]])
    assert CompleteData.shownSlice(scan) == 1
    lookAt(500)
    with pytest.raises(ValueError, match="outside the scan"):
        CompleteData.shownSlice(scan)
    lookAt(-88.9, normal=(0, 1, 0))
    with pytest.raises(ValueError, match="set it to Axial"):
        CompleteData.shownSlice(scan)


def test_the_command():
    generation = GenerateRequest(model="torso", seed=7, count=3, slices=99, spacingMm=9.0, steps=4, device="cpu")
    generation = replace(generation, matrix=512, fineSteps=2)  # a completed scan keeps its own matrix
    folder = Path("/job")
    commons = {"generate", "--out=/job/synthetic.nrrd", "--preview-dir=/job/preview", "--model=torso", "--seed=7"}
    commons |= {"--count=1", "--steps=4", "--device=cpu"}
    for asked, words in {
        (("extend", 5), ("towards", "feet")): {"--slices=5", "--extend=/job/scan.nrrd", "--towards=feet"},
        (("missing", (3, 4, 5, 9)),): {"--fill=/job/scan.nrrd", "--missing=4-6,10"},
        (("spacingMm", 1.5),): {"--thin=/job/scan.nrrd", "--spacing-mm=1.5"},
    }.items():
        request = CompleteRequest.CompleteRequest(**dict(asked), generation=generation)
        assert set(request.words(folder)) == commons | words
    assert generate.MAX_SLICES == CompleteRequest.MAX_SLICES


def test_known_slices_cost_nothing(scan, model):
    plan, _text = planned(scan, extend=5)
    count, known = CompleteRequest.modelSlices(plan)
    assert (count, known) == (17, set(range(12)))
    card = read_header(model).card
    whole = GenerateEstimate.workOf(card, slices=count, spacingMm=3.0)
    assert GenerateEstimate.workOf(card, slices=count, spacingMm=3.0, known=known) < 0.7 * whole


class Stage:
    """A worker that keeps what it is given, says some words, and fails."""

    def __init__(self, folder):
        self.folder = folder
        self.events = [Failed("bad-input", "scan.nrrd: is odd.", "")]

    def launch(self, words, **options):
        lines = [to_line(event) for event in self.events]
        script = (
            "import pathlib, shutil, sys\n"
            "scan = next(w for w in sys.argv if w.startswith(('--extend=', '--fill=', '--thin='))).split('=')[1]\n"
            f"shutil.copy(scan, {str(self.folder)!r})\n"
            f"for line in {lines!r}: print(line.replace('scan.nrrd', scan), flush=True)\nsys.exit(1)"
        )
        return JobProcess([sys.executable, "-u", "-c", script, *words], **options)


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


@pytest.fixture
def logic(app, stage, tmp_path):
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    worker = Worker.Worker(timer=Worker.NoTimer(), launch=stage.launch, temporaryFolder=str(jobs))
    yield CompleteLogic(worker, scene=app.scene, volumesLogic=app.volumes_logic)
    worker.endAll()
    assert list(jobs.iterdir()) == []


def test_the_worker_gets_the_scan_where_it_lies_and_its_words_are_the_scene_s(app, scan, logic, stage, tmp_path):
    matrix = np.array([[0, -1, 0, 5.0], [1, 0, 0, 7.0], [0, 0, 1, -30.0], [0, 0, 0, 1]])
    moved(app, scan, matrix)
    stage.events.insert(0, Warned("Slices 1-2,5-12 of the result are the scan's own and show a real person."))
    run = logic.complete(scan, missing=[2, 3], seed=7, waitForCompletion=False)
    warnings = []
    run.warned.connect(warnings.append)
    with pytest.raises(RuntimeError, match="running already"):
        logic.complete(scan, extend=1)
    app.scene.RemoveNode(scan)  # it has all it needs
    logic.worker.waitFor(run.job)
    assert (run.ending.kind, run.ending.message) == ("failed", "Doe^Jane: is odd.")
    assert warnings == ["Slices 0-1,4-11 of the result (counted from 0) are the scan's own and show a real person."]
    written = read_volume(tmp_path / "scan.nrrd")
    np.testing.assert_array_equal(written.hu, HU)
    np.testing.assert_allclose(written.geometry.ijk_to_ras, matrix @ IJK_TO_RAS, atol=1e-4)
    assert written.metadata.get("synthetic") is None
    assert run.nodes() == []


def test_what_a_script_asks_wrongly_starts_no_worker(scan, logic):
    for wrong in ({"missing": [12]}, {"spacingMm": 1.3}, {}):
        with pytest.raises(CTDiffusionError):
            logic.complete(scan, **wrong)
    assert not logic.worker.isRunning("complete")


def test_names_and_facts_say_what_is_real(app, scan, logic):
    run = logic.complete(scan, extend=3, towards="feet", seed=7, waitForCompletion=False)
    run.details = {"model": "torso", "version": "1"}
    assert run.name(1) == "SYNTHETIC, PARTLY REAL: extended, torso seed 7"
    assert run.facts(1)["real_slices"] == "4-15"
    assert run.facts(1)["completion"] == "3 slices added towards the feet"
    logic.worker.waitFor(run.job)
    node = SceneVolumes.insertSyntheticVolume(
        HU, IJK_TO_RAS, run.name(1), metadata=run.facts(1), reference=scan, volumesLogic=app.volumes_logic
    )
    assert Provenance.isPartlyReal(node)
    assert not Provenance.isPartlyReal(scan)
    node.SetAttribute("CTDiffusion.Complete", "yes")
    source = exportSource(node)
    assert source.description == "extended, torso seed 7"  # the export puts the mark before it
    assert source.warning == f"{node.GetName()} is partly real: handle its files as you handle the scan."
    # Of what is synthetic as a whole nothing is real, however it is completed.
    node.RemoveAttribute("CTDiffusion.RealSlices")
    run = logic.complete(node, missing=[2], seed=8, waitForCompletion=False)
    run.details = {"model": "torso"}
    assert run.name(1) == "SYNTHETIC filled, torso seed 8"
    logic.worker.waitFor(run.job)
