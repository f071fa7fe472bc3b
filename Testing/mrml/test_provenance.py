import numpy as np
import pytest
import slicer
import slicer.util
from CTDiffusionLib import Provenance, SceneVolumes
from rendering import new_app

METADATA = {
    "synthetic": "yes",
    "model": 'torso "v1"; a:b %20 <é> & more',
    "model_sha256": "0123456789abcdef" * 4,
    "seed": 7,
    "steps": 12,
    "sampler": "heun",
    "version": "0.1.0",
    "label": None,
    "note": "",
}


@pytest.fixture
def pair(app, hu, oblique):
    real = SceneVolumes.insertVolume(hu[::-1], oblique, "real", volumesLogic=app.volumes_logic)
    node = SceneVolumes.insertSyntheticVolume(
        hu, oblique, "synthetic", metadata=METADATA, reference=real, volumesLogic=app.volumes_logic
    )
    return node, real


def test_facts_become_attributes(pair):
    node, real = pair
    assert Provenance.provenance(node) == {
        "Synthetic": "yes",
        "Model": METADATA["model"],
        "ModelSha256": METADATA["model_sha256"],
        "Seed": "7",
        "Steps": "12",
        "Sampler": "heun",
        "Version": "0.1.0",
        "ReferenceNodeID": real.GetID(),
    }
    assert node.GetAttribute("CTDiffusion.Synthetic") == "yes"
    assert Provenance.referenceVolume(node) is real


def test_only_the_synthetic_volume_is_synthetic(pair, app):
    node, real = pair
    assert Provenance.isSynthetic(node)
    assert not Provenance.isSynthetic(real)
    assert not Provenance.isSynthetic(None)
    assert Provenance.syntheticVolumes(app.scene) == [node]
    assert Provenance.provenance(real) == {}


def test_a_volume_is_synthetic_whatever_its_metadata_say(app, hu, oblique):
    node = SceneVolumes.insertSyntheticVolume(
        hu, oblique, metadata={"synthetic": "no"}, volumesLogic=app.volumes_logic
    )
    assert Provenance.isSynthetic(node)
    assert Provenance.referenceVolume(node) is None


def test_a_reference_can_be_forgotten_and_may_vanish(pair, app):
    node, real = pair
    app.scene.RemoveNode(real)
    assert Provenance.referenceVolume(node) is None
    Provenance.setReference(node, None)
    assert "ReferenceNodeID" not in Provenance.provenance(node)


@pytest.mark.parametrize("file_name", ["scene.mrb", "scene.mrml"])
def test_everything_survives_saving_and_loading(pair, app, hu, oblique, tmp_path, file_name):
    facts = Provenance.provenance(pair[0])
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(app.scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(pair[1]), study)
    SceneVolumes.placeBeside(*pair)
    if file_name.endswith(".mrml"):  # Slicer saves the voxels of each node first, then the scene
        for node in pair:
            app.io_manager.write_volume(node, tmp_path / f"{node.GetName()}.nrrd")
            node.AddDefaultStorageNode()
            node.GetStorageNode().SetFileName(str(tmp_path / f"{node.GetName()}.nrrd"))
    assert app.io_manager.save_scene(tmp_path / file_name)

    loaded = new_app()
    assert loaded.io_manager.load_scene(tmp_path / file_name)
    (node,) = Provenance.syntheticVolumes(loaded.scene)
    assert Provenance.provenance(node) == facts
    real = Provenance.referenceVolume(node)
    assert real.GetName() == "real"
    for loaded_node, voxels in ((node, hu), (real, hu[::-1])):
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(loaded_node), voxels)
        np.testing.assert_allclose(SceneVolumes.ijkToRAS(loaded_node), oblique, rtol=0, atol=1e-6)
        assert loaded_node.GetDisplayNode().GetWindow() == 350
        assert loaded_node.GetDisplayNode().GetLevel() == 40
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(loaded.scene)
    parents = [hierarchy.GetItemParent(hierarchy.GetItemByDataNode(n)) for n in (node, real)]
    assert hierarchy.GetItemName(parents[0]) == "study"
    assert parents[0] == parents[1]


def test_the_reference_is_right_after_import_into_a_scene_with_the_same_ids(pair, app, tmp_path):
    assert app.io_manager.save_scene(tmp_path / "scene.mrb")
    assert app.io_manager.load_scene(tmp_path / "scene.mrb")  # a second time, into the scene that has them already
    first, second = Provenance.syntheticVolumes(app.scene)
    assert Provenance.referenceVolume(first) is pair[1]
    imported = Provenance.referenceVolume(second)
    assert imported.GetName() == "real"
    assert imported.GetID() != pair[1].GetID()
