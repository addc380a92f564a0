"""The newest observation of a history: the baseline without memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from gymnasium import spaces

from deltarl.encoders.base import HistoryReaderSpec

if TYPE_CHECKING:
    from deltarl.encoders.last_module import Last


class LastEncoderSpec(HistoryReaderSpec):
    """The newest observation of a history and nothing else: the same task without a memory."""

    kind: Literal["last"] = "last"

    def build(self, space: spaces.Space[Any]) -> Last:
        from deltarl.encoders.last_module import Last

        _, width = self.history(space)
        return Last(space, width)

    def label(self) -> str:
        return self.kind
