"""The model file a training leaves, with the card that tells what it saw."""

from __future__ import annotations

import datetime
import json
import shlex
import sys
from typing import Any

from torch import Tensor

from CTDiffusionLogic import __version__
from CTDiffusionLogic.bundle import FINGERPRINTS
from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.corpus.prepare import PreparedCorpus
from CTDiffusionLogic.denoiser.intensity import KNOTS
from CTDiffusionLogic.sampling import DEFAULT_SAMPLER, ESTIMATE_STEPS, REFINING_SIGMA_MAX, REFINING_STEPS
from CTDiffusionLogic.training.checkpoint import copied
from CTDiffusionLogic.training.options import TrainOptions
from CTDiffusionLogic.training.run_fingerprints import ModelFingerprints

#: The newest model in a run folder, and the best; see :mod:`CTDiffusionLogic.training.fidelity_best`.
MODEL, BEST_MODEL = "model.safetensors", "model-best.safetensors"
#: What suffices; see the table in :mod:`CTDiffusionLogic.sampling`. Of the guidance there is a table, too
#: (``Testing/benchmarks/CHOICES.md``). Anatomy is handed over as the network's estimate from a noise at which it still
#: knows what it sees: taken further, what it makes keeps a grain about as strong as its own error, which piles up from
#: level to level of the slab plan and shows as mottled organs and streaks in air. The detail stage has learnt from
#: such estimates, and is told of the noise.
SAMPLING: dict[str, Any] = {
    "sampler": DEFAULT_SAMPLER,
    "anatomy_steps": ESTIMATE_STEPS,
    "detail_steps": REFINING_STEPS,
    "detail_sigma_max": REFINING_SIGMA_MAX,
    "guidance": 1.5,
    "anatomy_sigma_min": 0.4,
    "coarse_noise": 0.4,
}


_NOT_FOR_PATIENTS = "Not for diagnosis or treatment. Volumes are synthetic and show no real patient."
FINE_DESCRIPTION = (
    "A fine model: of a volume of {plan.anatomy_size} x {plan.anatomy_size} pixels, made by another model, it makes "
    "one of {plan.image_size} x {plan.image_size}."
)
#: Of a fine model. The coarse image decides nearly all, so few steps do: with exact denoisers 6 of them leave 1.00,
#: 0.98 and 0.89 of data of width 0.5 (the residual's own), 0.25 and 0.1 (see the first table in
#: :mod:`CTDiffusionLogic.sampling`), 5 leave 0.97, 0.93 and 0.81. The image is taken nearly as it is: what stands in
#: it at 256 x 256 is to stand in the result.
FINE_SAMPLING: dict[str, Any] = {"sampler": DEFAULT_SAMPLER, "detail_steps": 6, "coarse_noise": 0.01}


