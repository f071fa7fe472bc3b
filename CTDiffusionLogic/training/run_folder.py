"""What a training needs in its run folder before its first step: prepared from scans, unpacked, or there already."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from CTDiffusionLogic.atomic import atomic_file
from CTDiffusionLogic.bundle import ModelFile, load_body_net, load_model, read_header
from CTDiffusionLogic.corpus.body_position import BodyPositionNet
from CTDiffusionLogic.corpus.pack import neutral_plan, read_pack, unpack
from CTDiffusionLogic.corpus.pack_options import is_pack
from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.corpus.prepare import PreparedCorpus, PrepareOptions, placed_by, prepare
from CTDiffusionLogic.errors import InputError, UsageError
from CTDiffusionLogic.scan_search import find_scans
from CTDiffusionLogic.training.export import command_line
from CTDiffusionLogic.training.options import PRESETS, Preset, TrainOptions
from CTDiffusionLogic.training.run_fingerprints import forget_fingerprints

OnEvent = Callable[[str, dict[str, Any]], None]
#: Options that must be the same when a run is resumed: they shaped its plan or its networks.
_FIXED = ("image_size", "preset", "seed", "hold_out", "use_labels")
#: Beside them: what the HU of its slices were rounded to multiples of, see :class:`PreparedCorpus`.
_HU_STEP = "hu_step"
_PLAN, _BODY, _OPTIONS = "plan.json", "body.safetensors", "options.json"


def is_begun(run: Path) -> bool:
    """Whether ``run`` has what a training needs; the last of it is written last."""
    return all((run / name).is_file() for name in (_PLAN, _BODY, _OPTIONS))


def fill_run(options: TrainOptions, preset: Preset, report: OnEvent) -> None:
    """Begin a training; where it is to go on and something is there, bring back what may be missing: the slices.

    So one command line, with DATA and ``resume``, serves for every piece of a training, and a run folder can be
    carried from one machine to the next without its slices where DATA are a pack.

    Raises:
        UsageError, InputError, OutputError: As :func:`begin_run` says, and if the pack is another one than before, or
            has its HU rounded otherwise.
    """
    if not options.resume or (options.data and not is_begun(options.run)):
        begin_run(options, preset, report)
        return
    pack = next((path for path in options.data if is_pack(path)), None)
    if pack is not None:
        _unpack_again(pack, options, report)


def _unpack_again(pack: Path, options: TrainOptions, report: OnEvent) -> None:
    """Bring back the slices of a training that was begun with ``pack``, where they are missing."""
    plan, is_whole = CorpusPlan.load(options.run / _PLAN), not _missing(options.run)
    begun_with = neutral_plan(plan) if is_whole else plan  # of a training begun with scans the pack has no names
    header = read_pack(pack)
    if header.plan.unfitted().to_json() != begun_with.unfitted().to_json():  # a model it began with has its own fits
        raise UsageError(
            f"{pack} is not what the training in {options.run} was begun with.",
            remedy="Name the pack that it was, or a new --run.",
        )
    step = _hu_step(options.run)
    if step not in (None, header.hu_step):  # the same scans, but other images of them
        remedy = (
            f"Name the pack that it was begun with, or make one with `ctdiffusion pack --hu-step {_option(step)}`."
        )
        if is_whole:
            remedy = f"Leave {pack.name} out: the slices are there. Or n{remedy[1:]}"
        raise UsageError(
            f"{pack} was packed with --hu-step {_option(header.hu_step)}; "
            f"the training in {options.run} was begun with slices of --hu-step {_option(step)}.",
            remedy=remedy,
        )
    if not is_whole:
        _unpack(pack, options.run, report)
        plan.save(options.run / _PLAN)


def begin_run(options: TrainOptions, preset: Preset, report: OnEvent) -> PreparedCorpus:
    """Prepare the scans, or unpack the pack, that ``options`` name, into the run folder.

    Raises:
        UsageError: If there is a training already, no data were given, or the pack is not made for these options.
        InputError: If no scan can be used, or the pack is damaged.
        OutputError: If the run folder cannot be written.
    """
    if (options.run / "checkpoints").exists() and any((options.run / "checkpoints").iterdir()):
        remedy = "Add --resume to go on with it, or name another --run."
        if options.resume:
            remedy = f"It has lost {_PLAN}, {_BODY} or {_OPTIONS}: bring them back, or name another --run."
        raise UsageError(f"{options.run} holds a training already.", remedy=remedy)
    if not options.data:
        raise UsageError("No data were given.", remedy="Name files or folders of CT scans.")
    forget_fingerprints(options.run)  # of a preparation before this one
    (options.run / _OPTIONS).unlink(missing_ok=True)  # is_begun is not to take old and new for one
    packs = [path for path in options.data if is_pack(path)]
    corpus = _unpacked(packs[0], options, preset, report) if packs else _prepared(options, preset, report)
    with atomic_file(options.run / _BODY) as temporary:
        save_file({k: v.contiguous() for k, v in corpus.body_net.state_dict().items()}, temporary)
    fixed = {name: getattr(options, name) for name in _FIXED} | {_HU_STEP: corpus.hu_step, "command": command_line()}
    if options.init:
        fixed["started_from"] = _facts_of(options.init)
    _write_options(options.run, fixed)
    return corpus


def reopen_run(options: TrainOptions) -> PreparedCorpus:
    """Take plan, cache and position network from the run folder; refuse options that no longer fit.

    Raises:
        UsageError: If an option is another than when the training began.
        InputError: As :func:`open_run` says.
    """
    corpus = open_run(options.run)
    before = _read_options(options.run)
    for name in _FIXED:
        value = getattr(options, name)
        now = list(value) if isinstance(value, tuple) else value
        if before[name] != now and not (name == "hold_out" and not now):
            raise UsageError(
                f"{options.run} was started with --{name.replace('_', '-')} {before[name]}, now it is {now}.",
                remedy="Resume with the same options, or start a new --run.",
            )
    return corpus


def open_run(run: Path) -> PreparedCorpus:
    """Take plan, cache and position network from a run folder.

    Raises:
        InputError: If there is no training in it, or a part of it is missing or damaged.
    """
    if not is_begun(run):
        raise InputError(f"{run} holds no training to resume.", remedy="Start it without --resume.")
    plan = CorpusPlan.load(run / _PLAN)
    if missing := _missing(run):
        raise InputError(
            f"{run / 'cache'} lacks the slices of {', '.join(missing[:3])}.",
            remedy="Start the training anew, or name the pack it was begun with.",
        )
    net = BodyPositionNet()
    try:
        net.load_state_dict(load_file(run / _BODY))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{run / _BODY} is damaged.", remedy="Start the training anew.") from error
    return PreparedCorpus(plan, run / "cache", net.eval(), _hu_step(run) or 1)


def _facts_of(start: Path) -> dict[str, Any]:
    """What the card of a model tells of the one its training began with: which it was, and how that came to be."""
    header = read_header(start)
    return {"file": start.name, "sha256": header.sha256, "training": header.card.get("training", {})}


def note_resumed(run: Path) -> None:
    """Keep the command that a training goes on with, for the model's card; not the same one twice in a row."""
    noted = _read_options(run)
    resumed = noted.setdefault("resumed_with", [])
    if command_line() != (resumed[-1] if resumed else noted.get("command")):
        resumed.append(command_line())
        _write_options(run, noted)


