"""Former module of the blocks, now in `deltarl.torsos`; pickles of models saved before the move refer to it."""

from deltarl.torsos.delta_blocks import AdditiveBlock, DeltaBlock, LerpBlock, RankOneBlock, WriteOnlyBlock
from deltarl.torsos.layers import ACTIVATIONS, BatchRenorm, ChannelCompressor, Sublayer
from deltarl.torsos.residual_blocks import PlainBlock, ResidualBlock

__all__ = [
    "ACTIVATIONS",
    "AdditiveBlock",
    "BatchRenorm",
    "ChannelCompressor",
    "DeltaBlock",
    "LerpBlock",
    "PlainBlock",
    "RankOneBlock",
    "ResidualBlock",
    "Sublayer",
    "WriteOnlyBlock",
]
