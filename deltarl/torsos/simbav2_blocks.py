"""SimbaV2's embedding and blocks (Lee et al., arXiv 2502.15280)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from deltarl.torsos.block import Block
from deltarl.torsos.layers import ACTIVATIONS

if TYPE_CHECKING:
    from deltarl.torsos.simbav2 import SimbaV2TorsoSpec


class UnitLinear(nn.Linear):
    """W x with unit rows and no bias. Policies call `project_` after each optimizer step to restore them."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def reset_parameters(self) -> None:
        nn.init.orthogonal_(self.weight)
        self.project_()

    @torch.no_grad()
    def project_(self) -> None:
        """Normalise each row of the weight, in place."""
        self.weight.copy_(normalize(self.weight, dim=-1))


class Scaler(nn.Module):
    """A learned factor per feature: `start / scale` times a parameter that starts at `scale`.

    The factor starts at `start`; `scale` sets how fast an optimizer with normalised steps, such as Adam, changes it.
    """

    def __init__(self, features: int, start: float, scale: float) -> None:
        super().__init__()
        self.start, self.scale = start, scale
        self.gain = nn.Parameter(torch.empty(features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.gain, self.scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.gain * (self.start / self.scale))

    def extra_repr(self) -> str:
        return f"{len(self.gain)}, start={self.start:g}, scale={self.scale:g}"


class Embedding(nn.Module):
    """unit(s * W unit([x, shift])): from features `[..., in_features]` to the sphere, `[..., width]`."""

    def __init__(self, in_features: int, spec: SimbaV2TorsoSpec) -> None:
        super().__init__()
        self.shift, self.eps = spec.shift, spec.eps
        self.linear = UnitLinear(in_features + 1, spec.width)
        self.scaler = Scaler(spec.width, math.sqrt(2 / spec.width), math.sqrt(2 / spec.width))

    def forward(self, x: Tensor) -> Tensor:
        shifted = torch.cat([x, x.new_full((*x.shape[:-1], 1), self.shift)], dim=-1)
        embedded = self.scaler(self.linear(normalize(shifted, dim=-1, eps=self.eps)))
        return normalize(embedded, dim=-1, eps=self.eps)


class SimbaV2Block(Block):
    """unit(X + a (unit(F(X)) - X)), F(X) = W2 (relu(s * W1 X) + eps); maps `[..., width]` to `[..., width]`.

    a starts at 1 / (depth + 1). The eps keeps F(X) away from 0 where no unit is active.
    """

    def __init__(self, spec: SimbaV2TorsoSpec) -> None:
        super().__init__()
        self.eps = spec.eps
        self.inner = UnitLinear(spec.width, spec.hidden)
        self.scaler = Scaler(spec.hidden, math.sqrt(2 / spec.hidden), math.sqrt(2 / spec.hidden))
        self.activation = ACTIVATIONS[spec.activation]()
        self.outer = UnitLinear(spec.hidden, spec.width)
        self.rate = Scaler(spec.width, 1 / (spec.depth + 1), 1 / math.sqrt(spec.width))

    def forward(self, x: Tensor) -> Tensor:
        aim = self.outer(self.activation(self.scaler(self.inner(x))) + self.eps)
        return normalize(x + self.rate(normalize(aim, dim=-1, eps=self.eps) - x), dim=-1, eps=self.eps)

    def extra_repr(self) -> str:
        return f"eps={self.eps:g}"