def _read_options(run: Path) -> dict[str, Any]:
    return json.loads((run / _OPTIONS).read_text(encoding="utf-8"))


def _write_options(run: Path, noted: dict[str, Any]) -> None:
    with atomic_file(run / _OPTIONS) as temporary:
        temporary.write_text(json.dumps(noted, indent=1), encoding="utf-8")


def _hu_step(run: Path) -> int | None:
    """What the HU of a run's slices were rounded to multiples of; None where it was begun before that was noted."""
    step = _read_options(run).get(_HU_STEP)
    return step if isinstance(step, int) and step >= 1 else None


def _option(step: int | None) -> int:
    """A step as ``--hu-step`` names it: 0 where HU are as they were."""
    return step if step and step > 1 else 0


def _prepared(options: TrainOptions, preset: Preset, report: OnEvent) -> PreparedCorpus:
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
    start = load_model(options.init) if options.init and preset.anatomy else None
    corpus = prepare(
        search.found,
        search.skipped,
        options.run,
        prepare_options,
        on_progress=lambda done, total, phase: report("progress", {"done": done, "of": total, "phase": phase}),
        body_net=load_body_net(start) if start else None,
    )
    return _scaled_as(start, corpus, options.run) if start else corpus


def _scaled_as(start: ModelFile, corpus: PreparedCorpus, run: Path) -> PreparedCorpus:
    """The corpus in the units of a model that is trained on: its networks know their inputs in no others."""
    stages = {name: config for name, config in start.card["stages"].items() if name in corpus.plan.sigma_data}
    plan = replace(
        corpus.plan,
        sigma_data=corpus.plan.sigma_data | {name: float(own["sigma_data"]) for name, own in stages.items()},
        residual_scale=float(stages["detail"]["residual_scale"]),
    )
    plan.save(run / _PLAN)
    return replace(corpus, plan=plan)


