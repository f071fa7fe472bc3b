"""What a reader study says: accuracy, d', area under the ROC curve, each with its interval, for every reader.

If real and synthetic images cannot be told apart, accuracy and AUC are 0.5 and d' is 0.

- Accuracy: exact interval of Clopper and Pearson (1934); two-sided exact binomial test against 0.5.
- d', one by one: z(hits) - z(false alarms), rates with the log-linear correction (n + 0.5) / (N + 1) of Hautus (1995);
  a hit is a synthetic image called synthetic. Its interval joins the exact intervals of both rates, each at the square
  root of the level: true at every sample size, wider than an approximation.
- d', pairs: sqrt(2) z(accuracy) (Green and Swets 1966), and its interval is that of the accuracy, transformed.
- AUC, one by one: Mann-Whitney statistic of the ratings -5 (certainly real) to 5 (certainly synthetic), ties count a
  half; interval of DeLong et al. (1988). Where all images are told apart that interval has no width; then it is
  the exact one of as many pairs as there are images of the rarer kind, since all of these were told apart.
- AUC, pairs: the accuracy, by the area theorem (Green and Swets 1966), with its exact interval.

These take answers as independent of each other. Slices of one volume are alike, so with few volumes the intervals are
too narrow; ``ReaderFigures.notes`` says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from CTDiffusionLogic.fidelity.reader_files import Answer
from CTDiffusionLogic.fidelity.reader_study import StudyPlan
from CTDiffusionLogic.fidelity.results import Figure, Interval, Section

#: Fewer volumes of a kind than this, and slices of them cannot be taken as independent.
_FEW_VOLUMES = 10


@dataclass(frozen=True)
class ReaderFigures:
    """The figures of one reader.

    Args:
        reader: The reader's code.
        answered, items: How many items were answered, of how many.
        correct: How many answers were right.
        accuracy: Share of right answers.
        p_value: Two-sided exact binomial test of the accuracy against chance.
        d_prime: Sensitivity; None where it cannot be told. A bound is None where it is infinite.
        auc: Area under the ROC curve; None where there are answers to one kind only.
        auc_method: Where value and interval come from.
        criterion: One by one: positive if the reader calls images real rather than synthetic; else None.
        left_share: Pairs: share of the answers "left"; else None.
        median_seconds: Of the answers.
        notes: What limits the figures, in plain sentences.
    """

    reader: str
    answered: int
    items: int
    correct: int
    accuracy: Interval
    p_value: float
    d_prime: Interval | None
    auc: Interval | None
    auc_method: str
    criterion: float | None
    left_share: float | None
    median_seconds: float
    notes: list[str] = field(default_factory=list)


def exact_interval(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """A proportion with the interval of Clopper and Pearson.

    Args:
        successes, trials: Counts; at least one trial.
        level: Confidence.
    """
    from scipy.stats import binomtest  # here: it takes half a second

    bounds = binomtest(successes, trials).proportion_ci(confidence_level=level, method="exact")
    return Interval(value=successes / trials, low=float(bounds.low), high=float(bounds.high))


def chance_p_value(correct: int, trials: int) -> float:
    """Two-sided exact binomial test against one half."""
    from scipy.stats import binomtest

    return float(binomtest(correct, trials, 0.5).pvalue)


def d_prime_yes_no(
    hits: int, synthetic: int, false_alarms: int, real: int, *, level: float = 0.95
) -> tuple[Interval, float]:
    """Sensitivity and criterion of a yes/no task.

    Args:
        hits, synthetic: Synthetic images called synthetic, of how many; at least one.
        false_alarms, real: Real images called synthetic, of how many; at least one.
        level: Confidence.

    Returns:
        d' and the criterion c = -(z(hits) + z(false alarms)) / 2.
    """
    z_hit = _z((hits + 0.5) / (synthetic + 1))
    z_false = _z((false_alarms + 0.5) / (real + 1))
    hit = exact_interval(hits, synthetic, level=math.sqrt(level))
    false = exact_interval(false_alarms, real, level=math.sqrt(level))
    low, high = _z(_bound(hit.low)) - _z(_bound(false.high)), _z(_bound(hit.high)) - _z(_bound(false.low))
    return Interval(value=z_hit - z_false, low=_finite(low), high=_finite(high)), -(z_hit + z_false) / 2


def d_prime_pairs(correct: int, trials: int, *, level: float = 0.95) -> Interval:
    """Sensitivity of a two-alternative forced choice; log-linear correction where all or none were right."""
    share = correct / trials if 0 < correct < trials else (correct + 0.5) / (trials + 1)
    bounds = exact_interval(correct, trials, level=level)
    low, high = (math.sqrt(2) * _z(_bound(bound)) for bound in (bounds.low, bounds.high))
    return Interval(value=math.sqrt(2) * _z(share), low=_finite(low), high=_finite(high))


def auc_of_ratings(negative: ArrayLike, positive: ArrayLike, *, level: float = 0.95) -> Interval:
    """Area under the ROC curve, with the interval of DeLong et al. (1988).

    Args:
        negative, positive: Ratings of both kinds, at least one each; higher speaks for ``positive``.
        level: Confidence.
    """
    below = np.asarray(negative, dtype=float)[:, np.newaxis]
    above = np.asarray(positive, dtype=float)[np.newaxis]
    wins = (above > below) + 0.5 * (above == below)
    value = float(wins.mean())
    if value in (0.0, 1.0):
        pairs = min(wins.shape)
        return exact_interval(round(value * pairs), pairs, level=level)
    spread = 0.0
    for parts in (wins.mean(axis=0), wins.mean(axis=1)):
        if parts.size < 2:
            return Interval(value=value)
        spread += float(parts.var(ddof=1)) / parts.size
    half = _z((1 + level) / 2) * math.sqrt(spread)
    return Interval(value=value, low=max(0.0, value - half), high=min(1.0, value + half))


def reader_figures(plan: StudyPlan, answers: Sequence[Answer]) -> list[ReaderFigures]:
    """Figures of every reader with answers, in the order of their first one.

    Args:
        plan: The study, which knows the truth.
        answers: Of any readers; see ``reader_files.open_study``.
    """
    readers = list(dict.fromkeys(answer.reader for answer in answers))
    return [_figures(plan, reader, [one for one in answers if one.reader == reader]) for reader in readers]


def reader_section(plan: StudyPlan, answers: Sequence[Answer]) -> Section:
    """The study as a section of the laboratory's report; its floor is chance."""
    readers = reader_figures(plan, answers)
    real, synthetic = plan.volumes_used()
    figures = []
    for one in readers:
        counts = {"items": one.answered, "real_volumes": real, "synthetic_volumes": synthetic}
        figures.append(
            Figure(
                key=f"readers.{one.reader}.accuracy",
                title=f"Right answers of {one.reader}",
                synthetic=one.accuracy,
                floor=Interval(value=0.5),
                better="near-floor",
                counts=counts,
                meaning=f"0.5 is guessing; exact test against it: p = {one.p_value:.3g}.",
            )
        )
        for key, title, figure, chance in (("d_prime", "d'", one.d_prime, 0.0), ("auc", "AUC", one.auc, 0.5)):
            if figure is not None:
                figures.append(
                    Figure(
                        key=f"readers.{one.reader}.{key}",
                        title=f"{title} of {one.reader}",
                        synthetic=figure,
                        floor=Interval(value=chance),
                        better="near-floor",
                        counts=counts,
                        meaning=f"{chance:g} means that real and synthetic images cannot be told apart.",
                    )
                )
    warnings = list(dict.fromkeys(note for one in readers for note in one.notes))
    verdict = " ".join(summary(one) for one in readers) or "Nobody has answered yet."
    return Section(
        key="readers",
        title="Reader study",
        verdict=verdict,
        figures=figures,
        warnings=warnings,
        details={"study": plan.study_id, "mode": plan.mode, "shown": plan.shown, "seed": plan.seed},
    )


