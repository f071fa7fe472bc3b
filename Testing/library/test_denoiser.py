"""The slab denoiser, its preconditioning and its loss."""

import math

import pytest
import torch

from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.denoiser.network import REACH_MM, DenoiserConfig, SlabDenoiser, between_known
from CTDiffusionLogic.noise import SlabLoss, precondition

K, SIZE = 8, 32


def conditions(batch, *, size=SIZE, detail=False, mask=None, **changes):
    values = {
        "known": torch.full((batch, K, size, size), 0.25),
        "mask": torch.zeros(batch, K) if mask is None else mask,
        "offsets_mm": (torch.arange(K) - (K - 1) / 2).expand(batch, K) * 5.0,
        "body_mm": torch.full((batch,), 300.0),
        "pixel_mm": torch.full((batch,), 7.0),
        "label": torch.zeros(batch, dtype=torch.int64),
        "body_box": None if detail else torch.tensor([0.2, 0.8, 0.1, 0.9]).expand(batch, 4),
        "coarse": torch.zeros(batch, K, size, size) if detail else None,
        "coarse_noise": torch.zeros(batch) if detail else None,
    }
    return SlabConditions(**(values | changes))


def denoiser(stage, **changes):
    torch.manual_seed(0)
    values = {"channels": (16, 24), "layers": 1, "attention": stage == "anatomy", "labels": 2} | changes
    network = SlabDenoiser(DenoiserConfig(stage=stage, **values))
    torch.nn.init.normal_(network.unet.conv_out.weight, std=0.05)  # zero at birth: nothing would depend on anything
    torch.nn.init.normal_(network.embed_label.weight, std=0.5)
    return network.eval()


def refined(stage="anatomy", **changes):
    """A denoiser with a refiner that adds something."""
    network = denoiser(stage, refiner_channels=8, refiner_blocks=2, **changes)
    torch.nn.init.normal_(network.refiner.out.weight, std=0.05)
    return network


@pytest.mark.parametrize("denoiser", [denoiser, refined])
@pytest.mark.parametrize("stage", ["anatomy", "detail"])
def test_known_slices_come_back_as_given(stage, denoiser):
    mask = torch.zeros(2, K)
    mask[:, [0, 5]] = 1
    x_t = torch.randn(2, K, SIZE, SIZE)
    told = conditions(2, detail=stage == "detail", mask=mask)
    with torch.no_grad():
        estimate = denoiser(stage)(x_t, torch.tensor([0.3, 0.9]), told)
        other = denoiser(stage)(torch.where(mask[:, :, None, None] > 0, 99.0, x_t), torch.tensor([0.3, 0.9]), told)
    assert (estimate[:, [0, 5]] == 0.25).all()
    assert torch.equal(estimate, other), "noise on known slices must not matter"


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("anatomy", {"body_mm": torch.full((1,), 500.0)}),
        ("anatomy", {"body_mm": torch.full((1,), torch.nan)}),
        ("anatomy", {"body_box": torch.tensor([[0.3, 0.7, 0.3, 0.8]])}),
        ("anatomy", {"body_box": torch.full((1, 4), torch.nan)}),
        ("anatomy", {"pixel_mm": torch.full((1,), 5.0)}),
        ("anatomy", {"offsets_mm": (torch.arange(K) - 3.5)[None] * 20.0}),
        ("anatomy", {"label": torch.ones(1, dtype=torch.int64)}),
        ("detail", {"coarse": torch.ones(1, K, SIZE, SIZE)}),
        ("detail", {"coarse_noise": torch.full((1,), 0.1)}),
    ],
)
def test_every_condition_changes_the_estimate(stage, change):
    network = denoiser(stage)
    x_t, t = torch.randn(1, K, SIZE, SIZE), torch.tensor([0.5])
    with torch.no_grad():
        usual = network(x_t, t, conditions(1, detail=stage == "detail"))
        changed = network(x_t, t, conditions(1, detail=stage == "detail", **change))
    assert torch.isfinite(changed).all()
    assert (usual - changed).abs().max() > 1e-4


def test_the_detail_stage_runs_on_any_matrix():
    network = denoiser("detail")
    with torch.no_grad():
        for size in (16, 48, 64):
            estimate = network(
                torch.randn(1, K, size, size), torch.tensor([0.5]), conditions(1, size=size, detail=True)
            )
            assert estimate.shape == (1, K, size, size)


def test_config_survives_its_dictionary_and_refuses_strangers():
    config = DenoiserConfig(stage="detail", channels=(8, 16), residual_scale=0.2)
    assert DenoiserConfig.from_dict(config.to_dict()) == config
    with pytest.raises(TypeError):
        DenoiserConfig.from_dict({**config.to_dict(), "code": "evil"})


