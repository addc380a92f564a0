"""The progress of a search: a live table on a terminal, one line per trial elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from deltarl.launch.display import worded
from deltarl.search.trials import TrialProgress
from deltarl.training.progress import Progress

REFRESHES_A_SECOND = 2
STATES = {"complete": "finished", "pruned": "pruned", "fail": "failed"}


class Board:
    """Lines of trials that have ended, and below them on a terminal what each worker is doing.

    Args:
        most: trials of the whole study; None for any number.
        console: where to print.
    """

    def __init__(self, most: int | None, console: Console) -> None:
        self.most, self.console = most, console
        self._running: dict[str, str] = {}
        self._summary = ""
        self._live = (
            Live(
                get_renderable=self._shown,
                console=console,
                refresh_per_second=REFRESHES_A_SECOND,
                transient=True,  # the command prints the last summary
            )
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Board:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Restore the terminal, also after an interruption."""
        if self._live is not None:
            self._live.stop()

    def update(self, worker: str, progress: Progress) -> None:
        """Show what a worker is doing, or how its trial ended."""
        assert isinstance(progress, TrialProgress)
        if not progress.ended:
            share = min(1.0, progress.steps / progress.total)
            self._running[worker] = f"trial {progress.trial} seed {progress.seed}  {share:4.0%}  {worded(progress)}"
            return
        self._running.pop(worker, None)
        self._summary = counted(progress.counts, self.most)
        if progress.best is not None:
            self._summary += f", best {progress.best:,.1f}"
        console = self.console if self._live is None else self._live.console
        console.print(
            f"trial {progress.trial}  {progress.ended}  ({self._summary})",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def _shown(self) -> RenderableType:
        return Group(*map(Text, [*self._running.values(), *([self._summary] if self._summary else [])]))


def counted(counts: dict[str, int], most: int | None = None) -> str:
    """Counts of the trials that have ended, by outcome: `8 of 30 trials: 5 finished, 3 pruned`."""
    ended = {word: counts[state] for state, word in STATES.items() if counts.get(state)}
    number = sum(ended.values())
    text = f"{number}{'' if most is None else f' of {most}'} trial{'' if number == 1 and most is None else 's'}"
    return f"{text}: {', '.join(f'{count} {word}' for word, count in ended.items())}" if ended else text
