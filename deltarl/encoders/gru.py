"""Gated recurrent units over a history: the baseline for encoders with attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from gymnasium import spaces
from pydantic import Field

from deltarl.encoders.base import HistoryReaderSpec

if TYPE_CHECKING:
    from deltarl.encoders.gru_module import GRU


class GRUEncoderSpec(HistoryReaderSpec):
    """PyTorch's GRU over a history, from a state of zeros; the state after the newest observation are the features."""

    inner_option = "width"
    kind: Literal["gru"] = "gru"
    width: int = Field(64, ge=1, le=65_536, description="Size of the state, and number of features.")
    depth: int = Field(1, ge=1, le=1_000, description="Number of layers.")

    def build(self, space: spaces.Space[Any]) -> GRU:
        from deltarl.encoders.gru_module import GRU

        _, features = self.history(space)
        return GRU(space, features, self)

    def label(self) -> str:
        return f"{self.kind} {self.width}x{self.depth}"

    @property
    def least_weights(self) -> int:
        return 3 * self.width**2 * self.depth
