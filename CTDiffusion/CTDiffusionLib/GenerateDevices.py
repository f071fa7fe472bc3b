"""Devices and packages of this machine, asked from ``ctdiffusion doctor``: torch never comes into Slicer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from .Job import Job, JobRequest
from .JobEnding import JobEnding
from .JobSignal import Signal
from .Worker import Worker

if TYPE_CHECKING:
    from CTDiffusionLogic.cli.events import Event

KIND = "doctor"
_PREFIX = "device "


@dataclass(frozen=True)
class Device:
    """A device that computes rightly.

    :param name: "cpu", "cuda:0", "mps".
    :param description: kind, name and memory, for people.
    """

    name: str
    description: str


class DeviceFinder:
    """Asks for the devices, once a session unless told otherwise. Signal: ``changed`` (nothing).

    :param worker: runs the doctor.
    """

    def __init__(self, worker: Worker) -> None:
        self.changed = Signal()
        self.devices: list[Device] = []
        #: All that the doctor has looked at; see CTDiffusionLogic.doctor.Check for the keys.
        self.checks: list[Mapping[str, Any]] = []
        #: Why nothing can be computed, for people; empty if all is well or nothing is known yet.
        self.problem = ""
        self.isAsking = False
        self._worker = worker
        self._job: Job | None = None

    @property
    def isKnown(self) -> bool:
        """Whether there is an answer."""
        return bool(self.devices or self.problem)

    @property
    def log(self) -> str:
        """What the doctor has said, for error reports."""
        return self._job.log if self._job is not None else ""

    def ask(self, *, withGeneration: bool = False) -> None:
        """Ask, in the background; nothing happens while an answer is on its way.

        :param withGeneration: whether a tiny slice is generated, too.
        """
        if self.isAsking or self._worker.isRunning(KIND):
            return
        self.devices, self.checks, self.problem, self.isAsking = [], [], "", True
        words = ["doctor", "--generate"] if withGeneration else ["doctor"]
        try:
            self._job = job = self._worker.start(JobRequest(KIND, lambda _folder: words, graceS=0))
        except OSError as error:
            self.problem, self.isAsking = str(error), False
        else:
            job.eventReceived.connect(self._onEvent)
            job.ended.connect(self._onEnded)
        self.changed.emit()

    def forget(self, problem: str) -> None:
        """Know nothing, and say why: what is installed is being changed, for example."""
        self.devices, self.checks, self.problem = [], [], problem
        self.changed.emit()

    def stop(self) -> None:
        """Do not wait for the answer any longer."""
        if self._job is not None:
            self._job.kill()

    def automatic(self) -> Device | None:
        """Return the device that "auto" means: a GPU that computes, else the CPU; None while unknown."""
        kinds = ("cuda", "mps", "cpu")
        return min(self.devices, key=lambda device: kinds.index(device.name.partition(":")[0]), default=None)

    def _onEvent(self, event: Event) -> None:
        from CTDiffusionLogic.cli.events import Metric

        if not isinstance(event, Metric) or event.name != "check":
            return
        self.checks.append(event.values)
        name, status = str(event.values.get("name", "")), event.values.get("status")
        if name.startswith(_PREFIX) and status == "ok":
            text = str(event.values.get("text", "")).partition(": computes")[0]
            self.devices.append(Device(name.removeprefix(_PREFIX), text))

    def _onEnded(self, ending: JobEnding) -> None:
        self.isAsking = False
        lacks = [check["name"] for check in self.checks if check["status"] == "problem" and check.get("cause")]
        if ending.kind != "cancelled" and (lacks or not self.devices):
            self.problem = ending.text or _("No device that can compute was found.")
        self.changed.emit()
