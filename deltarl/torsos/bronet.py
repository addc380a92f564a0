"""BroNet, the network of Bigger, Regularized, Optimistic (Nauman et al., arXiv 2405.16158)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from deltarl.torsos.base import StackSpec

if TYPE_CHECKING:
    from torch import nn

    from deltarl.torsos.bronet_blocks import BroNetBlock


class BroNetTorsoSpec(StackSpec):
    """BroNet's blocks, X + Norm(W2 act(Norm(W1 X))), behind act(Norm(W x)), with no final norm (arXiv 2405.16158).

    In the authors' networks `hidden` is the width.
    """

    formula: ClassVar[str] = "X + Norm(W2 act(Norm(W1 X)))"
    unread: ClassVar[tuple[str, ...]] = ("norm_position", "sublayers")
    kind: Literal["bronet"] = "bronet"

    def make_stem(self, in_features: int) -> nn.Sequential:
        from deltarl.torsos.bronet_blocks import bronet_layer

        return bronet_layer(in_features, self.width, self)

    def make_block(self) -> BroNetBlock:
        from deltarl.torsos.bronet_blocks import BroNetBlock

        return BroNetBlock(self)

    def make_final_norm(self) -> nn.Identity:
        from torch import nn

        return nn.Identity()
