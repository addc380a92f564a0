"""Progress of runs on the screen: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback

REFRESH_SECONDS = 0.2
PLAIN_LINES = 10
Report = Callable[[int, str], None]  # steps so far, and what is to be said of them


class ProgressCallback(BaseCallback):
    """Reports steps, steps a second, and return and success rate of the last training episodes.

    Args:
        total: steps of the whole run.
        report: called a few times a second, and at each tenth of the run.
    """

    def __init__(self, total: int, report: Report) -> None:
        super().__init__()
        self.total, self.report = total, report
        self._started = self._shown = time.monotonic()
        self._begun: int | None = None
        self._next = 1

    def _on_training_start(self) -> None:
        self._started = time.monotonic()

    def _on_step(self) -> bool:
        now = time.monotonic()
        if self._begun is None:  # a run that goes on has its steps from here only
            self._begun = self.num_timesteps - self.training_env.num_envs
        tenth = self.num_timesteps >= self._next * self.total / PLAIN_LINES
        if tenth or now - self._shown > REFRESH_SECONDS:
            self._next = 1 + self.num_timesteps * PLAIN_LINES // self.total
            self._shown = now
            self.report(self.num_timesteps, self._state(now))
        return True

    def _state(self, now: float) -> str:
        speed = (self.num_timesteps - (self._begun or 0)) / max(now - self._started, 1e-9)
        text = f"{self.num_timesteps:,} steps  {speed:,.0f}/s"
        episodes: list[dict[str, Any]] = list(self.model.ep_info_buffer or ())
        if episodes:
            text += f"  return {sum(episode['r'] for episode in episodes) / len(episodes):,.1f}"
        successes: list[bool] = list(self.model.ep_success_buffer or ())
        if successes:
            text += f"  success {sum(successes) / len(successes):.2f}"
        return text


class Display:
    """Bars of runs side by side on a terminal; elsewhere a line for each tenth of each run.

    Args:
        labels: what the runs are called.
        total: steps of each run.
        console: where to print.
    """

    def __init__(self, labels: Sequence[str], total: int, console: Console) -> None:
        self.total, self.console = total, console
        self._lines = dict.fromkeys(labels, 0)
        self._first: dict[str, tuple[float, int]] = {}
        self._bars: Progress | None = None
        if console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[state]}"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=console,
            )
            self._tasks = {label: self._bars.add_task(label, total=total, state="") for label in labels}

    def __enter__(self) -> Display:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the terminal as it was; also after an interruption."""
        if self._bars is not None:
            self._bars.stop()

    def update(self, label: str, steps: int, state: str) -> None:
        """Show how far a run has come."""
        done, now = min(steps, self.total), time.monotonic()
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
        if done <= begun:  # a run that goes on, and has just begun to
            return ""
        return f"  {duration((now - since) * (self.total - done) / (done - begun))} left"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


class PatientConsole(Console):
    """A console whose reader may leave: it falls silent, where rich's own would end the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


def default_console() -> Console:
    """Progress goes to stderr, so that stdout holds the summary alone."""
    return PatientConsole(file=sys.stderr)
