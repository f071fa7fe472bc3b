"""Every name of Qt, ctk and Slicer that the module uses exists in Slicer; see Testing/host/slicer_api.json."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
if str(REPOSITORY / "Testing") not in sys.path:
    sys.path.insert(0, str(REPOSITORY / "Testing"))
from host.api_names import complaintsOfForm, complaintsOfPython, widgetsOfForm  # noqa: E402 (needs the path)

MODULE = REPOSITORY / "CTDiffusion"
FORMS = sorted(MODULE.rglob("*.ui"))
WIDGETS = {name: cls for form in FORMS for name, cls in widgetsOfForm(form).items()}
SOURCES = sorted(path for path in MODULE.rglob("*.py") if "__pycache__" not in path.parts)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_python_uses_only_names_that_slicer_has(path):
    assert complaintsOfPython(path.read_text(), path.name, WIDGETS) == []


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_forms_use_only_names_that_slicer_has(path):
    assert complaintsOfForm(path.read_text(), path.name) == []


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("qt.QPushBotton('a')", "qt has no 'QPushBotton'"),
        ("qt.QSizePolicy.Expandin", "qt.QSizePolicy has no 'Expandin'"),
        ("qt.Qt.AlignmentFlag.AlignLeft", "PythonQt has qt.Qt.AlignLeft, without 'AlignmentFlag'"),
        ("t = qt.QTimer()\nt.startt(5)", "QTimer has no 'startt'"),
        ("t = qt.QTimer()\nt.interval()", "QTimer.interval is a property"),
        ("qt.QCheckBox().checkStateChanged", "QCheckBox.checkStateChanged is in Qt 6 only"),
        ("ctk.ctkSlider()", "ctk has no 'ctkSlider'"),
        ("s = ctk.ctkSliderWidget()\ns.setMinimum(3)", "ctkSliderWidget has no 'setMinimum'"),
        ("slicer.qMRMLNodeCombo()", "slicer has no 'qMRMLNodeCombo'"),
        ("slicer.vtkMRMLScalarVolume", "slicer has no 'vtkMRMLScalarVolume'"),
        ("slicer.mrmlScene.GetNodeById('a')", "vtkMRMLScene has no 'GetNodeById'"),
        ("slicer.app.layoutManager().sliceWidgets('Red')", "qSlicerLayoutManager has no 'sliceWidgets'"),
        ("slicer.app.layoutManager().sliceWidget('Red').sliceViewer()", "qMRMLSliceWidget has no 'sliceViewer'"),
        ("slicer.app.temporaryPath()", "qSlicerApplication.temporaryPath is a property"),
        ("slicer.util.errorBox('a')", "slicer.util has no 'errorBox'"),
        ("slicer.util.addVolumeFromArray()", "missing a required argument: 'narray'"),
        ("slicer.packaging.pip_ensure([], ask=True)", "unexpected keyword argument 'ask'"),
        ("from slicer.parameterNodeWrapper import WithinBounds", "has no 'WithinBounds'"),
        ("from slicer import vtkMRMLVolume", "slicer has no 'vtkMRMLVolume'"),
        ("self._ui.presets.currentItem", "QComboBox has no 'currentItem'"),
        ("ui.presets.currentText()", "QComboBox.currentText is a property"),
        ("ui.presets.connect('clicked(bool)', f)", "QComboBox has no signal 'clicked(bool)'"),
        ("anything.connect('clicked(int)', f)", "no class has a signal 'clicked(int)'"),
    ],
)
def test_wrong_names_in_python_are_found(code, complaint):
    (line,) = complaintsOfPython(code, "file.py", {"presets": "QComboBox"})
    assert complaint in line
    assert line.startswith("file.py:")


@pytest.mark.parametrize(
    "code",
    [
        "qt.QTimer.singleShot(5, f)\nt = qt.QTimer()\nt.singleShot = True\nt.connect('timeout()', f)",
        "ui.presets.currentIndex = 3\nui.presets.addItem('a')\nui.presets.connect('currentIndexChanged(int)', f)",
        "slicer.app.layoutManager().sliceWidget('Red').sliceView().mrmlSliceNode().GetID()",
        "slicer.util.errorDisplay('a', detailedText='b')\nslicer.app.connect('startupCompleted()', f)",
        "qt.QMessageBox.Yes | qt.QMessageBox.No\nslicer.app.aboutToQuit.connect(f)",
        "anything.connect('currentNodeChanged(vtkMRMLNode*)', f)",
    ],
)
def test_right_names_in_python_pass(code):
    assert complaintsOfPython(code, "file.py", {"presets": "QComboBox"}) == []


FORM = """<ui><widget class="qMRMLWidget" name="Form"><widget class="{widget}" name="box">
<property name="{property}">{value}</property></widget></widget>
<customwidgets><customwidget><class>qMRMLWidget</class><extends>QWidget</extends></customwidget>
<customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends></customwidget></customwidgets>
<connections><connection><sender>Form</sender><signal>{signal}</signal><receiver>box</receiver><slot>{slot}</slot>
</connection></connections></ui>"""
GOOD = {
    "widget": "qMRMLNodeComboBox",
    "property": "noneEnabled",
    "value": "<bool>true</bool>",
    "signal": "mrmlSceneChanged(vtkMRMLScene*)",
    "slot": "setMRMLScene(vtkMRMLScene*)",
}


def test_a_right_form_passes():
    assert complaintsOfForm(FORM.format(**GOOD), "form.ui") == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"widget": "qMRMLNodeCombo"}, "box: there is no class 'qMRMLNodeCombo'"),
        ({"widget": "ctkComboBox", "property": "enabled", "slot": "hide()"}, "box: ctkComboBox is not among"),
        ({"property": "nonEnabled"}, "box: qMRMLNodeComboBox has no property 'nonEnabled'"),
        ({"property": "focusPolicy", "value": "<enum>Qt::StrongFocuss</enum>"}, "there is no 'Qt::StrongFocuss'"),
        ({"widget": "QLabel", "property": "buddy", "value": "<cstring>Fo</cstring>", "slot": "hide()"}, "buddy 'Fo'"),
        ({"signal": "mrmlSceneChanged(vtkMRMLNode*)"}, "qMRMLWidget has no signal 'mrmlSceneChanged(vtkMRMLNode*)'"),
        ({"slot": "setScene(vtkMRMLScene*)"}, "qMRMLNodeComboBox has no slot 'setScene(vtkMRMLScene*)'"),
    ],
)
def test_wrong_names_in_forms_are_found(change, complaint):
    (line,) = complaintsOfForm(FORM.format(**{**GOOD, **change}), "form.ui")
    assert complaint in line
