"""The module file and its panel: without Qt, but with the real scene; the base classes are Slicer's, so empty here."""

import importlib
import re
import subprocess
import sys
import types
import unittest
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import slicer
from CTDiffusionLib import Provenance, SceneVolumes, SyntheticFile

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.geometry import Geometry
from CTDiffusionLogic.volume import CTVolume
from CTDiffusionLogic.volume_io import write_volume

MODULE = Path(__file__).resolve().parents[2] / "CTDiffusion"
SYNTHETIC = {"synthetic": "yes", "model": "torso", "seed": "7"}


def _write(path, hu, oblique, metadata):
    write_volume(CTVolume(hu, Geometry.from_ijk_to_ras(oblique), metadata), path)
    return path


@pytest.fixture
def module(app, monkeypatch):
    """The module file, imported with stand-ins for what only Slicer has."""
    bases = types.ModuleType("slicer.ScriptedLoadableModule")
    bases.ScriptedLoadableModule = type("Base", (), {"__init__": lambda self, parent: None})
    bases.ScriptedLoadableModuleWidget = bases.ScriptedLoadableModuleLogic = type("Base", (), {})
    bases.ScriptedLoadableModuleTest = type("Base", (unittest.TestCase,), {"delayDisplay": lambda *_: None})
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr, i18n.translate = (lambda text: text), (lambda context, text: text)
    monkeypatch.setitem(sys.modules, bases.__name__, bases)
    monkeypatch.setitem(sys.modules, i18n.__name__, i18n)
    volumes = types.SimpleNamespace(logic=lambda: app.volumes_logic)
    monkeypatch.setattr(slicer, "modules", types.SimpleNamespace(volumes=volumes), raising=False)
    started = []
    monkeypatch.setattr(
        slicer,
        "app",
        types.SimpleNamespace(
            connect=lambda signal, slot: started.append((signal, slot)),
            layoutManager=lambda: None,
            userSettings=lambda: types.SimpleNamespace(value=lambda key, default=None: default),
        ),
        raising=False,
    )
    monkeypatch.delitem(sys.modules, "CTDiffusion", raising=False)
    module = importlib.import_module("CTDiffusion")
    module.started = started
    yield module
    sys.modules.pop("CTDiffusion")


def test_the_self_test_passes_in_a_real_scene(module):
    test = module.CTDiffusionTest()
    test.runTest()
    test.setUp()
    test.test_insertAndCompare()
    # The pair, its difference and its checkerboard.
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 4


def test_the_class_and_the_package_of_one_name_live_together(module):
    assert isinstance(module.CTDiffusionLogic, type)
    from CTDiffusionLogic import volume_io

    assert volume_io.__name__ == "CTDiffusionLogic.volume_io"


def test_labels_and_layouts_are_there_once_slicer_has_started(module, app):
    parent = types.SimpleNamespace(path=str(MODULE / "CTDiffusion.py"))
    described = module.CTDiffusion(parent)
    assert parent.title
    assert parent.categories == ["Image Synthesis"]
    assert "not for diagnosis" in parent.helpText
    ((signal, slot),) = module.started
    assert signal == "startupCompleted()"
    slot()
    layout_node = app.scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    assert layout_node.IsLayoutDescription(module.Layouts.SIDE_BY_SIDE.number)
    described.syntheticLabels.stop()


def test_a_generated_file_comes_with_its_provenance(app, hu, oblique, tmp_path):
    path = _write(tmp_path / "made.nrrd", hu, oblique, SYNTHETIC)
    real = SceneVolumes.insertVolume(hu, oblique, "real", volumesLogic=app.volumes_logic)
    node = SyntheticFile.loadSyntheticVolume(path, reference=real, volumesLogic=app.volumes_logic)
    assert node.GetName() == "SYNTHETIC made"
    assert Provenance.isSynthetic(node)
    assert Provenance.provenance(node)["Seed"] == "7"
    assert Provenance.referenceVolume(node) is real
    np.testing.assert_allclose(SceneVolumes.ijkToRAS(node), oblique, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), hu)


