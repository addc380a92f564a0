"""Residual blocks, and the same blocks with no shortcut."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from deltarl.torsos.base import StackSpec
from deltarl.torsos.block import Block
from deltarl.torsos.layers import Sublayer, make_norm


class PlainTorsoSpec(StackSpec):
    """The same blocks with no shortcut, F(Norm(x))."""

    kind: Literal["plain"] = "plain"

    def make_block(self) -> PlainBlock:
        return PlainBlock(self)


class ResidualTorsoSpec(StackSpec):
    """Pre-norm residual blocks, x + F(Norm(x)), as in SimBa (Lee et al., arXiv 2410.09754)."""

    kind: Literal["residual"] = "residual"
    init_scale: float = Field(
        1.0,
        gt=0,
        le=10,
        description="Factor on the last layer of each block at the start; below 1, blocks start small.",
    )

    def make_block(self) -> ResidualBlock:
        return ResidualBlock(self)


class PlainBlock(Block):
    """F(Norm(x)): a block with no shortcut. Maps `[..., width]` to `[..., width]`."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.norm = make_norm(spec.norm, spec.width, spec.eps)
        self.sublayer = Sublayer(spec.width, spec.hidden, spec.activation)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.sublayer(self.norm(x))
        return result


class ResidualBlock(PlainBlock):
    """x + F(Norm(x)): the pre-norm residual block. Maps `[..., width]` to `[..., width]`.

    At the start the last layer of F is `spec.init_scale` times what a plain block's is.
    """

    def __init__(self, spec: ResidualTorsoSpec) -> None:
        super().__init__(spec)
        last = self.sublayer[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(spec.init_scale)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)
