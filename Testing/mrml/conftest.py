"""A real MRML scene for each test: slicer-core's nodes and logics, no stand-ins."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

REPOSITORY = Path(__file__).resolve().parents[2]
for _folder in (REPOSITORY, REPOSITORY / "CTDiffusion", REPOSITORY / "Testing", REPOSITORY / "Testing" / "demo"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))
if not hasattr(slicer, "i18n") and importlib.util.find_spec("slicer.i18n") is None:  # slicer-core has none
    _i18n = types.ModuleType("slicer.i18n")
    _i18n.tr, _i18n.translate = (lambda text: text), (lambda context, text: text)  # type: ignore[attr-defined]
    sys.modules["slicer.i18n"] = slicer.i18n = _i18n


@pytest.fixture
def app() -> Any:
    """Slicer's scene and module logics, new and empty; also ``slicer.mrmlScene``."""
    from rendering import new_app

    return new_app()


@pytest.fixture
def open_views() -> Iterator[Callable[..., Any]]:
    """Makes SceneViews and closes them after the test."""
    from rendering import SceneViews

    opened: list[Any] = []

    def make(*arguments: Any, **options: Any) -> Any:
        opened.append(SceneViews(*arguments, **options))
        return opened[-1]

    yield make
    for views in opened:
        views.close()


@pytest.fixture
def bent(app: Any) -> Any:
    """A transform node that bends space."""
    import vtk

    node = app.scene.AddNewNodeByClass("vtkMRMLTransformNode")
    spline = vtk.vtkThinPlateSplineTransform()
    for landmarks, shift in ((spline.SetSourceLandmarks, 0.0), (spline.SetTargetLandmarks, 9.0)):
        points = vtk.vtkPoints()
        for n in range(5):
            points.InsertNextPoint(n, n * n, n * shift)
        landmarks(points)
    node.SetAndObserveTransformToParent(spline)
    return node


@pytest.fixture
def oblique() -> np.ndarray:
    """IJK to RAS of a tilted and turned scan whose rows run to the left and columns to the back, as in DICOM."""
    turn, tilt = np.radians(11.0), np.radians(-23.0)
    around_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    around_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    matrix = np.eye(4)
    matrix[:3, :3] = around_z @ around_x @ np.diag([-1.0, -1.0, 1.0]) * [0.7031, 0.8123, 2.5]
    matrix[:3, 3] = [123.456789, -98.7654321, -1234.5678]
    return matrix


@pytest.fixture
def hu() -> np.ndarray:
    """A small int16 volume in which every voxel differs from its neighbours."""
    return np.random.default_rng(5).integers(-1024, 3072, size=(7, 9, 11), dtype=np.int16)
