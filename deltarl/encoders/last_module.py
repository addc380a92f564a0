"""Reads the newest observation of a history."""

from __future__ import annotations

from torch import Tensor

from deltarl.encoders.encoder import Encoder


class Last(Encoder):
    """Maps histories `[N, T, d]` to `[N, d]`."""

    def forward(self, observations: Tensor) -> Tensor:
        return observations[:, -1]
