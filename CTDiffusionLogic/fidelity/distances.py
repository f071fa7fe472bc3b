"""How far synthetic images are from real ones: Fréchet and kernel distances per plane, beside real against real.

protocol = choose_protocol(spacings, extents, groups=groups)
measures = [measure_features(volume, protocol, extractors) for volume in volumes]  # each volume is read once
section = compare_features(real_measures, synthetic_measures, extractors)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.errors import InputError, UsageError
from CTDiffusionLogic.fidelity.extractors.base import Extractor
from CTDiffusionLogic.fidelity.feature_comparison import FeatureComparison
from CTDiffusionLogic.fidelity.planes import Protocol, cut_planes
from CTDiffusionLogic.fidelity.results import PLANES, Plane, Section
from CTDiffusionLogic.fidelity.volumes import LabVolume

#: Fewer patients than this make rough floors and intervals.
FEW_PATIENTS = 5


@dataclass(frozen=True, eq=False)
class FeatureMeasures:
    """Features of one volume's images.

    Args:
        id, patient: Of the volume.
        features: (extractor, plane) to float32 (n, D); n is 0 where the volume gives no images of the plane.
        protocol: How the images were cut.
        extractors: SHA-256 of each extractor by its name.
    """

    id: str
    patient: str
    features: Mapping[tuple[str, Plane], NDArray[np.float32]]
    protocol: Protocol = field(default_factory=Protocol)
    extractors: Mapping[str, str] = field(default_factory=dict)


def measure_features(volume: LabVolume, protocol: Protocol, extractors: Sequence[Extractor]) -> FeatureMeasures:
    """Cut images of ``volume`` and compute their features.

    Args:
        volume: Real or synthetic.
        protocol: The same for all volumes of a comparison; see
            :func:`~CTDiffusionLogic.fidelity.planes.choose_protocol`.
        extractors: With different names.

    Raises:
        ValueError: If the protocol has not been chosen.
    """
    planes = cut_planes(volume, protocol)
    return FeatureMeasures(
        volume.id,
        volume.patient,
        {
            (extractor.name, plane): extractor.features(images, protocol.pixel_of(plane))
            if len(images)
            else np.empty((0, extractor.dimensions), np.float32)
            for extractor in extractors
            for plane, images in planes.items()
        },
        protocol,
        {extractor.name: extractor.sha256 for extractor in extractors},
    )


def compare_features(
    real: Sequence[FeatureMeasures],
    synthetic: Sequence[FeatureMeasures],
    extractors: Sequence[Extractor],
    *,
    seed: int = 0,
    rounds: int = 200,
    splits: int = 10,
) -> Section:
    """Compare what :func:`measure_features` gave.

    Args:
        real, synthetic: At least one volume each.
        extractors: As measured.
        seed: Of resampling and splits.
        rounds: Of resampling, for the intervals.
        splits: Most splits of the real patients, for the floors.

    Returns:
        The section "frechet"; keys of figures are "frechet.EXTRACTOR.PLANE", "frechet.EXTRACTOR.mean",
        "frechet.EXTRACTOR.mean.all_images" and the same with "kernel".

    Raises:
        InputError: If a side has no volumes, or there is no plane of which both sides have images.
        UsageError: If measures were made with different protocols or extractors, or two extractors have one name.
    """
    _require_alike(real, synthetic, extractors)
    every = [*real, *synthetic]
    parts = [
        FeatureComparison(
            extractor,
            {plane: [measures.features[extractor.name, plane] for measures in every] for plane in PLANES},
            [measures.patient for measures in real],
            [measures.id for measures in synthetic],
            rounds=rounds,
            splits=splits,
            seed=seed,
        )
        for extractor in extractors
    ]
    protocol = real[0].protocol
    warnings = list(protocol.notes)
    patients = len({measures.patient for measures in real})
    if patients < 2:
        warnings.append("The real scans are of one patient: there is no floor to compare with.")
    elif patients < FEW_PATIENTS:
        warnings.append(f"The real scans are of only {patients} patients: floors and intervals are rough.")
    return Section(
        key="frechet",
        title="Distance of images from real ones",
        verdict=" ".join(part.verdict(named=len(parts) > 1) for part in parts),
        figures=[figure for part in parts for figure in part.figures()],
        warnings=warnings + [warning for part in parts for warning in part.warnings()],
        details={
            "protocol": protocol.to_dict(),
            "extractors": {e.name: {"sha256": e.sha256, "dimensions": e.dimensions} for e in extractors},
            "all_images": {part.extractor.name: part.all_images for part in parts},
            "resampling": {"rounds": rounds, "splits": splits, "seed": seed},
        },
    )


def _require_alike(
    real: Sequence[FeatureMeasures], synthetic: Sequence[FeatureMeasures], extractors: Sequence[Extractor]
) -> None:
    for name, side in (("real", real), ("synthetic", synthetic)):
        if not side:
            raise InputError(f"There are no {name} volumes to compare.", remedy=f"Name {name} volumes.")
    if not extractors:
        raise UsageError("There is no feature extractor.", remedy="Name one.")
    wanted = {extractor.name: extractor.sha256 for extractor in extractors}
    if len(wanted) < len(extractors):
        names = ", ".join(extractor.name for extractor in extractors)
        raise UsageError(f"Two feature extractors have one name: {names}.", remedy="Compare with one at a time.")
    for measures in (*real, *synthetic):
        if measures.protocol != real[0].protocol:
            raise UsageError(
                f"The images of {measures.id} were cut by another protocol than those of {real[0].id}.",
                remedy="Measure all volumes with one protocol.",
            )
        if any(measures.extractors.get(name, sha256) != sha256 for name, sha256 in wanted.items()) or any(
            (name, plane) not in measures.features for name in wanted for plane in PLANES
        ):
            raise UsageError(
                f"The features of {measures.id} were not made by {', '.join(wanted)} as they are now.",
                remedy="Measure all volumes with the same extractors.",
            )
