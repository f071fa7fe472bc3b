"""Real Slicer slice views off screen: what a scene shows, as pixels, without a display.

The views are Slicer's own (slice logics, displayable managers) in the windows that trame-slicer makes for them.
They need OpenGL, which on a machine without a display means EGL or OSMesa of Mesa. Where there is none, the
pictures come straight from Slicer's slice logics (vtkMRMLSliceLogic), which compute them on the CPU: the same
pixels, without what is drawn over them (annotations, rulers).
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from typing import Any

# VTK asks X11 first, which without a display only costs time and warnings. Must be set before VTK is imported.
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

import numpy as np
import slicer
import slicer.util
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

#: What to install where OpenGL is missing (Debian, Ubuntu).
OPENGL_REMEDY = "Install it with: apt-get install libegl1 libgl1-mesa-dri"

_PROBE = "import vtk; w = vtk.vtkRenderWindow(); w.SetOffScreenRendering(1); w.SetSize(8, 8); w.Render()"


class SceneViews:
    """A scene of slicer-core with slice views in it.

    Args:
        tags: Singleton tags of the views.
        size: Width and height of each view in pixels.
        with_opengl: Whether views are rendered or taken from the slice logics; by default as the machine can.

    Attributes:
        app: Slicer's scene and module logics (trame_slicer.core.SlicerApp); also ``slicer.mrmlScene``.
    """

    def __init__(self, tags: tuple[str, ...], *, size: tuple[int, int] = (480, 480), with_opengl: bool | None = None):
        self.app = new_app()
        self.size = size
        self.with_opengl = has_opengl() if with_opengl is None else with_opengl
        self._views = {tag: self._new_view(tag) for tag in tags}
        # As Slicer's layout manager has it: makes the nodes of the views that a layout asks for. After our views:
        # a slice logic that finds its node made already works on a copy of it.
        self._layout_logic = slicer.vtkMRMLLayoutLogic()
        self._layout_logic.SetMRMLScene(self.scene)

    @property
    def scene(self) -> Any:
        """The vtkMRMLScene."""
        return self.app.scene

    def renderer(self, tag: str) -> Any:
        """The vtkRenderer of a view; None where there is no such view, or no OpenGL."""
        return self._views[tag].renderer() if self.with_opengl and tag in self._views else None

    def picture(self, tag: str) -> NDArray[np.uint8]:
        """What a view shows: (height, width, 3), first row at the top."""
        if not self.with_opengl:
            return _logic_picture(self._views[tag])
        view = self._views[tag]
        view.render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(view.render_window())
        grabber.ReadFrontBufferOff()
        grabber.Update()
        return _to_array(grabber.GetOutput())

    def close(self) -> None:
        """Free the windows."""
        if self.with_opengl:
            for view in self._views.values():
                view.finalize()
        self._views.clear()

    def _new_view(self, tag: str) -> Any:
        if not self.with_opengl:
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLApplicationLogic(self.app.app_logic)
            logic.SetMRMLScene(self.scene)
            logic.AddSliceNode(tag).SetDimensions(*self.size, 1)
            return logic
        from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition, ViewProps, ViewType
        from trame_slicer.views.render_scheduler import NoScheduleRendering

        self.app.view_manager.register_factory(DirectViewFactory(do_render_offscreen=True))
        view = self.app.view_manager.create_view(ViewLayoutDefinition(tag, ViewType.SLICE_VIEW, ViewProps()))
        view.set_scheduled_render(NoScheduleRendering())  # only when a picture is asked for, not at every change
        view.render_window().SetMultiSamples(0)  # smooths edges of models only, and is slow in software
        view.render_window().SetSize(*self.size)
        view.update_size(*self.size)
        view.get_view_node().SetDimensions(*self.size, 1)
        return view


def new_app() -> Any:
    """A new scene with Slicer's module logics (trame_slicer.core.SlicerApp), set as ``slicer.mrmlScene``."""
    from trame_slicer.core import SlicerApp

    app = SlicerApp()
    # Errors once, on stderr; not the notes and warnings (of archives written, of events renamed in VTK 9.6).
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_ERROR)
    vtk.vtkOutputWindow.GetInstance().SetDisplayModeToNever()
    slicer.mrmlScene = app.scene
    return app


@cache
def has_opengl() -> bool:
    """Whether VTK can render here. Asked in a process of its own: where libraries are missing, VTK crashes."""
    probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=False, timeout=120)
    return probe.returncode == 0


def _logic_picture(logic: Any) -> NDArray[np.uint8]:
    connection = logic.GetImageDataConnection()
    width, height, _ = logic.GetSliceNode().GetDimensions()
    if connection is None:  # nothing is shown in this view
        return np.zeros((height, width, 3), np.uint8)
    producer, port = connection.GetProducer(), connection.GetIndex()
    producer.Update()
    return _to_array(producer.GetOutputDataObject(port))


def _to_array(image: Any) -> NDArray[np.uint8]:
    """VTK's rows run from the bottom to the top; alpha lies over black."""
    width, height, _ = image.GetDimensions()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1]
    if pixels.shape[2] == 4:
        pixels = (pixels[..., :3] * (pixels[..., 3:] / 255.0)).round()
    return np.ascontiguousarray(pixels[..., :3], dtype=np.uint8)
