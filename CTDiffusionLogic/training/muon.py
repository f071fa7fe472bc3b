"""Muon: momentum of convolution weights, made orthogonal before it is applied.

Adam scales every weight alone. A filter bank is a matrix, though, and its gradients have few strong directions that
drown the others; here all directions get the same length. After the same time, networks err less on held-out slabs at
every noise level (``Testing/benchmarks/training_choices.py --choices "AdamW for all"``).

Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the scale that lets AdamW's
learning rates serve is of Liu et al. 2025, "Muon is scalable for LLM training".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

#: Coefficients of the quintic iteration: steepest at zero, so that five steps suffice.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
#: Root mean square of an AdamW step in units of its learning rate, about.
_ADAM_RMS = 0.2
#: Filter banks with fewer rows or columns have no directions to even out.
_SMALLEST = 16


def split_parameters(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Part the parameters of a network: weights of convolutions for :class:`Muon`, and all others for AdamW."""
    filters = [p for p in network.parameters() if p.ndim == 4 and min(_matrix_shape(p)) >= _SMALLEST]
    chosen = {id(p) for p in filters}
    return filters, [p for p in network.parameters() if id(p) not in chosen]


#: Tensors of a parameter's state that a checkpoint keeps, of each optimiser of :func:`make_optimizers`.
STATE_KEYS = (("exp_avg", "exp_avg_sq", "step"), ("momentum_buffer",))


def make_optimizers(network: nn.Module, *, lr: float) -> tuple[torch.optim.AdamW, Muon]:
    """AdamW and :class:`Muon`, each for its parameters of a network, with the same learning rate."""
    filters, others = split_parameters(network)
    return torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True), Muon(filters, lr=lr)


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for weights of convolutions.

    torch's own ``torch.optim.Muon`` refuses parameters of four dimensions, and computes in bfloat16, which CPUs
    emulate; this one takes filters as matrices (outputs, inputs x rows x columns), in float32, and treats all of one
    shape at once.

    Args:
        parameters: Of four dimensions; see :func:`split_parameters`.
        lr: Learning rate; steps are as long as AdamW's with the same.
        momentum: Of the gradients (an average with this decay, and a look ahead as Nesterov's).
        weight_decay: Share of the weights, times ``lr``, that is taken off at each step.

    Raises:
        ValueError: If a parameter has not four dimensions.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for parameter in self._parameters():
            if parameter.ndim != 4:
                raise ValueError(f"Muon is for weights of convolutions, not for a tensor of shape {parameter.shape}.")

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step; a closure is not supported."""
        assert closure is None
        for group in self.param_groups:
            of_shape: dict[tuple[int, int], list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    of_shape.setdefault(_matrix_shape(parameter), []).append(parameter)
            for shape, parameters in of_shape.items():
                steps = orthogonal(torch.stack([self._gradient(p, group["momentum"]) for p in parameters]))
                length = group["lr"] * _ADAM_RMS * max(shape) ** 0.5
                for parameter, step in zip(parameters, steps, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(step.view(parameter.shape), alpha=-length)

    def _gradient(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """The averaged gradient of a parameter with a look ahead, as a float32 matrix."""
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return torch.lerp(gradient, average, momentum).reshape(_matrix_shape(parameter)).float()


def orthogonal(matrices: Tensor, *, iterations: int = _ITERATIONS) -> Tensor:
    """Bring the singular values of matrices close to 1 (0.7 to 1.2), with Newton and Schulz' iteration.

    Args:
        matrices: (N, rows, columns), float32.
        iterations: How many steps.

    Returns:
        (N, rows, columns).
    """
    a, b, c = _QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def _matrix_shape(parameter: Tensor | Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a filter bank as a matrix."""
    shape = parameter.shape if isinstance(parameter, Tensor) else parameter
    columns = 1
    for size in shape[1:]:
        columns *= size
    return int(shape[0]), columns