def model_contents(
    options: TrainOptions,
    corpus: PreparedCorpus,
    stages: dict[str, Any],
    *,
    fingerprints: ModelFingerprints,
    step: int,
    hours: float,
    metrics: dict[str, Any],
    epochs: float,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What a model file of the training as it is now has: averaged weights, the body position network, the card.

    With them go ``fingerprints`` of the training scans, by which ``ctdiffusion generate`` warns of copies. A fine
    model, whose only stage is detail, has no body position network.

    Returns:
        Tensors and card for :func:`~CTDiffusionLogic.bundle.save_model`, which may write them while the training
        goes on: they are copies.
    """
    is_fine = "anatomy" not in stages
    tensors = copied(
        {f"{name}.{key}": value for name, stage in stages.items() for key, value in stage.averaged_weights().items()}
    )
    if not is_fine:
        tensors |= {f"body.{key}": value for key, value in corpus.body_net.state_dict().items()}
    card = {
        "name": options.name or options.run.resolve().name,
        **({"description": FINE_DESCRIPTION.format(plan=corpus.plan)} if is_fine else {}),
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "ctdiffusion_version": __version__,
        "stages": {name: stage.network.config.to_dict() for name, stage in stages.items()},
        **(fine_facts(corpus.plan) if is_fine else generation_facts(corpus.plan)),
        "training": _training_facts(options, corpus.plan, stages, step=step, hours=hours, epochs=epochs),
        "metrics": {k: round(v, 6) if isinstance(v, float) else v for k, v in metrics.items()},
        "limits": fine_limits(corpus.plan) if is_fine else limits(corpus.plan),
    }
    if fingerprints.entry is not None:
        tensors |= fingerprints.tensors
        card[FINGERPRINTS] = fingerprints.entry
    return tensors, card


def generation_facts(plan: CorpusPlan) -> dict[str, Any]:
    """What of a card generation needs."""
    return {
        "plan": {**plan.card(), "hu_knots": [list(k) for k in KNOTS]},
        "labels": list(plan.labels),
        "sampling": SAMPLING,
    }


def fine_facts(plan: CorpusPlan) -> dict[str, Any]:
    """What of a fine model's card generation needs."""
    return {
        "plan": {**plan.fine_card(), "hu_knots": [list(k) for k in KNOTS]},
        "labels": [],
        "sampling": FINE_SAMPLING,
    }


def command_line() -> str:
    """Return the command this process was started with, as one would type it."""
    return shlex.join(["ctdiffusion", *sys.argv[1:]])


def limits(plan: CorpusPlan) -> list[str]:
    """Plain sentences on what the model cannot do, from what it saw."""
    patients = len({s.patient for s in plan.train})
    low, high = plan.body_range_mm
    sentences = [
        _NOT_FOR_PATIENTS,
        f"Learnt from {patients} patients: it knows little of the variety of people and of disease.",
        f"Knows {high - low:.0f} mm along the body; beyond it there is nothing to learn from.",
    ]
    sentences += _of_synthetic_scans(plan)
    if patients < 100:
        sentences.append("With so few patients, volumes can resemble training scans; check before sharing.")
    return sentences


def fine_limits(plan: CorpusPlan) -> list[str]:
    """The same for a fine model."""
    patients = len({s.patient for s in plan.train})
    least, most = plan.fine_card()["pixel_mm_range"]
    pixels = f"{least:.2g}" if f"{least:.2g}" == f"{most:.2g}" else f"{least:.2g} to {most:.2g}"
    return [
        _NOT_FOR_PATIENTS,
        "Makes no volumes by itself: what a volume shows, and its faults, come from the model that makes it.",
        f"Learnt from patches of {patients} patient{'s' * (patients != 1)} with pixels of {pixels} mm: it knows their "
        "texture and noise.",
        "What it adds below two pixels is likely, not seen: it is no super-resolution of a patient's scan.",
        *_of_synthetic_scans(plan),
    ]


def _of_synthetic_scans(plan: CorpusPlan) -> list[str]:
    synthetic = sum(s.synthetic for s in plan.train)
    scans = f"{synthetic} of its {len(plan.train)} training scans were synthetic; it has their faults."
    return [scans] if synthetic else []


def _training_facts(
    options: TrainOptions, plan: CorpusPlan, stages: dict[str, Any], *, step: int, hours: float, epochs: float
) -> dict[str, Any]:
    noted = json.loads((options.run / "options.json").read_text(encoding="utf-8"))
    return {
        **{key: noted[key] for key in ("command", "resumed_with", "started_from") if key in noted},
        "preset": options.preset,
        "seed": options.seed,
        "steps": step,
        "epochs": round(epochs, 3),
        "slabs": {
            name: stage.ema.optimization_step * stage.recipe.batch * stage.accelerator.num_processes
            for name, stage in stages.items()
        },
        "hours": round(hours, 2),
        "device": str(stages["detail"].accelerator.device),
        "scans": len(plan.train),
        "synthetic_scans": sum(s.synthetic for s in plan.train),
        "patients": len({s.patient for s in plan.train}),
        "slices": sum(s.slices for s in plan.train),
        "held_out_patients": len({s.patient for s in plan.held_out}),
        "data": options.note,
    }
