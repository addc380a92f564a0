"""Layers that torsos of all families are made of: activations, norms, the sublayer and the channel compressor."""

from __future__ import annotations

import math
from typing import Literal

import torch
from sb3_contrib.common.torch_layers import BatchRenorm1d
from torch import Tensor, nn

Activation = Literal["relu", "tanh", "gelu", "silu", "elu"]
Norm = Literal["layer", "rms", "batch_renorm"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
}


class BatchRenorm(BatchRenorm1d):
    """sb3-contrib's batch renormalisation, its statistics under the names that target networks follow.

    Stable-Baselines3 copies a buffer to a target network only if it is called `running_*`.
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
    """The norm of that name over `width` features."""
    if name == "batch_renorm":
        return BatchRenorm(width, eps=eps)
    norm = nn.LayerNorm if name == "layer" else nn.RMSNorm
    return norm(width, eps=eps)


class Sublayer(nn.Sequential):
    """F: Linear, activation, Linear; He initialisation and zero biases, as in SimBa (arXiv 2410.09754)."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__(nn.Linear(width, hidden), ACTIVATIONS[activation](), nn.Linear(hidden, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self:
            if isinstance(module, nn.Linear):
                start_linear(module)


def start_linear(linear: nn.Linear) -> None:
    """He initialisation and a zero bias."""
    nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    nn.init.zeros_(linear.bias)


def sublayer_norm(width: int, heads: int) -> float:
    """Root mean square of |F(c)| over a head's features at initialisation, for a normalised c and ReLU.

    He initialisation gives each feature of F(c) a variance of 2.
    """
    return math.sqrt(2 * width / heads)


class ChannelCompressor(nn.Module):
    """Mixes the value channels of each feature, `[..., d, d_v]` to `[..., d]` (paper, DDL-CC, appendix A.2).

    It starts at random weights whose squares sum to 1 in expectation, which keeps the size of the state and gives each
    channel a gradient of its own; with a mean over channels, those that start equal would stay so.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(width, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.kernel, std=self.kernel.shape[1] ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.kernel).sum(-1)

    def extra_repr(self) -> str:
        width, channels = self.kernel.shape
        return f"width={width}, channels={channels}"
