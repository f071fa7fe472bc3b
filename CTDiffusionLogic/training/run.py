"""A training from raw scans to a model file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from safetensors.torch import load_file, save_file

from CTDiffusionLogic.atomic import atomic_file
from CTDiffusionLogic.bundle import load_model
from CTDiffusionLogic.corpus.body_position import BodyPositionNet
from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.corpus.prepare import PreparedCorpus, PrepareOptions, prepare
from CTDiffusionLogic.device import choose_device, describe_device
from CTDiffusionLogic.errors import InputError, UsageError
from CTDiffusionLogic.fidelity.extractors import Extractor, get_extractor
from CTDiffusionLogic.processes import this_process
from CTDiffusionLogic.scan_search import find_scans
from CTDiffusionLogic.training.export import command_line
from CTDiffusionLogic.training.loop import TrainingResult, make_accelerator, train_loop
from CTDiffusionLogic.training.options import DEFAULT_EXTRACTOR, Preset, TrainOptions
from CTDiffusionLogic.training.run_fingerprints import forget_fingerprints
from CTDiffusionLogic.training.together import others_needed

OnEvent = Callable[[str, dict[str, Any]], None]
#: Options that must be the same when a run is resumed: they shaped its plan or its networks.
_FIXED = ("image_size", "preset", "seed", "hold_out", "use_labels")


def train(
    options: TrainOptions,
    *,
    on_event: OnEvent | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    extractor: Extractor | None = None,
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

    Where a launcher (torchrun, accelerate launch) has started several processes, each of them calls this with the same
    options and a run folder that all of them see; ``on_event`` is called in the first one.

    Returns:
        Where the model is, how far the training came and why it ended.

    Raises:
        UsageError, InputError, OutputError, ResourceError: As their names say, with the remedy.
    """
    begin = time.monotonic()
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
    if options.resume:
        corpus = _reopen(options)
    else:  # one process prepares, the others read what it wrote
        prepared = _start(options, preset, report) if accelerator.is_main_process else None
        accelerator.wait_for_everyone()
        corpus = prepared or _reopen(options)
    for path, reason in corpus.plan.skipped:
        report("skipped", {"path": path, "reason": reason})
    if sentence := corpus.plan.synthetic_warning:
        report("warning", {"message": sentence})
    report("corpus", _summary(corpus.plan))
    start_weights = dict(load_model(options.init).tensors) if options.init else None
    return train_loop(
        options,
        preset,
        corpus,
        accelerator=accelerator,
        begin=begin,
        report=report,
        is_cancelled=is_cancelled,
        start_weights=start_weights,
        extractor=extractor,
    )


def _start(options: TrainOptions, preset: Preset, report: OnEvent) -> PreparedCorpus:
    if (options.run / "checkpoints").exists() and any((options.run / "checkpoints").iterdir()):
        raise UsageError(
            f"{options.run} holds a training already.", remedy="Add --resume to go on with it, or name another --run."
        )
    if not options.data:
        raise UsageError("No data were given.", remedy="Name files or folders of CT scans.")
    search = find_scans(options.data, index=options.index)
    for path in search.index:
        report("index", {"path": str(path)})
    prepare_options = PrepareOptions(
        image_size=options.image_size,
        anatomy_size=preset.coarse_size(options.image_size),
        slices=preset.slices,
        hold_out=options.hold_out,
        use_labels=options.use_labels,
        seed=options.seed,
        fine=preset.anatomy is None,
    )
    forget_fingerprints(options.run)  # of a preparation before this one
    corpus = prepare(
        search.found,
        search.skipped,
        options.run,
        prepare_options,
        on_progress=lambda done, total, phase: report("progress", {"done": done, "of": total, "phase": phase}),
    )
    with atomic_file(options.run / "body.safetensors") as temporary:
        save_file({k: v.contiguous() for k, v in corpus.body_net.state_dict().items()}, temporary)
    fixed = {name: getattr(options, name) for name in _FIXED} | {"command": command_line()}
    with atomic_file(options.run / "options.json") as temporary:
        temporary.write_text(json.dumps(fixed, indent=1), encoding="utf-8")
    return corpus


def _reopen(options: TrainOptions) -> PreparedCorpus:
    """Take plan, cache and position network from the run folder; refuse options that no longer fit."""
    run = options.run
    if not (run / "plan.json").exists():
        raise InputError(f"{run} holds no training to resume.", remedy="Start it without --resume.")
    before = json.loads((run / "options.json").read_text(encoding="utf-8"))
    for name in _FIXED:
        value = getattr(options, name)
        now = list(value) if isinstance(value, tuple) else value
        if before[name] != now and not (name == "hold_out" and not now):
            raise UsageError(
                f"{run} was started with --{name.replace('_', '-')} {before[name]}, now it is {now}.",
                remedy="Resume with the same options, or start a new --run.",
            )
    plan = CorpusPlan.load(run / "plan.json")
    missing = [s.id for s in plan.scans if not (run / "cache" / f"{s.id}.npy").exists()]
    if missing:
        raise InputError(
            f"{run / 'cache'} lacks the slices of {', '.join(missing[:3])}.", remedy="Start the training anew."
        )
    net = BodyPositionNet()
    net.load_state_dict(load_file(run / "body.safetensors"))
    return PreparedCorpus(plan, run / "cache", net.eval())


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
