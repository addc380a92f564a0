"""Residual blocks, and the same blocks without the shortcut."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from deltarl.errors import complaint
from deltarl.torsos.base import StackSpec
from deltarl.torsos.join import StackBlock, make_context_norm


class PlainTorsoSpec(StackSpec):
    """Residual blocks without their shortcut, F(Norm(x))."""

    formula: ClassVar[str] = "F(Norm(X))"
    unread: ClassVar[tuple[str, ...]] = ("residual_scale", "drop_path")  # they act on what a shortcut is added to
    kind: Literal["plain"] = "plain"

    def make_block(self) -> PlainBlock:
        return PlainBlock(self)


class ResidualTorsoSpec(StackSpec):
    """Pre-norm residual blocks, x + F(Norm(x)), as in SimBa (Lee et al., arXiv 2410.09754)."""

    formula: ClassVar[str] = "X + F(Norm(X))"
    kind: Literal["residual"] = "residual"
    init_scale: float = Field(
        1.0,
        gt=0,
        le=10,
        description="Factor on the last layer of each block at the start; below 1, blocks start small.",
    )

    @model_validator(mode="after")
    def _last_layer_is_linear(self) -> Self:
        for option in ("sublayers", "norm_position"):
            value = getattr(self, option)
            if self.init_scale != 1 and value in {2, 3, 4, "sandwich"}:
                raise complaint(
                    f"init_scale is for a sublayer that ends in a Linear; leave it out with {option} {value}, or use "
                    "residual_scale",
                    key="init_scale",
                )
        return self

    def make_block(self) -> ResidualBlock:
        return ResidualBlock(self)


class PlainBlock(StackBlock):
    """F(Norm(x)): a block with no shortcut. Maps `[..., width]` to `[..., width]`."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__(spec)
        self.norm = make_context_norm(spec)
        self.sublayer = spec.make_sublayer()

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

    def __init__(self, spec: ResidualTorsoSpec) -> None:
        super().__init__(spec)
        if spec.init_scale != 1:
            last = self.sublayer[-1]
            assert isinstance(last, nn.Linear)
            with torch.no_grad():
                last.weight.mul_(spec.init_scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.joined(x, x + self.branch(x))
