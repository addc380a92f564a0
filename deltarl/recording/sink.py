"""The protocol of sinks, the destinations of a run's numbers and figures."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from stable_baselines3.common.logger import KVWriter

from deltarl.recording.tracker import Ending

# What is measured of torsos has tags below this, which sort after evaluations and rollouts.
MEASURED = "torso/"


class Sink(KVWriter):
    """A destination of a run's numbers and figures. Subclasses override the methods for what they accept.

    It is also an output of Stable-Baselines3's logger: whatever an algorithm logs arrives in `write`.
    """

    # The name that excludes this sink in `logger.record(..., exclude=...)`.
    name: str
    # Whether it writes rows, where the step is also a column under Stable-Baselines3's name for it.
    is_table: ClassVar[bool] = False

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Accept what the logger dumps, without the values excluded from this sink."""
        kept = {key: value for key, value in key_values.items() if self.name not in (key_excluded.get(key) or ())}
        self.scalars(kept, step)

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        """Accept numbers by tag, those of one step together; files of rows write them as one row."""

    def histogram(self, tag: str, values: torch.Tensor, step: int) -> None:
        """Accept values of any shape, whose distribution is of interest."""

    def figure(self, tag: str, png: bytes, size: tuple[int, int], step: int) -> None:
        """Accept a figure drawn as a PNG of `size`, height and width in pixels."""

    def video(self, tag: str, gif: bytes, size: tuple[int, int], step: int) -> None:
        """Accept an animated GIF of `size`, height and width in pixels."""

    def text(self, tag: str, text: str) -> None:
        """Accept Markdown text."""

    def hparams(self, settings: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """Accept a run's settings, and the tags of the scores to show with them, with initial values."""

    def charts(self, charts: Mapping[str, Mapping[str, str]]) -> None:
        """Accept the scalars that share a chart: a pattern of their tags, by category and title."""

    def summary(self, scores: Mapping[str, float | str], step: int) -> None:
        """Accept the final scores."""

    def flush(self) -> None:
        """Write everything accepted so far to the file."""

    def ended(self, ending: Ending) -> None:
        """Accept how the run ended; only `close` follows, which may have to wait."""

    def close(self) -> None:
        """Close the sink."""


class FileSink(Sink, ABC):
    """A sink that writes files into a run's folder."""

    # Whether it shows runs side by side, with their settings and scores.
    compares_runs: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def open(cls, folder: Path, elapsed_seconds: float = 0.0) -> Self:
        """Open the sink for a run.

        Args:
            folder: the run's folder; existing records are continued.
            elapsed_seconds: seconds of training so far.
        """

    @classmethod
    def growing(cls, folder: Path) -> list[Path]:
        """Append-only files in a run's folder; an exact resume cuts them back."""
        del folder
        return []

    @classmethod
    def sizes(cls, folder: Path) -> dict[str, int]:
        """Sizes in bytes of the append-only files, by name."""
        return {path.name: path.stat().st_size for path in cls.growing(folder)}

    @classmethod
    def truncate(cls, folder: Path, sizes: Mapping[str, int]) -> None:
        """Cut the append-only files back to `sizes`; files that did not exist then are removed."""
        cut_back(cls.growing(folder), sizes)


def cut_back(paths: list[Path], sizes: Mapping[str, int]) -> None:
    """Cut files back to earlier sizes, given by name; remove files that did not exist then."""
    for path in paths:
        if path.name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[path.name]:
            os.truncate(path, sizes[path.name])
