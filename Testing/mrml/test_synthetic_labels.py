import gc

import numpy as np
import pytest
import vtk
from CTDiffusionLib import CornerAnnotation, Layouts, Provenance, SceneVolumes

from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import write_volume


@pytest.fixture
def renderers():
    """One real renderer for each view that exists, by layout name."""
    return {tag: vtk.vtkRenderer() for tag in ("Red", *Layouts.SIDE_BY_SIDE.tags, *Layouts.OVERLAY.tags)}


@pytest.fixture
def labels(app, renderers):
    return CornerAnnotation.SyntheticLabels(app.scene, renderers.get)


def _pair(app):
    hu, matrix = np.zeros((4, 5, 6), np.int16), np.eye(4)
    real = SceneVolumes.insertVolume(hu, matrix, "real", volumesLogic=app.volumes_logic)
    synthetic = SceneVolumes.insertSyntheticVolume(hu, matrix, volumesLogic=app.volumes_logic, reference=real)
    return synthetic, real


def _texts(renderer):
    props = renderer.GetViewProps()
    shown = [props.GetItemAsObject(n) for n in range(props.GetNumberOfItems())]
    return [prop.GetText(vtk.vtkCornerAnnotation.UpperEdge) for prop in shown if prop.GetVisibility()]


def test_every_synthetic_view_says_so_and_no_real_one(app, renderers, labels):
    Layouts.showSideBySide(*_pair(app))
    upper, lower = Layouts.SIDE_BY_SIDE.rows
    assert [_texts(renderers[tag]) for tag in upper.tags] == [["SYNTHETIC - not for diagnosis"]] * 3
    assert [_texts(renderers[tag]) for tag in lower.tags] == [[]] * 3


def test_it_follows_what_the_user_puts_into_a_view(app, renderers, labels):
    synthetic, real = _pair(app)
    red = Layouts.compositeNode(app.scene, "Red")
    for volume, count in ((synthetic, 1), (real, 0), (synthetic, 1), (None, 0)):
        red.SetBackgroundVolumeID(volume.GetID() if volume else None)
        assert len(_texts(renderers["Red"])) == count


def test_a_completed_scan_is_called_partly_real(app, renderers, labels):
    synthetic, _real = _pair(app)
    completed, _real = _pair(app)
    completed.SetAttribute("CTDiffusion.RealSlices", "1-3")
    red = Layouts.compositeNode(app.scene, "Red")
    red.SetBackgroundVolumeID(completed.GetID())
    assert _texts(renderers["Red"]) == ["SYNTHETIC, PARTLY REAL - not for diagnosis"]
    red.SetBackgroundVolumeID(synthetic.GetID())
    assert _texts(renderers["Red"]) == ["SYNTHETIC - not for diagnosis"]


def test_an_overlay_says_so_unless_it_is_transparent(app, renderers, labels):
    synthetic, real = _pair(app)
    Layouts.showOverlay(synthetic, real, opacity=0.5)
    assert _texts(renderers[Layouts.OVERLAY.tags[0]])
    Layouts.setOverlayOpacity(0, scene=app.scene)
    assert not _texts(renderers[Layouts.OVERLAY.tags[0]])


def test_it_comes_back_with_a_loaded_scene(app, renderers, labels, tmp_path):
    synthetic, _ = _pair(app)
    Layouts.compositeNode(app.scene, "Red").SetBackgroundVolumeID(synthetic.GetID())
    app.io_manager.save_scene(tmp_path / "scene.mrb")
    app.scene.Clear()
    assert not _texts(renderers["Red"])
    app.io_manager.load_scene(tmp_path / "scene.mrb")
    assert _texts(renderers["Red"]) == ["SYNTHETIC - not for diagnosis"]
    Layouts.compositeNode(app.scene, "Red").SetBackgroundVolumeID(None)  # and the new nodes are followed
    assert not _texts(renderers["Red"])


def test_a_view_that_is_made_later_gets_it(app, renderers):
    late = {}
    labels = CornerAnnotation.SyntheticLabels(app.scene, late.get)
    synthetic, _ = _pair(app)
    Layouts.compositeNode(app.scene, "Red").SetBackgroundVolumeID(synthetic.GetID())
    late["Red"] = renderers["Red"]
    labels.update()
    assert _texts(renderers["Red"])
    late["Red"] = vtk.vtkRenderer()  # the view was made anew
    labels.update()
    assert _texts(late["Red"])


def test_stop_takes_it_away_and_deleting_does_not_leave_observers(app, renderers, labels):
    synthetic, real = _pair(app)
    red = Layouts.compositeNode(app.scene, "Red")
    red.SetBackgroundVolumeID(synthetic.GetID())
    labels.stop()
    assert not _texts(renderers["Red"])
    red.SetBackgroundVolumeID(real.GetID())
    red.SetBackgroundVolumeID(synthetic.GetID())
    assert not _texts(renderers["Red"])

    asked = []
    other = CornerAnnotation.SyntheticLabels(app.scene, lambda tag: asked.append(tag))
    assert asked
    del other
    gc.collect()
    asked.clear()
    red.Modified()
    assert not asked


def test_a_generated_file_that_slicer_loads_by_itself_is_labelled(app, renderers, labels, tmp_path):
    hu = np.full((4, 5, 6), -1000, np.int16)
    write_volume(CTVolume(hu, Geometry((1.0, 1.0, 2.0)), {"synthetic": "yes", "seed": "3"}), tmp_path / "a.nrrd")
    (node,) = app.io_manager.load_volumes(str(tmp_path / "a.nrrd"))
    assert not Provenance.isPartlyReal(node)
    Layouts.compositeNode(app.scene, "Red").SetBackgroundVolumeID(node.GetID())
    assert _texts(renderers["Red"]) == ["SYNTHETIC - not for diagnosis"]
    assert Provenance.provenance(node) == {"Synthetic": "yes", "Seed": "3"}
