"""Options that all encoders made of the torsos' blocks share."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError

from deltarl.encoders.base import EncoderSpec
from deltarl.errors import complaint, first_complaint
from deltarl.torsos import DeltaTorsoSpec, PlainTorsoSpec, ResidualTorsoSpec, StackSpec
from deltarl.torsos.base import Activation

# Options of Delta blocks alone.
_OF_DELTA = ("heads", "beta_init", "beta_max")


class ShortcutSpec(EncoderSpec):
    """Base of encoders whose blocks are those of torsos, with sublayers of their own."""

    update: Literal["delta", "residual", "plain"] = Field(
        "delta",
        description="Shortcut of every block, with k from its sublayer and v and beta from the normalised state: "
        "X + beta k (v^T - k^T X); X + F(X); or none.",
    )
    heads: int | None = Field(
        None, ge=1, description="Groups of the state with a k, v and beta each; null: as in a Delta torso of the width."
    )
    beta_init: float | None = Field(
        None, gt=0, description="Start of the gates; null: as in a Delta torso with as many blocks."
    )
    beta_max: float | None = Field(None, gt=0, le=2, description="Upper end of the gates' range; null: 2.")
    activation: Activation = Field("relu", description="Activation inside the sublayers, except in attention.")
    norm: Literal["layer", "rms", "none"] = Field("layer", description="Norm before each sublayer and after the last.")
    eps: float = Field(1e-5, gt=0, le=1e-1, description="Guard inside the norms and the direction's normalisation.")

    def torso(self, width: int, depth: int, hidden: int) -> StackSpec:
        """The torso whose blocks the encoder's are.

        Args:
            width: of the state.
            depth: number of blocks of the whole encoder.
            hidden: inner width of the sublayers.
        """
        shared: dict[str, Any] = {"width": width, "depth": depth, "hidden": hidden}
        shared |= {name: getattr(self, name) for name in ("activation", "norm", "eps")}
        if self.update == "residual":
            return ResidualTorsoSpec(**shared)
        if self.update == "plain":
            return PlainTorsoSpec(**shared)
        given = {name: value for name in _OF_DELTA if (value := getattr(self, name)) is not None}
        return DeltaTorsoSpec(**shared, **given)

    def check_torso(self, width: int, depth: int, hidden: int) -> None:
        """Check the options of blocks of this width; arguments as in `torso`. Raises a `complaint`."""
        for option in _OF_DELTA:
            if self.update != "delta" and getattr(self, option) is not None:
                raise complaint(f"{option} has no effect with update {self.update}; leave it out", key=option)
        try:
            self.torso(width, depth, hidden)
        except ValidationError as error:
            path, message = first_complaint(error, self.model_dump())
            raise complaint(message, key=path[0]) from None
