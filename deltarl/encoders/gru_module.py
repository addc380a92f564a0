"""Gated recurrent units over a history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymnasium import spaces
from torch import Tensor, nn

from deltarl.encoders.encoder import Encoder

if TYPE_CHECKING:
    from deltarl.encoders.gru import GRUEncoderSpec


class GRU(Encoder):
    """Maps histories `[N, T, d]` to the last layer's state after the newest observation, `[N, width]`.

    Args:
        space: of the observations.
        features: d.
        spec: width and depth.
    """

    def __init__(self, space: spaces.Space[Any], features: int, spec: GRUEncoderSpec) -> None:
        super().__init__(space, spec.width)
        self.gru = nn.GRU(features, spec.width, spec.depth, batch_first=True)

    def forward(self, observations: Tensor) -> Tensor:
        states: Tensor = self.gru(observations)[0]
        return states[:, -1]
