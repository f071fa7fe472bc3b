"""The plan of a blinded reader study: which images a reader sees, in which order, and what the truth is.

Two modes. *Pairs* is a two-alternative forced choice: a real and a synthetic image side by side, "which one is the
real one?"; half of the pairs have the real one on the left. *One by one* is a yes/no task: "is it real or
synthetic?"; half of the images are real. Images are single slices, or whole volumes to browse.

The plan depends on the volumes, their order and the seed only, so that all readers of a study see the same images;
each reader sees them in an order of their own. Readers learn an item's code only, never where it came from.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from typing import Any, Literal, TypeVar, cast

import numpy as np

from CTDiffusionLogic.errors import InputError, UsageError

_T = TypeVar("_T")
Mode = Literal["pairs", "one by one"]
Shown = Literal["slices", "volumes"]
MODES: tuple[Mode, ...] = ("pairs", "one by one")
SHOWN: tuple[Shown, ...] = ("slices", "volumes")
#: What a reader may answer in each mode; the first belongs to the key 1. For pairs: which one is the real one.
CHOICES: dict[Mode, tuple[str, str]] = {"pairs": ("left", "right"), "one by one": ("real", "synthetic")}
#: From a guess to certainty.
CONFIDENCES = (1, 2, 3, 4, 5)
#: Part of a volume's height that slices are taken from: the ends often show little, or are cut.
_SLICE_RANGE = (0.1, 0.9)
#: Letters and digits that are not mistaken for each other.
_CODE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


@dataclass(frozen=True)
class Source:
    """A volume that takes part.

    Args:
        id: How it is found again: a scan's id in its folder, or the ID of a node.
        synthetic: Whether a model made it.
        place: The folder, or "scene".
        name: For messages to who runs the study; never shown to readers.
    """

    id: str
    synthetic: bool
    place: str = "scene"
    name: str = ""


@dataclass(frozen=True)
class Exhibit:
    """One image of an item.

    Args:
        source: Index of its volume in the plan.
        height: Which slice: 0 the lowest, 1 the highest of the volume; None for the whole volume.
    """

    source: int
    height: float | None = None


@dataclass(frozen=True)
class Item:
    """One question: one image, or two of which exactly one is real (left, right).

    Args:
        code: What stands for it in the results.
        exhibits: Its images.
        truth: The right answer, one of CHOICES of the study's mode.
    """

    code: str
    exhibits: tuple[Exhibit, ...]
    truth: str


@dataclass(frozen=True)
class StudyPlan:
    """Everything about a study but the answers; it unblinds the study.

    Args:
        mode, shown, seed: See plan_study.
        sources: The volumes.
        items: The questions; see ``order_for``.
        pixel_mm, side_mm: Pixel size and edge of the square that all images are brought to; None for each volume's
            own.
    """

    mode: Mode
    shown: Shown
    seed: int
    sources: tuple[Source, ...]
    items: tuple[Item, ...]
    pixel_mm: float | None = None
    side_mm: float | None = None

    @property
    def study_id(self) -> str:
        """Twelve characters that stand for this plan and for no other."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def choices(self) -> tuple[str, str]:
        """What a reader may answer."""
        return CHOICES[self.mode]

    def with_grid(self, pixel_mm: float, side_mm: float) -> StudyPlan:
        """The same plan, with all images brought to one pixel size and field, in mm."""
        return replace(self, pixel_mm=pixel_mm, side_mm=side_mm)

    def order_for(self, reader: str) -> tuple[Item, ...]:
        """The items in the order of a reader: random, always the same for the same reader and seed."""
        order = _random("order", self.seed, reader).permutation(len(self.items))
        return tuple(self.items[n] for n in order)

    def item(self, code: str) -> Item:
        """The item of a code.

        Raises:
            KeyError: If there is none.
        """
        return {item.code: item for item in self.items}[code]

    def volumes_used(self) -> tuple[int, int]:
        """How many real and how many synthetic volumes the items come from."""
        used = {exhibit.source for item in self.items for exhibit in item.exhibits}
        synthetic = sum(self.sources[n].synthetic for n in used)
        return len(used) - synthetic, synthetic

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; see ``plan_from_dict``."""
        return cast("dict[str, Any]", json.loads(json.dumps(asdict(self))))


def plan_study(
    real: Sequence[Source],
    synthetic: Sequence[Source],
    *,
    items: int,
    mode: Mode = "pairs",
    shown: Shown = "slices",
    seed: int = 0,
) -> StudyPlan:
    """Draw the items of a study.

    Volumes are used equally often. The slices of one volume are spread over its height, at random places. A whole
    volume is shown once only: exact tests need items that do not depend on each other.

    Args:
        real, synthetic: The volumes; at least one of each.
        items: Number of questions, at least 2.
        mode: A pair, or one image at a time.
        shown: Slices, or whole volumes.
        seed: Of everything random, 0 or more.

    Raises:
        UsageError: If that cannot be; the message has the numbers.
    """
    if mode not in MODES or shown not in SHOWN:
        raise UsageError(f"There is no study of {shown!r}, {mode!r}.", remedy=f"Choose of {MODES} and {SHOWN}.")
    if not real or not synthetic:
        found = f"There are {len(real)} real and {len(synthetic)} synthetic volumes"
        raise UsageError(f"{found}; a study needs both.", remedy="Choose at least one of each.")
    if items < 2:
        raise UsageError(f"A study of {items} items tells nothing.", remedy="Ask for at least 2.")
    if any(source.synthetic for source in real) or not all(source.synthetic for source in synthetic):
        raise UsageError("A volume is in the wrong group.", remedy="Put real and synthetic volumes into their own.")
    random = _random("items", seed)
    sources = (*real, *synthetic)
    synthetics = items if mode == "pairs" else _half(items, random)
    reals = items if mode == "pairs" else items - synthetics
    groups = []
    for name, first, count, wanted in (
        ("real", 0, len(real), reals),
        ("synthetic", len(real), len(synthetic), synthetics),
    ):
        if shown == "volumes" and wanted > count:
            raise UsageError(
                f"{items} items need {wanted} {name} volumes, and there are {count}: no volume is shown twice.",
                remedy="Ask for fewer items, choose more volumes, or show slices.",
            )
        groups.append(_exhibits(first, count, wanted, shown, random))
    real_exhibits, synthetic_exhibits = groups
    questions: list[tuple[tuple[Exhibit, ...], str]]
    if mode == "pairs":
        left = _half(items, random)
        real_left = _shuffled([n < left for n in range(items)], random)
        questions = [
            ((one, other), "left") if is_left else ((other, one), "right")
            for one, other, is_left in zip(real_exhibits, synthetic_exhibits, real_left, strict=True)
        ]
    else:
        questions = [((one,), "real") for one in real_exhibits]
        questions += [((one,), "synthetic") for one in synthetic_exhibits]
        questions = _shuffled(questions, random)
    codes = _codes(items, random)
    made = tuple(Item(code, exhibits, truth) for code, (exhibits, truth) in zip(codes, questions, strict=True))
    return StudyPlan(mode=mode, shown=shown, seed=seed, sources=sources, items=made)


def plan_from_dict(data: Mapping[str, Any]) -> StudyPlan:
    """Read what ``StudyPlan.to_dict`` gave.

    Raises:
        InputError: If it is something else.
    """
    try:
        plan = StudyPlan(
            mode=data["mode"],
            shown=data["shown"],
            seed=int(data["seed"]),
            sources=tuple(Source(**source) for source in data["sources"]),
            items=tuple(
                Item(item["code"], tuple(Exhibit(**one) for one in item["exhibits"]), item["truth"])
                for item in data["items"]
            ),
            pixel_mm=data["pixel_mm"],
            side_mm=data["side_mm"],
        )
        wanted = 2 if plan.mode == "pairs" else 1
        sound = plan.shown in SHOWN and all(
            item.truth in plan.choices and len(item.exhibits) == wanted and _are_in(item.exhibits, len(plan.sources))
            for item in plan.items
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"The plan of the study cannot be read ({error!r}).", remedy="Begin a new study.") from None
    if not sound or not plan.items:
        raise InputError("The plan of the study contradicts itself.", remedy="Begin a new study.")
    return plan


def check_reader(code: str) -> str:
    """Return a reader's code.

    Raises:
        UsageError: If it is not 1 to 16 letters, digits, dashes and underscores: results should not name people.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,16}", code):
        raise UsageError(
            f"{code!r} is not a code for a reader.", remedy="Use 1 to 16 letters or digits, such as R1; no names."
        )
    return code


