"""Synthetic volumes from files that the ``ctdiffusion`` command wrote, with what they say about their origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .SceneVolumes import insertSyntheticVolume


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
