"""A model's card as plain text for people; standard library only."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

_WIDTH = 100
_INDENT = 2
#: Shown above the rest, in this order; everything else in the card follows under its own name.
_HEAD = ("description", "version", "created", "ctdiffusion_version", "licence")


def card_text(
    card: Mapping[str, Any], *, name: str, sha256: str, path: Path, shapes: Mapping[str, tuple[int, ...]]
) -> str:
    """Return ``card`` as indented lines; unknown keys are shown too, so that nothing in a card stays unseen.

    Of figures how real the volumes are, plain sentences are shown instead.
    """
    from CTDiffusionLogic.card_figures import in_plain_words  # late: it imports the module that this one serves

    if isinstance(card.get("metrics"), Mapping):
        card = {**card, "metrics": in_plain_words(card["metrics"])}
    weights = sum(prod(shape) for shape in shapes.values())
    size = f"{weights / 1e6:.1f} million weights"
    if path.exists():
        size += f", {path.stat().st_size / 1e6:.1f} MB"
    lines = [f"CTDiffusion model {name}", f"  file: {path}", f"  sha256: {sha256}", f"  size: {size}"]
    rest = {key: value for key, value in card.items() if key not in (*_HEAD, "name")}
    for key, value in [(key, card[key]) for key in _HEAD if card.get(key)] + list(rest.items()):
        lines += _entry(key, value, _INDENT)
    return "\n".join(lines)


def _entry(key: str, value: Any, indent: int) -> Iterator[str]:
    label = f"{' ' * indent}{key.replace('_', ' ')}:"
    if isinstance(value, Mapping):
        yield label if value else f"{label} none"
        for inner_key, inner in value.items():
            yield from _entry(str(inner_key), inner, indent + _INDENT)
    elif _is_list(value) and any(isinstance(item, str) and " " in item for item in value):
        yield label  # sentences: one a line
        for item in value:
            yield from _wrap(f"{' ' * (indent + _INDENT)}- ", str(item), indent + 2 * _INDENT)
    elif _is_list(value) and any(isinstance(item, Mapping) for item in value):
        yield label
        for number, item in enumerate(value, start=1):
            yield from _entry(str(number), item, indent + _INDENT)
    else:
        text = ", ".join(_short(item) for item in value) if _is_list(value) else _short(value)
        yield from _wrap(f"{label} ", text or "none", indent + 2 * _INDENT)


def _wrap(start: str, text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=start, subsequent_indent=" " * indent, break_long_words=False
    ) or [start.rstrip()]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _short(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.5g}"
    if _is_list(value):
        return "(" + ", ".join(_short(item) for item in value) + ")"
    return str(value)
