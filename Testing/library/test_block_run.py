"""Detail made in blocks, which the denoiser sees in windows that lie elsewhere at each noise level."""

from __future__ import annotations

import pytest
import torch
from tiny_generation import SIZE, Recorder, Wrapped, replaced, tiny_model

from CTDiffusionLogic.block_run import make_blocks
from CTDiffusionLogic.generation import GenerationRequest, generate, stage_runs
from CTDiffusionLogic.generation_request import resolve
from CTDiffusionLogic.slab_plan import plan_detail, plan_volume
from CTDiffusionLogic.stage_slices import BlockOfVolume


@pytest.fixture
def model():
    return tiny_model()


def test_a_block_is_seen_in_windows_that_lie_elsewhere_at_each_pass(model):
    told = []
    watched = replaced(model, detail=Wrapped(model.detail, lambda x, t, c: told.append((float(t[0]), c))))
    generate(watched, GenerationRequest(slices=32, spacing_mm=3.0, detail_steps=3, body_mm=300.0))
    starts = {}
    for t, c in told:
        places = [round((float(body) - 300) / 3 + 12) for body in c.body_mm]
        starts.setdefault(t, []).extend(places)
    (block,) = plan_detail(32, ())
    assert list(starts.values()) == [block.windows(number) for number in range(3)]


def prepared(model, slices, **wish):
    """The detail stage, its settings, and its first block."""
    settings = resolve(GenerationRequest(**wish), model.card, slices=slices, spacing_mm=3.0)
    plan = plan_volume(slices, 3.0)
    return stage_runs(model, settings, plan, None, None)[1]["detail"], settings, plan.detail[0]


def flat(positions):
    return torch.zeros(len(positions), SIZE, SIZE)


def test_where_windows_overlap_the_nearer_middle_counts_more(model):
    class Numbers(Wrapped):
        """Estimates that each slice is the number of the first slice of its window."""

        def forward(self, x_t, t, conditions):
            start = (conditions.body_mm - 300) / 3 + 14
            return torch.zeros_like(x_t) + start[:, None, None, None]

    numbers = replaced(model, detail=Numbers(model.detail, None))
    run, settings, block = prepared(numbers, 36, detail_steps=1, body_mm=300.0)
    (images,) = make_blocks(run, [BlockOfVolume(run, block, settings, flat).task({})])
    # One pass: windows begin at 0, 8, 16, 24 and 28; slices 28 to 31 lie in two of them.
    found = images[:, 0, 0].tolist()
    assert found[:28] == pytest.approx([8 * (n // 8) for n in range(28)], abs=1e-4)
    shares = ((4, 1), (3, 2), (2, 3), (1, 4))
    assert found[28:32] == pytest.approx([(24 * a + 28 * b) / (a + b) for a, b in shares], abs=1e-4)
    assert found[32:] == pytest.approx([28] * 4, abs=1e-4)


def test_blocks_that_share_batches_are_as_alone(model, monkeypatch):
    monkeypatch.setattr("CTDiffusionLogic.stage_run.batch_size", lambda *_: 3)
    run, settings, block = prepared(model, 30, detail_steps=3)
    parts = [BlockOfVolume(run, block, settings, flat, numbered_from=1000 * n) for n in range(3)]
    together = make_blocks(run, [part.task({}) for part in parts])
    for part, images in zip(parts, together, strict=True):
        (alone,) = make_blocks(run, [part.task({})])
        assert torch.allclose(images, alone, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=0.1), "each has noise of its own"


@pytest.mark.parametrize("sampler", ["sde", "multistep", "heun", "ddpm"])
def test_the_meter_ends_with_the_last_window(model, sampler):
    seen = Recorder()
    request = GenerationRequest(slices=50, steps=2, detail_steps=3, sampler=sampler)
    generate(model, request, **seen.callbacks())
    done, total = seen.progress[-1][:2]
    assert done == total
