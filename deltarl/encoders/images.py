"""Which observations are images."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from deltarl.encoders.base import EncoderSpec
from deltarl.errors import ConfigError


class ImageReaderSpec(EncoderSpec):
    """Base of encoders that read images `[C, H, W]`, to which Stable-Baselines3 turns images `[H, W, C]`."""

    def image(self, space: spaces.Space[Any]) -> tuple[int, int, int]:
        """The size of an image: channels, height and width.

        Raises:
            ConfigError: if observations are not images.
        """
        if not isinstance(space, spaces.Box) or len(space.shape) != 3 or 0 in space.shape:
            raise ConfigError(f"encoder: {self.kind} reads images, Box observations [C, H, W]; got {space}")
        channels, height, width = space.shape
        return channels, height, width
