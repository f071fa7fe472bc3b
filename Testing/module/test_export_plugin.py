"""The plug-in of Slicer's DICOM module, driven as Slicer's export dialog and its DICOM browser drive it."""

from __future__ import annotations

import inspect
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import slicer
from host import facts, slicer_modules
from host.module_host import ModuleHost

from CTDiffusionLogic.volume_io import read_volume

IJK_TO_RAS = np.array([[-0.7, 0.1, 0.0, 40.0], [-0.1, -0.7, 0.0, 31.5], [0, 0, 2.5, -1200.25], [0, 0, 0, 1]])
FACTS = {"model": "torso", "seed": 7, "steps": 12, "version": "1.0"}


class Database:
    """The part of ctkDICOMDatabase that plug-ins ask while they examine files."""

    def fileValue(self, file: str, tag: str) -> str:
        group, element = (int(part, 16) for part in tag.split(","))
        found = pydicom.dcmread(file, stop_before_pixels=True).get((group, element))
        return "" if found is None else str(found.value)


class ScalarPlugin:
    """Stands for DICOMScalarVolumePlugin: one loadable a series, read by ITK, not marked in any way."""

    def examineForImport(self, fileLists):
        loadables = []
        for files in fileLists:
            loadable = slicer_modules.DICOMLoadable()
            loadable.files, loadable.selected = list(files), True
            loadables.append(loadable)
        return loadables

    def load(self, loadable):
        image = sitk.ReadImage(loadable.files)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "loaded")
        slicer.util.updateVolumeFromArray(node, sitk.GetArrayFromImage(image).astype(np.int16))
        return node


@pytest.fixture
def host():
    with ModuleHost() as host:
        host.loadModule("DICOMSyntheticCTPlugin")
        slicer.modules.dicomPlugins["DICOMScalarVolumePlugin"] = ScalarPlugin
        slicer.dicomDatabase = Database()
        yield host
        del slicer.dicomDatabase


@pytest.fixture
def volumes(host):
    """A real scan of a patient in its study, and beside it a synthetic volume."""
    from CTDiffusionLib import SceneVolumes

    hu = np.random.default_rng(3).integers(-1024, 3000, size=(6, 20, 18), dtype=np.int16)
    real = SceneVolumes.insertVolume(hu[::-1].copy(), IJK_TO_RAS, "CT")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Doe^Jane")
    study = hierarchy.CreateStudyItem(patient, "Abdomen of Jane Doe")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(real), study)
    synthetic = SceneVolumes.insertSyntheticVolume(
        hu, IJK_TO_RAS, "SYNTHETIC torso seed 7", metadata=FACTS, reference=real
    )
    return real, synthetic, hu


def itemOf(node):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    return hierarchy.GetItemByDataNode(node)


def examine(*nodes):
    """As qSlicerDICOMExportDialog::examineSelectedItem does: every plug-in that has the method, each item."""
    found = []
    for node in nodes:
        for name in slicer.modules.dicomPlugins:
            plugin = slicer.modules.dicomPlugins[name]()
            if hasattr(plugin, "examineForExport"):
                found += plugin.examineForExport(itemOf(node))
    return found


def export(exportables, folder):
    """As qSlicerDICOMExportDialog::exportSeries does, after the dialog has put the patient's tags into them."""
    for exportable in exportables:
        exportable.directory = str(folder)
        exportable.setTag("PatientName", "Doe^Jane")
        exportable.setTag("PatientID", "4711")
        exportable.setTag("StudyDescription", "Abdomen of Jane Doe")
    plugin = slicer.modules.dicomPlugins[exportables[0].pluginClass]()
    return plugin.export(exportables)


def test_slicer_finds_the_plugin(host):
    module = slicer.modules.dicomsyntheticctplugin
    assert module.hidden
    plugin = slicer.modules.dicomPlugins["DICOMSyntheticCTPlugin"]()
    assert isinstance(plugin, __import__("DICOMLib").DICOMPlugin)
    assert plugin.loadType == "Synthetic CT"
    assert {"0008,001C", "0008,0070"} <= set(plugin.tags.values())  # the database fetches them at import


