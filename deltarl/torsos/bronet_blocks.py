"""BroNet's blocks (Nauman et al., arXiv 2405.16158)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor, nn

from deltarl.torsos.join import StackBlock
from deltarl.torsos.layers import ACTIVATIONS, make_norm

if TYPE_CHECKING:
    from deltarl.torsos.bronet import BroNetTorsoSpec


class BroNetBlock(StackBlock):
    """X + Norm(W2 act(Norm(W1 X))); maps `[..., width]` to `[..., width]`."""

    def __init__(self, spec: BroNetTorsoSpec) -> None:
        super().__init__(spec)
        second = list(bronet_layer(spec.hidden, spec.width, spec))
        self.sublayer = nn.Sequential(
            *bronet_layer(spec.width, spec.hidden, spec), *second[:2]
        )  # no activation at the end

    def forward(self, x: Tensor) -> Tensor:
        return self.joined(x, x + self.sublayer(x))


def bronet_layer(in_features: int, out_features: int, spec: BroNetTorsoSpec) -> nn.Sequential:
    """Linear, norm and activation; orthogonal weights times the square root of 2, zero bias."""
    linear = nn.Linear(in_features, out_features)
    nn.init.orthogonal_(linear.weight, gain=math.sqrt(2))
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, make_norm(spec.norm, out_features, spec.eps), ACTIVATIONS[spec.activation]())
