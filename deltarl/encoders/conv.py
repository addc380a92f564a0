"""Convolutional blocks whose shortcut is Delta, residual or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from gymnasium import spaces
from pydantic import Field, model_validator

from deltarl.encoders.images import ImageReaderSpec
from deltarl.encoders.shortcut import ShortcutSpec

if TYPE_CHECKING:
    from deltarl.encoders.conv_module import Conv


class ConvEncoderSpec(ShortcutSpec, ImageReaderSpec):
    """Stages of convolutional blocks on feature maps, for images; shortcuts are Delta, residual or none."""

    kind: Literal["conv"] = "conv"
    channels: tuple[Annotated[int, Field(ge=4, le=4_096)], ...] = Field(
        (32, 64), min_length=1, max_length=16, description="Width of the state at each position, stage by stage."
    )
    depth: int = Field(1, ge=1, le=500, description="Number of blocks in each stage.")
    hidden_scale: float = Field(
        1.0, gt=0, le=16, description="Inner width of the blocks' sublayers, in units of the stage's width."
    )
    width: int = Field(256, ge=1, le=65_536, description="Number of features.")

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        for channels in self.channels:
            self.check_torso(channels, self.blocks, self.inner_of(channels))
        return self

    @property
    def blocks(self) -> int:
        """Number of blocks in all stages."""
        return self.depth * len(self.channels)

    def inner_of(self, channels: int) -> int:
        """Inner width of the blocks of a stage."""
        return max(1, round(channels * self.hidden_scale))

    def build(self, space: spaces.Space[Any]) -> Conv:
        from deltarl.encoders.conv_module import Conv

        return Conv(space, self.image(space), self)

    @property
    def inner(self) -> int:
        """That of the last stage."""
        return self.inner_of(self.channels[-1])

    def scaled(self, factor: float) -> Self:
        return self.model_copy(update={"hidden_scale": self.hidden_scale * factor})

    def label(self) -> str:
        return f"{self.kind} {self.update} {'-'.join(map(str, self.channels))}x{self.depth}"

    @property
    def least_weights(self) -> int:
        return sum(18 * self.depth * channels * self.inner_of(channels) for channels in self.channels)
