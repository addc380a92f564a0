"""Layers as pairs of functions: forward, and backward by hand.

PyTorch records every operation of a forward pass and walks back through the record. For networks as small as those of
control tasks that costs more than their arithmetic. Here each layer says itself what it computes, what it keeps, and
what its gradient is; a layer that is not known is recorded by PyTorch, that layer alone.

They read the parameters of the modules that they were made of, so that optimizers and files need not know of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

ALL = slice(None)
THIN = 8
Gradients = list[Tensor | None]
_aten = torch.ops.aten
_layer_norm_backward = _aten.native_layer_norm_backward.default
_relu_backward, _tanh_backward = _aten.threshold_backward.grad_input, _aten.tanh_backward.grad_input


def columns(x: Tensor | None, wanted: slice | None) -> Tensor | None:
    """Columns of a matrix; of all of them and of none without the cost of an index."""
    return x if x is None or wanted is None or wanted is ALL else x[:, wanted]


class Network(ABC):
    """A differentiable function of a batch `[n, features]`, to be called under `torch.no_grad()`.

    Attributes:
        parameters: in the order in which `backward` gives their gradients.
        by_hand: whether no part of it is left to PyTorch; then it is the same in training and evaluation mode.
    """

    parameters: list[Tensor]
    by_hand: bool = True

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        """The output, and what `backward` needs of this pass. `x` is not changed, and must not be until then."""

    @abstractmethod
    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        """The gradients of a loss by the input and by the parameters.

        Args:
            saved: from `forward`.
            gradient: of the loss by the output; it is not changed.
            inputs: the columns of the input whose gradient is wanted, None for none.
            parameters: whether the parameters' gradients are wanted; otherwise an empty list stands for them. A
                parameter that the output does not depend on has None.
        """

    def __call__(self, x: Tensor) -> Tensor:
        """The output alone."""
        return self.forward(x)[0]


class Dense(Network):
    """x W^T + b."""

    def __init__(self, linear: nn.Linear) -> None:
        self.weight, self.bias = linear.weight, linear.bias
        self.parameters = [each for each in (self.weight, self.bias) if each is not None]
        # As thin a product as a gate's or a head's takes MKL about half the time the other way round.
        self.thin = self.bias is not None and 1 < len(self.weight) <= THIN

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        if self.thin:
            return torch.addmm(self.bias.unsqueeze(1), self.weight, x.t()).t(), x
        weight = self.weight.t()
        return (x @ weight if self.bias is None else torch.addmm(self.bias, x, weight)), x

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        weight = self.weight
        by_input = None if inputs is None else gradient @ (weight if inputs is ALL else weight[:, inputs])
        if not parameters:
            return by_input, []
        by_weight = gradient.t() @ saved
        return by_input, [by_weight] if self.bias is None else [by_weight, gradient.sum(0)]


class Activation(Network):
    """A function of each number."""

    parameters: list[Tensor] = []  # noqa: RUF012 - stays empty

    def __init__(self, activation: nn.Module) -> None:
        self.is_relu = type(activation) is nn.ReLU
        # Set by a chain: behind a layer that does not look at its output again, and before one whose gradient is new.
        self.in_place = self.gradient_in_place = False

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        y = x if self.in_place else torch.empty_like(x)
        if self.is_relu:
            torch.clamp_min(x, 0, out=y)
        else:
            torch.tanh(x, out=y)
        return y, y

    def backward(
        self,
        saved: Any,
        gradient: Tensor,
        *,
        inputs: slice | None = None,
        parameters: bool = True,  # noqa: ARG002
    ) -> tuple[Tensor | None, Gradients]:
        if inputs is None:
            return None, []
        by_input = gradient if self.gradient_in_place else torch.empty_like(gradient)
        if self.is_relu:
            _relu_backward(gradient, saved, 0, grad_input=by_input)
        else:
            _tanh_backward(gradient, saved, grad_input=by_input)
        return columns(by_input, inputs), []


class Norm(Network):
    """Layer normalisation over the features."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self.weight, self.bias, self.shape, self.eps = norm.weight, norm.bias, norm.normalized_shape, norm.eps
        self.parameters = [self.weight, self.bias]

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        y, mean, scale = torch.native_layer_norm(x, self.shape, self.weight, self.bias, self.eps)
        return y, (x, mean, scale)

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        wanted = [inputs is not None, parameters, parameters]
        by_input, by_weight, by_bias = _layer_norm_backward(
            gradient, saved[0], self.shape, saved[1], saved[2], self.weight, self.bias, wanted
        )
        return columns(by_input, inputs), [by_weight, by_bias] if parameters else []


class Recorded(Network):
    """Any module, recorded by PyTorch."""

    by_hand = False

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = self.module(x)
        return y.detach(), (x, y)

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        x, y = saved
        sources = [*([] if inputs is None else [x]), *(self.parameters if parameters else [])]
        found = torch.autograd.grad(y, sources, gradient, allow_unused=True) if sources else ()
        if inputs is None:
            return None, list(found)
        by_input, by_parameters = found[0], list(found[1:])
        return columns(torch.zeros_like(x) if by_input is None else by_input, inputs), [*by_parameters]

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            result: Tensor = self.module(x)
        return result
