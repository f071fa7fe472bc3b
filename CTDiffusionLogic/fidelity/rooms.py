"""The rooms of the laboratory behind one small interface, so that any of them can be left out or put in.

A room measures volumes one by one and compares what it measured; which volumes it wants is said by their groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from CTDiffusionLogic.errors import InputError, UsageError
from CTDiffusionLogic.fidelity.findings import Group
from CTDiffusionLogic.fidelity.results import Section
from CTDiffusionLogic.fidelity.volumes import LabVolume

if TYPE_CHECKING:
    from CTDiffusionLogic.fidelity.distances import FeatureMeasures
    from CTDiffusionLogic.fidelity.evaluate import EvaluateOptions
    from CTDiffusionLogic.fidelity.extractors.base import Extractor
    from CTDiffusionLogic.fidelity.inputs import Scan

Measures = Mapping[Group, Sequence[Any]]


class Room(Protocol):
    """One way to look at volumes."""

    @property
    def key(self) -> str:
        """Of its section."""

    @property
    def title(self) -> str:
        """Of its section."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """Whose volumes it measures."""

    def measure(self, volume: LabVolume) -> Any:
        """Summarise one volume in some kilobytes, with its id and patient.

        Raises:
            CTDiffusionError: If this volume cannot be measured; the room goes on without it.
        """

    def compare(self, measures: Measures, *, seed: int) -> Section | None:
        """Compare what was measured, by group; None if there is nothing to say.

        Raises:
            CTDiffusionError: If the volumes do not suffice; its sentence becomes the section.
        """


@dataclass(frozen=True)
class FunctionRoom:
    """A room made of two functions: ``measuring(volume)`` and ``comparing(measures, seed)``."""

    key: str
    title: str
    groups: tuple[Group, ...]
    measuring: Callable[[LabVolume], Any]
    comparing: Callable[[Measures, int], Section | None]

    def measure(self, volume: LabVolume) -> Any:
        """See :class:`Room`."""
        return self.measuring(volume)

    def compare(self, measures: Measures, *, seed: int) -> Section | None:
        """See :class:`Room`."""
        return self.comparing(measures, seed)


def build_rooms(options: EvaluateOptions, scans: Sequence[Scan]) -> tuple[Sequence[Room], Mapping[str, Any]]:
    """All rooms for these options and volumes, in the order of the report, and the protocol as plain data.

    Raises:
        UsageError, ModelFileError, ResourceError: If an extractor cannot be used.
    """
    from CTDiffusionLogic.device import choose_device
    from CTDiffusionLogic.fidelity.body_grid import common_pixel_mm
    from CTDiffusionLogic.fidelity.extractors import get_extractor

    extractors = [get_extractor(name, device=str(choose_device(options.device))) for name in options.extractors]
    twice = [name for name, count in Counter(extractor.name for extractor in extractors).items() if count > 1]
    if twice:
        raise UsageError(
            f"The extractor {twice[0]} is named more than once.", remedy="Compare two files of it one after the other."
        )
    pixel_mm = common_pixel_mm(scan.spacing_mm for scan in scans)
    images, image_protocol = _image_rooms(options, scans, extractors)
    rooms = [images[0], *_structure_rooms(pixel_mm), *images[1:], _copies_room()]
    protocol = {
        "images": image_protocol,
        "extractors": {extractor.name: extractor.sha256 for extractor in extractors},
        "structure": {"pixel_mm": pixel_mm},
    }
    return rooms, protocol


def _image_rooms(
    options: EvaluateOptions, scans: Sequence[Scan], extractors: Sequence[Extractor]
) -> tuple[list[Room], dict[str, Any]]:
    """What rests on features of images: their distances, and diversity, which looks at the same features."""
    from CTDiffusionLogic.fidelity.distances import compare_features, measure_features
    from CTDiffusionLogic.fidelity.planes import Protocol as ImageProtocol
    from CTDiffusionLogic.fidelity.planes import choose_protocol

    features: dict[str, FeatureMeasures] = {}
    diversity = _diversity_room(features, {extractor.name: extractor.sha256 for extractor in extractors})
    compared = [scan for scan in scans if {"real", "synthetic"} & set(scan.groups)]
    title = "Distance of images from real ones"
    try:
        protocol = choose_protocol(
            [scan.spacing_mm for scan in compared],
            [scan.extent_mm for scan in compared],
            groups=["synthetic" if "synthetic" in scan.groups else "real" for scan in compared],
            wanted=ImageProtocol(images_per_volume=options.images_per_volume),
        )
    except InputError as error:
        return [_silent_room("frechet", title, error), diversity], {}

    def measure(volume: LabVolume) -> FeatureMeasures:
        features[volume.id] = measure_features(volume, protocol, extractors)
        return features[volume.id]

    distances = FunctionRoom(
        "frechet",
        title,
        ("real", "synthetic"),
        measure,
        lambda m, seed: compare_features(m["real"], m["synthetic"], extractors, seed=seed),
    )
    return [distances, diversity], {key: value for key, value in protocol.to_dict().items() if key != "notes"}


def _diversity_room(features: Mapping[str, FeatureMeasures], extractors: Mapping[str, str]) -> Room:
    """``features`` by volume are looked up when all volumes have been measured."""
    from CTDiffusionLogic.fidelity.diversity import TITLE, compare_diversity, measure_diversity

    def compare(measures: Measures, seed: int) -> Section:
        real, synthetic = (
            [replace(m, features=features[m.id].features) if m.id in features else m for m in measures[group]]
            for group in ("real", "synthetic")
        )
        return compare_diversity(real, synthetic, extractors=extractors, seed=seed)

    return FunctionRoom("diversity", TITLE, ("real", "synthetic"), measure_diversity, compare)


def _structure_rooms(pixel_mm: float) -> list[Room]:
    from CTDiffusionLogic.fidelity.coherence import compare_coherence, measure_coherence
    from CTDiffusionLogic.fidelity.physics import compare_physics, measure_physics

    return [
        FunctionRoom(
            "coherence",
            "Through-plane coherence",
            ("real", "synthetic", "independent"),
            lambda volume: measure_coherence(volume, pixel_mm=pixel_mm),
            lambda m, seed: compare_coherence(m["real"], m["synthetic"], independent=m["independent"], seed=seed),
        ),
        FunctionRoom(
            "physics",
            "Physics of CT",
            ("real", "synthetic"),
            lambda volume: measure_physics(volume, pixel_mm=pixel_mm),
            lambda m, seed: compare_physics(m["real"], m["synthetic"], seed=seed),
        ),
    ]


def _copies_room() -> Room:
    from CTDiffusionLogic.fidelity.copies import TITLE, compare_copies, measure_copies

    def compare(measures: Measures, seed: int) -> Section:
        if not measures["training"]:
            raise InputError(
                "Without the training scans, copies of them cannot be looked for.", remedy="Name them with --training."
            )
        section = compare_copies(measures["training"], measures["synthetic"], measures["held-out"], seed=seed)
        # One copy is one too many, whatever the middle of the figures says.
        copies = any(pair["copy"] for pair in section.details["closest_pairs"])
        said = {"standing": "far off", "standing_text": "copies found"}
        if not copies:
            said = {"standing": "near real", "standing_text": "no copies found"}
        return replace(section, details={**section.details, **said})

    return FunctionRoom("copies", TITLE, ("training", "held-out", "synthetic"), measure_copies, compare)


def _silent_room(key: str, title: str, error: InputError) -> Room:
    """A room that only says why it measured nothing."""

    def compare(_measures: Measures, _seed: int) -> Section:
        raise error

    return FunctionRoom(key, title, (), lambda _volume: None, compare)
