"""The host's Qt and widgets behave, and lack, what Slicer's do."""

import pytest
import slicer
from host import facts
from host.module_host import ModuleHost
from host_form import addVolume, loadForm


@pytest.fixture
def host():
    with ModuleHost() as host:
        yield host


def test_qt_properties_are_attributes_and_signals_have_names(host):
    import qt

    button, heard = qt.QPushButton("Go"), []
    assert (button.text, button.enabled, button.name) == ("Go", True, "")
    button.text, button.toolTip = "Stop", "why"
    button.connect("clicked(bool)", lambda *arguments: heard.append(arguments))
    button.connect("clicked()", lambda *arguments: heard.append(arguments))
    button.connect("clicked(bool)", takesNothing := lambda: heard.append("none"))
    button.click()
    assert heard == [(False,), (), "none"]
    assert button.disconnect("clicked(bool)", takesNothing)
    assert not button.disconnect("clicked(bool)", takesNothing)
    button.click()
    assert heard[3:] == [(False,), ()]
    with pytest.raises(TypeError, match="not callable"):
        button.text()
    assert button.className() == "QPushButton"
    assert isinstance(button, qt.QWidget)


def test_a_timer_is_single_shot_both_ways(host):
    import qt

    timer, heard = qt.QTimer(), []
    assert timer.singleShot is False
    timer.singleShot, timer.interval = True, 1
    timer.connect("timeout()", lambda: heard.append("timer"))
    timer.start()
    qt.QTimer.singleShot(1, lambda: heard.append("static"))
    host.process(until=lambda: len(heard) == 2)
    host.process(0.03)
    assert sorted(heard) == ["static", "timer"]


def test_connections_choose_the_overload_and_reach_slots_of_objects(host):
    import qt

    box, label, heard = qt.QComboBox(), qt.QLabel(), []
    box.addItems(["one", "two"])
    box.connect("currentIndexChanged(int)", heard.append)
    box.connect("currentTextChanged(const QString&)", label, "setText(QString)")
    box.currentIndex = 1
    assert heard == [1]
    assert label.text == "two"


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda qt, ctk: setattr(qt.QLabel(), "txet", "a"), "QLabel has no attribute 'txet' in Slicer 5"),
        (lambda qt, ctk: qt.QLabel().connect("clicked()", print), r"QLabel has no signal 'clicked\(\)'"),
        (lambda qt, ctk: setattr(ctk.ctkSliderWidget(), "range", 3), "ctkSliderWidget has no attribute 'range'"),
        (lambda qt, ctk: ctk.ctkSliderWidget().setMinimum(3), "ctkSliderWidget has no attribute 'setMinimum'"),
        (lambda qt, ctk: ctk.ctkSliderWidget().connect("moved()", print), "no signal"),
        (lambda qt, ctk: slicer.qMRMLNodeComboBox().currentNodes(), "no attribute 'currentNodes'"),
        (lambda qt, ctk: slicer.app.theScene, "qSlicerApplication has no attribute 'theScene'"),
        (lambda qt, ctk: qt.QNothing, "'qt' has no 'QNothing'"),
        (lambda qt, ctk: slicer.modules.comparevolumes, "no such module in the host"),
        (lambda qt, ctk: slicer.parameterNodeWrapper.Chioce, "has no attribute 'Chioce'"),
    ],
)
def test_what_slicer_lacks_is_refused(host, act, message):
    import ctk
    import qt

    with pytest.raises(AttributeError, match=message):
        act(qt, ctk)


def test_what_slicer_has_and_the_host_lacks_is_said(host):
    with pytest.raises(NotImplementedError, match=r"qSlicerApplication\.ioManager exists in Slicer"):
        slicer.app.ioManager()


def test_stand_ins_cannot_invent_names():
    from host.standin import standsFor

    with pytest.raises(TypeError, match="ctkComboBox has no 'invented'"):
        standsFor("ctkComboBox")(type("ctkComboBox", (), {"invented": 1}))


def test_signatures_are_written_as_qt_writes_them():
    assert facts.normalizedSignature("f(const QString& a, int b = 3)") == "f(QString,int)"
    assert facts.normalizedSignature("f(vtkMRMLNode * node)") == "f(vtkMRMLNode*)"
    assert facts.normalizedSignature("f(unsigned int delay, void* caller)") == "f(unsigned int,void*)"
    assert facts.normalizedSignature("f()") == "f()"


def test_a_form_is_loaded_with_its_properties_and_connections(host, tmp_path):
    form = loadForm(tmp_path)
    ui = slicer.util.childWidgetVariables(form)
    assert ui.pathEdit.filters == 0x12
    assert ui.selector.noneEnabled
    assert ui.pathEdit.property("SlicerParameterName") == "path"
    node = addVolume()
    form.setMRMLScene(slicer.mrmlScene)
    assert ui.selector.mrmlScene() is slicer.mrmlScene
    assert ui.selector.nodeFromIndex(0) is node


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"property": "nonEnabled"}, "qMRMLNodeComboBox has no attribute 'nonEnabled'"),
        ({"slot": "setScene(vtkMRMLScene*)"}, "qMRMLNodeComboBox has no attribute 'setScene"),
        ({"filters": "ctkPathLineEdit::Fiels"}, "ctkPathLineEdit has no attribute 'Fiels'"),
    ],
)
def test_a_wrong_name_in_a_form_is_refused(host, tmp_path, changes, message):
    with pytest.raises(AttributeError, match=message):
        loadForm(tmp_path, **changes)


def test_the_node_list_follows_the_scene(host):
    selector, heard = slicer.qMRMLNodeComboBox(), []
    selector.nodeTypes, selector.noneEnabled = ["vtkMRMLScalarVolumeNode"], True
    selector.showChildNodeTypes = False
    selector.setMRMLScene(slicer.mrmlScene)
    selector.connect("currentNodeChanged(vtkMRMLNode*)", heard.append)
    selector.connect("currentNodeChanged(bool)", heard.append)
    first, second = addVolume("first"), addVolume("second")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    hidden = addVolume("hidden")
    hidden.SetHideFromEditors(True)
    assert (selector.nodeCount(), selector.currentNode(), heard) == (2, None, [])
    selector.setCurrentNode(second)
    assert heard == [second, True]
    assert selector.currentNodeID == second.GetID()
    second.SetName("renamed")
    assert selector._combo.currentText() == "renamed"
    slicer.mrmlScene.RemoveNode(second)
    assert selector.currentNode() is first  # Qt selects the neighbour
    host.closeScene()
    assert (selector.nodeCount(), selector.currentNode()) == (0, None)
    selector.noneEnabled = False
    assert addVolume("third") is selector.currentNode()


def test_a_checkable_node_list_has_checked_nodes(host):
    selector, heard = slicer.qMRMLCheckableNodeComboBox(), []
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(slicer.mrmlScene)
    selector.connect("checkedNodesChanged()", lambda: heard.append(len(selector.checkedNodes())))
    first, second = addVolume(), addVolume()
    selector.check(second)
    selector.check(second)
    assert (heard, selector.checkedNodes(), selector.uncheckedNodes()) == ([1], [second], [first])
    slicer.mrmlScene.RemoveNode(second)
    assert selector.noneChecked()
