"""Scans for a training: volumes of a real scene and series of a DICOM database become files for the worker."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import slicer
import slicer.util
from CTDiffusionLib import SceneScans, SceneVolumes, TrainData, TrainDicom

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.image_files import AIRLIKE_HU
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.scan_search import find_scans
from CTDiffusionLogic.training.options import WHOLE_PRESETS, TrainOptions
from CTDiffusionLogic.volume_io import read_volume


def insert(app, hu, name, matrix=None):
    matrix = np.diag([-4.0, -4.0, 5.0, 1.0]) if matrix is None else matrix
    return SceneVolumes.insertVolume(hu, matrix, name, volumesLogic=app.volumes_logic)


@pytest.fixture
def ct(app):
    phantom = torso_phantom(slices=12, size=48, spacing_mm=(8.0, 8.0, 10.0))
    return insert(app, phantom.hu, "chest", phantom.geometry.ijk_to_ras)


def test_what_is_offered_and_what_is_not(app, ct, hu, tmp_path):
    assert TrainData.whyNotCT(ct) == ""
    mr = insert(app, np.random.default_rng(0).integers(0, 300, (12, 48, 48)).astype(np.int16), "MR")
    assert TrainData.whyNotCT(mr) == f"not a CT: no value below {AIRLIKE_HU} HU"
    # Little air, where a look at a few voxels misses it.
    inside = np.full((12, 48, 48), 40, np.int16)
    inside[5, 7, 9] = -900
    assert TrainData.whyNotCT(insert(app, inside, "abdomen")) == ""
    assert TrainData.whyNotCT(insert(app, np.full((3, 48, 48), -900, np.int16), "thin")) == "has fewer than 8 slices"
    synthetic = SceneVolumes.insertSyntheticVolume(
        np.full((12, 48, 48), -900, np.int16), np.diag([-1.0, -1, 1, 1]), volumesLogic=app.volumes_logic
    )
    assert TrainData.whyNotCT(synthetic) == "synthetic"
    assert TrainData.canBeExported(synthetic)
    TrainData.writeVolumes([TrainData.exportOf(synthetic)], tmp_path)
    assert read_volume(TrainData.volumeFile(tmp_path, 1)).metadata["synthetic"] == "yes"
    assert TrainData.exportOf(ct).source.metadata == {}
    empty = app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    assert TrainData.whyNotCT(empty) == "empty"
    assert not TrainData.canBeExported(empty)
    app.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    names = [node.GetName() for node in SceneScans.sceneVolumes(app.scene)]
    assert "labels" not in names
    assert {"chest", "MR", "nothing"} <= set(names)


def test_volumes_become_files_with_their_patients(app, ct, oblique, tmp_path):
    other = insert(app, np.full((9, 40, 30), -500, np.int16), "Miller, second scan", oblique)
    third = insert(app, slicer.util.arrayFromVolume(ct).copy(), "third")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(app.scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Miller")
    study = hierarchy.CreateStudyItem(patient, "study")
    for node in (ct, other):
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), study)
    exports = [TrainData.exportOf(node) for node in (ct, other, third)]
    app.scene.RemoveNode(ct)  # what the user does meanwhile does no harm
    thread = threading.Thread(target=TrainData.writeVolumes, args=(exports, tmp_path / "scans"))
    thread.start()
    thread.join()
    scans = find_scans([tmp_path / "scans"]).found
    assert [scan.id.partition("-")[0] for scan in scans] == ["volume"] * 3
    assert [scan.patient for scan in scans] == ["scene-1", "scene-1", "scene-2"]
    assert "Miller" not in "".join(path.name + path.read_text(errors="replace") for path in tmp_path.rglob("*.csv"))
    back = read_volume(TrainData.volumeFile(tmp_path / "scans", 1))
    np.testing.assert_array_equal(back.hu, exports[0].source.values)
    second = read_volume(TrainData.volumeFile(tmp_path / "scans", 2))
    assert second.geometry.is_close(Geometry.from_ijk_to_ras(oblique), atol_mm=1e-3)


def test_floating_point_and_damaged_values(app, ct, tmp_path):
    values = slicer.util.arrayFromVolume(ct).astype(np.float32) + 0.25
    slicer.util.updateVolumeFromArray(ct, values)
    TrainData.writeVolumes([TrainData.exportOf(ct)], tmp_path)
    np.testing.assert_array_equal(read_volume(TrainData.volumeFile(tmp_path, 1)).hu, np.rint(values))
    values[3, 4, 5] = np.nan
    slicer.util.updateVolumeFromArray(ct, values)
    with pytest.raises(InputError, match="The volume chest has 1 voxels that are not numbers"):
        TrainData.writeVolumes([TrainData.exportOf(ct)], tmp_path / "again")


def test_transforms_above_a_volume_count(app, ct, tmp_path):
    turned = np.array([[0.0, -1.0, 0.0, 5.0], [1.0, 0.0, 0.0, 7.0], [0.0, 0.0, 1.0, -30.0], [0.0, 0.0, 0.0, 1.0]])
    outer, inner = (app.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode") for _ in range(2))
    outer.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turned))
    stretched = np.diag([1.0, 1.0, 1.5, 1.0])
    inner.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(stretched))
    inner.SetAndObserveTransformNodeID(outer.GetID())
    ct.SetAndObserveTransformNodeID(inner.GetID())
    TrainData.writeVolumes([TrainData.exportOf(ct)], tmp_path)
    written = read_volume(TrainData.volumeFile(tmp_path, 1)).geometry
    wanted = turned @ stretched @ SceneVolumes.ijkToRAS(ct)
    assert written.is_close(Geometry.from_ijk_to_ras(wanted), atol_mm=1e-3)
    assert written.spacing[2] == pytest.approx(15.0)


def test_a_transform_that_bends_space_is_refused(bent, ct):
    ct.SetAndObserveTransformNodeID(bent.GetID())
    with pytest.raises(InputError, match=r"chest lies under a transform that is not linear\. Harden it"):
        TrainData.exportOf(ct)


def test_what_cannot_be_exported(app, ct):
    empty = app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    with pytest.raises(InputError, match="The volume nothing cannot be learnt from: empty"):
        TrainData.exportOf(empty)
    sheared = np.diag([-4.0, -4.0, 5.0, 1.0])
    sheared[0, 1] = 2.0
    ct.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(sheared))
    with pytest.raises(InputError, match="The volume chest has a geometry that cannot be used"):
        TrainData.exportOf(ct)


def test_names_instead_of_files():
    names, folder = {"volume-002": "CT chest", "series-001": "Miller, thorax"}, Path("/tmp/CT Diffusion-x/scans")

    def inWords(text):
        return TrainData.inWords(text, names, folder)

    assert inWords(f"Left out {folder / 'volume-002.nrrd'}: has 4 slices.") == "Left out CT chest: has 4 slices."
    assert inWords("measuring volume-002-0a1b2c") == "measuring CT chest"
    assert inWords("series-001-abcdef and series-001\\00007: bad") == "Miller, thorax and Miller, thorax: bad"
    assert inWords("volume-003 and /data/volume.nrrd") == "volume-003 and /data/volume.nrrd"


def test_the_library_and_the_panel_agree():
    from importlib import import_module
    from unittest import mock

    # Decorators and annotations of Slicer's own, which slicer-core has not.
    wrapper = mock.MagicMock()
    wrapper.parameterNodeWrapper = lambda cls: cls
    with mock.patch.dict("sys.modules", {"slicer.parameterNodeWrapper": wrapper}):
        parameters = import_module("CTDiffusionLib.TrainParameters")
    assert set(parameters.PRESETS) == set(WHOLE_PRESETS)  # of models that can be chosen under Generate
    for size in parameters.IMAGE_SIZES:
        for preset in parameters.PRESETS:
            TrainOptions(data=(), run=Path(), image_size=size, preset=preset).check()
    assert TrainData.AIRLIKE_HU == AIRLIKE_HU


class Database:
    """What is used of a ctkDICOMDatabase, under its names (CTK, Libs/DICOM/Core/ctkDICOMDatabase.h, 2026).

    slicer-core and the host have no DICOM database: that of Slicer itself is not tried here.
    """

    isOpen = True

    def __init__(self, series):
        self._series = series  # by UID: patient, study, modality, description, files

    def _all(self, index, **wanted):
        rows = [(uid, *row) for uid, row in self._series.items()]
        return list(dict.fromkeys(row[index] for row in rows if all(row[i] == v for i, v in wanted.values())))

    def patients(self):
        return self._all(1)

    def studiesForPatient(self, patient):
        return self._all(2, patient=(1, patient))

    def seriesForStudy(self, study):
        return self._all(0, study=(2, study))

    def studyForSeries(self, uid):
        return self._series[uid][1] if uid in self._series else ""

    def patientForStudy(self, study):
        return self._all(1, study=(2, study))[0]

    def nameForPatient(self, patient):
        return f"Name{patient}"

    def fieldForStudy(self, field, study):
        return {"StudyDate": "20260102"}[field]

    def fieldForSeries(self, field, uid):
        return {"Modality": self._series[uid][2]}[field]

    def descriptionForSeries(self, uid):
        return self._series[uid][3]

    def filesForSeries(self, uid, hits=-1):
        return [str(path) for path in self._series.get(uid, (0, 0, 0, 0, []))[4]]


@pytest.fixture
def database(ctData):
    folder = next(path.parent for path in sorted((ctData / "dicom").rglob("*.dcm")))
    files = sorted(folder.glob("*.dcm"))
    return Database(
        {
            "1.2.3": ("1", "s1", "CT", "thorax", files),
            "1.2.4": ("1", "s1", "MR", "brain", files[:1]),
            "1.2.5": ("2", "s2", "CT", "SYNTHETIC torso", files[:2]),
            "1.2.6": ("2", "s2", "CT", "", []),
        }
    )


def test_ct_series_of_a_database(database, monkeypatch, tmp_path):
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    assert TrainDicom.database() is database
    found = list(TrainDicom.ctSeries(database))
    assert [one.label if one else None for one in found] == [
        "Name1, 20260102, thorax",
        None,
        None,
        "Name2, 20260102, 1.2.6",
    ]
    assert [one.uid for one in TrainDicom.ctSeries(database, withSynthetic=True) if one] == ["1.2.3", "1.2.5", "1.2.6"]
    with pytest.raises(InputError, match="no files of the series Name2"):
        TrainDicom.exportOf(database, "1.2.6")
    with pytest.raises(InputError, match=r"9\.9: not in the DICOM database"):
        TrainDicom.exportOf(database, "9.9")
    export = TrainDicom.exportOf(database, "1.2.3")
    TrainDicom.linkSeries([export], tmp_path)
    (scan,) = find_scans([tmp_path]).found
    assert scan.kind == "dicom"
    assert scan.shape[0] == len(export.files)
    assert TrainData.inWords(scan.id, {"series-001": export.label}, tmp_path) == export.label
    monkeypatch.setattr(TrainDicom.os, "symlink", _refuse)
    monkeypatch.setattr(TrainDicom.os, "link", _refuse)  # Windows without rights, another disk
    TrainDicom.linkSeries([export], tmp_path / "copies")
    assert len(find_scans([tmp_path / "copies"]).found) == 1
    gone = TrainDicom.SeriesExport("gone", (*export.files, tmp_path / "no.dcm"))
    with pytest.raises(InputError, match=r"no\.dcm of the series gone is missing"):
        TrainDicom.linkSeries([gone], tmp_path / "more")


def _refuse(*_arguments):
    raise OSError("not allowed")


def test_without_a_database(monkeypatch):
    monkeypatch.delattr(slicer, "dicomDatabase", raising=False)
    assert TrainDicom.database() is None
    assert TrainDicom.seriesLabel(None, "1.2") == "1.2: not in the DICOM database"
    closed = Database({})
    closed.isOpen = False
    monkeypatch.setattr(slicer, "dicomDatabase", closed, raising=False)
    assert TrainDicom.database() is None
