"""The pictures of the panel: each section in both themes, with something in it, and no wider than it may be."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from screenshot_sheets import COLOURS, REPOSITORY, SHEETS, sheetOf, writeSheets
from screenshots import THEMES, WIDTH, takeAll


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return takeAll(folder, folder / "none.safetensors", withGeneration=False)


def test_every_section_is_drawn_in_both_themes(paths):
    pictures = {path.stem: np.asarray(Image.open(path).convert("L"), np.float64) for path in paths}
    names = {name.rpartition("-")[0] for name in pictures}
    assert {"section-compare", "section-generate", "section-train", "panel"} <= names
    for name in names:
        light, dark = (pictures[f"{name}-{theme}"] for theme in THEMES)
        assert light.shape == dark.shape
        assert light.shape[1] <= WIDTH
        assert light.mean() > 200 > 100 > dark.mean()
        # Text stands out in both: some pixels are far from the background.
        assert (np.abs(light - np.median(light)) > 120).mean() > 0.005
        assert (np.abs(dark - np.median(dark)) > 120).mean() > 0.005


def test_a_sheet_has_every_picture_as_it_is(paths, tmp_path):
    sheets = writeSheets(paths[0].parent, tmp_path / "sheets")
    assert [path.name for path in sheets] == ["sections-light.png", "sections-dark.png"]  # the others lack pictures
    for path, theme in zip(sheets, COLOURS, strict=True):
        whole = np.asarray(sheetOf(SHEETS["sections"], paths[0].parent, theme), np.int16)
        shown = np.asarray(Image.open(path).convert("RGB"), np.int16)
        assert shown.shape == whole.shape
        assert np.abs(shown - whole).mean() < 0.5
        for name in (name for column in SHEETS["sections"] for name in column):
            picture = np.asarray(Image.open(paths[0].parent / f"{name}-{theme}.png").convert("RGB"))
            row = picture[picture.std(axis=(1, 2)).argmax()].tobytes()  # the one with most in it
            assert any(row in line.tobytes() for line in whole.astype(np.uint8)), name


def test_the_readme_shows_every_sheet_and_the_sheets_are_small():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for name in [f"{sheet}-{theme}.png" for sheet in SHEETS for theme in COLOURS]:
        path = REPOSITORY / "Resources" / "Screenshots" / name
        assert f"(Resources/Screenshots/{name})" in readme
        assert path.stat().st_size < 350_000


def test_what_the_sheet_of_states_shows_is_taken():
    source = (REPOSITORY / "Testing" / "module" / "screenshots.py").read_text(encoding="utf-8")
    for name in [name for column in SHEETS["states"] for name in column if not name.startswith("#")]:
        assert f'"{name}"' in source
