"""How real the images are, measured while a training runs: every so often, at little cost, and without harm to it.

A failure to measure is told once and the training goes on; random numbers are put back as they were, so the losses
are those of a training that is never measured.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from CTDiffusionLogic.bundle import GUIDE
from CTDiffusionLogic.card_figures import card_entry
from CTDiffusionLogic.corpus.prepare import PreparedCorpus
from CTDiffusionLogic.denoiser.network import SlabDenoiser
from CTDiffusionLogic.errors import Cancelled, CTDiffusionError
from CTDiffusionLogic.fidelity.extractors import Extractor, get_extractor
from CTDiffusionLogic.generation import GenerationModel
from CTDiffusionLogic.training.export import SAMPLING, generation_facts
from CTDiffusionLogic.training.fidelity_log import FidelityLog, draw_curve
from CTDiffusionLogic.training.fidelity_meter import FidelityMeter, MeterOptions
from CTDiffusionLogic.training.fidelity_scans import scans_of_run
from CTDiffusionLogic.training.fidelity_schedule import FidelitySchedule
from CTDiffusionLogic.training.options import TrainOptions

Report = Callable[[str, dict[str, Any]], None]
#: What of a measurement is told in an event; the rest is in the file.
_TOLD = (
    "step",
    "epoch",
    "frechet",
    "frechet_floor",
    "frechet_axial",
    "frechet_coronal",
    "frechet_sagittal",
    "frechet_training",
    "kid",
    "extractor",
    "seconds",
)
_log = logging.getLogger(__name__)


class _TooLong(Exception):
    """No error: it would take more than its share of the time, and is put off."""


class EpochFidelity:
    """Measures the averaged networks of a training and keeps its records.

    Args:
        options: Of the training.
        corpus: Of the training.
        step: Where it begins.
        steps_per_epoch: Of it.
        device: Where the networks are.
        report: Told "fidelity" (figures), "warning" (message) and "progress".
        is_cancelled: Asked between passes.
        extractor: Instead of the one that ``options`` name.
        meter_options: Instead of the usual ones.
        is_shared: Whether several processes train.
    """

    def __init__(
        self,
        options: TrainOptions,
        corpus: PreparedCorpus,
        *,
        step: int,
        steps_per_epoch: int,
        device: torch.device,
        report: Report,
        is_cancelled: Callable[[], bool],
        extractor: Extractor | None = None,
        meter_options: MeterOptions | None = None,
        is_shared: bool = False,
    ) -> None:
        self._options, self._corpus, self._device = options, corpus, device
        self._steps_per_epoch = steps_per_epoch
        self._report, self._is_cancelled = report, is_cancelled
        self._extractor, self._meter_options = extractor, meter_options or MeterOptions()
        self._meter: FidelityMeter | None = None
        self._warned: set[str] = set()
        self._began = time.monotonic()
        self.log = FidelityLog(options.run / "fidelity.jsonl", step)
        before = self.log.lines[-1].get("seconds") if self.log.lines else None
        self.schedule = FidelitySchedule(
            options.fidelity_every, steps_per_epoch, expected_s=before, is_shared=is_shared
        )

    @property
    def elapsed_s(self) -> float:
        """Seconds since the training began to train."""
        return time.monotonic() - self._began

    @property
    def newest(self) -> dict[str, Any]:
        """The newest measurement as a model's card has it; {} before the first."""
        return card_entry(self.log.lines[-1]) if self.log.lines else {}

    def measure(self, networks: Mapping[str, SlabDenoiser], *, step: int, hours: float) -> dict[str, Any] | None:
        """Measure, write, draw and tell; None if that failed, was put off or was cancelled.

        Args:
            networks: All stages with the averaged weights, in evaluation mode.
            step: Steps trained.
            hours: Trained in all.
        """
        began = time.monotonic()
        seconds: float | None = None
        line: dict[str, Any] | None = None
        try:
            with undisturbed(self._device):
                line, seconds = self._measured(networks, step=step, hours=hours, began=began)
                self.log.write(line)
                draw_curve(self.log.alike(line), self._options.run / "fidelity.png", title=self._options.run.name)
                self._report("fidelity", {key: line[key] for key in _TOLD if key in line})
        except _TooLong as put_off:
            seconds = float(put_off.args[0])
        except Cancelled:
            pass  # the loop asks, too
        except Exception as error:  # whatever it is: the training is worth more than its measurement
            self._warn("The images could not be measured", error)
        self.schedule.note(step, time.monotonic() - began, expected_s=seconds)
        return line

    def keep_if_best(self, line: Mapping[str, Any], save: Callable[[dict[str, Any]], object]) -> bool:
        """Call ``save`` with the figures for the card, if ``line`` is the best so far; return whether it is.

        A failure to save is told, and the training goes on.
        """
        if not self.log.is_best(line):
            return False
        try:
            save(card_entry(line))
        except Cancelled:
            raise
        except Exception as error:
            self._warn("The best model could not be kept", error)
        return True

    def _measured(
        self, networks: Mapping[str, SlabDenoiser], *, step: int, hours: float, began: float
    ) -> tuple[dict[str, Any], float]:
        """A line for the file, and the seconds it took without the real scans, which are read only once."""
        model = GenerationModel(
            anatomy=networks["anatomy"],
            detail=networks["detail"],
            card=generation_facts(self._corpus.plan),
            name="",
            sha256="",
            device=self._device,
            guide=networks.get(GUIDE),
        )
        meter = self._ready_meter()

        def on_progress(done: int, total: int, left_s: float, _stage: str) -> None:
            passed = time.monotonic() - began
            if self.schedule.is_too_long(passed + left_s, self.elapsed_s):
                raise _TooLong(passed + left_s)
            self._report("progress", {"done": done, "of": total, "eta_s": left_s, "phase": "measuring"})

        volumes = meter.make(model, on_progress=on_progress, is_cancelled=self._is_cancelled)
        made = time.monotonic()
        meter.read_real(is_cancelled=self._is_cancelled)
        read = time.monotonic()
        facts = meter.compare(volumes, is_cancelled=self._is_cancelled)
        seconds = time.monotonic() - read + made - began
        line = {"step": step, "epoch": round(step / self._steps_per_epoch, 6), "hours": round(hours, 4)}
        return line | facts | {"seconds": round(seconds, 2)}, seconds

    def _ready_meter(self) -> FidelityMeter:
        if self._meter is None:
            plan = self._corpus.plan
            if self._extractor is None:
                self._extractor = get_extractor(self._options.fidelity_extractor)
            self._meter = FidelityMeter(
                scans_of_run(plan, self._corpus.cache),
                self._extractor,
                sampling=SAMPLING,
                body_range_mm=plan.body_range_mm,
                pixel_mm=plan.fov_mm / plan.image_size,
                options=self._meter_options,
            )
        return self._meter

    def _warn(self, what: str, error: Exception) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        reason = str(error) if isinstance(error, CTDiffusionError) else f"{type(error).__name__}: {error}"
        message = f"{what}; the training goes on. {' '.join(reason.split())}"
        _log.debug("%s", message, exc_info=error)
        if message not in self._warned:
            self._warned.add(message)
            self._report("warning", {"message": message})


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Put all random numbers back as they were."""
    devices = [device] if device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # whoever uses it finds it unchanged
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
