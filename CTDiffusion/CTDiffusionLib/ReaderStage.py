"""Where a reader sees the images: in views of their own, from nodes that say nothing about their origin.

The volumes themselves stay as they are. What is shown are copies without name, position or provenance, in nodes that
no list offers; they go with the study, and the user's own layout comes back. All images carry the same words,
synthetic or not. A scene that is saved meanwhile has nothing of all this: neither nodes nor layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer.util
import vtk
from slicer.i18n import tr as _

from . import CornerAnnotation, Display, Layouts
from .Provenance import PREFIX
from .SlicerHost import sceneOrDefault

#: On every image of a study: some are synthetic, so this is true of all.
TEXT = "READER STUDY - not for diagnosis"
#: Marks the nodes of a study that is going on.
STUDY_ATTRIBUTE = PREFIX + "ReaderStudy"
#: Numbers of the layouts, by how many images there are side by side and in how many orientations each; above those
#: of TrainLayout. View groups likewise: one for each image, so that its orientations move together.
_LAYOUT_IDS = {(2, 1): 5301, (2, 2): 5302, (1, 1): 5303, (1, 2): 5304}
_GROUPS = (5301, 5302)


def stageLayout(images: int, orientations: int) -> Layouts.ComparisonLayout:
    """Return a layout of this module: one row for each image.

    :param images: 1, or 2 side by side.
    :param orientations: 1 (axial) for slices, 2 (axial, coronal) for volumes.
    """
    names = list(Layouts.ORIENTATIONS)[:orientations]
    rows = tuple(
        Layouts.ViewRow(
            tuple(f"CTDiffusionReader{number + 1}{name}" for name in names),
            tuple(f"{number + 1}" if name == "Axial" else f"{number + 1}-{name[0]}" for name in names),
            _GROUPS[number],
        )
        for number in range(images)
    )
    return Layouts.ComparisonLayout(_LAYOUT_IDS[images, orientations], rows)


def layoutXml(layout: Layouts.ComparisonLayout) -> str:
    """Return the layout's description in the XML of vtkMRMLLayoutNode: images side by side."""
    columns = []
    for row in layout.rows:
        views = "".join(
            f'<item><view class="vtkMRMLSliceNode" singletontag="{tag}">'
            f'<property name="orientation" action="default">{orientation}</property>'
            f'<property name="viewlabel" action="default">{label}</property>'
            f'<property name="viewcolor" action="default">{colour}</property>'
            f'<property name="viewgroup" action="default">{row.group}</property></view></item>'
            for tag, label, orientation, colour in row.views()
        )
        columns.append(views if len(layout.rows) == 1 else f'<item><layout type="vertical">{views}</layout></item>')
    return f'<layout type="horizontal">{"".join(columns)}</layout>'


