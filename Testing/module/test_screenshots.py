"""The pictures of the panel: each section in both themes, with something in it, and no wider than it may be."""

from __future__ import annotations

import numpy as np
from PIL import Image
from screenshots import THEMES, WIDTH, takeAll


def test_every_section_is_drawn_in_both_themes(tmp_path):
    paths = takeAll(tmp_path, tmp_path / "none.safetensors", withGeneration=False)
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
