"""What a place is that a run's numbers and pictures go to."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from stable_baselines3.common.logger import KVWriter

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Sink(KVWriter, ABC):
    """One place that a run's numbers and pictures go to. A subclass overrides what it has a place for.

    It is an output of Stable-Baselines3's logger as well: what an algorithm logs arrives in `write`.
    """

    # As which `logger.record(..., exclude=...)` leaves it out.
    name: ClassVar[str]
    # A table has a column for each value, and no room for the hundreds that the gates are measured by.
    is_table: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def open(cls, folder: Path, elapsed_seconds: float = 0.0) -> Self:
        """The sink of a run.

        Args:
            folder: the run's folder; where there is something of the run already, it goes on from there.
            elapsed_seconds: seconds of training before.
        """

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Take what the logger dumps, less what it was told to leave out here."""
        kept = {key: value for key, value in key_values.items() if self.name not in (key_excluded.get(key) or ())}
        self.scalars(kept, step)

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        """Take numbers by their tags; a table takes them as one row."""

    def histogram(self, tag: str, values: torch.Tensor, step: int) -> None:
        """Take the distribution of values of any shape."""

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        """Take a figure, and close it."""

    def video(self, tag: str, gif: bytes, size: tuple[int, int], step: int) -> None:
        """Take an animated GIF of `size`, height and width in pixels."""

    def text(self, tag: str, text: str) -> None:
        """Take text in Markdown."""

    def hparams(self, settings: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """Take a run's settings, and the tags of the scores to show beside them with what they are before the first."""

    def charts(self, charts: Mapping[str, Mapping[str, str]]) -> None:
        """Take which scalars are to share a chart: by category and title, a pattern of their tags."""

    def flush(self) -> None:
        """Put into the file what has been told so far."""

    def close(self) -> None:
        """Take nothing more."""

    @classmethod
    def growing(cls, folder: Path) -> list[Path]:
        """Files of a run's folder that are only ever added to; an exact resume cuts them back."""
        del folder
        return []

    @classmethod
    def sizes(cls, folder: Path) -> dict[str, int]:
        """Bytes of each growing file, by its name."""
        return {path.name: path.stat().st_size for path in cls.growing(folder)}

    @classmethod
    def truncate(cls, folder: Path, sizes: Mapping[str, int]) -> None:
        """Take from the growing files what came after `sizes`; those that there were not then are removed."""
        cut_back(cls.growing(folder), sizes)


def cut_back(paths: list[Path], sizes: Mapping[str, int]) -> None:
    """Cut files back to the sizes that they had, by their names; remove those that there were not then."""
    for path in paths:
        if path.name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[path.name]:
            os.truncate(path, sizes[path.name])
