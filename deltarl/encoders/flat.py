"""No encoder: torsos read the observation as Stable-Baselines3 hands it over."""

from __future__ import annotations

from typing import Any, Literal

from gymnasium import spaces

from deltarl.encoders.base import EncoderSpec


class FlatEncoderSpec(EncoderSpec):
    """Stable-Baselines3's own: arrays flattened, the entries of a Dict joined, NatureCNN for images."""

    kind: Literal["flat"] = "flat"

    def build(self, space: spaces.Space[Any]) -> None:
        del space

    def label(self) -> str:
        return self.kind
