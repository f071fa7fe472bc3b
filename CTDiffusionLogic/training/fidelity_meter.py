"""How far a model's volumes are from real scans, cheaply and always in the same way, so that models of one training
can be set side by side.

A model makes a few short volumes at fixed places along the body, from fixed noise. Their Fréchet and kernel distances
to stretches of real scans at the same places are measured in each plane: to patients held out from the training,
and, as a second figure, to those learnt from. The floor is the same measurement with real stretches of *other*
patients in place of the generated volumes, one a place, drawn several times. Few images make a Fréchet distance too
large: set these figures beside their floor and each other, never beside those of ``ctdiffusion evaluate``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from CTDiffusionLogic.errors import Cancelled, InputError
from CTDiffusionLogic.fidelity.bootstrap import bootstrap_interval, interval_of_values, patient_halves
from CTDiffusionLogic.fidelity.distances import FeatureMeasures, measure_features
from CTDiffusionLogic.fidelity.extractors.base import Extractor
from CTDiffusionLogic.fidelity.frechet import frechet_from_features
from CTDiffusionLogic.fidelity.kernel_distance import kernel_distance_of_volumes, kernel_sums
from CTDiffusionLogic.fidelity.planes import Protocol, choose_protocol
from CTDiffusionLogic.fidelity.results import PLANES, Interval, Plane
from CTDiffusionLogic.fidelity.volumes import LabVolume, to_lab_volume
from CTDiffusionLogic.generation import GenerationModel
from CTDiffusionLogic.sampling import DEFAULT_SAMPLER, REFINING_STEPS
from CTDiffusionLogic.stage_run import OnProgress
from CTDiffusionLogic.training.fidelity_outline import noting_outlines, outline_facts
from CTDiffusionLogic.training.fidelity_scans import (
    GridScan,
    Stretch,
    choose_places,
    common_spacing_mm,
    cut_stretch,
    find_stretches,
    thinned,
)
from CTDiffusionLogic.training.fidelity_volumes import ShortVolumes, make_short_volumes

_FEW = "Give longer scans, or switch the measurement off with --fidelity-every off."
IsCancelled = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class MeterOptions:
    """What is made and measured. The defaults take two CPU cores a minute with the standard preset at 256 pixels.

    Args:
        volumes: Generated volumes.
        slices: Of each; two slabs of eight with a gap between them make 14, so 14 cost two thirds of 16.
        spacing_mm: Distance of slices that is looked for among the scans.
        steps, detail_steps: Denoiser steps, always the same: those of a volume for people.
        images_per_volume: Of each plane.
        central_part: See :class:`~CTDiffusionLogic.fidelity.planes.Protocol`; stretches end where we cut them, so
            more of them is used than of whole scans.
        stretches_per_place: Most real stretches at a place.
        draws: Of real stretches for the floor.
        rounds: Of resampling for the interval.
        seed: Of everything random.
    """

    volumes: int = 6
    slices: int = 14
    spacing_mm: float = 6.0
    steps: int = 28
    detail_steps: int = REFINING_STEPS
    images_per_volume: int = 16
    central_part: float = 0.8
    stretches_per_place: int = 4
    draws: int = 20
    rounds: int = 60
    seed: int = 0


@dataclass(frozen=True, eq=False)
class _Real:
    """Real stretches that have been measured."""

    measures: list[FeatureMeasures]
    places: list[int]
    outlines: tuple[float, ...] = ()

    @property
    def patients(self) -> list[str]:
        return [m.patient for m in self.measures]

    def part(self, indices: Sequence[int]) -> _Real:
        return _Real([self.measures[n] for n in indices], [self.places[n] for n in indices])


class FidelityMeter:
    """Measures models of one training; real scans are read once, at the first measurement.

    Args:
        scans: Real ones; where none is held out, the figure is told against those learnt from.
        extractor: Of features.
        sampling: How all models generate: as in a card, but for the steps, which ``options`` have.
        body_range_mm: Body positions the models know.
        pixel_mm: Of their images.
        options: What is made and measured.

    Raises:
        InputError: If no scan is long enough.
    """

    def __init__(
        self,
        scans: Sequence[GridScan],
        extractor: Extractor,
        *,
        sampling: Mapping[str, Any],
        body_range_mm: tuple[float, float],
        pixel_mm: float,
        options: MeterOptions | None = None,
    ) -> None:
        self.sampling = {"sampler": DEFAULT_SAMPLER, **sampling}  # named, so that the digest tells it
        self.options = options = options or MeterOptions()
        self.extractor = extractor
        held_out, learnt = ([s for s in scans if s.held_out is side] for side in (True, False))
        self._scans = [*held_out, *learnt]
        if not self._scans:
            raise InputError("There are no real scans to compare with.", remedy="Name some.")
        self.spacing_mm = common_spacing_mm(held_out or learnt, options.spacing_mm)
        extent = options.slices * self.spacing_mm
        low, high = body_range_mm
        shape = {"spacing_mm": self.spacing_mm, "extent_mm": extent}
        # Held-out scans come first; those that are too short for a stretch leave the ones that were learnt from.
        first, second = held_out, learnt
        places = choose_places(first, low_mm=low, high_mm=high, **shape, count=options.volumes)
        if not places:
            first, second = learnt, []
            places = choose_places(first, low_mm=low, high_mm=high, **shape, count=options.volumes)
        if not places:
            raise InputError(
                f"No scan is {extent:.0f} mm long, as is needed to measure how real the images are.", remedy=_FEW
            )
        #: "held-out": the figure is told against patients the model never saw.
        self.against = "held-out" if first is held_out else "training"
        self.wanted = ShortVolumes(
            places_mm=tuple(places),
            slices=options.slices,
            spacing_mm=self.spacing_mm,
            steps=options.steps,
            detail_steps=options.detail_steps,
            seed=options.seed,
        )
        self._first, self._second = (self._stretches(side) for side in (first, second))
        self.protocol = self._choose_protocol(pixel_mm)
        #: Of all that decides the figures but for model and extractor: equal digests may be set side by side.
        self.digest = self._digest()
        self._real: tuple[_Real, _Real] | None = None
        self._real_facts: dict[str, Any] = {}

    def make(
        self,
        model: GenerationModel,
        *,
        on_progress: OnProgress | None = None,
        is_cancelled: IsCancelled | None = None,
    ) -> list[LabVolume]:
        """The volumes of a model that are measured.

        Raises:
            Cancelled, ResourceError, CTDiffusionError: See
                :func:`~CTDiffusionLogic.training.fidelity_volumes.make_short_volumes`.
        """
        model = replace(model, card={**model.card, "sampling": self.sampling})
        volumes = make_short_volumes(model, self.wanted, on_progress=on_progress, is_cancelled=is_cancelled)
        return [to_lab_volume(volume, id=f"synthetic {n}") for n, volume in enumerate(volumes)]

    def compare(self, volumes: Sequence[LabVolume], *, is_cancelled: IsCancelled | None = None) -> dict[str, Any]:
        """Figures of generated volumes, plain JSON data.

        Args:
            volumes: From :meth:`make`.
            is_cancelled: Asked between volumes.

        Returns:
            "frechet" (mean of the planes), "frechet_low", "frechet_high" (95 %), "frechet_axial" and so on,
            "frechet_floor", "frechet_floor_low", "frechet_floor_high", "kid", "kid_axial" and so on, "kid_floor";
            "frechet_training", "frechet_training_floor" and "kid_training", where patients are held out; "outline"
            and "outline_real" with its range, of :mod:`~CTDiffusionLogic.training.fidelity_outline`; "against",
            "extractor", "extractor_sha256", "protocol_sha256", "counts". What cannot be told is left out.

        Raises:
            InputError: If there are no images of a plane on both sides.
            Cancelled: If ``is_cancelled`` says so.
        """
        first, second = self.read_real(is_cancelled=is_cancelled)
        outlines: list[float] = []
        made = self._measure(noting_outlines(volumes, outlines), is_cancelled)
        facts = dict(self._frechet_facts(first.measures, made))
        interval = bootstrap_interval(
            lambda real, synthetic: self._mean([first.measures[n] for n in real], [made[n] for n in synthetic]),
            first.patients,
            [m.id for m in made],
            rounds=self.options.rounds,
            seed=self.options.seed,
            bounds=(0.0, np.inf),
        )
        facts |= _bounds("frechet", interval)
        facts |= self._kernel_facts(first.measures, made)
        if second.measures:
            facts["frechet_training"] = self._mean(second.measures, made)
            facts |= {
                f"{key}_training": v for key, v in self._kernel_facts(second.measures, made).items() if key == "kid"
            }
        facts |= self._real_facts | outline_facts(outlines, [*first.outlines, *second.outlines])
        return {key: float(f"{value:.6g}") for key, value in facts.items() if np.isfinite(value)} | {
            "against": self.against,
            "extractor": self.extractor.name,
            "extractor_sha256": self.extractor.sha256,
            "protocol_sha256": self.digest,
            "counts": self._counts(first, second, made),
        }

    def describe(self) -> dict[str, Any]:
        """What is compared with what, plain JSON data without names of scans or patients."""
        return {
            "places_mm": [round(place, 1) for place in self.wanted.places_mm],
            "slices": self.wanted.slices,
            "spacing_mm": round(self.spacing_mm, 3),
            "steps": self.wanted.steps,
            "detail_steps": self.wanted.detail_steps,
            "sampling": self.sampling,
            "against": self.against,
            "protocol": self.protocol.to_dict(),
            "protocol_sha256": self.digest,
        }

    def _stretches(self, scans: Sequence[GridScan]) -> list[tuple[GridScan, Stretch]]:
        """Stretches of ``scans``, which are held out or learnt from; not more than needed."""
        extent = self.wanted.slices * self.spacing_mm
        found = find_stretches(scans, self.wanted.places_mm, spacing_mm=self.spacing_mm, extent_mm=extent)
        found = thinned(found, scans, per_place=self.options.stretches_per_place, seed=self.options.seed)
        return [(scans[stretch.scan], stretch) for stretch in found]

    def _choose_protocol(self, pixel_mm: float) -> Protocol:
        extent = self.wanted.slices * self.spacing_mm
        spacings, extents, groups = [], [], []
        for scan, stretch in (*self._first, *self._second):
            gap, size = stretch.every * scan.gap_mm, scan.hu.shape[1] * scan.pixel_mm
            spacings.append((gap, scan.pixel_mm, scan.pixel_mm))
            extents.append((stretch.count * gap, size, size))
            groups.append("real")
        side = self._first[0][0].hu.shape[1] * pixel_mm
        return choose_protocol(
            [*spacings, (self.spacing_mm, pixel_mm, pixel_mm)],
            [*extents, (extent, side, side)],
            groups=[*groups, "synthetic"],
            wanted=Protocol(
                pixel_mm=self.spacing_mm,
                axial_pixel_mm=pixel_mm,
                height_mm=extent,
                images_per_volume=self.options.images_per_volume,
                central_part=self.options.central_part,
            ),
        )

    def _digest(self) -> str:
        real = [[s.id, asdict(t)] for side in (self._first, self._second) for s, t in side]
        text = json.dumps(
            [asdict(self.options), asdict(self.wanted), self.sampling, self.protocol.to_dict(), self.against, real],
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def read_real(self, *, is_cancelled: IsCancelled | None = None) -> tuple[_Real, _Real]:
        """Measure the real stretches, unless that was done: those the figure is told against, and the others.

        Raises:
            Cancelled: If ``is_cancelled`` says so.
        """
        if self._real is None:
            sides = []
            for side in (self._first, self._second):
                outlines: list[float] = []
                volumes = noting_outlines((cut_stretch(scan, stretch) for scan, stretch in side), outlines)
                measures = self._measure(volumes, is_cancelled)
                sides.append(_Real(measures, [stretch.place for _, stretch in side], tuple(outlines)))
            first, second = sides
            self._real_facts = self._floors(first, second)
            self._real = first, second
        return self._real

    def _measure(self, volumes: Any, is_cancelled: IsCancelled | None) -> list[FeatureMeasures]:
        measures = []
        for volume in volumes:
            if is_cancelled is not None and is_cancelled():
                raise Cancelled()
            measures.append(measure_features(volume, self.protocol, [self.extractor]))
        return measures

    def _floors(self, first: _Real, second: _Real) -> dict[str, float]:
        """What real stretches of other patients reach in place of generated volumes."""
        if second.measures:
            pairs = [(first, one) for one in self._one_a_place(second)]
            training = [self._mean(second.measures, one.measures) for one in self._one_a_place(first)]
        else:
            halves = patient_halves(first.patients, rounds=self.options.draws, seed=self.options.seed)
            pairs = [(first.part(a), one) for a, b in halves for one in self._one_a_place(first.part(b), draws=2)]
            training = []
        values = [self._mean(real.measures, one.measures) for real, one in pairs]
        facts: dict[str, float] = {}
        if (interval := interval_of_values(_finite(values))) is not None:
            facts |= {"frechet_floor": interval.value} | _bounds("frechet_floor", interval)
        if (interval := interval_of_values(_finite(training))) is not None:
            facts["frechet_training_floor"] = interval.value
        kernel = [self._kernel_facts(real.measures, one.measures).get("kid", np.nan) for real, one in pairs]
        if (interval := interval_of_values(_finite(kernel))) is not None:
            facts["kid_floor"] = interval.value
        return facts

    def _one_a_place(self, real: _Real, *, draws: int | None = None) -> list[_Real]:
        """Several times: one stretch at each place, drawn at random; as many volumes as a model makes."""
        rng = np.random.default_rng(self.options.seed)
        places = sorted(set(real.places))
        here = [[n for n, place in enumerate(real.places) if place == wanted] for wanted in places]
        return [
            real.part([int(rng.choice(indices)) for indices in here])
            for _ in range(self.options.draws if draws is None else draws)
            if here
        ]

    def _frechet_facts(self, real: Sequence[FeatureMeasures], made: Sequence[FeatureMeasures]) -> dict[str, float]:
        values = {f"frechet_{plane}": self._frechet(real, made, plane) for plane in PLANES}
        told = {key: value for key, value in values.items() if np.isfinite(value)}
        if not told:
            raise InputError("There are too few images of any plane to measure how real they are.", remedy=_FEW)
        return {"frechet": float(np.mean(list(told.values())))} | told

    def _mean(self, real: Sequence[FeatureMeasures], made: Sequence[FeatureMeasures]) -> float:
        """Mean over the planes that can be told; NaN if there is none."""
        values = _finite([self._frechet(real, made, plane) for plane in PLANES])
        return float(np.mean(values)) if values else np.nan

    def _frechet(self, real: Sequence[FeatureMeasures], made: Sequence[FeatureMeasures], plane: Plane) -> float:
        sides = [np.concatenate([m.features[self.extractor.name, plane] for m in side]) for side in (real, made)]
        return frechet_from_features(*sides) if min(map(len, sides)) >= 2 else np.nan

    def _kernel_facts(self, real: Sequence[FeatureMeasures], made: Sequence[FeatureMeasures]) -> dict[str, float]:
        """Kernel distances; pairs within a stretch are left out, not within a patient: often there is only one."""
        facts: dict[str, float] = {}
        for plane in PLANES:
            features = [m.features[self.extractor.name, plane] for m in (*real, *made)]
            sums = kernel_sums(features, [str(n) for n in range(len(features))])
            sides = list(range(len(real))), list(range(len(real), len(features)))
            try:
                facts[f"kid_{plane}"] = kernel_distance_of_volumes(sums, *sides)
            except InputError:
                continue
        return ({"kid": float(np.mean(list(facts.values())))} | facts) if facts else {}

    def _counts(self, first: _Real, second: _Real, made: Sequence[FeatureMeasures]) -> dict[str, int]:
        def images(measures: Sequence[FeatureMeasures]) -> int:
            return sum(len(features) for m in measures for features in m.features.values())

        return {
            "synthetic_volumes": len(made),
            "synthetic_images": images(made),
            "real_patients": len(set(first.patients)),
            "real_volumes": len(first.measures),
            "real_images": images(first.measures),
            "training_patients": len(set(second.patients)),
            "training_volumes": len(second.measures),
        }


def _bounds(name: str, interval: Interval) -> dict[str, float]:
    if interval.low is None or interval.high is None:
        return {}
    return {f"{name}_low": interval.low, f"{name}_high": interval.high}


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if np.isfinite(value)]
