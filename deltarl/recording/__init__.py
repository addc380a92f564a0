"""Where a run's numbers and figures go: TensorBoard, progress.csv and metrics.jsonl, each a sink.

To add a sink, write a file with a subclass of `Sink` and add it to `SINKS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

from deltarl import disk
from deltarl.recording.metrics import Metrics, metrics_in
from deltarl.recording.sink import MEASURED, Sink, cut_back
from deltarl.recording.table import Table
from deltarl.recording.tensorboard import TensorBoard

__all__ = [
    "MEASURED",
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
    "write_summary",
]

# The table is rewritten from the metrics, so it comes before they are appended to.
SINKS: tuple[type[Sink], ...] = (TensorBoard, Table, Metrics)


def make_logger(folder: Path, elapsed_seconds: float = 0.0) -> Logger:
    """Create a logger with all sinks in the run's folder, and nothing on stdout.

    Args:
        folder: the run's folder; existing records are continued.
        elapsed_seconds: seconds of training so far.
    """
    return Logger(str(folder), [sink.open(folder, elapsed_seconds) for sink in SINKS])


def sinks_of(logger: Logger) -> list[Sink]:
    """The sinks of a logger; a user's logger may have Stable-Baselines3's TensorBoard output instead."""
    outputs = (
        TensorBoard(each) if isinstance(each, TensorBoardOutputFormat) else each for each in logger.output_formats
    )
    return [each for each in outputs if isinstance(each, Sink)]


def write_summary(folder: Path, settings: Mapping[str, Any], scores: Mapping[str, float], step: int) -> None:
    """Write settings and final scores to the sinks that compare runs; an earlier summary in the folder is replaced."""
    for kind in SINKS:
        if not kind.compares_runs:
            continue
        for old in kind.growing(folder):
            old.unlink()
        sink = kind.open(folder)
        sink.scalars(scores, step)
        sink.hparams(settings, dict.fromkeys(scores, 0.0))
        sink.close()


def sizes(folder: Path, logger: Logger) -> dict[str, int]:
    """Sizes of the sinks' append-only files by name, after everything logged has been written to the disk."""
    for sink in sinks_of(logger):
        sink.flush()
    for kind in SINKS:
        for path in kind.growing(folder):
            disk.sync(path)
    return {name: size for kind in SINKS for name, size in kind.sizes(folder).items()}


def truncate(folder: Path, lengths: Mapping[str, int]) -> None:
    """Cut the sinks' append-only files back to the `lengths` that `sizes` returned."""
    for kind in SINKS:
        kind.truncate(folder, lengths)
