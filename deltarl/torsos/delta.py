"""Delta torsos: each block rewrites the state along a learned direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from deltarl.torsos.block import Block
from deltarl.torsos.delta_blocks import AdditiveBlock, DeltaBlock, LerpBlock, WriteOnlyBlock
from deltarl.torsos.delta_options import DeltaOptions
from deltarl.torsos.erasing_blocks import OrthogonalBlock, ResidualEraseBlock


class DeltaTorsoSpec(DeltaOptions):
    """Delta blocks, X + beta k (v^T - k^T X) (Deep Delta Learning, arXiv 2601.00417), and the block's variants."""

    kind: Literal["delta"] = "delta"

    def make_block(self) -> Block:
        return _BLOCKS[self.update](self)


_BLOCKS: dict[str, Callable[[DeltaOptions], Block]] = {
    "delta": DeltaBlock,
    "write_only": WriteOnlyBlock,
    "additive": AdditiveBlock,
    "lerp": LerpBlock,
    "residual_erase": ResidualEraseBlock,
    "orthogonal": OrthogonalBlock,
}
