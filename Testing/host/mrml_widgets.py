"""Stand-ins for the qMRML widgets that scripted modules use; they show the nodes of the real scene."""

from __future__ import annotations

from typing import Any

import vtk
from PySide6 import QtCore, QtWidgets

from .ctk_widgets import ctkCollapsibleButton, ctkRangeWidget, ctkSliderWidget
from .pythonqt import QWidget
from .standin import StandIn, standsFor

Signal = QtCore.Signal


class _SceneWidget(StandIn, QWidget):
    """What qMRMLWidget and qSlicerWidget have in common."""

    mrmlSceneChanged = Signal(object)
    _slicerClass = "qMRMLWidget"
    _overloads: dict[str, Any] = {}  # noqa: RUF012 (read only)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self._scene


@standsFor("qMRMLWidget")
class qMRMLWidget(_SceneWidget):
    """A widget that knows the scene and hands it to its children through the form's connections."""


def _removeObservers(observations: list[tuple[Any, int]], nodeObservations: dict[str, tuple[Any, int]]) -> None:
    for caller, tag in (*observations, *nodeObservations.values()):
        caller.RemoveObserver(tag)
    observations.clear()
    nodeObservations.clear()


@standsFor("qMRMLNodeComboBox")
class qMRMLNodeComboBox(_SceneWidget):
    """Lists the scene's nodes of some classes, follows the scene, and keeps one of them selected."""

    currentNodeChanged = Signal((object,), (bool,))
    currentNodeIDChanged = Signal(str)
    currentNodeRenamed = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeEdited = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    _overloads = {"currentNodeChanged(bool)": bool, "currentNodeChanged(vtkMRMLNode*)": object}  # noqa: RUF012
    addEnabled = True
    removeEnabled = True
    editEnabled = False
    renameEnabled = False
    baseName = ""
    selectNodeUponCreation = True

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._combo = QtWidgets.QComboBox()
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._combo.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._combo.setEnabled(False)  # as the real one without a scene
        layout.addWidget(self._combo)
        self._types: list[str] = []
        self._hiddenTypes: list[str] = []
        self._attributes: dict[str, dict[str, Any]] = {}
        self._noneEnabled, self._noneDisplay = False, "None"
        self._showHidden, self._showChildTypes = False, True
        self._observations: list[tuple[Any, int]] = []
        self._nodeObservations: dict[str, tuple[Any, int]] = {}
        self._lastId = ""
        self._combo.currentIndexChanged.connect(self._onIndex)
        self._combo.activated.connect(lambda _index: self.nodeActivated.emit(self.currentNode()))
        observations, nodeObservations = self._observations, self._nodeObservations
        # Not a method: the widget is gone by then.
        self.destroyed.connect(lambda *_arguments: _removeObservers(observations, nodeObservations))

    # The list

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        _removeObservers(self._observations, self._nodeObservations)
        self._scene = scene
        self._combo.setEnabled(scene is not None)
        if scene is not None:
            for event, handler in ((scene.NodeAddedEvent, self._onAdded), (scene.NodeRemovedEvent, self._onRemoved)):
                self._observations.append((scene, scene.AddObserver(event, handler)))
        self._refill()
        self.mrmlSceneChanged.emit(scene)

    def _isListed(self, node: Any) -> bool:
        for kind in self._types:
            isKind = node.IsA(kind) if self._showChildTypes else node.GetClassName() == kind
            wanted = self._attributes.get(kind, {})
            hasAttributes = all(
                node.GetAttribute(name) is not None if value is None else node.GetAttribute(name) == str(value)
                for name, value in wanted.items()
            )
            isHiddenKind = any(node.IsA(other) for other in self._hiddenTypes)
            if isKind and hasAttributes and not isHiddenKind:
                return self._showHidden or not node.GetHideFromEditors()
        return False

    def _nodes(self) -> list[Any]:
        scene = self._scene
        everything = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())] if scene is not None else []
        return [node for node in everything if self._isListed(node)]

    def _refill(self) -> None:
        selected = self._lastId
        for caller, tag in self._nodeObservations.values():
            caller.RemoveObserver(tag)
        self._nodeObservations.clear()
        isBlocked = self._combo.blockSignals(True)
        self._combo.clear()
        if self._noneEnabled:
            self._combo.addItem(self._noneDisplay, "")
        for node in self._nodes():
            self._addItem(node)
        index = self._combo.findData(selected) if selected else -1
        self._combo.setCurrentIndex(index if index >= 0 else min(0, self._combo.count() - 1))
        self._combo.blockSignals(isBlocked)
        self._onIndex()

    def _addItem(self, node: Any) -> None:
        self._combo.addItem(node.GetName(), node.GetID())
        tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onNodeModified)
        self._nodeObservations[node.GetID()] = (node, tag)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onAdded(self, _scene: Any, _event: str, node: Any) -> None:
        if self._isListed(node):
            self._addItem(node)  # Qt selects it where the list was empty
            self.nodeAdded.emit(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onRemoved(self, _scene: Any, _event: str, node: Any) -> None:
        observation = self._nodeObservations.pop(node.GetID(), None)
        if observation is not None:
            node.RemoveObserver(observation[1])
            index = self._combo.findData(node.GetID())
            self._combo.removeItem(index)  # Qt then selects a neighbour, as it does in the real one

    def _onNodeModified(self, node: Any, _event: str) -> None:
        index = self._combo.findData(node.GetID())
        if not self._isListed(node):
            self._refill()
        elif index >= 0 and self._combo.itemText(index) != node.GetName():
            self._combo.setItemText(index, node.GetName())
            if index == self._combo.currentIndex():
                self.currentNodeRenamed.emit(node.GetName())

    def _onIndex(self, *_arguments: Any) -> None:
        current = self._combo.currentData() or ""
        if current != self._lastId:
            self._lastId = current
            node = self.currentNode()
            self.currentNodeChanged[object].emit(node)
            self.currentNodeChanged[bool].emit(node is not None)
            self.currentNodeIDChanged.emit(current)

    # The selection

    def currentNode(self) -> Any:
        identity = self._combo.currentData()
        return self._scene.GetNodeByID(identity) if identity and self._scene is not None else None

    currentNodeID = property(lambda self: self._combo.currentData() or "", lambda self, v: self.setCurrentNodeID(v))
    currentNodeId = currentNodeID

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    def setCurrentNodeID(self, identity: str) -> None:
        index = self._combo.findData(identity or "")
        self._combo.setCurrentIndex(index)

    def setCurrentNodeIndex(self, index: int) -> None:
        self._combo.setCurrentIndex(index + self._noneEnabled)

    def nodeCount(self) -> int:
        return self._combo.count() - self._noneEnabled

    def nodeFromIndex(self, index: int) -> Any:
        return self._scene.GetNodeByID(self._combo.itemData(index + self._noneEnabled))

    def addNode(self, nodeType: str = "") -> Any:
        name = self._scene.GenerateUniqueName(self.baseName or (nodeType or self._types[0])[len("vtkMRML") : -4])
        node = self._scene.AddNewNodeByClass(nodeType or self._types[0], name)
        for attribute, value in self._attributes.get(nodeType or self._types[0], {}).items():
            node.SetAttribute(attribute, "" if value is None else str(value))
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        node = self.currentNode()
        self.nodeAboutToBeRemoved.emit(node)
        self._scene.RemoveNode(node)

    def addAttribute(self, nodeType: str, attribute: str, value: Any = None) -> None:
        self._attributes.setdefault(nodeType, {})[attribute] = value
        self._refill()

    def removeAttribute(self, nodeType: str, attribute: str) -> None:
        self._attributes.get(nodeType, {}).pop(attribute, None)
        self._refill()

    def _setAndRefill(self, attribute: str, value: Any) -> None:
        setattr(self, attribute, value)
        self._refill()

    nodeTypes = property(lambda self: self._types, lambda self, v: self._setAndRefill("_types", list(v)))
    hideChildNodeTypes = property(
        lambda self: self._hiddenTypes, lambda self, v: self._setAndRefill("_hiddenTypes", list(v))
    )
    noneEnabled = property(lambda self: self._noneEnabled, lambda self, v: self._setAndRefill("_noneEnabled", v))
    noneDisplay = property(lambda self: self._noneDisplay, lambda self, v: self._setAndRefill("_noneDisplay", v))
    showHidden = property(lambda self: self._showHidden, lambda self, v: self._setAndRefill("_showHidden", v))
    showChildNodeTypes = property(
        lambda self: self._showChildTypes, lambda self, v: self._setAndRefill("_showChildTypes", v)
    )


@standsFor("qMRMLCheckableNodeComboBox")
class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """A node list in which several nodes can be checked."""

    checkedNodesChanged = Signal()

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._checked: set[str] = set()

    def checkedNodes(self) -> list[Any]:
        return [node for node in self._nodes() if node.GetID() in self._checked]

    def uncheckedNodes(self) -> list[Any]:
        return [node for node in self._nodes() if node.GetID() not in self._checked]

    def checkState(self, node: Any) -> Any:
        state = QtCore.Qt.CheckState
        return state.Checked if node.GetID() in self._checked else state.Unchecked

    def setCheckState(self, node: Any, state: Any) -> None:
        before = set(self._checked)
        if QtCore.Qt.CheckState(state) == QtCore.Qt.CheckState.Checked:
            self._checked.add(node.GetID())
        else:
            self._checked.discard(node.GetID())
        if self._checked != before:
            self.checkedNodesChanged.emit()

    def check(self, node: Any) -> None:
        self.setCheckState(node, QtCore.Qt.CheckState.Checked)

    def uncheck(self, node: Any) -> None:
        self.setCheckState(node, QtCore.Qt.CheckState.Unchecked)

    def allChecked(self) -> bool:
        return not self.uncheckedNodes()

    def noneChecked(self) -> bool:
        return not self.checkedNodes()


@standsFor("qMRMLSliderWidget")
class qMRMLSliderWidget(ctkSliderWidget):
    """ctkSliderWidget that can follow the scene's units, which is left out."""


@standsFor("qMRMLRangeWidget")
class qMRMLRangeWidget(ctkRangeWidget):
    """ctkRangeWidget that can follow the scene's units, which is left out."""


@standsFor("qMRMLCollapsibleButton")
class qMRMLCollapsibleButton(ctkCollapsibleButton):
    """ctkCollapsibleButton that knows the scene."""

    mrmlSceneChanged = Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)


@standsFor("qMRMLSpinBox")
class qMRMLSpinBox(StandIn, QWidget):
    """Here by name only: Slicer's connectors compare with it."""


#: All stand-ins by name; in Slicer they are attributes of the module ``slicer``.
CLASSES = {
    cls.__name__: cls
    for cls in (
        qMRMLWidget,
        qMRMLNodeComboBox,
        qMRMLCheckableNodeComboBox,
        qMRMLSliderWidget,
        qMRMLRangeWidget,
        qMRMLCollapsibleButton,
        qMRMLSpinBox,
    )
}
