"""The progress display: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

import rich.progress
from rich.console import Console

from deltarl.training.progress import Progress

PLAIN_LINES = 10
# The time left follows from the speed of this last while, which is longer than the pause of most evaluations.
ESTIMATE_SECONDS = 300.0
BUILDING = "building environments"  # what a run does before its first step


def worded(progress: Progress) -> str:
    """The text for a run's progress."""
    text = f"{progress.steps:,} steps  {progress.rate:,.0f}/s"
    if progress.return_mean is not None:
        text += f"  return {progress.return_mean:,.1f}"
    if progress.success_rate is not None:
        text += f"  success {progress.success_rate:.2f}"
    if progress.evaluating:
        text += "  evaluating"
    return text


class Display:
    """Bars for runs side by side on a terminal; elsewhere, a line at each tenth of a run.

    Args:
        labels: names of the runs.
        total: steps of each run.
        console: where to print.
    """

    def __init__(self, labels: Sequence[str], total: int, console: Console) -> None:
        self.total, self.console = total, console
        self._lines = dict.fromkeys(labels, 0)
        self._first: dict[str, tuple[float, int]] = {}
        self._bars: rich.progress.Progress | None = None
        if console.is_terminal:
            self._bars = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}"),
                rich.progress.BarColumn(),
                rich.progress.TaskProgressColumn(),
                rich.progress.TextColumn("{task.fields[state]}"),
                rich.progress.TimeRemainingColumn(),
                rich.progress.TextColumn("left"),
                console=console,
                speed_estimate_period=ESTIMATE_SECONDS,
            )
            self._tasks = {label: self._bars.add_task(label, total=total, state=BUILDING) for label in labels}

    def __enter__(self) -> Display:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Restore the terminal, also after an interruption."""
        if self._bars is not None:
            self._bars.stop()

    def update(self, label: str, progress: Progress) -> None:
        """Show a run's progress."""
        done, state, now = min(progress.steps, self.total), worded(progress), time.monotonic()
        first = self._first.setdefault(label, (now, done))
        if self._bars is not None:
            self._bars.update(self._tasks[label], completed=done, state=state)
            return
        if (line := done * PLAIN_LINES // self.total) > self._lines[label]:
            self._lines[label] = line
            self.console.print(
                f"{label}  {done / self.total:4.0%}  {state}{self._left(done, now, *first)}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )

    def _left(self, done: int, now: float, since: float, begun: int) -> str:
        if done <= begun:  # just resumed
            return ""
        return f"  {duration((now - since) * (self.total - done) / (done - begun))} left"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


class PatientConsole(Console):
    """A console that goes silent if its reader is gone or the disk is full; rich's own would end the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True

    def _write_buffer(self) -> None:
        try:
            super()._write_buffer()
        except OSError:
            self.quiet = True
            self._buffer.clear()


def default_console() -> Console:
    """A console on stderr, so that stdout holds only the summary."""
    return PatientConsole(file=sys.stderr)
