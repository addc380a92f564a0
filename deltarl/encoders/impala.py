"""The convolutional network of IMPALA: the baseline for convolutional encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from gymnasium import spaces
from pydantic import Field

from deltarl.encoders.images import ImageReaderSpec

if TYPE_CHECKING:
    from deltarl.encoders.impala_module import Impala


class ImpalaEncoderSpec(ImageReaderSpec):
    """The large network of IMPALA (Espeholt et al., arXiv 1802.01561): stages of pooling and two residual blocks."""

    inner_option = "width"
    kind: Literal["impala"] = "impala"
    channels: tuple[Annotated[int, Field(ge=1, le=4_096)], ...] = Field(
        (16, 32, 32), min_length=1, max_length=16, description="Channels, stage by stage."
    )
    width: int = Field(256, ge=1, le=65_536, description="Number of features.")

    def build(self, space: spaces.Space[Any]) -> Impala:
        from deltarl.encoders.impala_module import Impala

        return Impala(space, self.image(space), self)

    def label(self) -> str:
        return f"{self.kind} {'-'.join(map(str, self.channels))}"

    @property
    def least_weights(self) -> int:
        return sum(36 * channels**2 for channels in self.channels)
