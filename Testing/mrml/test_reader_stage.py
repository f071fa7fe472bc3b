"""Where readers see images: Slicer's own layouts, views and annotations, and that nothing of it stays."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from CTDiffusionLib import CornerAnnotation, Display, Layouts, SceneVolumes
from CTDiffusionLib.ReaderImages import ReaderImages
from CTDiffusionLib.ReaderResults import resultsTable, resultsText
from CTDiffusionLib.ReaderRun import ReaderRun
from CTDiffusionLib.ReaderSources import SourceReader, countByOrigin, findSources, sceneProblem
from CTDiffusionLib.ReaderStage import TEXT, ReaderStage, layoutXml, stageLayout

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.fidelity.reader_files import create_study
from CTDiffusionLogic.fidelity.reader_images import ReaderImage
from CTDiffusionLogic.fidelity.reader_study import plan_study

LAYOUTS = [(2, 1), (2, 2), (1, 1), (1, 2)]


def texts(renderer):
    props = renderer.GetViewProps()
    found = [props.GetItemAsObject(n) for n in range(props.GetNumberOfItems())]
    return [prop.GetText(vtk.vtkCornerAnnotation.UpperEdge) for prop in found if prop.GetVisibility()]


def image(value, *, slices=1, size=(40, 50), spacing=(3.0, 2.0, 2.0)):
    return ReaderImage(np.full((slices, *size), value, np.int16), spacing, (40.0, 50.0))


def volumes(app, *, synthetic=2, real=2, matrix=None):
    matrix = np.diag([-2.0, -2.0, 3.0, 1.0]) if matrix is None else matrix
    hu = np.full((12, 40, 40), -1000, np.int16)
    hu[:, 8:32, 8:32] = 40
    made = [SceneVolumes.insertVolume(hu, matrix, f"Doe {n}", volumesLogic=app.volumes_logic) for n in range(real)]
    return made + [
        SceneVolumes.insertSyntheticVolume(hu, matrix, f"SYNTHETIC {n}", volumesLogic=app.volumes_logic)
        for n in range(synthetic)
    ]


@pytest.mark.parametrize("shape", LAYOUTS)
def test_layouts_are_what_slicers_layout_node_reads(shape):
    layout = stageLayout(*shape)
    root = slicer.vtkMRMLLayoutNode.ParseLayout(layoutXml(layout))
    assert root.GetAttribute("type") == "horizontal"
    assert root.GetNumberOfNestedElements() == (shape[0] if shape[0] == 2 else shape[1])
    found = []

    def walk(element):
        if element.GetName() == "view":
            found.append((element.GetAttribute("class"), element.GetAttribute("singletontag")))
        for n in range(element.GetNumberOfNestedElements()):
            walk(element.GetNestedElement(n))

    walk(root)
    assert found == [("vtkMRMLSliceNode", tag) for tag in layout.tags]
    assert len(set(layout.tags)) == shape[0] * shape[1]


def test_numbers_and_tags_are_nobody_elses():
    from CTDiffusionLib import TrainLayout

    layouts = [stageLayout(*shape) for shape in LAYOUTS]
    numbers = [layout.number for layout in layouts]
    others = [layout.number for layout in Layouts.OWN_LAYOUTS] + [TrainLayout.ONE_PLOT, TrainLayout.TWO_PLOTS]
    assert len(set(numbers + others)) == len(numbers) + len(others)
    taken = {tag for layout in Layouts.OWN_LAYOUTS for tag in layout.tags}
    assert not taken & {tag for layout in layouts for tag in layout.tags}


def test_the_reader_sees_the_images_side_by_side(open_views):
    views = open_views(stageLayout(2, 1).tags)
    stage = ReaderStage(2, 1, scene=views.scene, volumesLogic=views.app.volumes_logic, rendererOf=views.renderer)
    stage.open()
    stage.show([image(-135), image(215)], "abdomen")  # black and white of window 350, level 40
    left, right = (views.picture(tag) for tag in stage.layout.tags)
    middle = np.s_[200:280, 200:280]
    assert left[middle].max() < 3
    assert right[middle].min() > 252
    stage.show([image(215), image(-135)], "abdomen")  # the next item
    assert views.picture(stage.layout.tags[0])[middle].min() > 252
    stage.close()
    assert [views.picture(tag)[middle].max() for tag in stage.layout.tags] == [0, 0]


def test_all_views_say_the_same_and_none_says_synthetic(app):
    synthetic = volumes(app)[-1]
    renderers = {tag: vtk.vtkRenderer() for tag in (*stageLayout(2, 2).tags, "Red")}
    labels = CornerAnnotation.SyntheticLabels(app.scene, renderers.get)
    Layouts.compositeNode(app.scene, "Red").SetBackgroundVolumeID(synthetic.GetID())
    plan = plan_study(*findSources(volumes(app)), items=2, shown="volumes")
    images = ReaderImages(plan, SourceReader(app.scene))
    list(images.prepare())
    stage = ReaderStage(2, 2, scene=app.scene, volumesLogic=app.volumes_logic, rendererOf=renderers.get)
    stage.open()
    stage.show(images.of(plan.items[0]), "abdomen")
    assert [texts(renderers[tag]) for tag in stage.layout.tags] == 4 * [[TEXT]]
    assert texts(renderers["Red"]) == [CornerAnnotation.TEXT]  # a view that is not the study's
    stage.fit()
    assert [texts(renderers[tag]) for tag in stage.layout.tags] == 4 * [[TEXT]]
    stage.close()
    assert [texts(renderers[tag]) for tag in stage.layout.tags] == 4 * [[]]
    labels.stop()


@pytest.mark.parametrize("has_logic", [True, False])
def test_the_users_layout_comes_back_and_comparisons_keep_theirs(app, has_logic):
    if has_logic:
        logic = slicer.vtkMRMLLayoutLogic()
        logic.SetMRMLScene(app.scene)
    node = Layouts.layoutNode(app.scene)
    node.SetViewArrangement(node.SlicerLayoutConventionalView)
    found = volumes(app)
    Layouts.showSideBySide(found[-1], found[0])
    before = app.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    stage = ReaderStage(1, 2, scene=app.scene, volumesLogic=app.volumes_logic, rendererOf=lambda tag: None)
    for _ in range(2):
        stage.open()
        stage.show([image(0, slices=5)], "lung")
        assert node.GetViewArrangement() == stage.layout.number
        assert not node.GetSaveWithScene()
        stage.close()
        stage.close()  # may be called again
        assert Layouts.isShown(Layouts.SIDE_BY_SIDE, app.scene)
        assert node.GetSaveWithScene()
    assert app.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == before
    assert Layouts.restoreLayout(app.scene)
    assert node.GetViewArrangement() == node.SlicerLayoutConventionalView


def test_a_layout_that_the_user_chose_meanwhile_stays(app):
    node = Layouts.layoutNode(app.scene)
    stage = ReaderStage(1, 1, scene=app.scene, volumesLogic=app.volumes_logic, rendererOf=lambda tag: None)
    stage.open()
    node.SetViewArrangement(node.SlicerLayoutOneUpRedSliceView)
    stage.close()
    assert node.GetViewArrangement() == node.SlicerLayoutOneUpRedSliceView


def test_images_are_shown_whole_and_at_one_scale(app):
    stage = ReaderStage(2, 1, scene=app.scene, volumesLogic=app.volumes_logic, rendererOf=lambda tag: None)
    stage.open()
    nodes = [Layouts.sliceNode(app.scene, tag) for tag in stage.layout.tags]
    for node in nodes:
        node.SetDimensions(400, 300, 1)
    stage.show([image(0, size=(60, 30)), image(0, size=(40, 40))], "abdomen")
    fields = [node.GetFieldOfView() for node in nodes]
    assert fields[0][:2] == fields[1][:2]
    assert fields[0][1] >= 120
    for node in nodes:
        assert [node.GetSliceToRAS().GetElement(n, 3) for n in range(3)] == pytest.approx([0, 0, 0])
        assert node.GetOrientation() == "Axial"


def test_sources_by_provenance(app):
    found = volumes(app, synthetic=1, real=3)
    assert countByOrigin(found) == (3, 1)
    real, synthetic = findSources(found)
    assert [(one.name, one.synthetic) for one in real + synthetic] == [
        ("Doe 0", False), ("Doe 1", False), ("Doe 2", False), ("SYNTHETIC 0", True),
    ]  # fmt: skip
    assert sceneProblem(found) == ""
    empty = app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    assert "empty has no voxels" in sceneProblem([*found, empty])
    found[-1].SetAttribute("CTDiffusion.RealSlices", "1-3")
    assert "is partly real: it belongs to neither group" in sceneProblem(found)
    found[-1].SetAttribute("CTDiffusion.Derived", "difference")
    assert "was computed from other volumes" in sceneProblem(found)


def test_volumes_are_read_as_they_lie_and_found_again_by_name(app, oblique):
    (node,) = volumes(app, synthetic=0, real=1, matrix=oblique)
    (source,), _ = findSources([node])
    volume = SourceReader(app.scene).read(source)
    np.testing.assert_allclose(volume.geometry.ijk_to_ras, oblique, atol=1e-6)
    np.testing.assert_array_equal(volume.hu, slicer.util.arrayFromVolume(node))
    node.SetName("renamed")
    with pytest.raises(InputError, match="Doe 0 is not in the scene"):
        SourceReader(app.scene).find(source)
    other = volumes(app, synthetic=0, real=1)[0]
    other.SetName("Doe 0")  # as in a scene that was loaded again, with another ID
    assert SourceReader(app.scene).find(source) is other
    other.SetAttribute("CTDiffusion.Synthetic", "yes")
    with pytest.raises(InputError, match="says that it is synthetic"):
        SourceReader(app.scene).read(source)


def test_a_run_measures_time_and_writes_answers(app, tmp_path):
    plan = plan_study(*findSources(volumes(app)), items=4, mode="one by one")
    images = ReaderImages(plan, SourceReader(app.scene), findGrid=True)
    assert list(images.prepare())[-1] == (4, 4)
    assert (images.plan.pixel_mm, images.plan.side_mm) == (2.0, 80.0)
    study = create_study(tmp_path / "a.csv", images.plan)
    now, ended = [100.0], []
    stage = ReaderStage(1, 1, scene=app.scene, volumesLogic=app.volumes_logic, rendererOf=lambda tag: None)
    run = ReaderRun(study, "R1", images, stage, preset="bone", clock=lambda: now[0])
    run.ended.connect(lambda: ended.append(run.done))
    run.start()
    run.rate(3)  # no choice yet
    assert run.done == 0
    for seconds in (2.5, 4.0):
        now[0] += seconds
        run.choose(1)
        now[0] += 60  # thinking about the confidence is not timed
        run.setPreset("lung")
        run.rate(3)
    run.choose(0)
    run.stop()
    run.stop()
    assert ended == [2]
    assert [answer.seconds for answer in study.answers] == [2.5, 4.0]
    assert [answer.window for answer in study.answers] == ["1000/400", "1400/-500"]
    again = ReaderRun(study, "R1", images, stage, preset="bone", clock=lambda: now[0])
    again.start()
    for _ in range(2):
        again.choose(1)
        again.rate(5)
    assert (again.isRunning, again.done) == (False, 4)
    table = resultsTable(study, scene=app.scene)
    names = [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())]
    row = {name: table.GetCellText(0, n) for n, name in enumerate(names)}
    assert (row["reader"], float(row["answered"]), float(row["accuracy"])) == ("R1", 4, 0.5)
    assert {"d'", "d' low", "d' high", "AUC", "AUC low", "AUC high", "p (chance)", "median seconds"} <= set(names)
    assert "2 of 4 right (50 %" in resultsText(study)
    assert resultsTable(study, scene=app.scene) is table


def test_a_volume_that_cannot_be_read_ends_the_run_and_gives_the_views_back(app, tmp_path):
    found = volumes(app)
    plan = plan_study(*findSources(found), items=2, shown="volumes")
    images = ReaderImages(plan, SourceReader(app.scene))
    list(images.prepare())
    study = create_study(tmp_path / "a.csv", plan)
    before = Layouts.layoutNode(app.scene).GetViewArrangement()
    stage = ReaderStage(2, 2, scene=app.scene, volumesLogic=app.volumes_logic, rendererOf=lambda tag: None)
    run = ReaderRun(study, "R1", images, stage, preset="bone")
    run.start()
    run.choose(0)
    for node in found:
        app.scene.RemoveNode(node)
    with pytest.raises(InputError, match="is not in the scene"):
        run.rate(1)
    assert not run.isRunning
    assert Layouts.layoutNode(app.scene).GetViewArrangement() == before
    assert len(study.answers) == 1


def test_the_images_of_a_pair_keep_one_window(app):
    stage = ReaderStage(2, 1, scene=app.scene, volumesLogic=app.volumes_logic, rendererOf=lambda tag: None)
    stage.open()
    stage.show([image(0), image(0)], "bone")
    displays = [Display.displayNodeOf(node) for node in stage._nodes()]
    displays[1].SetWindowLevel(321, 12)
    assert (displays[0].GetWindow(), displays[0].GetLevel()) == (321, 12)
    assert stage.window() == "321/12"
    stage.close()
    assert not app.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeDisplayNode")
