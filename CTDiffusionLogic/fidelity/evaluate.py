"""Evaluate synthetic volumes against real scans: each is read once, measured in every room, and compared.

Measures are small; no voxels are kept, so memory does not grow with the number of volumes but for some 100 kB each
(features, histograms, three small pictures).
"""

from __future__ import annotations

import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from CTDiffusionLogic import __version__
from CTDiffusionLogic.errors import Cancelled, CTDiffusionError, InputError
from CTDiffusionLogic.fidelity.findings import GROUPS, Group, InputVolume, LeftOut, Report, unique
from CTDiffusionLogic.fidelity.inputs import MADE_GROUPS, REAL_GROUPS, Inputs, Scan, find_inputs
from CTDiffusionLogic.fidelity.report.galleries import VolumePictures, take_pictures
from CTDiffusionLogic.fidelity.results import Section
from CTDiffusionLogic.fidelity.rooms import Room, build_rooms
from CTDiffusionLogic.fidelity.volumes import LabVolume
from CTDiffusionLogic.requirements import installed_version

#: Tells what happens: ("progress", {"done", "of", "eta_s", "phase"}), ("left out", {"path", "group", "reason"}),
#: ("warning", {"message"}), ("device", {"device"}).
OnEvent = Callable[[str, dict[str, Any]], None]
#: Builds the rooms once the volumes' shapes are known; also says the protocol.
RoomBuilder = Callable[["EvaluateOptions", Sequence[Scan]], tuple[Sequence[Room], Mapping[str, Any]]]
#: Libraries whose versions may change figures.
_LIBRARIES = ("numpy", "scipy", "torch", "monai", "matplotlib", "SimpleITK")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What to compare and how.

    Args:
        real, synthetic: Files and folders of scans, and of generated volumes.
        training: Scans the model was trained on: copies are looked for among them.
        held_out: Scans it never saw; by default the real ones of patients that are not among the training's.
        independent: Volumes of the same model whose slices were made one by one: the baseline of coherence.
        extractors: Names or weight files of feature extractors, as ``get_extractor`` takes them.
        images_per_volume: Images of each plane cut from each volume.
        device: Where features are computed; as ``choose_device`` takes it.
        seed: Of resampling.
        allow_phantoms: Whether phantoms count as real scans (for tests and demonstrations).
    """

    real: tuple[Path, ...]
    synthetic: tuple[Path, ...]
    training: tuple[Path, ...] = ()
    held_out: tuple[Path, ...] = ()
    independent: tuple[Path, ...] = ()
    extractors: tuple[str, ...] = ("ctfeatures",)
    images_per_volume: int = 16
    device: str = "auto"
    seed: int = 0
    allow_phantoms: bool = False

    @property
    def paths(self) -> dict[Group, tuple[Path, ...]]:
        """Files and folders by group."""
        return {group: getattr(self, group.replace("-", "_")) for group in GROUPS}


@dataclass(frozen=True)
class Evaluation:
    """The report, and pictures of the volumes by id."""

    report: Report
    pictures: Mapping[str, VolumePictures]


def evaluate(
    options: EvaluateOptions,
    *,
    command: str = "",
    rooms: RoomBuilder = build_rooms,
    on_event: OnEvent = lambda _name, _facts: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Read, measure and compare.

    Args:
        options: See there.
        command: As typed, for the report.
        rooms: What to measure; any subset of rooms will do.
        on_event: Gets what happens; see :data:`OnEvent`.
        is_cancelled: Asked between volumes and between rooms.

    Raises:
        InputError: If a path does not exist, or no real or no synthetic volume can be read.
        UsageError, ModelFileError, ResourceError: If an extractor or the device cannot be used.
        Cancelled: If ``is_cancelled`` says so.
    """
    from CTDiffusionLogic.device import choose_device, describe_device

    began = time.monotonic()
    inputs = find_inputs(options.paths, allow_phantoms=options.allow_phantoms)
    for item in inputs.left_out:
        on_event("left out", {"path": item.path, "group": item.group, "reason": item.reason})
    machine = f"{describe_device(choose_device(options.device))}, {platform.system()} {platform.machine()}"
    on_event("device", {"device": machine})
    built, protocol = rooms(options, inputs.scans)
    work = _Work(inputs, built, on_event, is_cancelled)
    for number, scan in enumerate(inputs.scans):
        work.tell(number, f"measuring {scan.id}")
        work.measure(scan)
    work.require_both()
    sections = []
    for number, room in enumerate(built, start=len(inputs.scans)):
        work.tell(number, f"comparing: {room.title}")
        sections.append(work.compare(room, seed=options.seed))
    work.tell(work.pieces, "done")
    work.seconds["all"] = time.monotonic() - began
    report = Report(
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        command=command,
        seed=options.seed,
        versions=versions(),
        machine=machine,
        protocol=dict(protocol),
        inputs=tuple(work.inputs.values()),
        left_out=tuple(work.left_out),
        sections=tuple(section for section in sections if section is not None),
        warnings=unique([*inputs.warnings, *work.warnings]),
        seconds=dict(work.seconds),
    )
    return Evaluation(report, work.pictures)


