"""The time that is left: right from the first step on, although guided steps and detail cost more than others."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from random_model import write_random_model

from CTDiffusionLogic import stage_run
from CTDiffusionLogic.bundle import load_model
from CTDiffusionLogic.generation import GenerationModel, _cost, generate
from CTDiffusionLogic.generation_request import GenerationRequest
from CTDiffusionLogic.guidance import passes_at
from CTDiffusionLogic.sampling import SAMPLERS


class Timed(torch.nn.Module):
    """A denoiser that takes as long as it is said to, by a clock of its own."""

    def __init__(self, inner, clock, seconds):
        super().__init__()
        self.inner, self.config, self.clock, self.seconds = inner, inner.config, clock, seconds

    def forward(self, x_t, t, conditions):
        self.clock.now += self.seconds * len(x_t)
        return self.inner(x_t, t, conditions)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = write_random_model(tmp_path_factory.mktemp("model") / "noise.safetensors", steps=6)
    return GenerationModel.from_file(load_model(path))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_time_left_is_right_at_every_step(sampler, guidance, model, monkeypatch):
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(stage_run, "time", clock)
    dear = max(1, round(_cost(model.detail.config, 64) / _cost(model.anatomy.config, 32)))
    timed = dataclasses.replace(
        model, anatomy=Timed(model.anatomy, clock, 1.0), detail=Timed(model.detail, clock, dear)
    )
    told = []
    generate(
        timed,
        GenerationRequest(slices=20, sampler=sampler, guidance=guidance, steps=6, detail_steps=3),
        on_progress=lambda done, total, eta_s, phase: told.append((clock.now, done, total, eta_s, phase)),
    )
    assert {phase for *_, phase in told} == {"anatomy", "detail"}
    for now, done, total, eta_s, _ in told:
        assert eta_s == pytest.approx(clock.now - now)
        assert done / total == pytest.approx(now / clock.now)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_levels_are_those_at_which_the_sampler_asks(sampler):
    asked, told = [], []

    def model(x, t):
        asked.append(t)
        return torch.zeros_like(x)

    one = SAMPLERS[sampler]
    one.run(model, torch.zeros(1), one.times("anatomy", 5), noise=lambda: torch.zeros(1), callback=told.append)
    assert asked == one.levels("anatomy", 5)
    assert [step.number for step in told] == list(range(len(asked)))
    assert len(asked) == one.passes(5)


def test_guided_steps_take_two_passes_where_guidance_acts():
    assert [passes_at(t, 2.0) for t in (1.0, 0.5, 0.49, 0.0)] == [2, 2, 1, 1]
    assert [passes_at(t, 1.0) for t in (1.0, 0.2)] == [1, 1]
