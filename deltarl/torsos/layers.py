"""Layers shared by all torso families: activations, norms, the sublayer and the channel compressor."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from sb3_contrib.common.torch_layers import BatchRenorm1d
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

if TYPE_CHECKING:
    from deltarl.torsos.base import Norm

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
}


class BatchRenorm(BatchRenorm1d):
    """sb3-contrib's batch renormalisation, with its statistics renamed so that target networks follow them.

    Stable-Baselines3 copies a buffer to a target network only if its name contains `running_`.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float) -> None:
        super().__init__(num_features, eps=eps)
        self.register_buffer("running_mean", self._buffers.pop("ra_mean"))
        self.register_buffer("running_var", self._buffers.pop("ra_var"))

    @property
    def ra_mean(self) -> Tensor:
        return self.running_mean

    @ra_mean.setter
    def ra_mean(self, mean: Tensor) -> None:
        self.running_mean = mean

    @property
    def ra_var(self) -> Tensor:
        return self.running_var

    @ra_var.setter
    def ra_var(self, var: Tensor) -> None:
        self.running_var = var

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if self.training and len(rows) < 2:
            raise ValueError(f"batch_renorm needs at least 2 rows in training mode, got {len(rows)}")
        result: Tensor = super().forward(rows)
        return result.reshape(x.shape)


def make_norm(name: Norm, width: int, eps: float) -> nn.Module:
    """Build the norm of that name over `width` features; the identity for `none`."""
    if name == "none":
        return nn.Identity()
    if name == "batch_renorm":
        return BatchRenorm(width, eps=eps)
    norm = nn.LayerNorm if name == "layer" else nn.RMSNorm
    return norm(width, eps=eps)


class Sublayer(nn.Sequential):
    """F: Linear, activation, Linear; He initialisation and zero biases, as in SimBa (arXiv 2410.09754).

    Args:
        width: of the input.
        hidden: inner width.
        activation: a key of `ACTIVATIONS`.
        out: width of the output; that of the input if not given.
        groups: if above 1, F is this number of groups of Linear, norm and activation (arXiv 2503.14858).
        norm: norm in the groups and after the sublayer.
        eps: guard inside the norms.
        normalized: whether a norm follows the sublayer.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: str,
        *,
        out: int | None = None,
        groups: int = 1,
        norm: Norm = "none",
        eps: float = 1e-5,
        normalized: bool = False,
    ) -> None:
        out = width if out is None else out
        parts: list[nn.Module] = []
        if groups == 1:
            parts = [nn.Linear(width, hidden), ACTIVATIONS[activation](), nn.Linear(hidden, out)]
        else:
            for one, other in pairwise([width, *[hidden] * (groups - 1), out]):
                norms = [] if norm == "none" else [make_norm(norm, other, eps)]
                parts += [nn.Linear(one, other), *norms, ACTIVATIONS[activation]()]
        super().__init__(*parts, *([make_norm(norm, out, eps)] if normalized else []))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self:
            if isinstance(module, nn.Linear):
                start_linear(module)


def start_linear(linear: nn.Linear) -> None:
    """He initialisation and a zero bias."""
    nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    nn.init.zeros_(linear.bias)


def drop_path(step: Tensor, rate: float, state_dims: int) -> Tensor:
    """Stochastic depth (arXiv 1603.09382): leave out a block's step for some of the samples.

    Args:
        step: what the block adds, `[..., *state]`.
        rate: probability of dropping a sample's step, in [0, 1); the others are divided by 1 - rate.
        state_dims: number of dimensions of one sample's state; each sample is dropped independently.
    """
    samples = step.shape[: step.ndim - state_dims]
    kept = step.new_empty((*samples, *[1] * state_dims)).bernoulli_(1 - rate)
    return step * (kept / (1 - rate))


class DropPath(_DropoutNd):
    """`drop_path` in training; the identity in evaluation.

    It draws from PyTorch's global generator, as dropout does, and derives from the base of PyTorch's dropout layers, so
    that code that looks for layers which draw random numbers finds it.
    """

    def __init__(self, rate: float, state_dims: int) -> None:
        super().__init__(p=rate)
        self.state_dims = state_dims

    def forward(self, step: Tensor) -> Tensor:
        return drop_path(step, self.p, self.state_dims) if self.training and self.p else step


def sublayer_norm(width: int, heads: int) -> float:
    """Root mean square of |F(c)| over a head's features at initialisation, for a normalised c and ReLU.

    He initialisation gives each feature of F(c) a variance of 2.
    """
    return math.sqrt(2 * width / heads)


class ChannelCompressor(nn.Module):
    """Mixes the value channels of each feature, `[..., d, d_v]` to `[..., d]` (paper, DDL-CC, appendix A.2).

    The initial weights are random and their squares sum to 1 in expectation. This keeps the scale of the state and
    gives the channels different gradients; under a mean over channels, channels that start equal would stay equal.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(width, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.kernel, std=self.kernel.shape[1] ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        # Features are innermost in memory, as in most states: otherwise the backward pass loops over the few channels.
        return (x * self.kernel.t().contiguous().t()).sum(-1)

    def extra_repr(self) -> str:
        width, channels = self.kernel.shape
        return f"width={width}, channels={channels}"
