"""What Slicer's Sample Data module offers of ours: a torso drawn with formulas, on this computer, without a download.

A click in Sample Data draws it into the scene. A script that asks Sample Data for it
(``SampleData.downloadSample(SampleVolumes.NAME)``) gets it as a file: our address is rewritten to that file's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    :return: the volume node, marked as synthetic.
    """
    with slicer.util.tryWithErrorDisplay(_("The phantom could not be drawn."), waitCursor=True):
        volume = phantom()
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
    write_volume(phantom(), path)
    return path.as_uri()