def test_only_synthetic_volumes_are_offered_with_more_confidence_than_the_scalar_volume_plugin(volumes):
    real, synthetic, _hu = volumes
    assert examine(real) == []
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "model")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), model)
    assert examine(model) == []
    (offered,) = examine(synthetic)
    assert offered.pluginClass == "DICOMSyntheticCTPlugin"  # the key by which the dialog calls it again
    assert offered.subjectHierarchyItemID == itemOf(synthetic)
    assert 0.5 < offered.confidence <= 1.0
    assert offered.tag("SeriesDescription") == "SYNTHETIC torso seed 7"


def test_the_series_says_what_it_is_and_nothing_of_the_patient(volumes, tmp_path):
    _real, synthetic, hu = volumes
    assert export(examine(synthetic), tmp_path) == ""
    (folder,) = tmp_path.iterdir()
    files = sorted(folder.iterdir())
    assert len(files) == len(hu)
    for file in files:
        image = pydicom.dcmread(file)
        assert image.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
        assert (image.SyntheticData, image.ContentQualification) == ("YES", "RESEARCH")
        assert str(image.PatientName) == "SYNTHETIC^CTDiffusion"
        assert image.PatientID.startswith("SYNTHETIC-")
        assert (image.StudyDescription, image.SeriesDescription) == ("SYNTHETIC CT", "SYNTHETIC torso seed 7")
        assert "seed: 7" in image.DerivationDescription
        assert image.ContributingEquipmentSequence[0].ManufacturerModelName == "torso"
        assert "Doe" not in str(image)
        assert "4711" not in image.PatientID
    back = read_volume(folder)
    np.testing.assert_array_equal(back.hu, hu)
    np.testing.assert_allclose(back.geometry.ijk_to_ras, IJK_TO_RAS, rtol=0, atol=1e-4)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), hu)
    np.testing.assert_allclose(image.GetOrigin(), (-40.0, -31.5, -1200.25), rtol=0, atol=1e-4)


def test_the_user_may_describe_the_series(volumes, tmp_path):
    exportables = examine(volumes[1])
    exportables[0].setTag("SeriesDescription", "for the lecture")
    assert export(exportables, tmp_path) == ""
    image = pydicom.dcmread(next(tmp_path.glob("*/*")))
    assert image.SeriesDescription == "SYNTHETIC for the lecture"


def test_failures_are_told_to_the_dialog(volumes, tmp_path, caplog):
    real, synthetic, _hu = volumes
    exportables = examine(synthetic)
    assert export(exportables, tmp_path) == ""
    problem = export(exportables, tmp_path)
    assert "exists already" in problem
    assert problem in caplog.text
    exportables[0].subjectHierarchyItemID = itemOf(real)
    assert "CT is not marked as synthetic" in export(exportables, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    exportables[0].subjectHierarchyItemID = itemOf(synthetic)
    slicer.mrmlScene.RemoveNode(synthetic)
    assert "is not in the scene any more" in export(exportables, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_our_series_come_back_as_synthetic_volumes(volumes, tmp_path):
    _real, synthetic, hu = volumes
    export(examine(synthetic), tmp_path)
    files = sorted(map(str, tmp_path.glob("*/*")))
    plugin = slicer.modules.dicomPlugins["DICOMSyntheticCTPlugin"]()
    (loadable,) = plugin.examineForImport([files])
    (scalar,) = ScalarPlugin().examineForImport([files])
    assert loadable.confidence > scalar.confidence
    node = plugin.load(loadable)
    from CTDiffusionLib import Provenance

    assert Provenance.isSynthetic(node)
    loaded = Provenance.provenance(node)
    assert {key: loaded[key] for key in ("Model", "Seed", "Steps", "Version")} == {
        "Model": "torso",
        "Seed": "7",
        "Steps": "12",
        "Version": "1.0",
    }
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), hu)


