"""Sheets of the pictures of the panel, for the README: all sections, and what runs or has failed, in both themes.

    python Testing/module/screenshot_sheets.py [PICTURES] [--out FOLDER]      (make screenshots does it, too)

PICTURES is the folder that screenshots.py has filled. Of a sheet whose pictures are not all there nothing is written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

REPOSITORY = Path(__file__).resolve().parents[2]
#: Sheets as columns of pictures from left to right; a name that begins with "#" is a heading.
SHEETS = {
    "sections": (
        ("section-generate", "section-export", "section-install"),
        ("section-train", "section-complete", "reader-ready"),
        ("compare-ready", "section-evaluate"),
    ),
    "states": (
        ("# Running", "generate-running", "measure-running", "export-running"),
        ("# Running", "train-running", "install-running", "reader-asks"),
        ("# Failed", "generate-failed", "install-failed", "export-failed"),
        ("# Failed", "train-failed", "measure-failed", "reader-refused"),
    ),
}
#: Background and headings of a sheet; both differ from the panels of that theme.
COLOURS = {"light": ("#d8dce2", "#202020"), "dark": ("#101418", "#e0e0e0")}
GAP, HEADING = 12, 34
#: A sheet has a few dozen colours but for the samples of a training, which are grey.
PALETTE = 128


def sheetOf(columns: tuple[tuple[str, ...], ...], folder: Path, theme: str) -> Image.Image:
    """Draw a sheet.

    Args:
        columns: Names of pictures without theme, and headings.
        folder: Has "name-theme.png" of every name.
        theme: "light" or "dark".

    Raises:
        FileNotFoundError: A picture is not there.
    """
    background, ink = COLOURS[theme]
    blocks = [[_blockOf(name, folder, theme, background, ink) for name in column] for column in columns]
    widths = [max(block.width for block in column) for column in blocks]
    height = max(sum(block.height + GAP for block in column) for column in blocks)
    sheet = Image.new("RGB", (sum(widths) + GAP * (len(widths) + 1), height + GAP), background)
    left = GAP
    for column, width in zip(blocks, widths, strict=True):
        top = GAP
        for block in column:
            sheet.paste(block, (left, top))
            top += block.height + GAP
        left += width + GAP
    return sheet


def writeSheets(pictures: Path, folder: Path) -> list[Path]:
    """Write every sheet in both themes as a PNG with a palette.

    Args:
        pictures: Folder of the pictures.
        folder: Where "sections-light.png" and so on go; it is made.

    Returns:
        The files; those whose pictures are not all there are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, columns in SHEETS.items():
        for theme in COLOURS:
            try:
                sheet = sheetOf(columns, pictures, theme)
            except FileNotFoundError:
                continue
            # Median cut keeps flat colours, octree would shift them; dither would make the file much larger.
            small = sheet.quantize(PALETTE, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
            paths.append(folder / f"{name}-{theme}.png")
            small.save(paths[-1], optimize=True)
    return paths


def _blockOf(name: str, folder: Path, theme: str, background: str, ink: str) -> Image.Image:
    if not name.startswith("#"):
        with Image.open(folder / f"{name}-{theme}.png") as picture:
            return picture.convert("RGB")
    block = Image.new("RGB", (160, HEADING), background)
    ImageDraw.Draw(block).text((0, 4), name.removeprefix("# "), ink, ImageFont.load_default(22))
    return block


def main() -> None:
    """Read the command line and write the sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="?", default=REPOSITORY / "build" / "screenshots")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "Resources" / "Screenshots", metavar="FOLDER")
    options = parser.parse_args()
    for path in writeSheets(options.pictures, options.out):
        print(path)


if __name__ == "__main__":
    main()
