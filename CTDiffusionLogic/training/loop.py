"""The training loop: the stages in turn, a step of each, until the time or the epochs are over."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from CTDiffusionLogic.allocator import keep_freed_memory
from CTDiffusionLogic.atomic import atomic_file, failures_named
from CTDiffusionLogic.bundle import GUIDE, save_model
from CTDiffusionLogic.corpus.prepare import PreparedCorpus
from CTDiffusionLogic.errors import CTDiffusionError, InputError
from CTDiffusionLogic.fidelity.extractors import Extractor
from CTDiffusionLogic.training.batches import loader_threads
from CTDiffusionLogic.training.checkpoint import copied, load_newest, save_checkpoint
from CTDiffusionLogic.training.contact_sheet import SheetSchedule, write_sheet
from CTDiffusionLogic.training.export import BEST_MODEL, MODEL, model_contents
from CTDiffusionLogic.training.fidelity_epochs import EpochFidelity
from CTDiffusionLogic.training.options import LEARNING, Preset, TrainOptions
from CTDiffusionLogic.training.run_fingerprints import ModelFingerprints, fingerprints_of_run
from CTDiffusionLogic.training.schedule import PACE_KNOWN, Cooldown, LevelFall, rewarmed
from CTDiffusionLogic.training.stage import StageTrainer
from CTDiffusionLogic.training.together import PATIENCE, Agreement, Wish, average, largest
from CTDiffusionLogic.training.writer import Writer

#: Steps between two lines in metrics.jsonl and two looks at the clock's average.
LOG_EVERY = 20
#: Kept of a time budget for the last checkpoint and model, until one has been timed: a share, and seconds at most.
SAVING_SHARE, SAVING_MOST_S = 0.02, 15.0
_OTHER_COUNT = (
    "{before} process(es) trained up to here, now there are {now}: an epoch has another number of steps, and slabs "
    "that were seen may come again."
)


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Args:
        model: The model file.
        steps, epochs: Trained in all, earlier calls included.
        reason: "epochs", "time" or "cancelled".
    """

    model: Path
    steps: int
    epochs: float
    reason: str


