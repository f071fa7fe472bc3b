"""Fingerprints of the training scans in the model file, so that a new volume can be checked where the scans are not.

For each 10 mm of a training scan the file holds the 48 numbers of :mod:`body_windows`, in 8 bits each, and a number
for the patient; no image, no name. Beside them the card has how close real scans of other people came.

What they give away: the numbers are magnitudes of the coarsest waves in a window of 40 mm (half a wave is 90 mm and
more in an adult's plane), after the body's place and size were taken out, and without the waves' signs. So not even
the blur they were taken of follows from them; who guesses all signs right gets 5 by 5 blobs across the body, in which
lungs and trunk can be told and no organ's detail can. But whoever *has* a scan can find out whether it was trained
on: that is what they are for. Who must not tell that leaves them out (``ctdiffusion fingerprint MODEL --remove``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.bundle import FINGERPRINTS as PART
from CTDiffusionLogic.bundle import ModelFile, ModelHeader, load_model, save_model
from CTDiffusionLogic.corpus.resample import orient
from CTDiffusionLogic.errors import InputError, ModelFileError, UsageError
from CTDiffusionLogic.fidelity.body_windows import NUMBERS, BodyWindows, describe_windows
from CTDiffusionLogic.fidelity.copy_search import (
    Closest,
    Limits,
    Reference,
    ScanWindows,
    find_closest,
    limits_from,
    real_against_others,
    reference_from,
)
from CTDiffusionLogic.volume import CTVolume

#: Raised when the numbers mean something else; other versions are not read.
VERSION = 1
#: Real scans that set the limits, at most: each is searched for among all windows, which takes up to a second.
MOST_REAL = 200
#: Steps per standard deviation, and the largest value, of stored numbers.
_STEPS, _MOST = 24.0, 127


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """What a model file holds of its training: windows to search in, and the limits set by real scans."""

    reference: Reference
    limits: Limits

    @property
    def patients(self) -> int:
        """Different patients in the reference."""
        return len(np.unique(self.reference.patients))


@dataclass(frozen=True)
class CopyFinding:
    """What the check of one volume found.

    Args:
        copy: Whether it is closer to a training patient than other people are.
        closest: Ratio, distance, places; None where the volume could not be checked.
        sentence: The same for people.
    """

    copy: bool
    closest: Closest | None
    sentence: str

    def metadata(self) -> dict[str, str]:
        """For the volume's own metadata: ``copy_check`` and, where it could be checked, ``copy_ratio``."""
        if self.closest is None:
            return {"copy_check": "not checked"}
        word = "close to a training scan" if self.copy else "no copy found"
        return {"copy_check": word, "copy_ratio": f"{self.closest.ratio:.3f}"}


def describe_scan(
    hu: NDArray[np.int16], spacing_mm: tuple[float, float, float], *, id: str, patient: str
) -> ScanWindows:
    """Windows of a scan; none for one that is shorter than 40 mm."""
    try:
        windows = describe_windows(hu, spacing_mm)
    except InputError:
        empty = np.zeros((0, NUMBERS), np.float32)
        windows = BodyWindows(empty, np.zeros(0, np.float32), np.zeros((0, 3), np.float32))
    return ScanWindows(id, patient, windows)


def take_fingerprints(training: Sequence[ScanWindows], held_out: Sequence[ScanWindows] = ()) -> Fingerprints | None:
    """Fingerprints of the training scans, with limits from held-out scans and the training scans themselves.

    Of more than :data:`MOST_REAL` scans, evenly many of all set the limits; all can be recognised.

    Returns:
        None where no training scan has a window.
    """
    training = [scan for scan in training if len(scan.windows)]
    if not training:
        return None
    trained = {scan.patient for scan in training}
    others = [scan for scan in held_out if len(scan.windows) and scan.patient not in trained]
    # Limits of what will be read back, rounding included.
    reference = _restore(*_store(reference_from(training)))
    real = real_against_others(_spread_out([*others, *training], MOST_REAL), training, reference)
    return Fingerprints(reference, limits_from(real, patients=len(trained)))


def to_tensors(fingerprints: Fingerprints) -> dict[str, Any]:
    """Tensors for the model file, under "fingerprints."; 48 bytes a window."""
    import torch

    codes, patients, middle, spread = _store(fingerprints.reference)
    arrays = {"codes": codes, "patients": patients, "middle": middle, "spread": spread}
    return {f"{PART}.{name}": torch.from_numpy(array.copy()) for name, array in arrays.items()}


def to_card(fingerprints: Fingerprints) -> dict[str, Any]:
    """The card's entry: counts and limits."""
    limits = fingerprints.limits
    return {
        "version": VERSION,
        "windows": len(fingerprints.reference.numbers),
        "patients": fingerprints.patients,
        "ratio_limit": limits.ratio,
        "distance_limit": limits.distance,
        "calibrated": limits.calibrated,
        "real_ratios": [round(v, 4) for v in limits.real_ratios],
        "real_distances": [round(v, 4) for v in limits.real_distances],
    }


def has_fingerprints(header: ModelHeader) -> bool:
    """Whether the file has fingerprints this version reads."""
    entry = header.card.get(PART)
    return isinstance(entry, Mapping) and entry.get("version") == VERSION


