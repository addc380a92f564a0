"""The former place of blocks, now `deltarl.torsos`: models saved before the move name it in their pickles."""

from deltarl.torsos.delta_blocks import AdditiveBlock, DeltaBlock, LerpBlock, RankOneBlock, WriteOnlyBlock
from deltarl.torsos.layers import ACTIVATIONS, BatchRenorm, ChannelCompressor, Sublayer
from deltarl.torsos.residual import PlainBlock, ResidualBlock

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