def _are_in(exhibits: Sequence[Exhibit], sources: int) -> bool:
    return all(
        0 <= one.source < sources and (one.height is None or (math.isfinite(one.height) and 0 <= one.height <= 1))
        for one in exhibits
    )


def _random(*words: object) -> np.random.Generator:
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _half(count: int, random: np.random.Generator) -> int:
    """Half of ``count``; where it is odd, the larger or the smaller half by chance."""
    return (count + int(random.integers(2))) // 2


def _shuffled(values: Sequence[_T], random: np.random.Generator) -> list[_T]:
    return [values[n] for n in random.permutation(len(values))]


def _exhibits(first: int, count: int, wanted: int, shown: Shown, random: np.random.Generator) -> list[Exhibit]:
    """``wanted`` images of the sources ``first`` to ``first + count - 1``, shuffled."""
    order = [int(n) + first for n in random.permutation(count)]
    uses = list(islice(cycle(order), wanted))
    made = []
    for source in dict.fromkeys(uses):
        times = uses.count(source)
        low, high = _SLICE_RANGE
        # One place in the middle half of each of as many parts of the height, so that no slice comes twice.
        places = (np.arange(times) + 0.25 + 0.5 * random.random(times)) / times
        heights = [None] * times if shown == "volumes" else [round(low + (high - low) * float(p), 4) for p in places]
        made += [Exhibit(source, height) for height in heights]
    return _shuffled(made, random)


def _codes(count: int, random: np.random.Generator) -> list[str]:
    """Codes of four letters and digits, all different; longer ones for very many items."""
    length = 4 if count <= 1000 else 6
    codes: dict[str, None] = {}
    while len(codes) < count:
        letters = random.integers(len(_CODE_LETTERS), size=length)
        codes["".join(_CODE_LETTERS[n] for n in letters)] = None
    return list(codes)
