"""Ends runs early: a callback that hands each intermediate evaluation to a judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from stable_baselines3.common.callbacks import BaseCallback

from deltarl.training.folder import EVALUATIONS
from deltarl.training.records import evaluations_in

# Called with an evaluation's place among those of its run, from 1, and its mean return; whether to stop the run.
Judge = Callable[[int, float], bool]


class Pruning(BaseCallback):
    """Ends a run when `judge` returns True; until then it does not affect learning."""

    __transient__: ClassVar[frozenset[str]] = frozenset({"_judge", "_size", "_judged"})

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self._judge = judge
        self._size = 0
        self._judged = 0

    def _on_step(self) -> bool:
        path = Path(self.logger.get_dir() or ".") / EVALUATIONS
        size = path.stat().st_size if path.exists() else 0
        if size == self._size:
            return True
        self._size = size
        evaluations = list(evaluations_in(path.parent).values())
        is_poor = False
        for evaluation in evaluations[self._judged :]:
            self._judged += 1
            is_poor |= self._judge(self._judged, evaluation.return_mean)
        return not is_poor
