"""Causal attention over a history, in blocks whose shortcut is Delta, residual or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from gymnasium import spaces
from pydantic import Field, ValidationError, model_validator

from deltarl.encoders.base import HistoryReaderSpec
from deltarl.errors import complaint, first_complaint
from deltarl.torsos import DeltaTorsoSpec, PlainTorsoSpec, ResidualTorsoSpec, StackSpec
from deltarl.torsos.base import Activation

if TYPE_CHECKING:
    from deltarl.encoders.history_module import History

# Options of Delta blocks alone.
_OF_DELTA = ("heads", "beta_init", "beta_max")


class HistoryEncoderSpec(HistoryReaderSpec):
    """Causal self-attention over a history; each sublayer's shortcut is Delta, residual or none, as in torsos."""

    kind: Literal["history"] = "history"
    width: int = Field(64, ge=4, le=65_536, description="Width of a token's state, and number of features.")
    depth: int = Field(1, ge=1, le=500, description="Number of pairs of an attention and an MLP sublayer.")
    attention_heads: int = Field(4, ge=1, description="Heads of the attention; they divide the width.")
    hidden: int | None = Field(None, ge=1, description="Inner width of the MLP sublayers; null: twice the width.")
    update: Literal["delta", "residual", "plain"] = Field(
        "delta",
        description="Shortcut of every sublayer, with k from the sublayer and v and beta from the token's context: "
        "X + beta k (v^T - k^T X); X + F(X); or none.",
    )
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
    heads: int | None = Field(
        None, ge=1, description="Groups of the state with a k, v and beta each; null: as in a Delta torso of the width."
    )
    beta_init: float | None = Field(
        None, gt=0, description="Start of the gates; null: as in a Delta torso with as many blocks."
    )
    beta_max: float | None = Field(None, gt=0, le=2, description="Upper end of the gates' range; null: 2.")
    activation: Activation = Field("relu", description="Activation inside the MLP sublayers.")
    norm: Literal["layer", "rms", "none"] = Field("layer", description="Norm before each sublayer and after the last.")
    eps: float = Field(1e-5, gt=0, le=1e-1, description="Guard inside the norms and the direction's normalisation.")

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
        for option in _OF_DELTA:
            if self.update != "delta" and getattr(self, option) is not None:
                raise complaint(f"{option} has no effect with update {self.update}; leave it out", key=option)
        try:
            self.stack()
        except ValidationError as error:
            path, message = first_complaint(error, self.model_dump())
            raise complaint(message, key=path[0]) from None
        return self

    def stack(self) -> StackSpec:
        """The torso whose blocks the sublayers are."""
        shared: dict[str, Any] = {
            "width": self.width,
            "depth": 2 * self.depth,
            "hidden": self.inner,
            "activation": self.activation,
            "norm": self.norm,
            "eps": self.eps,
        }
        if self.update == "residual":
            return ResidualTorsoSpec(**shared)
        if self.update == "plain":
            return PlainTorsoSpec(**shared)
        given = {name: value for name in _OF_DELTA if (value := getattr(self, name)) is not None}
        return DeltaTorsoSpec(**shared, **given)

    def build(self, space: spaces.Space[Any]) -> History:
        from deltarl.encoders.history_module import History

        length, features = self.history(space)
        return History(space, length, features, self)

    @property
    def inner(self) -> int:
        return 2 * self.width if self.hidden is None else self.hidden

    def scaled(self, factor: float) -> Self:
        return self.model_copy(update={"hidden": max(1, round(self.inner * factor))})

    def label(self) -> str:
        return f"{self.kind} {self.update} {self.width}x{self.depth}"

    @property
    def least_weights(self) -> int:
        return self.depth * self.width * (4 * self.width + 2 * self.inner)