def read_fingerprints(model: ModelFile) -> Fingerprints | None:
    """The fingerprints of a model file; None where it has none this version reads.

    Raises:
        ModelFileError: If they are incomplete.
    """
    if not has_fingerprints(model):
        return None
    entry = model.card[PART]
    try:
        parts = [model.tensors[f"{PART}.{name}"].numpy() for name in ("codes", "patients", "middle", "spread")]
        codes, patients, middle, spread = parts
        if codes.shape != (len(patients), NUMBERS) or middle.shape != (NUMBERS,) or spread.shape != (NUMBERS,):
            raise ValueError(f"{len(patients)} windows have numbers of shape {codes.shape}")
        limits = Limits(
            float(entry["ratio_limit"]),
            float(entry["distance_limit"]),
            tuple(float(v) for v in entry["real_ratios"]),
            tuple(float(v) for v in entry["real_distances"]),
            bool(entry["calibrated"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{model.path}: the fingerprints of its training scans are incomplete ({error}).",
            remedy="Make them anew with `ctdiffusion fingerprint`.",
        ) from error
    return Fingerprints(_restore(codes, patients, middle, spread), limits)


def check_volume(volume: CTVolume, fingerprints: Fingerprints) -> CopyFinding:
    """Look for the volume among the training scans; a volume that cannot be checked says why."""
    standing = orient(volume)
    dx, dy, dz = standing.spacing
    try:
        windows = describe_windows(standing.hu, (dz, dy, dx))
    except InputError as error:
        return CopyFinding(False, None, f"Not checked for copies of training scans: {_lower(error.message)}")
    closest = find_closest(windows.numbers, fingerprints.reference)
    if closest is None:
        return CopyFinding(False, None, "Not checked for copies of training scans: it shows no body.")
    limits = fingerprints.limits
    beside = f", real scans of other people reach {limits.real_ratios[0]:.2f}" if limits.real_ratios else ""
    if limits.is_copy(closest):
        place = windows.centres_mm[closest.window]
        return CopyFinding(
            True,
            closest,
            f"Around {place:.0f} mm from its lower end the volume is closer to one training patient than other people "
            f"are (ratio {closest.ratio:.2f}{beside}): it may be a copy; do not share it before you have looked.",
        )
    return CopyFinding(
        False,
        closest,
        f"No closer to a training scan than other people are (ratio {closest.ratio:.2f}{beside}).",
    )


def add_fingerprints(
    model: Path | str,
    training: Sequence[ScanWindows],
    out: Path | str,
    *,
    held_out: Sequence[ScanWindows] = (),
) -> Fingerprints:
    """Write a copy of a model file that has fingerprints of its training scans; its weights stay bit for bit.

    The file's sha256 changes, for it covers card and tensors.

    Args:
        model: The model file; fingerprints it has already are replaced.
        training: **All** scans it was trained on: what is left out will not be recognised.
        out: The new file; may be the same.
        held_out: Real scans it was not trained on.

    Raises:
        InputError: If no scan has a window.
        UsageError: If the card counts other scans or patients than ``training`` has.
        ModelFileError, OutputError: If a file cannot be read or written.
    """
    file = load_model(model)
    facts = file.card.get("training", {})
    seen = {"scans": len(training), "patients": len({scan.patient for scan in training})}
    for name, count in seen.items():
        if facts.get(name) and int(facts[name]) != count:
            raise UsageError(
                f"{model} was trained on {facts[name]} {name}, and {count} were given.",
                remedy="Give the scans it was trained on, and name those it was not with --hold-out.",
            )
    fingerprints = take_fingerprints(training, held_out)
    if fingerprints is None:
        raise InputError(
            "None of the training scans is 40 mm long.", remedy="Give the scans the model was trained on."
        )
    _rewrite(file, out, to_tensors(fingerprints), {PART: to_card(fingerprints)})
    return fingerprints


def remove_fingerprints(model: Path | str, out: Path | str) -> None:
    """Write a copy of a model file without fingerprints.

    Raises:
        ModelFileError, OutputError: If a file cannot be read or written.
    """
    _rewrite(load_model(model), out, {}, {})


def corpus_fingerprints(scans: Sequence[Any], read: Callable[[Any], NDArray[np.int16]]) -> Fingerprints | None:
    """Fingerprints of a training's own cached slices.

    Args:
        scans: :class:`~CTDiffusionLogic.corpus.plan.ScanPlan` of all scans, held-out ones too.
        read: Gives the cached slices of one, (n, size, size) HU.
    """
    described: dict[bool, list[ScanWindows]] = {True: [], False: []}
    for scan in scans:
        spacing = (scan.gap_mm, scan.pixel_mm, scan.pixel_mm)
        described[scan.split == "train"].append(describe_scan(read(scan), spacing, id=scan.id, patient=scan.patient))
    return take_fingerprints(described[True], described[False])


def _rewrite(file: ModelFile, out: Path | str, tensors: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    kept = {name: tensor for name, tensor in file.tensors.items() if not name.startswith(f"{PART}.")}
    card = {key: value for key, value in file.card.items() if key != PART}
    save_model(out, {**kept, **tensors}, {**card, **entry})


def _spread_out(scans: Sequence[ScanWindows], most: int) -> list[ScanWindows]:
    """All scans, or ``most`` of them from all over the list."""
    if len(scans) <= most:
        return list(scans)
    return [scans[n] for n in np.linspace(0, len(scans) - 1, most).round().astype(int)]


def _store(reference: Reference) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Numbers as int8 around their middle, patients as int16, middle and spread as float16."""
    middle, spread = reference.middle.astype(np.float16), reference.spread.astype(np.float16)
    steps = (reference.numbers - middle.astype(np.float32)) / spread.astype(np.float32) * _STEPS
    codes = np.rint(np.clip(steps, -_MOST, _MOST)).astype(np.int8)
    return codes, reference.patients.astype(np.int16), middle, spread


def _restore(codes: NDArray, patients: NDArray, middle: NDArray, spread: NDArray) -> Reference:
    middle, spread = middle.astype(np.float32), np.maximum(spread.astype(np.float32), 1e-3)
    return Reference(codes.astype(np.float32) / _STEPS * spread + middle, patients.astype(np.int64), middle, spread)


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
