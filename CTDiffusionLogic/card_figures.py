"""Figures of how real a model's volumes are, in its card: written there without touching weights, told in plain words.

A model is mostly measured after its card was written. :func:`write_figures` puts an entry beneath the card's
"metrics". A model's digest covers its card, so the file has a new one afterwards; the card remembers the earlier one
(:data:`EARLIER`), by which volumes made before name their model. Telling needs the standard library only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CTDiffusionLogic.bundle import GUIDE, STAGES, load_model, read_header, save_model
from CTDiffusionLogic.errors import InputError

if TYPE_CHECKING:
    from CTDiffusionLogic.bundle import ModelFile

#: Entries beneath "metrics": of a training or a fidelity curve, and of ``ctdiffusion evaluate``.
FIDELITY, EVALUATION = "fidelity", "evaluation"
#: The card's list of digests that a file with the same weights had before its card was edited.
EARLIER = "earlier_sha256"
#: Not more of them are kept.
MOST_EARLIER = 8
#: Of a measurement, besides distances: what a card keeps.
KEPT = ("step", "epoch", "against", "extractor", "extractor_sha256", "protocol_sha256", "counts", "model_sha256")
_DISTANCES = ("frechet", "kid")
_PLANES = ("axial", "coronal", "sagittal")
_HEX = 12


def card_entry(line: Mapping[str, Any]) -> dict[str, Any]:
    """What of a measurement (a line of ``fidelity.jsonl``) a model's card tells."""
    return {key: value for key, value in line.items() if key in KEPT or key.startswith(_DISTANCES)}


def weights_digest(model: ModelFile) -> str:
    """SHA-256 of names and values of the denoisers' weights: the same whatever card and fingerprints say."""
    digest = hashlib.sha256()
    own = tuple(f"{stage}." for stage in (*STAGES, GUIDE))
    for name in sorted(name for name in model.tensors if name.startswith(own)):
        tensor = model.tensors[name]
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def digests_of(path: Path | str) -> tuple[str, ...]:
    """The digest of a model file, and those it had before figures were written into its card, the newest first.

    Raises:
        ModelFileError: If it cannot be used.
    """
    header = read_header(path)
    earlier = header.card.get(EARLIER, [])
    return (header.sha256, *reversed([str(one) for one in earlier] if isinstance(earlier, list) else []))


def write_figures(path: Path | str, key: str, entry: Mapping[str, Any]) -> str:
    """Put ``entry`` beneath the metrics of a model's card; weights and fingerprints stay, bit for bit.

    Args:
        path: The model file; replaced whole or not at all.
        key: :data:`FIDELITY` or :data:`EVALUATION`; an earlier entry of that name goes.
        entry: Plain JSON data without NaN.

    Returns:
        The file's new sha256; the old one if the card says all of this already.

    Raises:
        ModelFileError: If the file cannot be used.
        OutputError: If it cannot be written.
    """
    model = load_model(path)
    metrics = {**model.card.get("metrics", {}), key: dict(entry)}
    if model.card.get("metrics") == metrics:
        return model.sha256
    earlier = [*digests_of(path)[:0:-1], model.sha256][-MOST_EARLIER:]
    return save_model(path, model.tensors, {**model.card, "metrics": metrics, EARLIER: earlier})


def line_of_weights(lines: Sequence[tuple[Path, Mapping[str, Any]]], path: Path) -> Mapping[str, Any]:
    """The measurement that is of the weights in ``path``.

    Args:
        lines: Model files with their measurements.
        path: A model file: one of these, or another with the weights of one of them (a copy with its own card).

    Raises:
        InputError: If none of the models has these weights.
        ModelFileError: If a file cannot be used.
    """
    for file, line in lines:
        if file.exists() and file.samefile(path):
            return line
    wanted = weights_digest(load_model(path))
    for file, line in lines:
        if weights_digest(load_model(file)) == wanted:
            return line
    raise InputError(
        f"None of the measured models has the weights of {path}: the figures are not its own.",
        remedy="Name that file among the models, too.",
    )