def train_loop(
    options: TrainOptions,
    preset: Preset,
    corpus: PreparedCorpus,
    *,
    accelerator: Any,
    begin: float,
    report: Callable[[str, dict[str, Any]], None],
    is_cancelled: Callable[[], bool],
    writer: Writer,
    start_weights: dict[str, torch.Tensor] | None = None,
    extractor: Extractor | None = None,
) -> TrainingResult:
    """Train until the budget is used up; see :func:`CTDiffusionLogic.training.run.train`.

    Args:
        accelerator: From :func:`make_accelerator`. Where several processes train, each of them calls this; the first
            one keeps the time, writes all files and calls ``report``.
        begin: ``time.monotonic()`` at the start of the command, which the time budget counts from.
        writer: Writes checkpoints and models.
        start_weights: Weights of a model file to start from.
        extractor: Of features, for measuring how real the images are, instead of the one that ``options`` name.
    """
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    is_first, processes = accelerator.is_main_process, accelerator.num_processes
    stages = _make_stages(preset, corpus, accelerator, seed=options.seed)
    learning = {name: stages[name] for name in LEARNING.get(options.only, stages) if name in stages}
    if options.only:
        learning[options.only].every = 1
    step, hours, factor = 0, 0.0, 1.0
    checkpoint = load_newest(options.run / "checkpoints") if options.resume else None
    if checkpoint is not None:
        step, hours = checkpoint.step, float(checkpoint.facts["hours"])
        factor = float(checkpoint.facts.get("rate_factor", 1.0))
        for name, stage in _with_weights(stages, checkpoint.tensors):
            _load(stage.load_state, checkpoint.tensors, f"{name}.", options.run / "checkpoints")
        if is_first and (before := int(checkpoint.facts.get("processes", 1))) != processes:
            report("warning", {"message": _OTHER_COUNT.format(before=before, now=processes)})
    elif start_weights is not None:
        for name, stage in _with_weights(stages, start_weights):
            _load(stage.load_weights, start_weights, f"{name}.", options.init)
    # A model that was trained before has its outlines: high noise would only undo what it knows of the rest.
    is_fine_tuning = bool(checkpoint.facts.get("fine_tuning")) if checkpoint else start_weights is not None
    for name, stage in stages.items():
        stage.is_fine_tuning = is_fine_tuning and name != GUIDE  # it is to learn less than the others, and anew
    steps_per_epoch = epoch_steps(corpus, preset, processes)
    last_step = math.inf if options.epochs is None else options.epochs * steps_per_epoch
    fall = LevelFall(end=preset.level_steps)
    if checkpoint is not None and "level_fall" in checkpoint.facts:
        fall = LevelFall(**checkpoint.facts["level_fall"])
    deadline = math.inf if options.max_minutes is None else begin + 60 * options.max_minutes
    agreement = Agreement(accelerator)
    threads = loader_threads(options.loader_threads, accelerator.device, stages=len(stages))
    streams: dict[str, Generator] = {
        name: stage.batches(stage.numbers(step), threads=threads) for name, stage in learning.items()
    }
    if is_first:  # records have one writer
        log = MetricsLog(options.run / "metrics.jsonl", step)
        fidelity = EpochFidelity(
            options,
            corpus,
            step=step,
            steps_per_epoch=steps_per_epoch,
            device=accelerator.device,
            report=report,
            is_cancelled=is_cancelled,
            extractor=extractor,
            is_shared=processes > 1,
        )
        fingerprints = ModelFingerprints({}, None)
        if preset.anatomy is not None:  # before the first step: no checkpoint has to wait for them
            fingerprints = fingerprints_of_run(
                corpus,
                options.run,
                on_progress=lambda done, of: report(
                    "progress", {"done": done, "of": of, "phase": "taking fingerprints"}
                ),
            )
    started, first_step, first_factor = time.monotonic(), step, factor
    cooldowns: list[Cooldown] = []
    if options.cooldown and options.epochs is not None:  # where nothing cools down, the training is to go on
        cooldowns.append(Cooldown.of_last(options.epochs * steps_per_epoch, options.cooldown))
        fall = fall.before(options.epochs * steps_per_epoch, step=step)
    for stage in stages.values():
        stage.level_fall = fall
    # Of a time budget the last step is known by and by.
    awaits_cooldown = awaits_fall = bool(options.cooldown) and options.max_minutes is not None
    sheets = SheetSchedule()
    saved = started
    saving_s = min(SAVING_SHARE * (deadline - begin), SAVING_MOST_S)
    reason = "epochs"

    def trained_hours() -> float:
        return hours + (time.monotonic() - started) / 3600

    def keeping(measured: dict[str, Any], *, is_best: bool = False) -> Callable[[], Path]:
        """Copy what a checkpoint and a model have at this step; returns what writes them, at any later time."""
        facts: dict[str, Any] = {"hours": trained_hours(), "step": step, "epochs": step / steps_per_epoch}
        facts |= {"processes": processes, "rate_factor": factor}
        facts |= {"fine_tuning": is_fine_tuning, "level_fall": asdict(fall)}
        tensors = copied({f"{n}.{k}": v for n, stage in stages.items() for k, v in stage.state().items()})
        model = model_contents(
            options,
            corpus,
            {name: stage for name, stage in stages.items() if stage.is_ready},
            fingerprints=fingerprints,
            step=step,
            epochs=facts["epochs"],
            hours=facts["hours"],
            metrics={**log.newest, **({"fidelity": measured} if measured else {})},
        )
        number = step

        def write() -> Path:
            folder = options.run / "checkpoints"
            path = save_checkpoint(folder, tensors, step=number, facts=facts, is_best=is_best)
            save_model(options.run / (BEST_MODEL if is_best else MODEL), *model)
            return path

        return write

    def measure() -> None:
        """How real the images are; whatever happens, the training goes on."""
        networks = {n: stage.averaged() for n, stage in stages.items() if stage.is_ready}
        line = fidelity.measure(networks, step=step, hours=trained_hours())
        if line is not None:
            fidelity.keep_if_best(line, lambda measured: keeping(measured, is_best=True)())

    def reserve_s(now: float) -> float:
        """Seconds of the time budget to keep for what comes after the last step."""
        return saving_s + fidelity.schedule.reserve_s(step, now - started)

    def save() -> None:
        """Have a checkpoint and a model written; what the loop itself does for it takes a tenth of a second."""
        asked = time.monotonic()
        write = keeping(fidelity.newest)
        copying_s = time.monotonic() - asked

        def written(path: Path, *, number: int = step) -> None:
            nonlocal saving_s
            report("checkpoint", {"path": str(path), "step": number})
            saving_s = 1.2 * (copying_s + writer.seconds + sheets.seconds)

        writer.begin(write, written)

    def draw() -> None:
        """Show what the averaged networks make now."""
        asked = time.monotonic()
        networks = {n: stage.averaged() for n, stage in stages.items()}
        stream = stages["detail"].held_out or stages["detail"].stream
        patches = partial(stream.batch, 0)
        sheet = write_sheet(networks, corpus.plan, options.run / "samples", step=step, patches=patches)
        report("sample", {"path": str(sheet), "step": step})
        sheets.note(time.monotonic() - asked)

    window: dict[str, list[torch.Tensor]] = {}  # what happened since the last line in the log
    while step < last_step:
        factor = rewarmed(step, resumed=first_step, factor=first_factor)
        factor = min([factor, *(cooldown.factor(step) for cooldown in cooldowns)])
        for name, stage in learning.items():
            if stage.takes(step):
                loss, norm = stage.train_step(step, next(streams[name]), rate_factor=factor)
                window.setdefault(name, []).append(loss)
                window.setdefault(f"{name}_norm", []).append(norm)
        step += 1
        now = time.monotonic()
        pace = (now - started) / (step - first_step)
        if step % LOG_EVERY == 0:
            values = average({key: torch.stack(seen).mean() for key, seen in window.items()}, accelerator)
            window.clear()
            if not all(math.isfinite(v) for v in values.values()):
                raise CTDiffusionError(
                    f"The loss is no longer a number at step {step}.",
                    remedy="Resume from the last checkpoint; if it happens again, look for damaged scans.",
                )
            if is_first:
                remaining = min(deadline - now, (last_step - step) * pace)
                pacing = {"seconds_per_step": pace, "rate_factor": factor}
                log.write({"step": step, "epoch": step / steps_per_epoch, **pacing, **values})
                report("metric", {"step": step, "epoch": step / steps_per_epoch, **values})
                total = round(step + remaining / pace) if math.isfinite(remaining) else None
                report("progress", {"done": step, "of": total, "eta_s": remaining, "phase": "training"})
        if (awaits_cooldown or awaits_fall) and (step % LOG_EVERY == 0 or processes == 1):
            cooldown_end = fall_end = 0  # one clock decides, all obey
            if is_first:
                left = deadline - now - reserve_s(now)
                end = step + max(1, round(left / max(pace, 1e-9)))
                if left <= options.cooldown * (deadline - started):
                    cooldown_end = end
                if now - started >= PACE_KNOWN * (deadline - started):
                    fall_end = end
            if awaits_fall and (fall_end := largest(fall_end, accelerator)):
                awaits_fall = False
                fall = fall.before(fall_end, step=step)
                for stage in stages.values():
                    stage.level_fall = fall
            if awaits_cooldown and (cooldown_end := largest(cooldown_end, accelerator)):
                awaits_cooldown = False
                cooldowns.append(Cooldown(step, cooldown_end))
        if is_first:  # the others wait for it where gradients are averaged
            is_epoch = step % steps_per_epoch == 0 or step == 1
            for name, stage in stages.items():
                if is_epoch if name in learning else step == first_step + 1:  # of one that stays as it is, once
                    value = stage.held_out_loss()
                    if value is not None:
                        log.write({"step": step, "epoch": step / steps_per_epoch, f"{name}_held_out": value})
                        report("metric", {"step": step, "epoch": step / steps_per_epoch, f"{name}_held_out": value})
            is_due = fidelity.schedule.is_due(step, now - started, seconds_per_step=pace)
            if is_due and now + (fidelity.schedule.expected_s or 0.0) < deadline:
                measure()
        wish = Wish.GO_ON
        if is_cancelled():
            wish = Wish.CANCEL
        elif is_first and now > deadline - reserve_s(now):
            wish = Wish.TIME_IS_UP
        agreed = agreement.on(wish)
        if agreed != Wish.GO_ON:
            reason = "cancelled" if agreed == Wish.CANCEL else "time"
            break
        if is_first:
            writer.poll()
            if writer.is_idle and now - saved > 60 * options.checkpoint_minutes:
                save()
                if sheets.is_due(now - started):
                    draw()
                saved = time.monotonic()
    agreement.settle()
    for stream in streams.values():
        stream.close()
    if is_first:
        if reason != "cancelled" and fidelity.schedule.is_last_due(step, time.monotonic() - started):
            measure()
        save()
        writer.finish()
        draw()
    accelerator.wait_for_everyone()
    return TrainingResult(options.run / "model.safetensors", step, step / steps_per_epoch, reason)