def summary(figures: ReaderFigures) -> str:
    """One or two plain sentences about a reader."""
    one = figures
    low, high = 100 * _bound(one.accuracy.low), 100 * _bound(one.accuracy.high)
    share = f"{100 * one.accuracy.value:.0f} %, 95 % interval {low:.0f} to {high:.0f} %"
    text = f"{one.reader}: {one.correct} of {one.answered} right ({share})"
    if one.p_value < 0.05:
        side = "better" if one.accuracy.value > 0.5 else "worse"
        return f"{text}: {side} than guessing (p = {one.p_value:.2g})."
    return f"{text}: not told from guessing (p = {one.p_value:.2g})."


def interval_text(interval: Interval | None, *, digits: int = 2) -> str:
    """Such as "0.62 (0.45 to 0.77)"; "-" for None, and "-" for a bound that cannot be told."""
    if interval is None:
        return "-"
    low, high = ("-" if b is None else f"{b:.{digits}f}" for b in (interval.low, interval.high))
    return f"{interval.value:.{digits}f} ({low} to {high})"


def _figures(plan: StudyPlan, reader: str, answers: Sequence[Answer]) -> ReaderFigures:
    truths = [plan.item(answer.item).truth for answer in answers]
    correct = sum(answer.choice == truth for answer, truth in zip(answers, truths, strict=True))
    count = len(answers)
    accuracy = exact_interval(correct, count)
    notes = _notes(plan, count)
    d_prime: Interval | None
    auc: Interval | None
    criterion = left_share = None
    if plan.mode == "pairs":
        d_prime, auc, method = d_prime_pairs(correct, count), accuracy, "share of right answers (area theorem)"
        left_share = sum(answer.choice == "left" for answer in answers) / count
    else:
        method = "ratings, interval of DeLong"
        ratings: dict[str, list[int]] = {"real": [], "synthetic": []}
        for answer, truth in zip(answers, truths, strict=True):
            ratings[truth].append(answer.confidence if answer.choice == "synthetic" else -answer.confidence)
        real, synthetic = ratings["real"], ratings["synthetic"]
        d_prime = auc = None
        if real and synthetic:
            calls = [sum(rating > 0 for rating in group) for group in (synthetic, real)]
            d_prime, criterion = d_prime_yes_no(calls[0], len(synthetic), calls[1], len(real))
            auc = auc_of_ratings(real, synthetic)
            if auc.value in (0.0, 1.0):
                method = "ratings, exact interval of independent pairs"
    return ReaderFigures(
        reader=reader,
        answered=count,
        items=len(plan.items),
        correct=correct,
        accuracy=accuracy,
        p_value=chance_p_value(correct, count),
        d_prime=d_prime,
        auc=auc,
        auc_method=method,
        criterion=criterion,
        left_share=left_share,
        median_seconds=float(np.median([answer.seconds for answer in answers])),
        notes=notes,
    )


def _notes(plan: StudyPlan, answered: int) -> list[str]:
    notes = []
    if answered < len(plan.items):
        notes.append(f"Only {answered} of {len(plan.items)} items were answered.")
    real, synthetic = plan.volumes_used()
    if plan.shown == "slices" and min(real, synthetic) < _FEW_VOLUMES and len(plan.items) > min(real, synthetic):
        notes.append(
            f"The slices come from {real} real and {synthetic} synthetic volumes only; "
            "slices of one volume are alike, so the intervals are too narrow."
        )
    return notes


def _z(share: float) -> float:
    """Quantile of the normal distribution; infinite at 0 and 1."""
    if share in (0.0, 1.0):
        return math.inf if share else -math.inf
    from statistics import NormalDist

    return NormalDist().inv_cdf(share)


def _bound(value: float | None) -> float:
    assert value is not None  # exact intervals have both bounds
    return value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
