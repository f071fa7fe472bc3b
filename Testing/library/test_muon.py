"""The optimiser of filter banks."""

import pytest
import torch
from torch import nn

from CTDiffusionLogic.training.muon import Muon, make_optimizers, orthogonal, split_parameters


@pytest.mark.parametrize("shape", [(3, 20, 200), (2, 200, 20), (1, 32, 32)])
def test_singular_values_come_close_to_one(shape):
    made = orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert made.shape == shape
    values = torch.linalg.svdvals(made)
    assert values.max() < 1.25
    # The iteration lifts small values steeply, but those of a square Gaussian matrix come down to 0.
    assert values.median() > 0.65


def test_a_scaled_gradient_gives_the_same_step():
    gradient = torch.randn(1, 24, 72, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(orthogonal(gradient), orthogonal(1000 * gradient), atol=1e-4)


def test_each_parameter_has_one_optimiser_and_only_filter_banks_go_to_muon():
    network = nn.ModuleDict(
        {
            "door": nn.Conv2d(16, 32, 3),
            "thin": nn.Conv2d(32, 8, 3),
            "norm": nn.GroupNorm(8, 32),
            "linear": nn.Linear(32, 32),
        }
    )
    filters, others = split_parameters(network)
    assert [p is network["door"].weight for p in filters] == [True]
    assert len(filters) + len(others) == len(list(network.parameters()))
    adam, muon = make_optimizers(network, lr=1e-3)
    owned = [id(p) for optimizer in (adam, muon) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in network.parameters())


def test_steps_are_as_long_as_those_of_adam():
    """So that one learning rate serves both."""
    torch.manual_seed(0)
    filters = nn.Parameter(torch.zeros(48, 32, 3, 3))
    filters.grad = torch.randn_like(filters)
    Muon([filters], lr=1e-2).step()
    assert 0.15e-2 < filters.detach().pow(2).mean().sqrt() < 0.25e-2


def test_filters_in_channels_last_memory_learn_alike():
    steps = []
    for layout in (torch.contiguous_format, torch.channels_last):
        generator = torch.Generator().manual_seed(3)
        filters = nn.Parameter(torch.randn(24, 16, 3, 3, generator=generator).to(memory_format=layout))
        optimizer = Muon([filters], lr=1e-2)
        for _ in range(3):
            filters.grad = torch.randn(24, 16, 3, 3, generator=generator)
            optimizer.step()
        steps.append(filters.detach())
    assert torch.allclose(*steps, atol=1e-6)


def test_a_strong_direction_of_the_gradient_does_not_drown_the_others():
    generator = torch.Generator().manual_seed(5)
    rows, columns = torch.randn(32, generator=generator), torch.randn(72, generator=generator)
    strong = torch.outer(rows / rows.norm(), columns / columns.norm())
    gradient = 100 * strong + torch.randn(32, 72, generator=generator)

    def share(matrix: torch.Tensor) -> float:
        return float((matrix * strong).sum() ** 2 / matrix.pow(2).sum())

    assert share(gradient) > 0.8
    assert share(orthogonal(gradient[None])[0]) < 0.1


def test_a_linear_layer_is_refused():
    with pytest.raises(ValueError, match=r"shape torch.Size\(\[4, 4\]\)"):
        Muon([nn.Parameter(torch.zeros(4, 4))], lr=1e-3)
