"""Layers as pairs of functions: forward, and a hand-written backward.

PyTorch records every operation of a forward pass and replays the record backwards. For networks as small as those of
control tasks, this costs more than their arithmetic. Here each layer states what it computes, what it keeps, and what
its gradient is. PyTorch records a layer that has no such definition, without affecting the others.

Layers read the parameters of the modules that they were made from, so optimizers and files need not know about them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from sb3_contrib.common.torch_layers import BatchRenorm1d
from torch import Tensor, nn

from deltarl.fast.scalars import number

ALL = slice(None)
THIN = 8
Gradients = list[Tensor | None]
_aten = torch.ops.aten
_layer_norm_backward = _aten.native_layer_norm_backward.default
_relu_backward, _tanh_backward = _aten.threshold_backward.grad_input, _aten.tanh_backward.grad_input


def columns(x: Tensor | None, wanted: slice | None) -> Tensor | None:
    """Columns of a matrix, without the cost of an index for all or none of them."""
    return x if x is None or wanted is None or wanted is ALL else x[:, wanted]


class Layer(ABC):
    """A differentiable function of a batch `[n, features]`, to be called under `torch.no_grad()`.

    Attributes:
        parameters: in the order in which `backward` gives their gradients.
        has_modes: whether it may differ between training and evaluation mode.
    """

    parameters: list[Tensor]
    has_modes: bool = False

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        """The output, and what `backward` needs. `x` is not modified, and must not be before `backward`."""

    @abstractmethod
    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        """The gradients of a loss with respect to the input and the parameters.

        Args:
            saved: what `forward` returned.
            gradient: of the loss with respect to the output; it is not modified.
            inputs: the columns of the input whose gradient is needed, None for none.
            parameters: whether the parameters' gradients are needed; if not, the list is empty. A parameter that the
                output does not depend on has None.
        """

    def __call__(self, x: Tensor) -> Tensor:
        """The output, without anything kept for `backward`."""
        return self.forward(x)[0]


class Dense(Layer):
    """x W^T + b."""

    def __init__(self, linear: nn.Linear) -> None:
        self.weight, self.bias = linear.weight, linear.bias
        self.parameters = [each for each in (self.weight, self.bias) if each is not None]
        # For the few outputs of a gate or a head, the transposed product takes MKL about half the time.
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


class Constant(Layer):
    """A layer without parameters."""

    parameters: list[Tensor] = []  # noqa: RUF012 - stays empty

    @abstractmethod
    def by_input(self, saved: Any, gradient: Tensor) -> Tensor:
        """The gradient with respect to the input; arguments as in `backward`."""

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        del parameters
        return columns(None if inputs is None else self.by_input(saved, gradient), inputs), []


class Activation(Constant):
    """An elementwise activation: ReLU or tanh."""

    def __init__(self, activation: nn.Module) -> None:
        self.is_relu = type(activation) is nn.ReLU
        # Set by a chain: after a layer that does not need its output again, and before one that returns a new gradient.
        self.in_place = self.gradient_in_place = False

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        y = x if self.in_place else torch.empty_like(x)
        if self.is_relu:
            torch.clamp_min(x, 0, out=y)
        else:
            torch.tanh(x, out=y)
        return y, y

    def by_input(self, saved: Any, gradient: Tensor) -> Tensor:
        found = gradient if self.gradient_in_place else torch.empty_like(gradient)
        if self.is_relu:
            _relu_backward(gradient, saved, 0, grad_input=found)
        else:
            _tanh_backward(gradient, saved, grad_input=found)
        return found


class Scale(Constant):
    """All features times a constant."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        return x * number(self.factor, x), None

    def by_input(self, saved: Any, gradient: Tensor) -> Tensor:
        del saved
        return gradient * number(self.factor, gradient)


class Norm(Layer):
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


