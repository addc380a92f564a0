"""SimbaV2's network (Lee et al., arXiv 2502.15280): state and weights on spheres."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from deltarl.torsos.base import StackSpec

if TYPE_CHECKING:
    from torch import nn

    from deltarl.torsos.simbav2_blocks import Embedding, SimbaV2Block


class SimbaV2TorsoSpec(StackSpec):
    """Hyperspherical blocks, unit(X + a (unit(F(X)) - X)); states and rows of weights have length 1 (arXiv 2502.15280).

    The embedding appends a constant to the features before normalising, which preserves their length. No final norm.
    """

    formula: ClassVar[str] = (
        "unit(X + a (unit(F(X)) - X)) with a learned a for each feature, rows of weights of length 1"
    )
    unread: ClassVar[tuple[str, ...]] = ("norm", "norm_position", "residual_scale", "drop_path", "sublayers")
    kind: Literal["simbav2"] = "simbav2"
    shift: float = Field(3.0, gt=0, le=1_000, description="Constant that the embedding appends to the features.")

    def make_stem(self, in_features: int) -> Embedding:
        from deltarl.torsos.simbav2_blocks import Embedding

        return Embedding(in_features, self)

    def make_block(self) -> SimbaV2Block:
        from deltarl.torsos.simbav2_blocks import SimbaV2Block

        return SimbaV2Block(self)

    def make_final_norm(self) -> nn.Identity:
        from torch import nn

        return nn.Identity()
