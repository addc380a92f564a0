"""Progress of a run on the screen: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback

REFRESH_SECONDS = 0.2
PLAIN_LINES = 10


class ProgressCallback(BaseCallback):
    """Steps, steps a second, time left and the mean return of the last training episodes.

    Args:
        total: steps of the whole run.
        label: what stands before the bar.
        console: where to print.
    """

    def __init__(self, total: int, label: str, console: Console) -> None:
        super().__init__()
        self.total, self.label, self.console = total, label, console
        self._started = self._shown = time.monotonic()
        self._next_line = 1
        self._bar: Progress | None = None

    def _on_training_start(self) -> None:
        self._started = time.monotonic()
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[state]}"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=self.console,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, state="")

    def _on_step(self) -> bool:
        if self._bar is not None:
            if time.monotonic() - self._shown > REFRESH_SECONDS:
                self._show_bar()
        elif self._next_line <= PLAIN_LINES and self.num_timesteps >= self._next_line * self.total / PLAIN_LINES:
            self._next_line = 1 + int(self.num_timesteps * PLAIN_LINES / self.total)
            share = min(self.num_timesteps / self.total, 1)
            self.console.print(f"{self.label}  {share:4.0%}  {self._state()}", highlight=False, soft_wrap=True)
        return True

    def _on_training_end(self) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was; also after an interruption."""
        if self._bar is not None:
            self._show_bar()
            self._bar.stop()
            self._bar = None

    def _show_bar(self) -> None:
        assert self._bar is not None
        self._shown = time.monotonic()
        self._bar.update(self._task, completed=min(self.num_timesteps, self.total), state=self._state())

    def _state(self) -> str:
        speed = self.num_timesteps / max(time.monotonic() - self._started, 1e-9)
        text = f"{self.num_timesteps:,} steps  {speed:,.0f}/s"
        episodes: list[dict[str, Any]] = list(self.model.ep_info_buffer or ())
        if episodes:
            text += f"  return {sum(episode['r'] for episode in episodes) / len(episodes):,.0f}"
        return text


class PatientConsole(Console):
    """A console whose reader may leave: it falls silent, where rich's own would end the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


def default_console() -> Console:
    """Progress goes to stderr, so that stdout holds the summary alone."""
    return PatientConsole(file=sys.stderr)
