"""What an evaluation found, whole: sections, what was compared, and how to do it again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from CTDiffusionLogic.fidelity.results import Section

#: What volumes are given as. "training": what the model was trained on. "held-out": real scans it never saw.
#: "independent": synthetic volumes whose slices were made one by one, the baseline of coherence.
Group = Literal["real", "synthetic", "training", "held-out", "independent"]
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True, kw_only=True)
class InputVolume:
    """A volume that was measured.

    Args:
        id: Short name, unique in the evaluation.
        patient: Pseudonym; a synthetic volume is its own patient.
        groups: What it was given as.
        sha256: Of shape, spacing and voxels after turning to standard axes: the same for one scan in two formats.
        shape: Slices, rows, columns after turning.
        spacing_mm: Distance of slices, rows, columns.
        synthetic: Whether the volume itself says that it is synthetic.
        origin: What else it says of its origin (model, seed...).
    """

    id: str
    patient: str
    groups: tuple[Group, ...]
    sha256: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    synthetic: bool = False
    origin: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Something that was given and not measured, and the plain reason."""

    path: str
    group: Group
    reason: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that an evaluation found, as plain data.

    Args:
        created: ISO 8601, UTC, to the second.
        command: As typed, or "".
        seed: Of resampling; same volumes, seed, versions and machine give the same figures.
        versions: Of this program, Python and the libraries that compute.
        machine: What computed.
        protocol: How images were cut and measured.
        inputs: The volumes.
        left_out: What was not measured.
        sections: One for each room, in the order of the report.
        warnings: What limits the evaluation as a whole.
        seconds: Wall time by room, of reading ("reading"), and in all ("all").
    """

    created: str
    command: str
    seed: int
    versions: dict[str, str]
    machine: str
    protocol: dict[str, Any]
    inputs: tuple[InputVolume, ...]
    left_out: tuple[LeftOut, ...]
    sections: tuple[Section, ...]
    warnings: tuple[str, ...]
    seconds: dict[str, float]

    def volumes(self, group: Group) -> list[InputVolume]:
        """Volumes that were given as ``group``."""
        return [volume for volume in self.inputs if group in volume.groups]

    def patients(self, group: Group) -> int:
        """Number of different patients in ``group``."""
        return len({volume.patient for volume in self.volumes(group)})


def unique(sentences: Iterable[str]) -> tuple[str, ...]:
    """Each sentence once, in the order of first mention."""
    return tuple(dict.fromkeys(sentences))
