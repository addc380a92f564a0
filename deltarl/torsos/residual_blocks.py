"""Residual blocks, and the same blocks without the shortcut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from deltarl.torsos.join import StackBlock, make_context_norm

if TYPE_CHECKING:
    from deltarl.torsos.base import StackSpec
    from deltarl.torsos.residual import ResidualTorsoSpec


class PlainBlock(StackBlock):
    """F(Norm(x)): a block with no shortcut. Maps `[..., width]` to `[..., width]`.

    Args:
        spec: the options.
        sublayer: F, if it is not the spec's own.
    """

    def __init__(self, spec: StackSpec, sublayer: nn.Module | None = None) -> None:
        super().__init__(spec)
        self.norm = make_context_norm(spec)
        self.sublayer = spec.make_sublayer() if sublayer is None else sublayer

    def branch(self, x: Tensor) -> Tensor:
        """F(Norm(x))."""
        result: Tensor = self.sublayer(self.norm(x))
        return result

    def forward(self, x: Tensor) -> Tensor:
        return self.joined(x, self.branch(x))


class ResidualBlock(PlainBlock):
    """x + F(Norm(x)): the pre-norm residual block. Maps `[..., width]` to `[..., width]`.

    The last layer of F starts at `spec.init_scale` times that of a plain block.
    """

    def __init__(self, spec: ResidualTorsoSpec, sublayer: nn.Module | None = None) -> None:
        super().__init__(spec, sublayer)
        if spec.init_scale != 1:
            assert isinstance(self.sublayer, nn.Sequential)
            last = self.sublayer[-1]
            assert isinstance(last, nn.Linear)
            with torch.no_grad():
                last.weight.mul_(spec.init_scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.joined(x, x + self.branch(x))
