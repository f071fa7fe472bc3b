"""The host itself: PythonQt's rules, what it refuses, forms, parameters, processes, dialogs."""

import enum
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import pytest
import slicer
from host import facts
from host.module_host import ModuleHost

FORM = """<ui version="4.0"><class>Form</class><widget class="qMRMLWidget" name="Form">
 <layout class="QFormLayout" name="layout">
  <item row="0" column="1"><widget class="ctkPathLineEdit" name="pathEdit">
   <property name="filters"><set>{filters}</set></property>
   <property name="SlicerParameterName" stdset="0"><string>path</string></property></widget></item>
  <item row="1" column="1"><widget class="qMRMLNodeComboBox" name="selector">
   <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
   <property name="{property}"><bool>true</bool></property></widget></item>
  <item row="2" column="1"><widget class="{widget}" name="button"/></item>
 </layout></widget>
 <connections><connection><sender>Form</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
  <receiver>selector</receiver><slot>{slot}</slot></connection></connections></ui>"""
GOOD = {
    "filters": "ctkPathLineEdit::Files|ctkPathLineEdit::Readable",
    "property": "noneEnabled",
    "widget": "QPushButton",
    "slot": "setMRMLScene(vtkMRMLScene*)",
}


@pytest.fixture
def host():
    with ModuleHost() as host:
        yield host


def addVolume(name="volume"):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)


def loadForm(tmp_path, **changes):
    path = tmp_path / "form.ui"
    path.write_text(FORM.format(**{**GOOD, **changes}))
    return slicer.util.loadUI(str(path))


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


def test_settings_stay_in_the_hosts_folder(tmp_path):
    for expected in (None, "42"):
        with ModuleHost(folder=tmp_path):
            import qt

            assert qt.QSettings().value("CTDiffusion/answer") == expected
            slicer.app.settings().setValue("CTDiffusion/answer", "42")


def test_a_process_hands_its_lines_on_while_the_application_works(host):
    lines, codes = [], []
    code = "import time\nfor i in range(3): print(i, flush=True); time.sleep(0.05)\nraise SystemExit(7)"
    with host.heartbeat() as beat:
        slicer.util.launchConsoleProcess(
            ["PythonSlicer", "-c", code],
            useStartupEnvironment=False,
            blocking=False,
            logCallback=lines.append,
            completedCallback=lambda code: codes.append((code, list(lines))),
        )
        host.process(until=lambda: codes)
    assert codes == [(7, ["0", "1", "2"])]  # completion comes after the last line
    assert beat.beats > 10


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_launcher_is_not_python_itself(host):
    process = subprocess.Popen(
        ["PythonSlicer", "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(process.stdout.readline())
    assert child != process.pid
    process.kill()
    process.wait()
    os.kill(child, 0)  # still there, as in Slicer
    os.kill(child, signal.SIGKILL)


def test_the_heartbeat_sees_a_blocked_application(host):
    import qt

    with host.heartbeat() as beat:
        host.process(0.1)
    whenIdle = beat.longest
    with host.heartbeat() as beat:
        qt.QTimer.singleShot(10, lambda: time.sleep(0.25))
        host.process(0.4)
    assert beat.longest >= 0.25 > whenIdle


def test_messages_are_recorded_and_questions_answered(host):
    slicer.util.errorDisplay("It failed.", detailedText="why")
    assert (host.messages[0].text, host.messages[0].details, host.messages[0].icon) == (
        "It failed.",
        "why",
        "Critical",
    )
    host.answers.append("No")
    assert slicer.util.confirmYesNoDisplay("Keep it?") is False
    host.answers.append(lambda message: "Retry" if "again" in message.text else "Close")
    assert slicer.util.confirmRetryCloseDisplay("Once again?")
    with pytest.raises(AssertionError, match="would wait forever: 'Keep it"):
        slicer.util.confirmYesNoDisplay("Keep it?")
    import qt

    host.answers.append("/tmp/file.nrrd")
    assert qt.QFileDialog.getOpenFileName(None, "Open", "", "*.nrrd") == "/tmp/file.nrrd"


def test_a_message_box_with_own_buttons_is_answered_by_their_text(host):
    import qt

    box = qt.QMessageBox()
    box.text = "Keep what is done?"
    keep = box.addButton("Keep", qt.QMessageBox.AcceptRole)
    box.addButton("Remove", qt.QMessageBox.DestructiveRole)
    host.answers.append("Keep")
    box.exec_()
    assert box.clickedButton() == keep
    assert host.messages[-1].buttons == ("Keep", "Remove")


def test_exceptions_in_slots_fail_the_test_unless_the_user_was_told():
    def fail(message):
        raise ValueError(message)

    with pytest.raises(ValueError, match="nobody knows"), ModuleHost() as host:
        import qt

        button = qt.QPushButton()
        button.connect("clicked()", lambda: fail("nobody knows"))
        button.click()
        assert [str(error) for error in host.exceptions] == ["nobody knows"]
    with ModuleHost() as host:
        tag = slicer.mrmlScene.AddObserver("ModifiedEvent", lambda *_: fail("the disk is full"))
        slicer.mrmlScene.Modified()
        slicer.mrmlScene.RemoveObserver(tag)
        assert [str(error) for error in host.unseenExceptions()] == ["the disk is full"]
        slicer.util.errorDisplay("Not saved: the disk is full")
        assert host.unseenExceptions() == []


def test_everything_is_put_back(tmp_path):
    def state():
        return dict(os.environ), list(sys.path), set(vars(slicer)), sys.modules.get("qt"), sys.excepthook

    before = state()
    with ModuleHost() as host:
        host.openModule("CTDiffusion")
        folder = host.folder
        assert "qt" in sys.modules
    assert state() == before
    assert "CTDiffusion" not in sys.modules
    assert not folder.exists()
