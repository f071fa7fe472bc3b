"""How real the images of several models of one training are: its curve, measured afterwards from model files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from CTDiffusionLogic.allocator import keep_freed_memory
from CTDiffusionLogic.bundle import ModelFile, load_model, read_header
from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.errors import InputError, ModelFileError
from CTDiffusionLogic.fidelity.extractors import Extractor
from CTDiffusionLogic.generation import GenerationModel
from CTDiffusionLogic.training.fidelity_log import SAME, FidelityLog, Line, draw_curve
from CTDiffusionLogic.training.fidelity_meter import FidelityMeter, MeterOptions
from CTDiffusionLogic.training.fidelity_scans import scans_of_files, scans_of_run
from CTDiffusionLogic.training.options import PRESETS

OnEvent = Callable[[str, dict[str, Any]], None]
#: What models must share to be measured at the same places.
_GRID = ("image_size", "fov_mm", "body_mm_range")


def measure_curve(
    models: Sequence[Path],
    out: Path,
    *,
    run: Path | None = None,
    real: Sequence[Path] = (),
    sampling_of: Path | None = None,
    extractor: Extractor,
    device: torch.device,
    options: MeterOptions | None = None,
    on_event: OnEvent = lambda _name, _facts: None,
    is_cancelled: Callable[[], bool] | None = None,
) -> list[Line]:
    """Measure each model and write ``out/fidelity.jsonl`` and ``out/fidelity.png``, as a training does.

    Args:
        models: Model files of one training, in any order; those that are in the file already are not measured again.
        out: Folder; made if it is not there.
        run: Folder of the training, whose scans are compared with: held-out patients, and those learnt from.
        real: Instead of ``run``: scans that none of the models was trained on.
        sampling_of: All generate as the card of this model says, but for the number of steps; None: of the newest.
        extractor: Of features.
        device: Where the models run.
        options: What is made and measured.
        on_event: Told "progress" (done, of, eta_s, phase) and, for each model, "fidelity" (its line).
        is_cancelled: Asked between passes; what was measured by then is kept.

    Returns:
        The lines of these models, by step.

    Raises:
        InputError: If the models do not belong together or to the run, or there are no scans to compare with.
        ModelFileError: If a model file cannot be used.
        OutputError: If ``out`` cannot be written.
        Cancelled: If ``is_cancelled`` says so.
    """
    if device.type == "cpu":
        keep_freed_memory()
    headers = sorted((read_header(path) for path in models), key=lambda header: place_of(header.card)[0])
    if not headers:
        raise InputError("There are no models to measure.", remedy="Name model files.")
    grid = _grid_of(headers[0].card)
    for header in headers[1:]:
        if _grid_of(header.card) != grid:
            raise InputError(
                f"{header.path} and {headers[0].path} are of different trainings: their grids differ.",
                remedy="Name models of one training.",
            )
    sampling = read_header(sampling_of or headers[-1].path).card.get("sampling", {})
    meter = _meter(load_model(headers[0].path), run, real, extractor, sampling, options)
    log = FidelityLog(out / "fidelity.jsonl")
    same = {"extractor_sha256": extractor.sha256, "protocol_sha256": meter.digest, "against": meter.against}
    lines: list[Line] = []
    for number, header in enumerate(headers):
        line = next((one for one in log.alike(same) if one.get("model_sha256") == header.sha256), None)
        if line is None:
            line = _measured(load_model(header.path), meter, device, number, len(headers), on_event, is_cancelled)
            log.write(line)
        lines.append(line)
        on_event("fidelity", {**line, "file": header.path.name})
        draw_curve(lines, out / "fidelity.png", title=str(header.card.get("name", "")))
    assert all(line[key] == same[key] for line in lines for key in SAME)
    return lines


def place_of(card: Mapping[str, Any]) -> tuple[int, float, float]:
    """Where in its training a model is: step, epoch, hours."""
    facts = card.get("training", {})
    step, hours = int(facts.get("steps", 0)), float(facts.get("hours", 0.0))
    if "epochs" in facts:
        return step, float(facts["epochs"]), hours
    preset, slices = PRESETS.get(str(facts.get("preset"))), int(facts.get("slices", 0))
    if preset is None or preset.anatomy is None or not slices:
        return step, float(step), hours
    return step, step / max(1, round(slices / preset.anatomy.batch)), hours


def _measured(
    file: ModelFile,
    meter: FidelityMeter,
    device: torch.device,
    number: int,
    of: int,
    on_event: OnEvent,
    is_cancelled: Callable[[], bool] | None,
) -> Line:
    step, epoch, hours = place_of(file.card)
    model = GenerationModel.from_file(file, device)

    def on_progress(done: int, total: int, left_s: float, _stage: str) -> None:
        rest = (left_s + time.monotonic() - began) * (of - number - 1) + left_s
        facts = {"done": number * total + done, "of": of * total, "eta_s": rest, "phase": f"step {step}"}
        on_event("progress", facts)

    meter.read_real(is_cancelled=is_cancelled)
    began = time.monotonic()
    facts = meter.compare(
        meter.make(model, on_progress=on_progress, is_cancelled=is_cancelled), is_cancelled=is_cancelled
    )
    line: Line = {"step": step, "epoch": round(epoch, 6), "hours": hours, **facts}
    return line | {"seconds": round(time.monotonic() - began, 2), "model_sha256": file.sha256}


def _meter(
    model: ModelFile,
    run: Path | None,
    real: Sequence[Path],
    extractor: Extractor,
    sampling: Mapping[str, Any],
    options: MeterOptions | None,
) -> FidelityMeter:
    plan = model.card["plan"]
    if run is not None:
        corpus = CorpusPlan.load(run / "plan.json")
        if _grid_of({"plan": corpus.card()}) != _grid_of(model.card):
            raise InputError(
                f"{model.path} is not of the training in {run}.", remedy="Name the folder of its training."
            )
        missing = [scan.id for scan in corpus.scans if not (run / "cache" / f"{scan.id}.npy").exists()]
        if missing:
            raise InputError(
                f"{run / 'cache'} lacks the slices of {', '.join(missing[:3])}.", remedy="Give scans with --real."
            )
        scans = scans_of_run(corpus, run / "cache")
    else:
        scans = scans_of_files(real, model)
    low, high = (float(v) for v in plan["body_mm_range"])
    return FidelityMeter(
        scans,
        extractor,
        sampling=sampling,
        body_range_mm=(low, high),
        pixel_mm=float(plan["fov_mm"]) / int(plan["image_size"]),
        options=options,
    )


def _grid_of(card: Mapping[str, Any]) -> dict[str, Any]:
    plan = card.get("plan", {})
    try:
        grid = {key: plan[key] for key in _GRID}
        return {**grid, "body_mm_range": [round(float(v), 3) for v in grid["body_mm_range"]]}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"A model's card does not say its grid ({error}).", remedy="Name models made by `ctdiffusion train`."
        ) from error
