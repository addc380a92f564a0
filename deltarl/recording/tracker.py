"""The protocol of trackers: services and stores outside a run's folder, which may be slow or fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

# How a process ends: the run has finished, was stopped and can be resumed, or failed.
Ending = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class About:
    """What trackers tell of a run besides its numbers.

    Attributes:
        folder: the run's folder.
        name: the run's name, which its seeds share.
        seed: the seed.
        task: id of the environment.
        algorithm: name of the algorithm.
        config: the resolved config as plain data.
        settings: the same, flat, with keys joined by dots.
        facts: versions, commit and machine, as plain data.
    """

    folder: Path
    name: str
    seed: int
    task: str = ""
    algorithm: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """Numbers by tag that were logged together.

    Attributes:
        step: the step of the environment.
        time: seconds since the epoch.
        index: how many rows of that step there are so far, this one included.
    """

    values: Mapping[str, float]
    step: int
    time: float
    index: int


class Tracker:
    """A connection to a tracker's run. All methods may block and raise; a thread of its own calls them.

    Attributes:
        name: as in `logging`.
        id: identifies the tracker's run; a resumed run is given it again.
        where: an address or a folder, for people.
        newest: the newest step that it has of a run which it continues; None if it does not know.
    """

    name: ClassVar[str]
    id: str
    where: str
    newest: int | None = None

    def rows(self, rows: Sequence[Row]) -> None:
        """Send rows of numbers, in the order of their steps."""

    def histogram(self, tag: str, values: NDArray[np.float32], step: int) -> None:
        """Send values, whose distribution is of interest."""

    def image(self, tag: str, png: bytes, step: int) -> None:
        """Send a figure or an image."""

    def video(self, tag: str, gif: bytes, step: int) -> None:
        """Send an animated GIF."""

    def summary(self, scores: Mapping[str, float | str], step: int) -> None:
        """Send the final scores."""

    def close(self, ending: Ending) -> None:
        """Send what is left, and end the connection."""
