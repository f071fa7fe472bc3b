"""One picture of two rows of slice views: titles, row captions, sides of the body, a scale bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

#: Letters at the left, right, upper and lower border of Slicer's standard views.
SIDES = {"Axial": "RLAP", "Coronal": "RLSI", "Sagittal": "APSI"}

_PAGE = (17, 19, 23)
_FRAME = (52, 57, 66)
_BRIGHT, _DIM = (236, 239, 244), (146, 154, 168)
#: Amber, as the annotation in the views (CTDiffusionLib.CornerAnnotation).
AMBER = (255, 199, 51)
_GAP, _SIDE, _HEAD, _FOOT = 12, 58, 104, 64


@dataclass(frozen=True)
class PictureRow:
    """One row of the picture.

    Args:
        caption: Large text beside the row, upright: what kind of volume this is.
        detail: Small text next to it: which one.
        views: Pictures (height, width, 3) of the axial, coronal and sagittal view; all of one size.
        colour: Colour of the caption.
        stamp: Text for the upper edge of each view where the view does not have it drawn already.
    """

    caption: str
    detail: str
    views: Sequence[NDArray[np.uint8]]
    colour: tuple[int, int, int] = _BRIGHT
    stamp: str = ""


def compose(
    rows: Sequence[PictureRow], *, title: str, facts: str, mm_per_pixel: float, source: str = "Slicer slice views"
) -> Image.Image:
    """Lay out rows of axial, coronal and sagittal views on a dark page.

    Args:
        rows: At least one; all views of one size.
        title: Heading of the page.
        facts: Small text below the heading (window, level, model, seed...).
        mm_per_pixel: Scale of the views, for the scale bar.
        source: What made the views, for the foot of the page.
    """
    height, width = rows[0].views[0].shape[:2]
    page = Image.new(
        "RGB",
        (
            _SIDE + len(SIDES) * (width + _GAP) + _GAP,
            _HEAD + len(rows) * (height + _GAP) + _FOOT,
        ),
        _PAGE,
    )
    draw = ImageDraw.Draw(page)
    draw.text((_SIDE, 16), title, font=_font(27), fill=_BRIGHT)
    draw.text((_SIDE, 52), facts, font=_font(16), fill=_DIM)
    lefts = [_SIDE + column * (width + _GAP) for column in range(len(SIDES))]
    for left, orientation in zip(lefts, SIDES, strict=True):
        draw.text((left + width / 2, _HEAD - 8), orientation, font=_font(18), fill=_BRIGHT, anchor="ms")
    for number, row in enumerate(rows):
        top = _HEAD + number * (height + _GAP)
        _write_upright(page, row, top, height)
        for left, letters, view in zip(lefts, SIDES.values(), row.views, strict=True):
            page.paste(Image.fromarray(view), (left, top))
            draw.rectangle((left - 1, top - 1, left + width, top + height), outline=_FRAME)
            _write_sides(draw, (left, top, width, height), letters)
            if row.stamp:
                draw.text((left + width / 2, top + 6), row.stamp, font=_font(18), fill=AMBER, anchor="mt")
    _draw_scale_bar(draw, (lefts[-1] + width, page.height - 30), mm_per_pixel)
    footnote = f"{source}. Letters name the patient's sides: R/L right/left, A/P front/back, S/I head/feet."
    draw.text((_SIDE, page.height - 30), footnote, font=_font(15), fill=_DIM, anchor="lm")
    return page


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)  # comes with Pillow: no font of the machine is needed


def _write_upright(page: Image.Image, row: PictureRow, top: int, height: int) -> None:
    strip = Image.new("RGB", (height, _SIDE), _PAGE)
    draw = ImageDraw.Draw(strip)
    draw.text((height / 2, 18), row.caption, font=_font(21), fill=row.colour, anchor="mm")
    draw.text((height / 2, 42), row.detail, font=_font(14), fill=_DIM, anchor="mm")
    page.paste(strip.transpose(Image.Transpose.ROTATE_90), (0, top))


def _write_sides(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], letters: str) -> None:
    left, top, width, height = box
    middle, centre = top + height / 2, left + width / 2
    places = [(left + 12, middle), (left + width - 12, middle), (centre, top + 36), (centre, top + height - 14)]
    for letter, place in zip(letters, places, strict=True):
        draw.text(place, letter, font=_font(16), fill=_DIM, anchor="mm", stroke_width=2, stroke_fill=(0, 0, 0))


def _draw_scale_bar(draw: ImageDraw.ImageDraw, end: tuple[int, int], mm_per_pixel: float) -> None:
    length = 100 / mm_per_pixel
    right, y = end
    draw.line((right - length, y, right, y), fill=_BRIGHT, width=2)
    for x in (right - length, right):
        draw.line((x, y - 5, x, y + 5), fill=_BRIGHT, width=2)
    draw.text((right - length - 10, y), "10 cm", font=_font(15), fill=_BRIGHT, anchor="rm")
