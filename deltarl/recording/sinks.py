"""The sinks of a run, and what is done with all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

from deltarl import disk
from deltarl.recording import metrics, mlflow, wandb
from deltarl.recording.background import Background
from deltarl.recording.metrics import Metrics
from deltarl.recording.sink import FileSink, Sink
from deltarl.recording.spec import DEFAULT_LOGGING, LoggerSpec, MlflowSpec, WandbSpec
from deltarl.recording.table import Table
from deltarl.recording.tensorboard import TensorBoard
from deltarl.recording.tracker import About, Ending, Tracker

# The table is rewritten from the metrics, so it comes before they are appended to.
SINKS: tuple[type[FileSink], ...] = (TensorBoard, Table, Metrics)


def make_logger(
    folder: Path,
    elapsed_seconds: float = 0.0,
    loggers: Sequence[LoggerSpec] = DEFAULT_LOGGING,
    about: Callable[[], About] | None = None,
) -> Logger:
    """Create a logger with the sinks of a run, and nothing on stdout.

    Args:
        folder: the run's folder; existing records are continued.
        elapsed_seconds: seconds of training so far.
        loggers: which sinks; metrics.jsonl is always written, because other records are derived from it.
        about: returns what trackers tell of the run; default: the names of its folders.
    """
    names = {Metrics.name, *(each.sink for each in loggers)}
    files = [sink.open(folder, elapsed_seconds) for sink in SINKS if sink.name in names]
    if not (outside := [each for each in loggers if isinstance(each, WandbSpec | MlflowSpec)]):
        return Logger(str(folder), [*files])
    told = about() if about is not None else About(folder, folder.parent.name, seed=0)
    return Logger(str(folder), [*files, *(_tracker(each, told) for each in outside)])


def _tracker(spec: WandbSpec | MlflowSpec, about: About) -> Sink:
    folder = about.folder
    connect: Callable[[str], Tracker]
    if isinstance(spec, WandbSpec):
        connect, target = partial(wandb.Wandb, spec, about), wandb.target(spec)
    else:
        connect, target = partial(mlflow.Mlflow, spec, about), mlflow.target(folder)
    record = folder / metrics.FILE
    return Background(
        spec.sink,
        connect,
        folder / f"{spec.sink}.json",
        target,
        modules=(spec.package,),
        history=metrics.history_in(record) if record.exists() else (),
    )


@contextmanager
def logged(logger: Logger) -> Iterator[Logger]:
    """Close a logger at the end of the context, after telling its sinks how the run ended."""
    ending: Ending = "failed"
    try:
        yield logger
        ending = "finished"
    except (SystemExit, KeyboardInterrupt):
        ending = "stopped"
        raise
    finally:
        for sink in sinks_of(logger):
            sink.ended(ending)
        logger.close()


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
