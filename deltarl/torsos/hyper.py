"""Hyper-connections: several residual streams, and learned connections between them and each block."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from deltarl.errors import complaint
from deltarl.torsos.base import StackSpec

if TYPE_CHECKING:
    from torch import nn

    from deltarl.torsos.hyper_blocks import HyperBlock, SumOfStreams


class HyperTorsoSpec(StackSpec):
    """Hyper-connections, H_res X + H_post^T F(H_pre X) over several streams (arXiv 2409.19606; mHC, arXiv 2512.24880).

    The streams start as copies of the stem's output and are summed before the final norm.
    """

    formula: ClassVar[str] = "H_res X + H_post^T F(Norm(H_pre X)) with learned connections H of `channels` streams"
    unread: ClassVar[tuple[str, ...]] = ("norm_position",)
    kind: Literal["hyper"] = "hyper"
    channels: int = Field(4, ge=2, le=16, description="Number of residual streams.")
    connections: Literal["static", "dynamic"] = Field(
        "static", description="static: learned constants; dynamic: constants plus a part read from the state."
    )
    mixing: Literal["free", "doubly_stochastic"] = Field(
        "free",
        description="free: any connections, as in arXiv 2409.19606; doubly_stochastic: H_res by Sinkhorn's iteration, "
        "H_pre in (0, 1) and H_post in (0, 2), as in mHC.",
    )
    sinkhorn_steps: int = Field(20, ge=1, le=100, description="Number of steps of Sinkhorn's iteration.")

    @model_validator(mode="after")
    def _steps_are_taken(self) -> Self:
        if self.mixing == "free" and self.sinkhorn_steps != type(self).model_fields["sinkhorn_steps"].default:
            raise complaint("sinkhorn_steps has no effect with mixing free; leave it out", key="sinkhorn_steps")
        return self

    @property
    def state_channels(self) -> int:
        return self.channels

    def make_block(self) -> HyperBlock:
        from deltarl.torsos.hyper_blocks import HyperBlock

        return HyperBlock(self)

    def make_blocks(self) -> list[nn.Module]:
        from deltarl.torsos.hyper_blocks import HyperBlock

        return [HyperBlock(self, index) for index in range(self.depth)]

    def make_readout(self) -> SumOfStreams:
        from deltarl.torsos.hyper_blocks import SumOfStreams

        return SumOfStreams()
