"""What is exported of a volume of a real scene, and that saving and loading the scene changes nothing of it."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util
from CTDiffusionLib import DerivedVolumes, ExportSource, Provenance, SceneVolumes
from rendering import new_app

from CTDiffusionLogic.dicom_write import write_synthetic_dicom
from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.volume_io import read_volume

FACTS = {
    "model": 'torso "v1"; a:b %20 <é> & more',
    "model_sha256": "0123456789abcdef" * 4,
    "seed": "7",
    "detail_steps": "12",
    "synthetic": "yes",
}


@pytest.fixture
def pair(app, hu, oblique):
    real = SceneVolumes.insertVolume(hu[::-1].copy(), oblique, "Doe^Jane", volumesLogic=app.volumes_logic)
    node = SceneVolumes.insertSyntheticVolume(
        hu, oblique, "SYNTHETIC a/b: c", metadata=FACTS, reference=real, volumesLogic=app.volumes_logic
    )
    return node, real


def test_what_the_worker_reads_is_what_is_in_the_scene(pair, hu, oblique, tmp_path):
    source = ExportSource.exportSource(pair[0])
    assert (source.description, source.fileName) == ("a/b: c", "SYNTHETIC-a-b-c")
    source.writeTo(tmp_path / "volume.nrrd")
    read = read_volume(tmp_path / "volume.nrrd", require_hu=False)
    np.testing.assert_array_equal(read.hu, hu)
    np.testing.assert_allclose(read.geometry.ijk_to_ras, oblique, rtol=0, atol=1e-4)
    assert read.portable_metadata == FACTS  # nothing of the scene, no reference
    np.testing.assert_array_equal(source.volume().hu, hu)


def test_other_types_of_voxels_are_rounded(pair, hu, tmp_path):
    slicer.util.updateVolumeFromArray(pair[0], hu.astype(np.float32) + 0.25)
    source = ExportSource.exportSource(pair[0])
    source.writeTo(tmp_path / "volume.nrrd")
    np.testing.assert_array_equal(read_volume(tmp_path / "volume.nrrd", require_hu=False).hu, np.clip(hu, None, 3071))
    np.testing.assert_array_equal(source.volume().hu, np.clip(hu, None, 3071))


def test_a_transform_that_moves_the_volume_counts(pair, app, oblique):
    matrix = np.eye(4)
    matrix[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    matrix[:3, 3] = [10, 20, -30]
    transform = app.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    pair[0].SetAndObserveTransformNodeID(transform.GetID())
    geometry = ExportSource.exportSource(pair[0]).geometry
    np.testing.assert_allclose(geometry.ijk_to_ras, matrix @ oblique, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["sheared", "bent"])
def test_what_no_file_can_hold_is_refused(pair, app, bent, kind):
    transform = bent
    if kind == "sheared":
        transform = app.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        matrix = np.eye(4)
        matrix[0, 1] = 0.5
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    pair[0].SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(InputError, match="geometry that files cannot have") as raised:
        ExportSource.exportSource(pair[0])
    assert "Harden" in raised.value.remedy


def test_real_scans_and_unfinished_volumes_are_refused(pair):
    node, real = pair
    with pytest.raises(InputError, match=r"Doe.Jane is not marked as synthetic"):
        ExportSource.exportSource(real)
    node.SetAttribute("CTDiffusion.Complete", "no")
    with pytest.raises(InputError, match="still being made"):
        ExportSource.exportSource(node)
    node.SetAttribute("CTDiffusion.FinalSlices", "0-3")
    assert "only its slices 0-3 are final" in ExportSource.exportSource(node).warning


def test_what_was_computed_from_a_real_scan_is_refused(pair):
    node, _real = pair
    node.SetAttribute(DerivedVolumes.DERIVED_ATTRIBUTE, DerivedVolumes.CHECKERBOARD)
    with pytest.raises(InputError, match="computed from a real scan"):
        ExportSource.exportSource(node)


@pytest.mark.parametrize("file_name", ["scene.mrb", "scene.mrml"])
def test_a_saved_scene_exports_the_same_series(pair, app, tmp_path, file_name):
    before = ExportSource.exportSource(pair[0])
    write_synthetic_dicom(before.volume(), tmp_path / "before", description=before.description)
    if file_name.endswith(".mrml"):  # Slicer saves the voxels of each node first, then the scene
        for number, node in enumerate(pair):
            path = tmp_path / f"{number}.nrrd"
            app.io_manager.write_volume(node, path)
            node.AddDefaultStorageNode()
            node.GetStorageNode().SetFileName(str(path))
    assert app.io_manager.save_scene(tmp_path / file_name)

    loaded = new_app()
    assert loaded.io_manager.load_scene(tmp_path / file_name)
    (node,) = Provenance.syntheticVolumes(loaded.scene)
    after = ExportSource.exportSource(node)
    assert after.metadata == before.metadata
    np.testing.assert_array_equal(after.values, before.values)
    write_synthetic_dicom(after.volume(), tmp_path / "after", description=after.description)
    files = [sorted((tmp_path / name).iterdir()) for name in ("before", "after")]
    same = [a.read_bytes() == b.read_bytes() for a, b in zip(*files, strict=True)]
    assert all(same)  # the same UIDs too: an archive knows that it has them