def test_preconditioning_gives_unit_variance_in_and_out():
    """EDM, table 1: the network's input and its target have unit variance at every level."""
    generator = torch.Generator().manual_seed(0)
    sigma_data = 0.44
    x0 = sigma_data * torch.randn(20000, generator=generator)
    noise = torch.randn(20000, generator=generator)
    for level in (0.02, 0.3, 0.5, 0.8, 0.98):
        factors = precondition(torch.tensor([level]), sigma_data, "edm")
        x_t = (1 - level) * x0 + level * noise
        target = (x0 - factors.c_skip.squeeze() * x_t) / factors.c_out.squeeze()
        assert abs(float((factors.c_in.squeeze() * x_t).std()) - 1) < 0.03
        assert abs(float(target.std()) - 1) < 0.03


def test_a_perfect_denoiser_has_no_loss_and_an_empty_one_the_loss_of_edm():
    loss = SlabLoss(mean=0.0, std=1.0, sigma_data=0.5)
    generator = torch.Generator().manual_seed(1)
    x0 = 0.5 * torch.randn(64, K, 8, 8, generator=generator)
    noise = torch.randn(x0.shape, generator=generator)
    t = loss.draw_levels(64, generator)
    told = conditions(64, size=8)
    assert float(loss(lambda *_: x0, x0, noise, t, told).max()) == 0

    def skip_only(x_t, t, _conditions):  # F = 0: the loss is the variance of F's target, one
        return precondition(t, 0.5, "edm").c_skip * x_t

    assert abs(float(loss(skip_only, x0, noise, t, told).mean()) - 1) < 0.05


@pytest.mark.parametrize("parametrization", ["x0", "edm", "flow"])
def test_every_parametrization_can_be_right(parametrization):
    """Some output of the network proper gives the truth, with numbers of order one at middling noise."""
    x0, noise = torch.randn(4, 1, 4, 4) * 0.44, torch.randn(4, 1, 4, 4)
    t = torch.tensor([0.2, 0.4, 0.6, 0.8])
    factors = precondition(t, 0.44, parametrization)
    level = t[:, None, None, None]
    x_t = (1 - level) * x0 + level * noise
    wanted = (x0 - factors.c_skip * x_t) / factors.c_out
    assert float(wanted.abs().max()) < 12
    if parametrization == "flow":
        assert torch.allclose(wanted, noise - x0, atol=1e-4)
    if parametrization == "x0":
        assert torch.allclose(wanted, x0 / 0.44)


def test_below_skip_sigma_an_estimate_of_x0_leans_on_the_noisy_slab():
    """A network wrong by skip_sigma gives the best mixture of both: never worse than the noise, nor than itself."""
    own = 0.1
    generator = torch.Generator().manual_seed(2)
    x0, noise, mistake = (torch.randn(20000, generator=generator) for _ in range(3))
    for sigma in (0.01, 0.05, 0.1, 0.4, 3.0):
        t = sigma / (1 + sigma)
        factors = precondition(torch.tensor([t]), 1.0, "x0", skip_sigma=own)
        skip = factors.c_skip.squeeze()
        x_t = (1 - t) * x0 + t * noise
        estimate = skip * x_t + (1 - skip * (1 - t)) * (x0 + own * mistake)
        error = float((estimate - x0).std())
        assert error == pytest.approx((own**-2 + sigma**-2) ** -0.5, rel=0.03)
        target = (x0 - skip * x_t) / factors.c_out.squeeze()
        assert float(target.std()) == pytest.approx(1, rel=0.03)


def test_without_noise_or_without_data_the_skip_stays_finite():
    for t in (0.0, 1e-6, 1.0):
        factors = precondition(torch.tensor([t]), 0.44, "x0", skip_sigma=0.1)
        assert all(torch.isfinite(f).all() for f in factors)


def test_the_weight_stops_growing_at_its_floor():
    loss = SlabLoss(mean=0.0, std=1.0, sigma_data=0.5, sigma_floor=0.1)
    weights = loss.weight(torch.tensor([0.001, 0.05, 0.1 / 1.1, 0.5]))
    assert torch.allclose(weights[:3], torch.full((3,), 4 + 100.0), rtol=1e-4)
    assert float(weights[3]) == pytest.approx(4 + 1)


def test_known_slices_do_not_count_in_the_loss():
    loss = SlabLoss(mean=0.0, std=1.0, sigma_data=0.5)
    mask = torch.zeros(3, K)
    mask[:, :4] = 1
    x0 = torch.zeros(3, K, 8, 8)
    wrong_where_known = x0.clone()
    wrong_where_known[:, :4] = 100
    values = loss(
        lambda *_: wrong_where_known, x0, torch.randn_like(x0), torch.full((3,), 0.5), conditions(3, size=8, mask=mask)
    )
    assert float(values.max()) == 0


