"""The picture of slabs beside independent slices: what it measures, what it shows, and that it stays small."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from volumes_for_tests import phantom

from CTDiffusionLogic.generation import GenerationRequest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def module():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import slabs_beside_slices

        yield slabs_beside_slices
    sys.modules.pop("slabs_beside_slices", None)


@pytest.fixture(scope="module")
def groups(module):
    real = [phantom(seed, slices=16, spacing_mm=6.0) for seed in range(2)]
    flicker = 80 * np.random.default_rng(0).standard_normal((16, 1, 1))
    alone = replace(real[1], hu=np.clip(real[1].hu + flicker, -1024, 3071).astype(np.int16))
    return {module.REAL: real, module.SLABS: [real[1]], module.ALONE: [alone]}


def test_curves_tell_slices_that_know_nothing_of_each_other(module, groups, capsys):
    curves = {name: module.measure_curve(volumes) for name, volumes in groups.items()}
    assert curves[module.REAL].distances_mm == [6.0 * step for step in range(1, 9)]
    assert curves[module.REAL].volumes == 2
    assert np.all(np.array(curves[module.REAL].low) <= curves[module.REAL].high)
    assert curves[module.ALONE].mean[0] > 1.5 * curves[module.SLABS].mean[0]
    module.print_numbers(curves, groups)
    printed = capsys.readouterr().out
    assert f"{curves[module.ALONE].mean[0]:.1f}" in printed
    assert "independent slices" in printed


def test_the_picture_is_small_and_shows_all_groups(module, groups):
    curves = {name: module.measure_curve(volumes) for name, volumes in groups.items()}
    first = {name: volumes[0] for name, volumes in groups.items()}
    content = module.draw(first, curves, "a model")
    assert len(content) <= module.MOST_BYTES
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), int)
    assert picture.shape == (640, 1200, 3)
    for colour, _ in module._STYLE.values():  # each group has its line
        wanted = [int(colour[n : n + 2], 16) for n in (1, 3, 5)]
        assert (np.abs(picture - wanted).max(axis=2) < 40).sum() > 200
    other = dict(zip(first, [first[module.REAL], first[module.ALONE], first[module.SLABS]], strict=True))
    assert module.draw(other, curves, "a model") != content


def test_a_kept_volume_is_used_only_for_the_same_request(module):
    request = GenerationRequest(slices=4, seed=7, body_mm=310.04, steps=8)
    facts = {"seed": "7", "steps": "8", "detail_steps": "3", "body_mm": "310.0", "model_sha256": "b"}
    assert module._is_this(facts, request, (4, 2, 2), ["a", "b"])
    for change in ({"seed": "8"}, {"steps": "9"}, {"body_mm": "311.0"}, {"model_sha256": "c"}):
        assert not module._is_this(facts | change, request, (4, 2, 2), ["a", "b"])
    assert not module._is_this(facts, request, (5, 2, 2), ["a", "b"])
