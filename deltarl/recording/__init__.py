"""Where what a run tells goes: TensorBoard, progress.csv and metrics.jsonl, each a sink.

A new one is a file with a subclass of `Sink` and its place in `SINKS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

from deltarl import disk
from deltarl.recording.metrics import Metrics, metrics_in
from deltarl.recording.sink import Sink, cut_back
from deltarl.recording.table import Table
from deltarl.recording.tensorboard import TensorBoard

__all__ = [
    "SINKS",
    "Metrics",
    "Sink",
    "TensorBoard",
    "cut_back",
    "make_logger",
    "metrics_in",
    "sinks_of",
    "sizes",
    "truncate",
]

# The table is written again from the metrics, and so comes before they are added to.
SINKS: tuple[type[Sink], ...] = (TensorBoard, Table, Metrics)


def make_logger(folder: Path, elapsed_seconds: float = 0.0) -> Logger:
    """A logger with all sinks in the run's folder; nothing on stdout.

    Args:
        folder: the run's folder; where its records have something already, they go on from there.
        elapsed_seconds: seconds of training before.
    """
    return Logger(str(folder), [sink.open(folder, elapsed_seconds) for sink in SINKS])


def sinks_of(logger: Logger) -> list[Sink]:
    """The sinks of a logger; one of the user's own may have Stable-Baselines3's output for TensorBoard."""
    outputs = (
        TensorBoard(each) if isinstance(each, TensorBoardOutputFormat) else each for each in logger.output_formats
    )
    return [each for each in outputs if isinstance(each, Sink)]


def sizes(folder: Path, logger: Logger) -> dict[str, int]:
    """Bytes of the sinks' growing files, by name, once all that was logged is on the disk."""
    for sink in sinks_of(logger):
        sink.flush()
    for kind in SINKS:
        for path in kind.growing(folder):
            disk.sync(path)
    return {name: size for kind in SINKS for name, size in kind.sizes(folder).items()}


def truncate(folder: Path, lengths: Mapping[str, int]) -> None:
    """Take from the sinks' growing files what came after `sizes` gave `lengths`."""
    for kind in SINKS:
        kind.truncate(folder, lengths)