class ReaderStage(slicer.util.VTKObservationMixin):
    """Shows images; see the module's text.

    Example::

        stage = ReaderStage(images=2, orientations=1)
        stage.open()
        stage.show([left, right], "lung")
        stage.close()

    :param images: 1, or 2 side by side.
    :param orientations: 1 (axial) for slices, 2 (axial, coronal) for volumes.
    :param scene: a vtkMRMLScene; by default the application's.
    :param volumesLogic: see SlicerHost.volumesLogicOrDefault.
    :param rendererOf: finds the vtkRenderer of a layout name; may return None.
    """

    def __init__(
        self,
        images: int,
        orientations: int,
        *,
        scene: Any = None,
        volumesLogic: Any = None,
        rendererOf: CornerAnnotation.RendererOf = CornerAnnotation.slicerRenderer,
    ) -> None:
        super().__init__()
        self.layout = stageLayout(images, orientations)
        self._scene, self._volumesLogic, self._rendererOf = sceneOrDefault(scene), volumesLogic, rendererOf
        self._nodeIDs: list[str] = []
        self._annotations: dict[str, tuple[Any, Any]] = {}
        self._before: int | None = None  # the user's layout, while ours is shown

    @property
    def isOpen(self) -> bool:
        """Whether the study has the views."""
        return self._before is not None

    def open(self) -> None:
        """Take the views; there is nothing in them yet."""
        node = Layouts.layoutNode(self._scene)
        current, remembered = node.GetViewArrangement(), node.GetAttribute(Layouts.USER_LAYOUT_ATTRIBUTE)
        isOwn = current in _LAYOUT_IDS.values()  # left by a Slicer that crashed: nobody's wish
        self._before = node.SlicerLayoutFourUpView if isOwn else current
        for layout in {key: stageLayout(*key) for key in _LAYOUT_IDS}.values():
            if not node.IsLayoutDescription(layout.number):
                node.AddLayoutDescription(layout.number, layoutXml(layout))
        Layouts.switchTo(self._scene, self.layout)
        # That is where comparisons remember the user's layout; it is none of our business.
        if remembered is None:
            node.RemoveAttribute(Layouts.USER_LAYOUT_ATTRIBUTE)
        else:
            node.SetAttribute(Layouts.USER_LAYOUT_ATTRIBUTE, remembered)
        node.SetSaveWithScene(False)
        for tag in self.layout.tags:
            for view in (Layouts.sliceNode(self._scene, tag), Layouts.compositeNode(self._scene, tag)):
                view.SetSaveWithScene(False)
        self._annotate()

    def show(self, images: Sequence[Any], preset: str) -> None:
        """Show images, whole and at the same scale.

        :param images: reader_images.ReaderImage, the left one first.
        :param preset: a key of Display.PRESETS.
        """
        self.removeObservers()
        if not self._nodeIDs:
            self._nodeIDs = [self._newNode(number + 1) for number in range(len(images))]
        for node, image, row in zip(self._nodes(), images, self.layout.rows, strict=True):
            node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(image.ijk_to_ras))
            slicer.util.updateVolumeFromArray(node, image.hu)
            for tag in row.tags:
                Layouts.showInView(Layouts.compositeNode(self._scene, tag), background=node)
        self.applyPreset(preset)
        self.fit()
        for node in self._nodes():
            self.addObserver(Display.displayNodeOf(node), vtk.vtkCommand.ModifiedEvent, self._onDisplayModified)

    def applyPreset(self, preset: str) -> None:
        """Show the images with a CT preset, a key of Display.PRESETS."""
        Display.applyPreset(self._nodes(), preset, volumesLogic=self._volumesLogic)
        for node in self._nodes():
            display = Display.displayNodeOf(node)
            display.SetHideFromEditors(True)
            display.SetSaveWithScene(False)

    def window(self) -> str:
        """Return the grey levels in HU as "width/level"."""
        display = Display.displayNodeOf(self._nodes()[0])
        return f"{display.GetWindow():.0f}/{display.GetLevel():.0f}"

    def fit(self) -> None:
        """Show the images whole again; to be called when new views have got their sizes, too."""
        if self.isOpen and self._nodeIDs:
            self._annotate()
            Layouts.fitViews(self.layout, self._nodes())

    def close(self) -> None:
        """Give the views back; what was shown is gone. Does nothing if that was done before."""
        self.removeObservers()
        for renderer, annotation in self._annotations.values():
            renderer.RemoveViewProp(annotation)
        self._annotations.clear()
        for nodeID in self._nodeIDs:
            node = self._scene.GetNodeByID(nodeID)
            if node is not None and node.GetAttribute(STUDY_ATTRIBUTE):
                display = node.GetDisplayNode()
                self._scene.RemoveNode(node)  # that empties the views, too
                if display is not None:
                    self._scene.RemoveNode(display)
        self._nodeIDs = []
        if self._before is not None:
            node = Layouts.layoutNode(self._scene)
            node.SetSaveWithScene(True)
            if Layouts.isShown(self.layout, self._scene):  # else the user has moved on
                node.SetViewArrangement(self._before)
            self._before = None

    def _nodes(self) -> list[Any]:
        return [self._scene.GetNodeByID(nodeID) for nodeID in self._nodeIDs]

    def _newNode(self, number: int) -> str:
        node = self._scene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
        node.UnRegister(None)
        node.SetName(_("Image {number}").format(number=number))
        node.SetAttribute(STUDY_ATTRIBUTE, "yes")
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        return self._scene.AddNode(node).GetID()

    def _annotate(self) -> None:
        for tag in self.layout.tags:
            renderer = self._rendererOf(tag)
            if renderer is not None and (tag not in self._annotations or self._annotations[tag][0] is not renderer):
                annotation = CornerAnnotation.newAnnotation(_(TEXT))
                renderer.AddViewProp(annotation)
                self._annotations[tag] = (renderer, annotation)

    def _onDisplayModified(self, display: Any, *_arguments: Any) -> None:
        """Both images of a pair keep the same grey levels when the mouse changes those of one."""
        for node in self._nodes():
            other = Display.displayNodeOf(node)
            if other is not display and (other.GetWindow(), other.GetLevel()) != (
                display.GetWindow(),
                display.GetLevel(),
            ):
                Display.matchWindowLevel(next(n for n in self._nodes() if n.GetDisplayNode() is display), [node])
