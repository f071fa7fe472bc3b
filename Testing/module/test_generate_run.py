"""Generations by real workers into a real scene, ended in every way there is."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import slicer
from CTDiffusionLib import GenerateEstimate, Provenance, SceneVolumes, Worker
from CTDiffusionLib.GenerateLogic import GenerateLogic
from CTDiffusionLib.GenerateRequest import GenerateRequest
from CTDiffusionLib.GenerateSettings import GenerateSettings, MemoryStore
from CTDiffusionLib.VolumePanel import phaseText
from CTDiffusionLib.VolumeRun import rangesText
from generate_section import volumes
from process_groups import isGone
from random_model import write_random_fine_model

from CTDiffusionLogic.bundle import read_header
from CTDiffusionLogic.errors import Cancelled, CTDiffusionError, InputError

SMALL = {"slices": 12, "spacingMm": 2.5, "seed": 5, "device": "cpu"}
#: Hours of work, in which nothing is final for long.
ENDLESS = GenerateRequest(slices=200, steps=10000, seed=1, device="cpu")
#: Slices come one after the other, each after some time.
SLOW = GenerateRequest(slices=1000, steps=1, detailSteps=25, spacingMm=1.0, seed=3, device="cpu")


@pytest.fixture
def logic(app, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("os.setpriority", lambda *_: None)  # a busy test machine would starve the worker
    worker = Worker.Worker(timer=Worker.NoTimer(), temporaryFolder=str(tmp_path))
    yield GenerateLogic(worker, GenerateSettings(MemoryStore()), scene=app.scene, volumesLogic=app.volumes_logic)
    worker.endAll()
    assert list(tmp_path.glob("CTDiffusion-*")) == []  # no test leaves anything behind


def pollUntil(logic, condition, seconds=60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        logic.worker.poll()
        time.sleep(0.02)


def test_two_volumes_to_the_end(logic, model):
    arrived, added = [], []
    wish = {**SMALL, "slices": 56}  # two blocks
    run = logic.generate(model=model, count=2, waitForCompletion=False, **wish)
    run.slicesArrived.connect(lambda done, of: arrived.append((done, of, len(volumes()))))
    run.volumeAdded.connect(added.append)
    ending = logic.worker.waitFor(run.job)
    assert ending.kind == "finished", ending.text
    nodes = run.nodes()
    assert nodes == added == volumes()
    assert arrived[0][0] < 56  # shown before it was complete
    assert arrived[0][2] == 1  # ... and the second one only when it began
    assert arrived[-1][:2] == (112, 112)
    for number, node in enumerate(nodes):
        facts = Provenance.provenance(node)
        assert node.GetName() == f"SYNTHETIC noise seed {5 + number}"
        assert Provenance.isSynthetic(node)
        assert (facts["Seed"], facts["Complete"]) == (str(5 + number), "yes")
        assert facts["ModelSha256"] == read_header(model).sha256
        assert facts["Sampler"] == "multistep"
        np.testing.assert_allclose(node.GetSpacing(), (6.0, 6.0, 2.5))
        hu = slicer.util.arrayFromVolume(node)
        assert (hu.shape, hu.dtype) == ((56, 64, 64), np.int16)
        assert all(len(np.unique(one)) > 10 for one in hu)  # every slice came
    # The same seed alone gives the same voxels.
    again = logic.generate(model=model, **{**wish, "seed": 6})
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(again), slicer.util.arrayFromVolume(nodes[1]))
    assert isGone(run.job._process.processID)


def test_a_larger_matrix(logic, model, tmp_path):
    fine = write_random_fine_model(tmp_path / "finer.safetensors", steps=8)
    run = logic.start(GenerateRequest(model=model, matrix=128, fineModel=fine, fineSteps=2, **SMALL))
    begun, phases = [], set()

    def onAdded(node):  # while slices are still to come
        facts = Provenance.provenance(node)
        begun.append((SceneVolumes.ijkToRAS(node), slicer.util.arrayFromVolume(node).shape, facts))

    run.volumeAdded.connect(onAdded)
    run.progressed.connect(lambda event: phases.add(phaseText(event.phase)))
    assert logic.worker.waitFor(run.job).kind == "finished"
    assert phases == {"anatomy", "detail", "larger matrix"}
    ((matrix, shape, known),) = begun  # filled slice by slice: no other node came at the end
    (node,) = volumes()
    assert shape == slicer.util.arrayFromVolume(node).shape == (12, 128, 128)
    np.testing.assert_allclose(node.GetSpacing(), (3.0, 3.0, 2.5))
    # Of the model's own pixels of 6 mm the first would lie at 31.5 * 6 mm; a quarter of one further out now.
    np.testing.assert_allclose(node.GetOrigin(), (189 + 1.5, 189 + 1.5, 0))
    np.testing.assert_allclose(SceneVolumes.ijkToRAS(node), matrix)
    assert all(len(np.unique(one)) > 10 for one in slicer.util.arrayFromVolume(node))
    facts = Provenance.provenance(node)
    for fact, value in {"FineModel": "finer", "FineModelSha256": read_header(fine).sha256}.items():
        assert facts[fact] == known[fact] == value
    assert (facts["FineSteps"], facts["Complete"], known["Complete"]) == ("2", "yes", "no")
    # The speed counts what the fine model did.
    run.worked = 10.0, 0.5
    logic._rememberSpeed(run)
    card = read_header(model).card
    work = GenerateEstimate.workOf(card, slices=12, spacingMm=2.5)
    work += GenerateEstimate.fineWork(read_header(fine).card, slices=12, steps=2)
    assert logic.settings.secondsPerWork("cpu") == pytest.approx(20.0 / work)


def test_a_larger_matrix_that_cannot_be_made_says_why(logic, model):
    with pytest.raises(CTDiffusionError, match="fine model") as caught:
        logic.generate(model=model, matrix=48, **SMALL)
    assert caught.value.remedy
    assert volumes() == []


def test_like_a_scan_beside_it(logic, model, app):
    matrix = np.diag([-3.0, 3.5, -4.0, 1.0])  # slices run to the feet
    matrix[:3, 3] = (10, -20, 30)
    scan = SceneVolumes.insertVolume(np.zeros((6, 40, 48), np.int16), matrix, "scan", volumesLogic=app.volumes_logic)
    transform = app.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    scan.SetAndObserveTransformNodeID(transform.GetID())
    node = logic.generate(model=model, likeVolume=scan, device="cpu", seed=1)
    np.testing.assert_allclose(SceneVolumes.ijkToRAS(node), matrix, atol=1e-6)
    assert slicer.util.arrayFromVolume(node).shape == (6, 40, 48)
    assert Provenance.referenceVolume(node) is scan
    assert node.GetParentTransformNode() is transform
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(app.scene)
    items = [hierarchy.GetItemByDataNode(one) for one in (scan, node)]
    assert hierarchy.GetItemParent(items[0]) == hierarchy.GetItemParent(items[1])
    empty = app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    with pytest.raises(InputError, match="The volume nothing is empty"):
        logic.generate(model=model, likeVolume=empty)


@pytest.mark.parametrize("keep", [True, False])
def test_cancelled_in_the_middle(logic, model, keep):
    run = logic.start(replace(SLOW, model=model))
    seen = []
    run.slicesArrived.connect(lambda done, of: seen.append(done))
    pollUntil(logic, lambda: seen)
    processID = run.job._process.processID
    run.cancel(keepPartial=keep)
    assert run.job.isStopping
    ending = logic.worker.waitFor(run.job)
    assert ending.kind == "cancelled"
    assert isGone(processID)
    assert len(volumes()) == len(run.nodes()) == int(keep)
    if keep:
        (node,) = volumes()
        facts = Provenance.provenance(node)
        assert node.GetName() == "SYNTHETIC noise seed 3 (partial)"
        assert facts["Complete"] == "no"
        first, last = map(int, facts["FinalSlices"].split("-"))
        assert (first, last) == (0, seen[-1] - 1)
        hu = slicer.util.arrayFromVolume(node)
        assert (hu[last + 1 :] == SceneVolumes.AIR_HU).all()
        assert all(len(np.unique(one)) > 10 for one in hu[: last + 1])


def test_cancelled_before_anything_is_final(logic, model):
    run = logic.start(replace(ENDLESS, model=model), keepPartial=True)
    began = []
    run.progressed.connect(began.append)
    pollUntil(logic, lambda: began)
    run.cancel()
    assert logic.worker.waitFor(run.job).kind == "cancelled"
    assert volumes() == []
    with pytest.raises(Cancelled):
        logic.generate(
            model=model, slices=200, steps=10000, onProgress=lambda *_: logic.worker._jobs["generate"].cancel()
        )


@pytest.mark.parametrize("keep", [True, False])
def test_the_worker_is_killed(logic, model, keep):
    run = logic.start(replace(SLOW, model=model), keepPartial=keep)
    seen = []
    run.slicesArrived.connect(lambda done, of: seen.append(done))
    pollUntil(logic, lambda: seen)
    os.kill(run.job._process.processID, signal.SIGKILL)
    ending = logic.worker.waitFor(run.job)
    assert (ending.kind, ending.code) == ("failed", "killed")
    assert "memory ran out" in ending.message
    assert "Close other programs" in ending.remedy
    assert len(volumes()) == int(keep)


def test_the_scene_is_closed_while_it_runs(logic, model, app):
    run = logic.start(replace(SLOW, model=model), keepPartial=True)
    pollUntil(logic, lambda: run.nodes())
    processID = run.job._process.processID
    app.scene.Clear()
    ending = logic.worker.waitFor(run.job)
    assert (ending.kind, ending.message) == ("cancelled", "The scene was closed.")
    assert isGone(processID)
    assert volumes() == run.nodes() == []
    assert logic.generate(model=model, **SMALL) is volumes()[0]  # and the next one runs


def test_a_node_that_the_user_removes_comes_again_whole(logic, model, app):
    run = logic.start(GenerateRequest(model=model, slices=40, spacingMm=2.0, detailSteps=20, seed=2, device="cpu"))
    pollUntil(logic, lambda: run.nodes())
    app.scene.RemoveNode(run.nodes()[0])
    assert logic.worker.waitFor(run.job).kind == "finished"
    (node,) = volumes()
    assert run.nodes() == [node]
    assert all(len(np.unique(one)) > 10 for one in slicer.util.arrayFromVolume(node))
    assert Provenance.provenance(node)["Complete"] == "yes"


def test_what_cannot_work_says_why(logic, model, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(model.read_bytes()[:-1000])
    with pytest.raises(CTDiffusionError, match=r"broken\.safetensors is broken: .* bytes are missing") as caught:
        logic.generate(model=broken, **SMALL)
    assert caught.value.remedy
    with pytest.raises(CTDiffusionError, match="0"):
        logic.generate(model=model, count=0)
    assert volumes() == []


def test_a_second_start_is_refused(logic, model):
    run = logic.start(replace(ENDLESS, model=model))
    with pytest.raises(Worker.JobBusyError):
        logic.generate(model=model)
    run.cancel()
    assert logic.worker.waitFor(run.job).kind == "cancelled"


def test_the_library_and_the_estimate_agree(model):
    from CTDiffusionLogic import generation_request, memory, sampling
    from CTDiffusionLogic.denoiser.network import DenoiserConfig
    from CTDiffusionLogic.generation import GenerationModel, generate
    from CTDiffusionLogic.guidance import GUIDED_FROM
    from CTDiffusionLogic.training.export import SAMPLING

    assert {
        name: (one.anatomy_steps, one.detail_steps) for name, one in sampling.SAMPLERS.items()
    } == GenerateEstimate.DEFAULT_STEPS
    assert GenerateEstimate.DEFAULT_SLICES == generation_request.DEFAULT_SLICES
    assert GenerateEstimate.DEFAULT_SPACING_MM == generation_request.DEFAULT_SPACING_MM
    levels = sampling.estimate_times(SAMPLING["anatomy_steps"], sigma_min=SAMPLING["anatomy_sigma_min"])
    assert sum(t >= GUIDED_FROM for t in levels) / SAMPLING["anatomy_steps"] == GenerateEstimate.GUIDED_SHARE
    card = read_header(model).card
    guided = {**card, "sampling": {**card["sampling"], "guidance": 2.0}}
    assert GenerateEstimate.workOf(guided, slices=9, spacingMm=3.0) > GenerateEstimate.workOf(
        card, slices=9, spacingMm=3.0
    )
    # A guide is a smaller network: its passes cost less than a second one of the network itself.
    smaller = {**card["stages"]["anatomy"], "channels": [8, 16]}
    withGuide = {**guided, "stages": {**card["stages"], "guide": smaller}}
    plain, byGuide, byItself = (
        GenerateEstimate.workOf(one, slices=9, spacingMm=3.0) for one in (card, withGuide, guided)
    )
    assert plain < byGuide < byItself
    for stage, size in (("anatomy", 32), ("detail", 64)):
        config = DenoiserConfig.from_dict(card["stages"][stage])
        assert GenerateEstimate.slabBytes(card["stages"][stage], size) == memory.slab_bytes(config, size)
    # Work grows with what the library counts.
    units = []
    from CTDiffusionLogic.bundle import load_model

    ready = GenerationModel.from_file(load_model(model))
    for slices in (16, 60):
        generate(
            ready,
            generation_request.GenerationRequest(slices=slices),
            on_progress=lambda done, total, *_: units.append(total),
        )
    few, many = dict.fromkeys(units)
    work = [GenerateEstimate.workOf(card, slices=n, spacingMm=3.0) for n in (16, 60)]
    assert work[1] / work[0] == pytest.approx(many / few, rel=0.1)


@pytest.mark.parametrize(("sampler", "passes"), [("multistep", 3), ("heun", 5)])
def test_the_library_and_the_estimate_agree_on_fine_models(model, tmp_path, sampler, passes):
    from CTDiffusionLogic import generation, memory
    from CTDiffusionLogic.denoiser.network import DenoiserConfig
    from CTDiffusionLogic.slab_plan import detail_passes, plan_detail

    card = read_header(model).card
    fine = read_header(write_random_fine_model(tmp_path / "finer.safetensors", steps=3, sampler=sampler)).card
    config = DenoiserConfig.from_dict(fine["stages"]["detail"])
    windows = detail_passes(plan_detail(40, (), slices=config.slices), passes)
    work = 9e-9 * windows * generation._cost(config, 128)
    assert GenerateEstimate.fineWork(fine, slices=40) == pytest.approx(work)
    request = GenerateRequest(slices=40, count=2)
    own, larger = (
        GenerateEstimate.estimate(card, request, device="cpu", secondsPerWork=1.0, fine=one) for one in (None, fine)
    )
    assert larger.work - own.work == pytest.approx(2 * work)
    assert larger.seconds - own.seconds == pytest.approx(2 * work)
    voxels = 2 * 3 * 40 * (128**2 - 64**2)
    slab = memory.slab_bytes(config, 128) - 2 * memory.slab_bytes(
        DenoiserConfig.from_dict(card["stages"]["detail"]), 64
    )
    assert larger.memoryBytes - own.memoryBytes == pytest.approx(voxels + slab)


def test_a_measured_speed_is_remembered_and_used(logic, model):
    run = logic.start(GenerateRequest(model=model, slices=40, detailSteps=10, seed=2, device="cpu"))
    assert logic.worker.waitFor(run.job).kind == "finished"
    seconds = logic.settings.secondsPerWork("cpu")
    assert seconds is not None
    card = read_header(model).card
    guess = GenerateEstimate.estimate(card, run.request, device="cpu", secondsPerWork=seconds)
    assert guess.isMeasured
    assert guess.seconds - GenerateEstimate.START_S["cpu"] == pytest.approx(run.worked[0] / run.worked[1], rel=0.01)
    assert guess.text.startswith("about ")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 seconds"), (42, "40 seconds"), (700, "12 minutes"), (7200, "2 hours")]
)
def test_durations(seconds, text):
    assert GenerateEstimate.durationText(seconds) == text


@pytest.mark.parametrize(
    ("phase", "text"),
    [("detail", "detail"), ("fine", "larger matrix"), ("volume 1 of 2, fine", "volume 1 of 2, larger matrix")],
)
def test_stages_have_names_for_people(phase, text):
    assert phaseText(phase) == text


def test_ranges():
    assert rangesText([True, True, False, True]) == "0-1, 3"
    assert rangesText(np.zeros(3, bool)) == ""


def test_settings_survive_nonsense(tmp_path):
    store = MemoryStore()
    settings = GenerateSettings(store)
    store.setValue("CTDiffusion/Models", "not JSON")
    assert settings.models() == []
    for name in ("a", "b", "a"):
        (tmp_path / name).touch()
        settings.rememberModel(tmp_path / name)
    assert settings.models() == [tmp_path / "a", tmp_path / "b"]
    (tmp_path / "a").unlink()
    assert settings.models() == [tmp_path / "b"]
    store.setValue("CTDiffusion/Speeds", '["list"]')
    assert settings.secondsPerWork("cpu") is None