def test_files_that_are_not_synthetic_or_not_there_are_refused(app, hu, oblique, tmp_path):
    path = _write(tmp_path / "real.nrrd", hu, oblique, {})
    with pytest.raises(ValueError, match=r"real\.nrrd does not say that it is synthetic"):
        SyntheticFile.loadSyntheticVolume(path, volumesLogic=app.volumes_logic)
    with pytest.raises(InputError, match=r"missing\.nrrd"):
        SyntheticFile.loadSyntheticVolume(tmp_path / "missing.nrrd", volumesLogic=app.volumes_logic)
    assert app.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


@pytest.mark.parametrize("name", ["made.nrrd", "made.mha", "made.nii.gz"])
def test_a_generated_file_is_recognised_when_slicer_itself_has_loaded_it(app, hu, tmp_path, name):
    matrix = np.diag([-2.0, -2.0, 3.0, 1.0])
    for folder, metadata in (("synthetic", SYNTHETIC), ("real", {})):
        (tmp_path / folder).mkdir()
        path = _write(tmp_path / folder / name, hu, matrix, metadata)
        (node,) = app.io_manager.load_volumes(str(path))
        assert not Provenance.isSynthetic(node)  # Slicer's readers drop it
        assert SyntheticFile.recogniseFile(node) is (folder == "synthetic")
        assert Provenance.isSynthetic(node) is (folder == "synthetic")
    made = SceneVolumes.insertVolume(hu, matrix, "no file", volumesLogic=app.volumes_logic)
    assert not SyntheticFile.recogniseFile(made)


def test_the_library_is_found_in_a_source_tree_and_torch_stays_out(tmp_path):
    """As in Slicer's development mode: only the module's folder is on the path, and torch must never come in."""
    code = f"""
import importlib.util, pathlib, sys, types
repository = pathlib.Path({str(MODULE.parent)!r})
sys.path[:] = [{str(MODULE)!r}] + [p for p in sys.path if pathlib.Path(p).resolve() != repository]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
assert importlib.util.find_spec("CTDiffusionLogic") is None  # else this test shows nothing
sys.modules["torch"] = None
base, i18n = types.ModuleType("slicer.ScriptedLoadableModule"), types.ModuleType("slicer.i18n")
for suffix in ("", "Widget", "Logic", "Test"):
    setattr(base, "ScriptedLoadableModule" + suffix, type("Base", (), {{}}))
i18n.tr = i18n.translate = None
sys.modules.update({{base.__name__: base, i18n.__name__: i18n}})
import CTDiffusion
from CTDiffusionLogic.volume_io import read_volume
print(read_volume.__module__)
"""
    finished = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "CTDiffusionLogic.volume_io"


def test_the_panels_and_their_forms_agree():
    forms = [ElementTree.parse(path).getroot() for path in sorted((MODULE / "Resources" / "UI").glob("*.ui"))]
    widgets = {widget.get("name"): widget for form in forms for widget in form.iter("widget")}
    code = "".join(path.read_text() for path in (MODULE / "CTDiffusionLib").glob("*Panel.py"))
    assert set(re.findall(r"\b_?ui\.(\w+)", code)) <= set(widgets), "a panel uses widgets that no form has"
    parameters = "".join(path.read_text() for path in (MODULE / "CTDiffusionLib").glob("*Parameters.py"))
    declared = set(re.findall(r"^    (\w+): ", parameters, re.M))
    bound = {
        p.findtext("string"): widget.get("class")
        for widget in widgets.values()
        for p in widget.findall("property")
        if p.get("name") == "SlicerParameterName"
    }
    assert set(bound) <= declared
    assert {"model", "device"} <= declared - set(bound)  # lists that are filled at run time
    for form in forms:
        selectors = {
            w.get("name")
            for w in form.iter("widget")
            if w.get("class") in ("qMRMLNodeComboBox", "qMRMLCheckableNodeComboBox")
        }
        assert {c.findtext("receiver") for c in form.iter("connection")} == selectors
        assert form.find("widget").get("class") == "qMRMLWidget"
        listed = {c.findtext("class"): c.findtext("extends") for c in form.iter("customwidget")}
        used = {w.get("class") for w in form.iter("widget") if w.get("class").startswith(("ctk", "qMRML"))}
        assert set(listed) == used | {base for base in listed.values() if base != "QWidget"}
