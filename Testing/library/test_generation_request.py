"""What a request leaves open, and what is refused or warned of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_generation import CARD, SIZE, Recorder, Wrapped, like_volume, replaced, tiny_model

from CTDiffusionLogic.denoiser.coarse import upsample
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.errors import InputError, UsageError
from CTDiffusionLogic.generation import GenerationRequest, generate
from CTDiffusionLogic.generation_request import choose_body_box, choose_body_mm
from CTDiffusionLogic.guidance import guided_estimate


@pytest.fixture
def model():
    return tiny_model()


def test_the_body_position_lies_where_the_model_knows_most():
    plan = {"body_mm_range": [0.0, 400.0], "body_mm_coverage": [1] * 10 + [5] * 8 + [2] * 2}
    chosen = [choose_body_mm(plan, 100.0, seed) for seed in range(50)]
    assert min(chosen) >= 250.0 - 1e-6
    assert max(chosen) <= 310.0 + 1e-6
    assert len(set(chosen)) > 5
    assert chosen[3] == choose_body_mm(plan, 100.0, 3)
    assert choose_body_mm(plan, 400.0, 1) == 200.0
    assert choose_body_mm(plan, 900.0, 1) == 200.0
    assert 50 <= choose_body_mm({"body_mm_range": [0.0, 400.0]}, 100.0, 0) <= 350


def test_the_body_is_as_large_as_that_of_a_patient_seen_there():
    pelvis, chest = [0.0, 200.0, -100.0, 110.0, -160.0, 150.0], [250.0, 500.0, -120.0, 120.0, -220.0, 220.0]
    plan = {"body_boxes_mm": [pelvis, chest]}
    box = choose_body_box(plan, 400.0, 150.0, 3, side_mm=448.0)
    width_mm = (box[3] - box[2]) * 448.0
    assert 0.96 * 440 <= width_mm <= 1.04 * 440
    assert box == choose_body_box(plan, 400.0, 150.0, 3, side_mm=448.0)
    assert len({choose_body_box(plan, 220.0, 400.0, seed, side_mm=448.0) for seed in range(20)}) == 20
    widths = [np.ptp(choose_body_box(plan, 230.0, 440.0, seed, side_mm=448.0)[2:]) for seed in range(20)]
    assert min(widths) < 0.75 < 0.9 < max(widths), "both patients where both have been seen"
    for nothing in ({"body_boxes_mm": []}, {}):
        assert np.isnan(choose_body_box(nothing, 400.0, 150.0, 3, side_mm=448.0)).all()


@pytest.mark.parametrize("body_mm", [-3000.0, 0.0, 300.0, 3000.0])
@pytest.mark.parametrize("extent_mm", [0.0, 200.0, 2000.0])
def test_the_body_box_is_a_patients_wherever_the_volume_lies(body_mm, extent_mm):
    rows = [[0.0, 300.0, -100.0, 100.0, -150.0, 150.0], [200.0, 600.0, -120.0, 110.0, -200.0, 190.0]]
    found = choose_body_box({"body_boxes_mm": rows}, body_mm, extent_mm, 3, side_mm=400.0)
    edges = (np.array(found) - 0.5) * 400.0
    assert any(np.allclose(edges / row[2:], edges[0] / row[2]) and 0.96 <= edges[0] / row[2] <= 1.04 for row in rows)


def test_the_user_is_told_what_lies_beyond_the_model(model):
    seen = Recorder()
    generate(model, GenerationRequest(slices=60, spacing_mm=12.0), **seen.callbacks())
    assert any("along the body" in w for w in seen.warnings)
    assert any("12 mm" in w for w in seen.warnings)
    seen = Recorder()
    generate(model, GenerationRequest(slices=10, spacing_mm=3.0), **seen.callbacks())
    assert seen.warnings == []


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        ({"slices": 0}, UsageError, "got 0"),
        ({"slices": 1001}, UsageError, "got 1001"),
        ({"spacing_mm": -1.0}, UsageError, "-1"),
        ({"spacing_mm": float("nan")}, UsageError, "nan"),
        ({"steps": 0}, UsageError, "got 0"),
        ({"detail_steps": -3}, UsageError, "got -3"),
        ({"sampler": "magic"}, UsageError, "'magic'"),
        ({"label": "knee"}, UsageError, "'knee'"),
        ({"body_mm": float("inf")}, UsageError, "inf"),
        ({"pixel_mm": -2.0}, UsageError, "-2"),
        ({"slices": 3, "guidance": -1.0}, UsageError, "guidance must be 0 to 10"),
        ({"slices": 3, "guidance": np.nan}, UsageError, "guidance must be 0 to 10"),
        ({"slices": 3, "known": {3: np.zeros((SIZE, SIZE))}}, UsageError, "Known slice 3"),
        ({"slices": 3, "known": {0: np.zeros((SIZE, 7))}}, InputError, "7"),
        ({"slices": 3, "known": {0: np.full((SIZE, SIZE), np.nan)}}, InputError, "known slice 0 has 1024 voxels"),
        ({"like": like_volume(np.eye(3)), "known": {0: np.zeros((SIZE, SIZE))}}, UsageError, "exclude"),
    ],
)
def test_impossible_requests_are_refused(model, request_, error, words):
    with pytest.raises(error) as caught:
        generate(model, GenerationRequest(**request_))
    assert words in str(caught.value)


def test_steps_come_from_the_request_the_card_or_the_sampler(model):
    def steps(card=CARD, **request):
        facts = generate(replaced(model, card=card), GenerationRequest(slices=1, **request)).metadata
        return facts["sampler"], int(facts["steps"]), int(facts["detail_steps"])

    assert steps() == ("multistep", 3, 2)
    assert steps(steps=5) == ("multistep", 5, 2)
    assert steps(detail_steps=5) == ("multistep", 3, 5)
    assert steps(sampler="heun") == ("heun", 20, 10)  # the card's numbers mean the card's sampler
    assert steps(sampler="ddpm", steps=6) == ("ddpm", 6, 6)
    assert steps({**CARD, "sampling": {"sampler": "heun", "anatomy_steps": 2, "detail_steps": 1}}) == ("heun", 2, 1)
    bare = {k: v for k, v in CARD.items() if k != "sampling"}
    assert steps(bare) == ("multistep", 28, 10)


def test_the_card_says_through_how_much_grain_the_detail_stage_looks(model):
    told = []
    watched = replaced(model, detail=Wrapped(model.detail, lambda x, t, c: told.append(float(c.coarse_noise.max()))))
    for wanted in (None, 0.0, 0.06):
        told.clear()
        sampling = {**CARD["sampling"], **({} if wanted is None else {"coarse_noise": wanted})}
        generate(replaced(watched, card={**CARD, "sampling": sampling}), GenerationRequest(slices=8))
        assert set(told) == {float(torch.tensor(wanted or 0.0))}


def test_the_card_says_where_the_anatomy_ends(model):
    told = []
    watched = replaced(model, anatomy=Wrapped(model.anatomy, lambda x, t, c: told.append(float(t[0]))))
    for sampling, last in (({}, 0.015), ({"anatomy_sigma_min": 0.3}, 0.3), ({"sampler": "heun"}, 0.015)):
        told.clear()
        card = {**CARD, "sampling": {**CARD["sampling"], **sampling}}
        generate(replaced(watched, card=card), GenerationRequest(slices=8))
        assert min(told) / (1 - min(told)) == pytest.approx(last, rel=1e-3)


def test_detail_is_given_the_estimate_at_the_end_of_the_anatomy(model):
    """Not what a sampler of order 2 makes of several: detail has learnt from estimates."""
    estimates, coarse = [], []

    class Noted(torch.nn.Module):
        config = model.anatomy.config

        def forward(self, x_t, t, conditions):
            estimates.append(model.anatomy(x_t, t, conditions))
            return estimates[-1]

    detail = Wrapped(model.detail, lambda x, t, c: coarse.append(c.coarse.clone()))
    card = {**CARD, "sampling": {**CARD["sampling"], "anatomy_sigma_min": 0.3}}
    generate(replaced(model, anatomy=Noted(), detail=detail, card=card), GenerationRequest(slices=8, spacing_mm=6.0))
    expected = upsample(estimates[-1][0], (SIZE, SIZE))
    assert torch.allclose(coarse[0][0], expected, atol=1e-6)
    assert not torch.allclose(estimates[-2][0], estimates[-1][0], atol=1e-3)


def test_guidance_widens_what_the_conditions_make(model):
    told = []
    watched = replaced(model, anatomy=Wrapped(model.anatomy, lambda x, t, c: told.append((float(t[0]), c))))

    def anatomy(**request):
        told.clear()
        return generate(watched, GenerationRequest(slices=8, seed=2, body_mm=300.0, steps=6, **request))

    plain, again = anatomy(), anatomy(guidance=1.0)
    assert np.array_equal(plain.hu, again.hu)
    assert plain.metadata["guidance"] == "1"
    assert len(told) == 6, "no second pass without guidance"
    guided = anatomy(guidance=2.0)
    assert guided.metadata["guidance"] == "2"
    assert not np.array_equal(guided.hu, plain.hu)
    high = [t for t, c in told if torch.isnan(c.body_mm).all()]
    assert high and min(high) >= 0.5, "untold passes at high noise only"
    assert len(told) == 6 + len(high)
    card = {**CARD, "sampling": {**CARD["sampling"], "guidance": 2.0}}
    by_card = generate(replaced(model, card=card), GenerationRequest(slices=8, seed=2, body_mm=300.0, steps=6))
    assert np.array_equal(by_card.hu, guided.hu), "a model's card can ask for it"


@pytest.mark.parametrize(("strength", "expected"), [(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)])
def test_guidance_is_linear_in_its_strength(strength, expected):
    def denoiser(x, t, conditions):  # 3 where the body position is known, 1 where not
        return torch.full_like(x, 1.0) + 2 * torch.isfinite(conditions.body_mm)[:, None, None, None]

    conditions = SlabConditions(
        known=torch.zeros(2, 8, 4, 4),
        mask=torch.zeros(2, 8),
        offsets_mm=torch.zeros(2, 8),
        body_mm=torch.zeros(2),
        pixel_mm=torch.ones(2),
        label=torch.ones(2, dtype=torch.int64),
        body_box=torch.zeros(2, 4),
    )
    made = guided_estimate(denoiser, torch.zeros(2, 8, 4, 4), 0.8, conditions, strength=strength)
    assert torch.allclose(made, torch.tensor(expected))
    low = guided_estimate(denoiser, torch.zeros(2, 8, 4, 4), 0.3, conditions, strength=strength)
    assert torch.allclose(low, torch.tensor(3.0)), "not at low noise"