def test_series_of_others_are_left_to_others(volumes, tmp_path):
    export(examine(volumes[1]), tmp_path)
    for file in tmp_path.glob("*/*"):
        image = pydicom.dcmread(file)
        image.Manufacturer = "Another generator"
        image.save_as(file)
    plugin = slicer.modules.dicomPlugins["DICOMSyntheticCTPlugin"]()
    assert plugin.examineForImport([sorted(map(str, tmp_path.glob("*/*"))), []]) == []


@pytest.mark.parametrize(
    ("module", "cls"),
    [("DICOMLib", slicer_modules.DICOMPlugin), ("SampleData", slicer_modules.SampleDataLogic)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_stand_ins_are_called_as_slicers_classes_are(module, cls):
    real = {text.partition("(")[0]: text for text in facts.FACTS["python"][module]["classes"][cls.__name__]["methods"]}
    for name, method in vars(cls).items():
        if not name.startswith("_"):
            function = method.__func__ if isinstance(method, staticmethod) else method
            ours = [parameter.name for parameter in inspect.signature(function).parameters.values()]
            theirs = [part.partition("=")[0].strip() for part in real[name].partition("(")[2].rstrip(")").split(",")]
            assert ours == theirs, name


def test_sample_data_offers_the_phantom(host, monkeypatch, tmp_path):
    host.loadModule("CTDiffusion")
    import SampleData
    from CTDiffusionLib import Provenance, SampleVolumes

    monkeypatch.setattr(SampleVolumes, "SIZE", {"slices": 4, "spacing_mm": (9.0, 9.0, 20.0), "size": 48})
    (source,) = SampleData.SampleDataLogic.sampleDataSourcesByCategory("CT Diffusion")
    assert source.sampleName == "CT torso phantom (procedural)"
    assert Path(source.thumbnailFileName).is_file()
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    source.customDownloader(source)  # what the button does
    node = slicer.mrmlScene.GetNthNodeByClass(before, "vtkMRMLScalarVolumeNode")
    assert node.GetName() == "CT torso phantom"
    assert Provenance.provenance(node) == {
        "Synthetic": "yes",
        "Phantom": "yes",
        "Model": "procedural torso phantom",
        "Seed": "0",
    }
    path = SampleData.SampleDataLogic().downloadFile(source.uris[0], str(tmp_path), source.fileNames[0])
    drawn = read_volume(path)
    np.testing.assert_array_equal(drawn.hu, slicer.util.arrayFromVolume(node))
    assert drawn.metadata["phantom"] == "yes"
    assert SampleVolumes.rewrittenAddress("https://example.org/a.nrrd") == "https://example.org/a.nrrd"


def test_slicer_goes_on_while_the_phantom_is_drawn(host, monkeypatch):
    host.loadModule("CTDiffusion")
    import SampleData
    from CTDiffusionLib import SampleVolumes

    (source,) = SampleData.SampleDataLogic.sampleDataSourcesByCategory("CT Diffusion")
    with host.heartbeat() as beat:
        assert source.customDownloader(source) is not None
        print(f"\nwhile the phantom is drawn: longest block of the GUI {1000 * beat.longest:.0f} ms")
    monkeypatch.setattr(SampleVolumes, "SIZE", {"slices": 2, "spacing_mm": (9.0, 9.0, 20.0), "size": 24})
    quick, clicks = SampleVolumes.phantom, []

    def slow():
        time.sleep(0.5)
        return quick()

    monkeypatch.setattr(SampleVolumes, "phantom", slow)
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    import qt

    qt.QTimer.singleShot(50, lambda: clicks.append(source.customDownloader(source)))  # an impatient second click
    with host.heartbeat() as beat:
        source.customDownloader(source)
    assert beat.beats > 10
    assert clicks == [None]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == before + 1

    def broken():
        raise ValueError("no memory")

    monkeypatch.setattr(SampleVolumes, "phantom", broken)
    with pytest.raises(ValueError, match="no memory"):  # shown, then raised on, for scripts
        source.customDownloader(source)
    assert "The phantom could not be drawn." in host.messages[-1].text
    assert "no memory" in host.messages[-1].text + host.messages[-1].details
    monkeypatch.setattr(SampleVolumes, "phantom", quick)
    assert source.customDownloader(source) is not None
