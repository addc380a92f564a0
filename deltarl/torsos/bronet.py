"""BroNet, the network of Bigger, Regularized, Optimistic (Nauman et al., arXiv 2405.16158)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from torch import Tensor, nn

from deltarl.torsos.base import StackSpec
from deltarl.torsos.join import StackBlock
from deltarl.torsos.layers import ACTIVATIONS, make_norm


class BroNetTorsoSpec(StackSpec):
    """BroNet's blocks, X + Norm(W2 act(Norm(W1 X))), behind act(Norm(W x)), with no final norm (arXiv 2405.16158).

    In the authors' networks `hidden` is the width.
    """

    formula: ClassVar[str] = "X + Norm(W2 act(Norm(W1 X)))"
    unread: ClassVar[tuple[str, ...]] = ("norm_position", "sublayers")
    kind: Literal["bronet"] = "bronet"

    def make_stem(self, in_features: int) -> nn.Sequential:
        return _layer(in_features, self.width, self)

    def make_block(self) -> BroNetBlock:
        return BroNetBlock(self)

    def make_final_norm(self) -> nn.Identity:
        return nn.Identity()


class BroNetBlock(StackBlock):
    """X + Norm(W2 act(Norm(W1 X))); maps `[..., width]` to `[..., width]`."""

    def __init__(self, spec: BroNetTorsoSpec) -> None:
        super().__init__(spec)
        second = list(_layer(spec.hidden, spec.width, spec))
        self.sublayer = nn.Sequential(*_layer(spec.width, spec.hidden, spec), *second[:2])  # no activation at the end

    def forward(self, x: Tensor) -> Tensor:
        return self.joined(x, x + self.sublayer(x))


def _layer(in_features: int, out_features: int, spec: BroNetTorsoSpec) -> nn.Sequential:
    """Linear, norm and activation; orthogonal weights times the square root of 2, zero bias."""
    linear = nn.Linear(in_features, out_features)
    nn.init.orthogonal_(linear.weight, gain=math.sqrt(2))
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, make_norm(spec.norm, out_features, spec.eps), ACTIVATIONS[spec.activation]())
