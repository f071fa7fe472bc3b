"""Where a synthetic volume came from, kept with its node so that it is saved with the scene.

A fact of the volume's metadata such as ``model_name`` becomes the node attribute ``CTDiffusion.ModelName``.
The reference volume is kept as a node reference (MRML corrects it when IDs change on import); the attribute
``CTDiffusion.ReferenceNodeID`` repeats its ID for readers that know attributes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .SlicerHost import nodesByClass, sceneOrDefault

PREFIX = "CTDiffusion."
SYNTHETIC_ATTRIBUTE = PREFIX + "Synthetic"
REFERENCE_ID_ATTRIBUTE = PREFIX + "ReferenceNodeID"
REFERENCE_ROLE = "CTDiffusionReference"


def attributeName(key: str) -> str:
    """Return the node attribute of a metadata key: ``model_name`` gives ``CTDiffusion.ModelName``.

    :param key: words joined by "_", "-", "." or spaces; capitals inside a word are kept.
    """
    for separator in "_-.":
        key = key.replace(separator, " ")
    return PREFIX + "".join(word[0].upper() + word[1:] for word in key.split())


def setProvenance(node: Any, metadata: Mapping[str, object], *, reference: Any = None) -> None:
    """Mark ``node`` as synthetic and record what made it.

    :param node: a vtkMRMLVolumeNode in a scene.
    :param metadata: facts such as model, model_sha256, seed, steps, sampler, version; values are
        stored as text, empty ones and None are left out.
    :param reference: the real volume it was made like or beside (in the same scene), if any.
    """
    for key, value in metadata.items():
        if value is not None and str(value) != "":
            node.SetAttribute(attributeName(key), str(value))
    node.SetAttribute(SYNTHETIC_ATTRIBUTE, "yes")
    setReference(node, reference)


def setReference(node: Any, reference: Any) -> None:
    """Record ``reference`` as the real volume that belongs to ``node``; None forgets it."""
    node.SetNodeReferenceID(REFERENCE_ROLE, reference.GetID() if reference is not None else None)
    if reference is None:
        node.RemoveAttribute(REFERENCE_ID_ATTRIBUTE)
    else:
        node.SetAttribute(REFERENCE_ID_ATTRIBUTE, reference.GetID())


def referenceVolume(node: Any) -> Any:
    """Return the real volume recorded for ``node``, or None if there is none in the scene."""
    return node.GetNodeReference(REFERENCE_ROLE)


def provenance(node: Any) -> dict[str, str]:
    """Return the recorded facts by their attribute name without the prefix, for example "Seed"."""
    names = [name for name in node.GetAttributeNames() if name.startswith(PREFIX)]
    return {name.removeprefix(PREFIX): node.GetAttribute(name) for name in sorted(names)}


def isSynthetic(node: Any) -> bool:
    """Whether ``node`` (any MRML node, or None) is marked as synthetic."""
    return node is not None and node.GetAttribute(SYNTHETIC_ATTRIBUTE) == "yes"


def isPartlyReal(node: Any) -> bool:
    """Whether ``node`` (any MRML node, or None) is a completed scan: some of its slices show a patient."""
    facts = provenance(node) if isSynthetic(node) else {}
    return bool(facts.get("RealSlices")) or facts.get("PartlyReal") == "yes"


def syntheticVolumes(scene: Any = None) -> list[Any]:
    """Return the volumes of the scene that are marked as synthetic, in scene order."""
    return [node for node in nodesByClass(sceneOrDefault(scene), "vtkMRMLScalarVolumeNode") if isSynthetic(node)]