def in_plain_words(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """A card's metrics, with figures of how real volumes are as sentences; what is not understood stays as it is."""
    told = dict(metrics)
    for key, sentences, known in (
        (FIDELITY, fidelity_sentences, _is_told),
        (EVALUATION, evaluation_sentences, _EVALUATED.__contains__),
    ):
        entry = metrics.get(key)
        if not isinstance(entry, Mapping):
            continue
        try:
            words = list(sentences(entry))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        rest = {name: value for name, value in entry.items() if not known(name)}
        told[key] = {"in words": words, **rest} if rest else words
    return told


def fidelity_sentences(entry: Mapping[str, Any]) -> Iterator[str]:
    """An entry of a training or of ``ctdiffusion fidelity-curve`` as sentences; it must have "frechet"."""
    held_out = entry.get("against") == "held-out"
    whom = "of patients it never saw" if held_out else "of the patients it learnt from"
    when = f" after {entry['step']} steps" if "step" in entry else ""
    yield f"Fréchet distance of its images to real scans {whom}{when}: {_value(entry, 'frechet')}. 0 would be equal."
    if "frechet_floor" in entry:
        times = float(entry["frechet"]) / float(entry["frechet_floor"])
        yield (
            "Floor, what real scans of other patients reach in place of its images: "
            f"{_value(entry, 'frechet_floor')}. So they are {times:.2g} times as far from real ones as real ones are "
            "from each other."
        )
    else:
        yield "There is no floor: too few real patients to say how far these are from each other."
    planes = [f"{plane} {_number(entry[f'frechet_{plane}'])}" for plane in _PLANES if f"frechet_{plane}" in entry]
    if planes:
        yield f"By plane: {', '.join(planes)}."
    if "frechet_training" in entry:
        floor = entry.get("frechet_training_floor")
        beside = "" if floor is None else f" (floor {_number(floor)})"
        yield f"To real scans of the patients it learnt from: {_number(entry['frechet_training'])}{beside}."
    if "kid" in entry:
        floor = entry.get("kid_floor")
        beside = "" if floor is None else f" (floor {_number(floor)})"
        yield f"Kernel distance (KID), without the bias of small counts: {_number(entry['kid'])}{beside}."
    if counts := entry.get("counts"):
        yield _counts(counts)
    yield _features(entry) + " Compare with no figures of other features, counts or protocols."


def evaluation_sentences(entry: Mapping[str, Any]) -> Iterator[str]:
    """An entry of ``ctdiffusion evaluate --into-card`` as sentences."""
    yield (
        f"Measured {entry['created'][:10]} on {entry['synthetic_volumes']} of its volumes beside "
        f"{entry['real_volumes']} real scans of {entry['real_patients']} patients."
    )
    if bases := entry.get("base_model_sha256"):
        yield f"It refined them; they were first made by the model {', '.join(str(one)[:_HEX] for one in bases)}."
    for section in entry["sections"].values():
        yield f"{section['title']}: {section['standing']}. {section['verdict']}".strip()
    names = ", ".join(f"{name} {str(sha256)[:_HEX]}" for name, sha256 in entry["extractors"].items())
    yield f"Features: {names}. {len(entry['figures'])} figures with their floors are in the card itself."


#: What :func:`evaluation_sentences` tells or counts.
_EVALUATED = (
    *("created", "synthetic_volumes", "real_volumes", "real_patients", "sections", "extractors", "figures"),
    *("model_sha256", "base_model_sha256", "versions", "protocol"),
)


def _is_told(name: str) -> bool:
    return name in KEPT or name.startswith(_DISTANCES)


def _value(entry: Mapping[str, Any], key: str) -> str:
    """A figure with its interval."""
    low, high = entry.get(f"{key}_low"), entry.get(f"{key}_high")
    interval = "" if low is None or high is None else f" (95 %: {_number(low)} to {_number(high)})"
    return _number(entry[key]) + interval


def _counts(counts: Mapping[str, Any]) -> str:
    text = (
        f"Rests on {counts['synthetic_volumes']} short volumes ({counts['synthetic_images']} images) beside "
        f"{counts['real_volumes']} stretches of {counts['real_patients']} patients ({counts['real_images']} images)"
    )
    if counts.get("training_patients"):
        text += f"; to those it learnt from: {counts['training_volumes']} of {counts['training_patients']} patients"
    return text + "."


def _features(entry: Mapping[str, Any]) -> str:
    text = f"Features: {entry.get('extractor', 'unknown')} {str(entry.get('extractor_sha256', ''))[:_HEX]}".rstrip()
    protocol = str(entry.get("protocol_sha256", ""))[:_HEX]
    return f"{text}; protocol {protocol}." if protocol else f"{text}."


def _number(value: Any) -> str:
    """Three digits, no exponent unless tiny or huge."""
    number = float(value)
    return f"{number:.0f}" if 100 <= abs(number) < 1e6 else f"{number:.3g}"