def _unpacked(pack: Path, options: TrainOptions, preset: Preset, report: OnEvent) -> PreparedCorpus:
    if len(options.data) > 1:
        raise UsageError(
            f"{pack} is a whole corpus; other data cannot be added to it.",
            remedy="Name the pack alone, or pack all scans together.",
        )
    plan = read_pack(pack).plan
    if not preset.fits(plan):
        fitting = " or ".join(name for name, other in PRESETS.items() if other.fits(plan))
        raise UsageError(
            f"{pack} was not made for --preset {options.preset}.",
            remedy=f"Use --preset {fitting}, or pack the scans with --preset {options.preset}.",
        )
    if plan.image_size != options.image_size:
        raise UsageError(
            f"{pack} was made for images of {plan.image_size} pixels, not of {options.image_size}.",
            remedy=f"Add --image-size {plan.image_size}, or pack the scans with --image-size {options.image_size}.",
        )
    for name, is_given in (("hold-out", options.hold_out), ("index", options.index)):
        if is_given:
            raise UsageError(
                f"--{name} comes too late for {pack}: its patients have no names.", remedy="Give it to pack instead."
            )
    if options.use_labels and not plan.labels:
        raise UsageError(f"{pack} has no classes.", remedy="Leave out --use-labels, or give it to pack.")
    if min(scan.slices for scan in plan.scans) < preset.slices:
        raise UsageError(
            f"{pack} has scans of fewer than {preset.slices} slices, which the preset {options.preset} learns from.",
            remedy=f"Pack the scans with --preset {options.preset}.",
        )
    corpus = _unpack(pack, options.run, report)
    if options.init is None or preset.anatomy is None:
        return corpus
    start = load_model(options.init)
    if (net := load_body_net(start)) is not None:
        corpus = replace(corpus, plan=placed_by(net, corpus.plan, corpus.cache), body_net=net)
    return _scaled_as(start, corpus, options.run)


def _unpack(pack: Path, run: Path, report: OnEvent) -> PreparedCorpus:
    def on_progress(done: int, of: int) -> None:
        report("progress", {"done": done, "of": of, "phase": "unpacking"})

    return unpack(pack, run, on_progress=on_progress)


def _missing(run: Path) -> list[str]:
    """Scans of the plan whose slices are not in the run folder."""
    if not is_begun(run):
        return []
    scans = CorpusPlan.load(run / _PLAN).scans
    return [scan.id for scan in scans if not (run / "cache" / f"{scan.id}.npy").exists()]
