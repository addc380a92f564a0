"""Causal attention over a history, in blocks whose shortcut is Delta, residual or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from gymnasium import spaces
from pydantic import Field, model_validator

from deltarl.encoders.base import HistoryReaderSpec
from deltarl.encoders.shortcut import ShortcutSpec
from deltarl.errors import complaint

if TYPE_CHECKING:
    from deltarl.encoders.history_module import History


class HistoryEncoderSpec(ShortcutSpec, HistoryReaderSpec):
    """Causal self-attention over a history; each sublayer's shortcut is Delta, residual or none, as in torsos."""

    inner_option = "hidden"
    kind: Literal["history"] = "history"
    width: int = Field(64, ge=4, le=65_536, description="Width of a token's state, and number of features.")
    depth: int = Field(1, ge=1, le=500, description="Number of pairs of an attention and an MLP sublayer.")
    attention_heads: int = Field(4, ge=1, description="Heads of the attention; they divide the width.")
    hidden: int | None = Field(None, ge=1, description="Inner width of the MLP sublayers; null: twice the width.")
    positions: Literal["learned", "rotary"] = Field(
        "learned", description="Positions in the history: learned vectors, added to the tokens, or rotated queries."
    )
    token_compression: int | None = Field(
        None,
        ge=2,
        le=64,
        description="Tokens that a causal depthwise convolution mixes before k, v and beta are read; it starts as the "
        "identity. Null: none.",
    )

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        if self.width % self.attention_heads:
            fitting = [n for n in range(1, self.width + 1) if self.width % n == 0]
            raise complaint(
                f"{self.attention_heads} heads do not divide width {self.width}; use one of "
                f"{', '.join(map(str, fitting))}",
                key="attention_heads",
            )
        if self.positions == "rotary" and (self.width // self.attention_heads) % 2:
            raise complaint(
                f"rotary turns pairs of features, but heads have {self.width // self.attention_heads}", key="positions"
            )
        self.check_torso(self.width, 2 * self.depth, self.inner)
        return self

    def build(self, space: spaces.Space[Any]) -> History:
        from deltarl.encoders.history_module import History

        length, features = self.history(space)
        return History(space, length, features, self)

    @property
    def inner(self) -> int:
        return 2 * self.width if self.hidden is None else self.hidden

    def label(self) -> str:
        return f"{self.kind} {self.update} {self.width}x{self.depth}"

    @property
    def least_weights(self) -> int:
        return self.depth * self.width * (4 * self.width + 2 * self.inner)