def _make_stages(preset: Preset, corpus: PreparedCorpus, accelerator: Any, *, seed: int) -> dict[str, StageTrainer]:
    """The stages by name; detail refines what anatomy makes, so anatomy comes first."""
    stages: dict[str, StageTrainer] = {}
    for name in preset.stages:
        refined = stages.get("anatomy") if name == "detail" else None
        stages[name] = StageTrainer(name, preset, corpus.plan, corpus.cache, accelerator, seed=seed, anatomy=refined)
    return stages


def make_accelerator(device: torch.device):  # type: ignore[no-untyped-def]
    """accelerate's Accelerator for ``device``: bf16 where a GPU has it, float32 on CPUs (bf16 is slow there).

    Where a launcher has started several processes, all must call this; they are connected from here on.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs

    on_gpu = device.type == "cuda"
    if on_gpu and device.index is not None:
        torch.cuda.set_device(device)
    precision = "bf16" if on_gpu and torch.cuda.is_bf16_supported() else "no"
    waiting = InitProcessGroupKwargs(timeout=PATIENCE)
    return Accelerator(cpu=device.type == "cpu", mixed_precision=precision, kwargs_handlers=[waiting])


def epoch_steps(corpus: PreparedCorpus, preset: Preset, processes: int) -> int:
    """Steps in which the anatomy stage sees as many slabs as the training scans have slices.

    That of a fine model: as many patches as cover these slices.
    """
    seen = sum(s.slices for s in corpus.plan.train)
    if preset.anatomy is None:
        seen *= max(1, round(corpus.plan.image_size / preset.patch)) ** 2
    return max(1, round(seen / ((preset.anatomy or preset.detail).batch * processes)))


class MetricsLog:
    """``metrics.jsonl``: a line an entry; lines past the step a run is resumed from are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.newest: dict[str, float] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if _step_of(line) <= step]
        with atomic_file(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        for line in kept:
            self.newest.update(json.loads(line))

    def write(self, values: dict[str, float]) -> None:
        """Append one line."""
        self.newest.update(values)
        with failures_named(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({k: round(v, 6) for k, v in values.items()}) + "\n")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line cut off by a kill


def _with_weights(
    stages: Mapping[str, StageTrainer], tensors: Mapping[str, torch.Tensor]
) -> Iterator[tuple[str, StageTrainer]]:
    """The stages to be loaded: all, but for a guide where the file is of a training without one; that begins anew."""
    for name, stage in stages.items():
        if name != GUIDE or any(key.startswith(f"{GUIDE}.") for key in tensors):
            yield name, stage


def _load(loader: Callable[[dict], None], tensors: dict[str, torch.Tensor], prefix: str, source: Path | None) -> None:
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    try:
        loader(own)
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"The weights in {source} are of another network ({str(error).splitlines()[0]}).",
            remedy="Use the preset and image size they were trained with.",
        ) from error
