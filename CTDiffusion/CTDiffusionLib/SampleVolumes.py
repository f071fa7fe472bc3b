"""What Slicer's Sample Data module offers of ours: a torso drawn with formulas, on this computer, without a download.

A click in Sample Data draws it into the scene. A script that asks Sample Data for it
(``SampleData.downloadSample(SampleVolumes.NAME)``) gets it as a file: our address is rewritten to that file's.

Sample Data waits for what it asks for. Drawing takes seconds: it is done in a thread, while Slicer handles its events.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import slicer
import slicer.util
from slicer.i18n import tr as _

from .SceneVolumes import insertSyntheticVolume

if TYPE_CHECKING:
    from CTDiffusionLogic.volume import CTVolume

NAME = "CT torso phantom (procedural)"
NODE_NAME = "CT torso phantom"
#: Not on any server; see rewrittenAddress.
ADDRESS = "ctdiffusion:torso-phantom"
_THUMBNAIL = Path(__file__).resolve().parents[1] / "Resources" / "Icons" / "CTTorsoPhantom.png"
#: From the pelvis to the shoulders, coarse enough to be drawn in seconds.
SIZE = {"slices": 72, "spacing_mm": (2.3, 2.3, 6.0), "size": 176}
#: Between two looks at whether it is drawn; Slicer's events are handled as often.
_TURN_S = 0.01
_Result = TypeVar("_Result")
_drawing = threading.Lock()


def register() -> bool:
    """Offer the phantom in the Sample Data module.

    :return: whether Slicer has that module.
    """
    try:
        import SampleData
    except ImportError:  # the user may have switched it off
        return False
    logic = SampleData.SampleDataLogic
    logic.registerCustomSampleDataSource(
        category=_("CT Diffusion"),
        sampleName=NAME,
        uris=ADDRESS,
        fileNames="CTTorsoPhantom.nrrd",
        nodeNames=NODE_NAME,
        customDownloader=drawPhantom,
        thumbnailFileName=str(_THUMBNAIL),
        loadFileTypes="VolumeFile",
    )
    if hasattr(logic, "registerUrlRewriteRule"):
        logic.registerUrlRewriteRule("CTDiffusion", rewrittenAddress)
    return True


def phantom() -> CTVolume:
    """Return the phantom; always the same."""
    from CTDiffusionLogic.phantom import torso_phantom

    return torso_phantom(**SIZE)  # type: ignore[arg-type]  # of several types


def drawPhantom(_source: Any = None) -> Any:
    """Draw the phantom into the scene and show it; called by Sample Data.

    :return: the volume node, marked as synthetic; None while another click's is being drawn.
    """
    if not _drawing.acquire(blocking=False):
        slicer.util.showStatusMessage(_("The phantom is being drawn..."), 3000)
        return None
    with slicer.util.tryWithErrorDisplay(_("The phantom could not be drawn.")):
        slicer.util.showStatusMessage(_("The phantom is being drawn..."), 3000)
        try:
            volume = _aside(phantom)
        finally:
            _drawing.release()
        node = insertSyntheticVolume(
            volume.hu, volume.geometry.ijk_to_ras, NODE_NAME, metadata=volume.portable_metadata
        )
        slicer.util.setSliceViewerLayers(background=node, fit=True)
        return node


def rewrittenAddress(address: str) -> str:
    """Return the address of a file with the phantom for ADDRESS, and all other addresses as they are.

    :raises CTDiffusionLogic.errors.OutputError: if the file cannot be written.
    """
    if address != ADDRESS:
        return address
    from CTDiffusionLogic.volume_io import write_volume

    folder = getattr(getattr(slicer, "app", None), "temporaryPath", None) or tempfile.gettempdir()
    path = Path(folder).absolute() / "CTTorsoPhantom.nrrd"
    _aside(lambda: write_volume(phantom(), path))
    return path.as_uri()


def _aside(function: Callable[[], _Result]) -> _Result:
    """Call ``function`` in a thread, and handle Slicer's events until it returns; without any, just call it."""
    processEvents = getattr(getattr(slicer, "app", None), "processEvents", None)
    if processEvents is None or threading.current_thread() is not threading.main_thread():
        return function()
    results: list[_Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # told in the main thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        processEvents()
        thread.join(_TURN_S)
    if errors:
        raise errors[0]
    return results[0]
