"""Delta torsos: each block rewrites the state along a learned direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from deltarl.torsos.delta_options import DeltaOptions

if TYPE_CHECKING:
    from deltarl.torsos.block import Block


class DeltaTorsoSpec(DeltaOptions):
    """Delta blocks, X + beta k (v^T - k^T X) (Deep Delta Learning, arXiv 2601.00417), and the block's variants."""

    kind: Literal["delta"] = "delta"

    def make_block(self) -> Block:
        from deltarl.torsos import delta_blocks, erasing_blocks

        blocks: dict[str, Callable[[DeltaOptions], Block]] = {
            "delta": delta_blocks.DeltaBlock,
            "write_only": delta_blocks.WriteOnlyBlock,
            "additive": delta_blocks.AdditiveBlock,
            "lerp": delta_blocks.LerpBlock,
            "residual_erase": erasing_blocks.ResidualEraseBlock,
            "orthogonal": erasing_blocks.OrthogonalBlock,
        }
        return blocks[self.update](self)
