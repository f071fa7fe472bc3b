"""Synthetic volumes from files that the ``ctdiffusion`` command wrote, with what they say about their origin."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from .Provenance import PREFIX, isSynthetic, setProvenance
from .SceneVolumes import insertSyntheticVolume

#: Longer ones are not ours.
MAX_HEADER_LINE = 65536


def loadSyntheticVolume(
    path: str | Path, *, reference: Any = None, scene: Any = None, volumesLogic: Any = None
) -> Any:
    """Read a generated volume into the scene, with its provenance, beside its reference.

    :param path: an .nrrd, .mha or .nii.gz file made by ``ctdiffusion generate``.
    :param reference: the real volume it belongs to, or None.
    :param scene: see SceneVolumes.insertVolume, as for volumesLogic.
    :return: the new vtkMRMLScalarVolumeNode, named after the file.
    :raises ValueError: if the file does not say that it is synthetic.
    :raises CTDiffusionLogic.errors.InputError: if it cannot be read.
    """
    # Here, not above: the library is on the path only once the module has been set up.
    from CTDiffusionLogic.volume_io import read_volume

    volume = read_volume(path)
    if volume.metadata.get("synthetic") != "yes":
        raise ValueError(
            f"{path} does not say that it is synthetic. Load real scans with Add Data or the DICOM module."
        )
    return insertSyntheticVolume(
        volume.hu,
        volume.geometry.ijk_to_ras,
        f"SYNTHETIC {Path(path).name.split('.')[0]}",
        metadata=volume.portable_metadata,
        reference=reference,
        scene=scene,
        volumesLogic=volumesLogic,
    )


def recogniseFile(node: Any) -> bool:
    """Mark a volume that Slicer has loaded by itself (Add Data) as synthetic if its file's header says so.

    Slicer's own readers drop what the header says. Reads the file's header only, and that once.

    :param node: a volume node.
    :return: whether the volume is marked as synthetic now.
    """
    if isSynthetic(node):
        return True
    storage = node.GetStorageNode()
    path = Path((storage.GetFileName() if storage is not None else None) or "")
    facts = headerFacts(path) if path.is_file() else {}
    if facts.get("synthetic") != "yes":
        return False
    setProvenance(node, facts)
    return True


def headerFacts(path: Path) -> dict[str, str]:
    """Return what ``ctdiffusion`` has written into an image file's header, without reading its voxels.

    :param path: a file that exists; of one that is none of ours there are no facts.
    """
    return _headerFacts(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)  # asked whenever a view changes
def _headerFacts(path: Path, _modified: int) -> dict[str, str]:
    """What ``ctdiffusion`` has written into an image file's header; empty for all other files."""
    if path.suffix.lower() == ".nrrd":
        return _nrrdFacts(path)
    import SimpleITK as sitk

    from CTDiffusionLogic.image_files import HEADER_PREFIX, image_suffix

    if not image_suffix(path):
        return {}
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:  # Slicer could read it, ITK cannot: not one of ours
        return {}
    ours = [key for key in reader.GetMetaDataKeys() if key.startswith(HEADER_PREFIX)]
    facts = {key.removeprefix(HEADER_PREFIX): reader.GetMetaData(key) for key in ours}
    if reader.HasMetaDataKey("descrip") and reader.GetMetaData("descrip").startswith("SYNTHETIC CT"):  # NIfTI
        facts["synthetic"] = "yes"
        if "PARTLY REAL" in reader.GetMetaData("descrip"):  # which slices, a NIfTI header has no room to say
            facts["partly_real"] = "yes"
    return facts


def _nrrdFacts(path: Path) -> dict[str, str]:
    """The same from an NRRD's text header, at once: importing SimpleITK would block Slicer for half a second."""
    facts = {}
    with path.open("rb") as stream:
        isHeader = stream.readline().startswith(b"NRRD")
        while isHeader and (line := stream.readline(MAX_HEADER_LINE).rstrip(b"\r\n")):  # it ends with an empty line
            key, separator, value = line.decode("utf-8", errors="replace").partition(":=")
            if separator and key.startswith(PREFIX):
                isQuoted = len(value) >= 2 and value[0] == value[-1] == '"'
                facts[key.removeprefix(PREFIX)] = unquote(value[1:-1]) if isQuoted else value
    return facts
