"""What the tests of the host share: a form, and volumes."""

import slicer

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


def addVolume(name="volume"):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)


def loadForm(tmp_path, **changes):
    path = tmp_path / "form.ui"
    path.write_text(FORM.format(**{**GOOD, **changes}))
    return slicer.util.loadUI(str(path))
