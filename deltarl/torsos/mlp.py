"""Stable-Baselines3's own network: the absence of a torso."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field

from deltarl.torsos.base import Activation, TorsoSpec

if TYPE_CHECKING:
    from torch import nn


class MLPTorsoSpec(TorsoSpec):
    """Stable-Baselines3's own network, its modules and initialisation untouched."""

    kind: Literal["mlp"] = "mlp"
    net_arch: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="Widths of the hidden layers; the algorithm's own in Stable-Baselines3 if not given."
    )
    activation: Activation | None = Field(
        None, description="Activation; the algorithm's own in Stable-Baselines3 if not given."
    )

    @classmethod
    def formulas(cls) -> dict[str, str]:
        return {"mlp": "Stable-Baselines3's own layers"}

    def build(self, in_features: int) -> None:
        del in_features

    @property
    def layers(self) -> tuple[int, ...] | None:
        return self.net_arch

    @property
    def layer_activations(self) -> tuple[type[nn.Module] | None]:
        from deltarl.torsos.layers import ACTIVATIONS

        return (None if self.activation is None else ACTIVATIONS[self.activation],)

    @property
    def inner(self) -> tuple[int, ...] | None:
        return self.net_arch

    def scaled(self, factor: float) -> Self:
        assert self.net_arch is not None
        return self.model_copy(update={"net_arch": tuple(max(1, round(width * factor)) for width in self.net_arch)})

    def label(self) -> str:
        return "mlp" if self.net_arch is None else f"mlp {'x'.join(map(str, self.net_arch))}"

    @property
    def least_weights(self) -> int:
        return sum(one * other for one, other in pairwise(self.net_arch or ()))

    @property
    def kept_numbers(self) -> int:
        return 0
