"""The protocol of encoder specs. A spec imports its modules when it builds them: configs are read without PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from gymnasium import spaces

from deltarl.errors import ConfigError, Spec

if TYPE_CHECKING:
    from deltarl.encoders.encoder import Encoder


class EncoderSpec(Spec, ABC):
    """What stands between observations and torsos, as plain data: the features extractor of Stable-Baselines3."""

    inner_option: ClassVar[str | None] = None  # the option that is the inner width
    kind: str

    @abstractmethod
    def build(self, space: spaces.Space[Any]) -> Encoder | None:
        """Build the module from observations to features; None keeps Stable-Baselines3's own.

        Raises:
            ConfigError: if it cannot read such observations.
        """

    @property
    def inner(self) -> int | None:
        """The width that a comparison may change to give arms equal sizes; None if there is none."""
        return None if self.inner_option is None else getattr(self, self.inner_option)

    def scaled(self, factor: float) -> Self:
        """The same encoder with its inner width times `factor`, rounded, at least 1. Only for specs with `inner`."""
        assert self.inner is not None
        assert self.inner_option is not None
        return self.model_copy(update={self.inner_option: max(1, round(self.inner * factor))})

    @abstractmethod
    def label(self) -> str:
        """Kind and size in a few characters, for summaries."""

    @property
    def least_weights(self) -> int:
        """A lower bound on the number of its weights."""
        return 0


class HistoryReaderSpec(EncoderSpec):
    """Base of encoders that read histories `[T, d]`, the newest observation last."""

    advice: ClassVar[str] = "give env.wrappers=[{wrapper: history, length: 16}], or an environment that ends in _masked"

    def history(self, space: spaces.Space[Any]) -> tuple[int, int]:
        """The size of a history, T and d.

        Raises:
            ConfigError: if observations are not histories of vectors.
        """
        if not isinstance(space, spaces.Box) or len(space.shape) != 2 or 0 in space.shape:
            raise ConfigError(
                f"encoder: {self.kind} reads histories, Box observations [T, d]; got {space}; {self.advice}"
            )
        length, width = space.shape
        return length, width
