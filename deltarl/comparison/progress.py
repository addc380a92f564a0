"""The progress of a comparison: a live table on a terminal, one line per finished run elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deltarl.comparison.spec import Cell
from deltarl.launch.display import duration, worded
from deltarl.launch.launcher import Outcome
from deltarl.training import RunResult
from deltarl.training.progress import Progress

REFRESHES_A_SECOND = 2


class Board:
    """A table of tasks by arms with the numbers of finished runs, and below it the running ones.

    Args:
        cells: all runs.
        done: runs that had already finished.
        console: where to print.
    """

    def __init__(self, cells: Sequence[Cell], done: Sequence[Cell], console: Console) -> None:
        self.cells, self.console = cells, console
        self._finished = {cell.label for cell in done}
        self._failed: set[str] = set()
        self._running: dict[str, str] = {}
        self._first: dict[str, int] = {}
        self._steps: dict[str, int] = {}
        self._began = time.monotonic()
        self._live = (
            Live(get_renderable=self._table, console=console, refresh_per_second=REFRESHES_A_SECOND)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Board:
        if done := len(self._finished):
            self._say(f"{done} of {len(self.cells)} runs had already finished")
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the terminal as it was; also after an interruption."""
        if self._live is not None:
            self._live.stop()

    def update(self, cell: Cell, progress: Progress) -> None:
        """Show how far a run has come."""
        self._first.setdefault(cell.label, progress.steps)
        self._steps[cell.label] = progress.steps
        share = min(1.0, progress.steps / cell.spec.total_timesteps)
        self._running[cell.label] = f"{share:4.0%}  {worded(progress)}"

    def end(self, cell: Cell, outcome: Outcome[RunResult]) -> None:
        """Show how a run ended."""
        self._running.pop(cell.label, None)
        if outcome.kind == "stopped":
            return
        (self._finished if outcome.kind == "result" else self._failed).add(cell.label)
        how = f"FAILED: {str(outcome.failure).strip().splitlines()[-1]}"
        if outcome.result is not None:
            self._steps[cell.label] = cell.spec.total_timesteps
            how = f"return {outcome.result.final_return_mean:,.1f}"
        self._say(f"{cell.label}  {how}  ({self._summary()})")

    def _say(self, line: str) -> None:
        (self.console if self._live is None else self._live.console).print(
            line, highlight=False, markup=False, soft_wrap=True
        )

    def _summary(self) -> str:
        text = f"{len(self._finished)} of {len(self.cells)} runs"
        left = sum(
            cell.spec.total_timesteps - self._steps.get(cell.label, 0)
            for cell in self.cells
            if cell.label not in self._finished | self._failed
        )
        done = sum(steps - self._first.get(label, 0) for label, steps in self._steps.items())
        if left and done:
            text += f", {duration((time.monotonic() - self._began) * left / done)} left"
        return text

    def _table(self) -> RenderableType:
        tasks = list(dict.fromkeys(cell.task for cell in self.cells))
        arms = list(dict.fromkeys(cell.arm for cell in self.cells))
        table = Table(box=None, pad_edge=False)
        table.add_column("")
        for arm in arms:
            table.add_column(arm, justify="right")
        for task in tasks:
            table.add_row(task, *(self._share(task, arm) for arm in arms))
        running = [Text(f"{label}  {state}") for label, state in self._running.items()]
        return Group(table, *running, Text(self._summary()))

    def _share(self, task: str, arm: str) -> Text:
        labels = {cell.label for cell in self.cells if (cell.task, cell.arm) == (task, arm)}
        text = f"{len(labels & self._finished)}/{len(labels)}"
        if failed := len(labels & self._failed):
            text += f", {failed} failed"
        return Text(text, style="bold" if labels & self._running.keys() else "")
