"""The host's parameter nodes: in the node as in Slicer, and bound to widgets both ways."""

import enum
from pathlib import Path
from typing import Annotated

import pytest
import slicer
from host.module_host import ModuleHost
from host_form import addVolume


@pytest.fixture
def host():
    with ModuleHost() as host:
        yield host


class Preset(enum.Enum):
    FAST = 1
    GOOD = 2


def newNode():
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


def test_parameters_live_in_the_node_as_in_slicer(host):
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

    @parameterNodeWrapper
    class Declared:
        count: Annotated[int, WithinRange(1, 9)] = 3
        volume: slicer.vtkMRMLScalarVolumeNode
        preset: Preset = Preset.GOOD
        folders: list[str]
        path: Path
        note: str | None

    node, events = newNode(), []
    first, second = Declared(node), Declared(node)
    node.AddObserver("ModifiedEvent", lambda *_: events.append(1))
    first.count, first.preset, first.note = 5, Preset.FAST, "x"
    assert (second.count, second.preset, second.note) == (5, Preset.FAST, "x")
    assert (node.GetParameter("count"), node.GetParameter("preset"), node.GetParameter("path")) == ("5", "FAST", ".")
    assert len(events) == 3
    volume = addVolume()
    first.volume = volume
    assert node.GetNodeReference("volume") is volume
    first.folders.append("a")
    first.folders.append("b")
    assert second.folders == ["a", "b"]
    assert node.GetParameter("folders.1") == "b"
    for name, wrong, error in (("count", 12, ValueError), ("count", "3", TypeError)):
        with pytest.raises(error):
            setattr(first, name, wrong)
    assert first.count == 5


def test_packs_are_written_through(host):
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper, parameterPack

    @parameterPack
    class Sampling:
        steps: Annotated[int, WithinRange(1, 100)] = 10
        sampler: str

    @parameterNodeWrapper
    class Declared:
        sampling: Sampling

    parameters = Declared(node := newNode())
    parameters.sampling.steps = 7
    parameters.setValue("sampling.sampler", "heun")
    assert (node.GetParameter("sampling.steps"), node.GetParameter("sampling.sampler")) == ("7", "heun")
    with pytest.raises(ValueError, match="within"):
        parameters.sampling.steps = 0
    assert parameters.getValue("sampling.steps") == 7


def test_widgets_and_parameters_follow_each_other(host):
    import ctk
    import qt
    from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

    @parameterNodeWrapper
    class Declared:
        spacing: Annotated[float, WithinRange(0, 10)] = 2.5
        sampler: Annotated[str, Choice(["heun", "ddpm"])] = "ddpm"
        path: Path
        isOn: bool

    parameters = Declared(newNode())
    widgets = {
        "spacing": ctk.ctkSliderWidget(),
        "sampler": qt.QComboBox(),
        "path": ctk.ctkPathLineEdit(),
        "isOn": qt.QCheckBox(),
    }
    tag = parameters.connectParametersToGui(widgets)
    assert (widgets["spacing"].value, widgets["sampler"].currentText) == (2.5, "ddpm")
    widgets["spacing"].value = 4.5
    widgets["path"].currentPath = "/tmp/a.nrrd"
    widgets["isOn"].click()
    host.choose(widgets["sampler"], "heun")
    assert (parameters.spacing, parameters.sampler) == (4.5, "heun")
    assert (parameters.path, parameters.isOn) == (Path("/tmp/a.nrrd"), True)
    parameters.spacing = 1.0
    assert widgets["spacing"].value == 1.0
    parameters.disconnectGui(tag)
    widgets["spacing"].value = 9.0
    assert parameters.spacing == 1.0
    with pytest.raises(RuntimeError, match="Unable to create GUI connector"):
        parameters.connectParametersToGui({"spacing": qt.QLineEdit()})
