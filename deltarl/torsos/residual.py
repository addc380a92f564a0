"""Residual torsos, and the same torsos without the shortcut."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from deltarl.errors import complaint
from deltarl.torsos.base import StackSpec

if TYPE_CHECKING:
    from deltarl.torsos.residual_blocks import PlainBlock, ResidualBlock


class PlainTorsoSpec(StackSpec):
    """Residual blocks without their shortcut, F(Norm(x))."""

    formula: ClassVar[str] = "F(Norm(X))"
    unread: ClassVar[tuple[str, ...]] = ("residual_scale", "drop_path")  # they act on what a shortcut is added to
    kind: Literal["plain"] = "plain"

    def make_block(self) -> PlainBlock:
        from deltarl.torsos.residual_blocks import PlainBlock

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
        from deltarl.torsos.residual_blocks import ResidualBlock

        return ResidualBlock(self)