class Renorm(Layer):
    """sb3-contrib's batch renormalisation (Ioffe, arXiv 1702.03275), including its running statistics.

    With a batch's mean m and variance v of a feature, its output is w (x - m + t) s + b, where s = 1 / sqrt(c + eps).
    c = v / r^2 and t = d sqrt(v) / r move m and v towards the running statistics; r = 1 and d = 0 during warm-up, and
    neither passes a gradient. With sums over the batch, the gradient g of the output gives

        by b: sum g;  by w: s a, with a = sum g (x - m + t)
        by m: -w s sum g;  by v: -w s^3 a / (2 r^2) - (by m) t / (2 v)
        by x: w s g + (by m) / n + 2 (by v) (x - m) / (n - 1)
    """

    has_modes = True

    def __init__(self, norm: BatchRenorm1d) -> None:
        self.norm: Any = norm
        self.parameters = [norm.scale, norm.bias]
        # Asking a tensor of another device waits for the device, and cannot be captured in a graph.
        self.asks_if_warm = norm.steps.is_cpu

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        norm = self.norm
        if not norm.training:
            scale = (norm.ra_var + norm.eps).rsqrt_()
            factor = scale * norm.scale
            offset = torch.addcmul(norm.bias, norm.ra_mean, factor, value=-1)
            return torch.addcmul(offset, x, factor), (x, -norm.ra_mean, scale, factor, None)
        if len(x) < 2:
            raise ValueError(f"batch_renorm needs at least 2 rows in training mode, got {len(x)}")
        mean = x.mean(0)
        centered = x - mean
        variance = (centered * centered).sum(0).div_(len(x) - 1)
        shift, squeezed, ratio, divisor = None, variance, None, variance
        warm = norm.steps > norm.warmup_steps
        if not self.asks_if_warm or warm:
            running = (norm.ra_var + norm.eps).sqrt_()
            ratio = torch.div((variance + norm.eps).sqrt_(), running).clamp_(1 / norm.rmax, norm.rmax)
            moved = torch.div(mean - norm.ra_mean, running).clamp_(-norm.dmax, norm.dmax)
            if not self.asks_if_warm:
                no_ratio, no_move = number(1, ratio), number(0, moved)
                ratio, moved = torch.where(warm, ratio, no_ratio), torch.where(warm, moved, no_move)
                divisor = torch.where(warm, variance, no_ratio)  # features without variance have a gradient in warm-up
            shift, squeezed = moved * variance.sqrt() / ratio, variance / ratio.square()
        norm.ra_mean.lerp_(mean, norm.momentum)
        norm.ra_var.lerp_(variance, norm.momentum)
        norm.steps += 1
        scale = (squeezed + norm.eps).rsqrt_()
        factor = scale * norm.scale
        offset = norm.bias if shift is None else torch.addcmul(norm.bias, shift, factor)
        return torch.addcmul(offset, centered, factor), (centered, shift, scale, factor, (divisor, ratio))

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        x, shift, scale, factor, of_batch = saved
        if not parameters and of_batch is None:
            return columns(None if inputs is None else gradient * factor, inputs), []
        total, along = gradient.sum(0), (gradient * x).sum(0)
        if shift is not None:
            along.addcmul_(shift, total)
        own: Gradients = [along * scale, total] if parameters else []
        if inputs is None or of_batch is None:
            return columns(None if inputs is None else gradient * factor, inputs), own
        divisor, ratio = of_batch
        by_mean = factor * total
        by_variance = along * factor * scale.square() / (1 if ratio is None else ratio.square())
        if shift is not None:
            by_variance -= by_mean * shift / divisor
        by_mean, by_variance = by_mean.div_(-len(x)), by_variance.div_(1 - len(x))
        return columns(torch.addcmul(by_mean, gradient, factor).addcmul_(x, by_variance), inputs), own


class Recorded(Layer):
    """Any module, differentiated by PyTorch's autograd."""

    has_modes = True

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        # Modules that may write to their input get a copy: PyTorch forbids writing to leaves that require gradients.
        theirs = all(type(each).__module__.partition(".")[0] in {"torch", "deltarl"} for each in module.modules())
        self.writes = not theirs or any(getattr(each, "inplace", False) for each in module.modules())

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = self.module(x.clone() if self.writes else x)
        return y.detach(), (x, y)

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        x, y = saved
        sources = [*([] if inputs is None else [x]), *(self.parameters if parameters else [])]
        found = torch.autograd.grad(y, sources, gradient, allow_unused=True) if sources else ()
        own = _of_their_own(found, gradient)
        if inputs is None:
            return None, own
        by_input = own.pop(0)
        return columns(torch.zeros_like(x) if by_input is None else by_input, inputs), own

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            result: Tensor = self.module(x.clone() if self.writes else x)
        return result


def _of_their_own(gradients: Sequence[Tensor | None], gradient: Tensor) -> Gradients:
    """Copy gradients into separate contiguous memory where needed, as PyTorch does for `.grad`."""
    taken = {gradient.data_ptr()}
    own: Gradients = []
    for each in gradients:
        if each is not None:
            each = each.contiguous()  # noqa: PLW2901
            each = each.clone() if each.data_ptr() in taken else each  # noqa: PLW2901
            taken.add(each.data_ptr())
        own.append(each)
    return own
