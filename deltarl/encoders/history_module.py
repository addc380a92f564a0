"""A small transformer over a history, whose blocks are those of the torsos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from deltarl.encoders.attention import CausalAttention, TokenCompressor
from deltarl.encoders.blocks import make_block
from deltarl.encoders.encoder import Encoder
from deltarl.torsos.layers import make_norm

if TYPE_CHECKING:
    from deltarl.encoders.history import HistoryEncoderSpec

# Of learned positions at the start: about that of the tokens. With small ones, attention learns to tell observations
# apart, and so to see speeds, more slowly.
_POSITION_STD = 0.5


class History(Encoder):
    """Maps histories `[N, T, d]` to the state of the newest token, `[N, width]`.

    Each observation is a token. Stem (Linear) and positions, then `depth` times an attention and an MLP block, then a
    norm. Blocks are those of torsos, on states `[N, T, width]`; in attention blocks F is causal self-attention.

    Args:
        space: of the observations.
        length: T.
        features: d.
        spec: the options.
    """

    def __init__(self, space: spaces.Space[Any], length: int, features: int, spec: HistoryEncoderSpec) -> None:
        super().__init__(space, spec.width)
        stack = spec.torso(spec.width, 2 * spec.depth, spec.inner)
        self.stem = nn.Linear(features, spec.width)
        self.positions = nn.Parameter(torch.empty(length, spec.width)) if spec.positions == "learned" else None
        rotary = spec.positions == "rotary"
        blocks: list[nn.Module] = []
        for index in range(2 * spec.depth):
            attention = None if index % 2 else CausalAttention(spec.width, spec.attention_heads, rotary=rotary)
            block = make_block(stack, attention)
            if spec.token_compression is not None:
                block.norm = nn.Sequential(TokenCompressor(spec.width, spec.token_compression), block.norm)
            blocks.append(block)
        self.blocks = nn.ModuleList(blocks)
        self.norm = make_norm(spec.norm, spec.width, spec.eps)
        # No other token reaches the features through the last block, which is an MLP, unless it mixes tokens.
        self.reads_newest_at_last = spec.token_compression is None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise stem and positions; blocks initialise themselves."""
        nn.init.orthogonal_(self.stem.weight)
        nn.init.zeros_(self.stem.bias)
        if self.positions is not None:
            nn.init.normal_(self.positions, std=_POSITION_STD)

    def gated_blocks(self) -> Sequence[nn.Module]:
        return list(self.blocks)

    def forward(self, observations: Tensor) -> Tensor:
        x = self.stem(observations)
        if self.positions is not None:
            x = x + self.positions
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x)
        if self.reads_newest_at_last:
            x = x[:, -1:]
        features: Tensor = self.norm(last(x)[:, -1])
        return features