def versions() -> dict[str, str]:
    """Versions of this program, of Python, and of the libraries whose versions may change figures."""
    libraries = {name: installed_version(name) for name in _LIBRARIES}
    return {
        "CTDiffusion": __version__,
        "Python": platform.python_version(),
        **{name: version for name, version in libraries.items() if version},
    }


@dataclass
class _Work:
    """The evaluation under way."""

    found: Inputs
    rooms: Sequence[Room]
    on_event: OnEvent
    is_cancelled: Callable[[], bool]
    inputs: dict[str, InputVolume] = field(default_factory=dict)
    measures: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))  # room, volume
    pictures: dict[str, VolumePictures] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def __post_init__(self) -> None:
        self.left_out += self.found.left_out
        self.began = time.monotonic()

    @property
    def pieces(self) -> int:
        """Volumes and rooms."""
        return len(self.found.scans) + len(self.rooms)

    def tell(self, done: int, phase: str) -> None:
        """Report progress; the only place where the user's wish to stop is obeyed."""
        if self.is_cancelled():
            raise Cancelled("Cancelled; nothing was written.")
        passed = time.monotonic() - self.began
        eta = round(passed / done * (self.pieces - done), 1) if done else None
        self.on_event("progress", {"done": done, "of": self.pieces, "eta_s": eta, "phase": phase})

    def measure(self, scan: Scan) -> None:
        """Read one volume, measure it in every room that wants its groups, and let it go."""
        try:
            with self._timed("reading"):
                volume, said = scan.read()
        except InputError as error:
            for group in scan.groups:
                self._leave_out(scan, group, error.message)
            return
        twin = next((known for known in self.inputs.values() if known.sha256 == said.sha256), None)
        if twin is not None:
            said = self._merged(twin, said)
            if said.id == twin.id:
                volume = replace(volume, id=twin.id, patient=twin.patient)
        self.inputs[said.id] = said
        for room in self.rooms:
            if set(room.groups) & set(said.groups) and said.id not in self.measures[room.key]:
                self._measure_in(room, volume)
        if said.id not in self.pictures:
            with self._timed("pictures"):
                self.pictures[said.id] = take_pictures(volume)

    def compare(self, room: Room, *, seed: int) -> Section | None:
        """The section of one room; one that says why, if what was given does not suffice."""
        measured = self.measures[room.key]
        by_group: dict[Group, list[Any]] = {
            group: [measured[v.id] for v in self.inputs.values() if group in v.groups and v.id in measured]
            for group in room.groups
        }
        try:
            with self._timed(room.key):
                return room.compare(by_group, seed=seed)
        except Cancelled:
            raise
        except CTDiffusionError as error:
            return Section(key=room.key, title=room.title, verdict=f"Not told: {error.message}", warnings=[str(error)])

    def require_both(self) -> None:
        """Raise InputError unless real and synthetic volumes were read."""
        for group in ("real", "synthetic"):
            if not any(group in volume.groups for volume in self.inputs.values()):
                reasons = " ".join(f"{item.path}: {item.reason}" for item in self.left_out if item.group == group)
                raise InputError(
                    f"None of the {group} volumes can be read. {reasons[:500]}", remedy="Give other files."
                )

    def _merged(self, twin: InputVolume, said: InputVolume) -> InputVolume:
        """Equal voxels: one scan in several groups if both are scans; a warning otherwise."""
        mine, other = set(said.groups), set(twin.groups)
        if mine <= set(REAL_GROUPS) and other <= set(REAL_GROUPS):
            groups = tuple(group for group in GROUPS if group in mine | other)
            if mine & other:
                self._warn(f"{said.id} has the same voxels as {twin.id} and counts once.")
            return replace(twin, groups=groups)
        if mine & set(MADE_GROUPS) and other & set(MADE_GROUPS):
            self._warn(f"{said.id} and {twin.id} are equal, voxel by voxel.")
        else:
            self._warn(f"{said.id} is equal to {twin.id}, voxel by voxel: one of them is not what it was given as.")
        return said

    def _measure_in(self, room: Room, volume: LabVolume) -> None:
        try:
            with self._timed(room.key):
                self.measures[room.key][volume.id] = room.measure(volume)
        except Cancelled:
            raise
        except CTDiffusionError as error:
            self._warn(f"{room.title} leaves out {volume.id}: {error.message}")

    def _leave_out(self, scan: Scan, group: Group, reason: str) -> None:
        self.left_out.append(LeftOut(path=str(scan.ref.path), group=group, reason=reason))
        self.on_event("left out", {"path": str(scan.ref.path), "group": group, "reason": reason})

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        self.on_event("warning", {"message": message})

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - began