def test_levels_are_logit_normal_and_stratified():
    loss = SlabLoss(mean=-0.5, std=1.2, sigma_data=0.5)
    levels = loss.draw_levels(4096, torch.Generator().manual_seed(3))
    log_sigma = torch.logit(levels)
    assert abs(float(log_sigma.mean()) + 0.5) < 0.02
    assert abs(float(log_sigma.std()) - 1.2) < 0.02


def test_anatomy_is_told_where_each_pixel_lies_within_the_body():
    network = denoiser("anatomy")
    given: list[torch.Tensor] = []
    network.unet.register_forward_pre_hook(lambda _module, arguments: given.append(arguments[0]))
    told = conditions(2, body_box=torch.tensor([[0.25, 0.75, 0.0, 1.0], [torch.nan] * 4]))
    with torch.no_grad():
        network(torch.zeros(2, K, SIZE, SIZE), torch.tensor([0.5, 0.5]), told)
    rows, columns = given[0][:, -2], given[0][:, -1]
    side = rows.shape[-1]
    assert rows.shape == (2, side, side)
    centres = (torch.arange(side) + 0.5) / side
    assert torch.allclose(rows[0, :, 0], 4 * (centres - 0.25) - 1, atol=1e-6), "-1 and 1 at the edges of the body"
    assert torch.allclose(columns[0, 3], 2 * centres - 1, atol=1e-6)
    assert not rows[1].any() and not columns[1].any(), "an unknown body has no coordinates"


def test_known_slices_give_the_first_guess_of_those_between():
    mask = torch.zeros(3, K)
    mask[0, [1, 5]] = 1
    mask[1, 7] = 1
    offsets = torch.tensor([0.0, 10.0, 20.0, 25.0, 30.0, 50.0, 60.0, 90.0]).expand(3, K)
    values = torch.arange(K, dtype=torch.float32)[None, :, None, None].expand(3, K, 2, 2).clone()
    values[2] = torch.nan  # what is not known may be anything
    guess = between_known(conditions(3, size=2, mask=mask, offsets_mm=offsets, known=values.nan_to_num(99.0)))
    assert guess.shape == (3, K, 2, 2)
    inside = torch.tensor([1.0, 2.0, 2.5, 3.0, 5.0])  # slices 1 and 5 hold the values 1 and 5, 40 mm apart
    assert torch.allclose(guess[0, 1:6, 0, 0], inside, atol=1e-5)
    fading = math.exp(-10 / REACH_MM)
    assert torch.allclose(guess[0, [0, 6], 1, 1], torch.tensor([1.0, 5.0]) * fading, atol=1e-5)
    assert torch.allclose(guess[1, :, 0, 0], 7.0 * torch.exp((offsets[1] - 90.0) / REACH_MM), atol=1e-5)
    assert not guess[2].any()


def test_an_untrained_anatomy_network_interpolates():
    network = denoiser("anatomy")
    torch.nn.init.zeros_(network.unet.conv_out.weight)
    torch.nn.init.zeros_(network.unet.conv_out.bias)
    mask = torch.zeros(1, K)
    mask[0, ::2] = mask[0, -1] = 1
    known = torch.randn(1, K, SIZE, SIZE)
    with torch.no_grad():
        made = network(torch.randn(1, K, SIZE, SIZE), torch.tensor([0.9]), conditions(1, mask=mask, known=known))
    assert torch.allclose(made[0, 1], (known[0, 0] + known[0, 2]) / 2, atol=1e-5)


def test_a_newborn_refiner_adds_nothing_and_learns_to():
    network, told = denoiser("anatomy", refiner_channels=8, refiner_blocks=1), conditions(2)
    x_t, t = torch.randn(2, K, SIZE, SIZE), torch.tensor([0.1, 0.6])
    with torch.no_grad():
        before = network(x_t, t, told)
    refiner, network.refiner = network.refiner, None
    with torch.no_grad():
        assert torch.equal(before, network(x_t, t, told))
    network.refiner = refiner
    network(x_t, t, told).square().mean().backward()
    assert refiner.out.weight.grad.abs().max() > 0, "it would stay silent for ever"


def test_a_refiner_sees_single_pixels_and_the_noise_level():
    network, told = refined(), conditions(1)
    x_t = torch.zeros(1, K, SIZE, SIZE)
    spot = x_t.clone()
    spot[0, 3, 9, 11] = 1.0

    def added(x, t):
        pixels = network.refiner(x, torch.zeros_like(x), told.mask[:, :, None, None], torch.tensor([t]))
        return pixels.detach()

    change = added(spot, 0.2) - added(x_t, 0.2)
    rows, columns = change[0].abs().amax(0).nonzero(as_tuple=True)
    reach = 6  # six 3 x 3 convolutions
    assert rows.min() >= 9 - reach and rows.max() <= 9 + reach
    assert columns.min() >= 11 - reach and columns.max() <= 11 + reach
    assert change[0, :, 9, 11].abs().max() > 0
    assert not torch.allclose(added(spot, 0.2), added(spot, 0.7))
