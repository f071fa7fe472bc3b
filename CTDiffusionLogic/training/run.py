"""A training from raw scans to a model file."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from CTDiffusionLogic.bundle import load_model
from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.device import choose_device, describe_device
from CTDiffusionLogic.errors import UsageError
from CTDiffusionLogic.fidelity.extractors import Extractor, get_extractor
from CTDiffusionLogic.processes import this_process
from CTDiffusionLogic.training.loop import TrainingResult, make_accelerator, train_loop
from CTDiffusionLogic.training.options import DEFAULT_EXTRACTOR, Preset, TrainOptions
from CTDiffusionLogic.training.run_folder import OnEvent, fill_run, is_begun, note_resumed, reopen_run
from CTDiffusionLogic.training.together import others_needed
from CTDiffusionLogic.training.writer import Writer


def train(
    options: TrainOptions,
    *,
    on_event: OnEvent | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    extractor: Extractor | None = None,
    began: float | None = None,
) -> TrainingResult:
    """Train a model on real CT scans, or go on with a training.

    Args:
        options: What was asked for.
        on_event: Called with an event's name and its facts: "progress" (done, of, eta_s, phase),
            "metric", "fidelity" (how real the images are), "skipped" (path, reason), "warning" (message),
            "checkpoint", "sample" (path).
        is_cancelled: Asked between steps; when it says yes, a checkpoint and a model are written and
            the result says so.
        extractor: Of features, for measuring how real the images are, instead of the one that ``options`` name.
        began: ``time.monotonic()`` when the command began, which the time budget counts from; None: now.

    Where a launcher (torchrun, accelerate launch) has started several processes, each of them calls this with the same
    options and a run folder that all of them see; ``on_event`` is called in the first one.

    Returns:
        Where the model is, how far the training came and why it ended.

    Raises:
        UsageError, InputError, OutputError, ResourceError: As their names say, with the remedy.
    """
    begin = time.monotonic() if began is None else began
    preset = options.check()
    if preset.anatomy is None:
        options = replace(options, fidelity_every="off")  # a fine model makes no volumes to be measured
    processes = this_process()
    if processes.are_several and options.device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"{processes.count} processes cannot share --device {options.device}.",
            remedy="Leave --device out: each process takes a GPU of its own.",
        )
    device = choose_device(processes.device_name(options.device))
    accelerator = make_accelerator(device)
    report = on_event if on_event is not None and accelerator.is_main_process else _ignore
    if extractor is None and options.fidelity_every != "off" and options.fidelity_extractor != DEFAULT_EXTRACTOR:
        extractor = get_extractor(options.fidelity_extractor)  # what was asked for is there, or it is told now
    report("device", {"device": str(device), "description": describe_device(device)})
    with others_needed(accelerator):
        result = _train(options, preset, accelerator, report, is_cancelled or (lambda: False), extractor, begin)
    if accelerator.num_processes > 1:
        accelerator.end_training()
    return result


def _train(
    options: TrainOptions,
    preset: Preset,
    accelerator: Any,
    report: OnEvent,
    is_cancelled: Callable[[], bool],
    extractor: Extractor | None,
    begin: float,
) -> TrainingResult:
    is_resumed = options.resume and is_begun(options.run)
    if accelerator.is_main_process:  # one process prepares, the others read what it wrote
        fill_run(options, preset, report)
    accelerator.wait_for_everyone()
    corpus = reopen_run(options)
    if is_resumed and accelerator.is_main_process:
        note_resumed(options.run)
    for path, reason in corpus.plan.skipped:
        report("skipped", {"path": path, "reason": reason})
    if sentence := corpus.plan.synthetic_warning:
        report("warning", {"message": sentence})
    report("corpus", _summary(corpus.plan))
    start_weights = dict(load_model(options.init).tensors) if options.init else None
    with Writer() as writer:
        return train_loop(
            options,
            preset,
            corpus,
            accelerator=accelerator,
            begin=begin,
            report=report,
            is_cancelled=is_cancelled,
            writer=writer,
            start_weights=start_weights,
            extractor=extractor,
        )


def _summary(plan: CorpusPlan) -> dict[str, Any]:
    return {
        "scans": len(plan.train),
        "patients": len({s.patient for s in plan.train}),
        "slices": sum(s.slices for s in plan.train),
        "held_out_scans": len(plan.held_out),
        "held_out_patients": sorted({s.patient for s in plan.held_out}),
        "skipped": len(plan.skipped),
        "fov_mm": plan.fov_mm,
        "pixel_mm": plan.fov_mm / plan.image_size,
    }


def _ignore(_name: str, _facts: dict[str, Any]) -> None:
    """Take an event and do nothing."""
