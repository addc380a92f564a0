"""The progress of a run, as numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

REFRESH_SECONDS = 0.2
REPORTS = 10  # at least one at each tenth of a run


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Attributes:
        steps: training steps so far.
        rate: steps per second since it started or was resumed.
        return_mean: mean return of the last training episodes; None before the first has ended.
        success_rate: success rate of these; None if the environment does not report success.
        evaluating: whether the policy is being evaluated, so that the steps stand still.
    """

    steps: int
    rate: float
    return_mean: float | None = None
    success_rate: float | None = None
    evaluating: bool = False


Report = Callable[[Progress], None]


class ProgressCallback(BaseCallback):
    """Reports a run's progress.

    Args:
        total: steps of the whole run.
        report: called a few times per second, and at each tenth of the run.
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
        if self._begun is None:  # only now does a resumed run have its number of steps
            self._begun = self.num_timesteps - self.training_env.num_envs
        tenth = self.num_timesteps >= self._next * self.total / REPORTS
        if tenth or now - self._shown > REFRESH_SECONDS:
            self._next = 1 + self.num_timesteps * REPORTS // self.total
            self._shown = now
            self.report(self._progress(now))
        return True

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Report that the policy is evaluated in the context, and at its end that it is no more."""
        self.report(replace(self._progress(time.monotonic()), evaluating=True))
        yield
        self.report(self._progress(time.monotonic()))

    def _progress(self, now: float) -> Progress:
        steps = self.model.num_timesteps  # not the callback's own number, which is 0 until there was a step
        begun = steps if self._begun is None else self._begun
        rate = (steps - begun) / max(now - self._started, 1e-9)
        episodes: list[dict[str, Any]] = list(self.model.ep_info_buffer or ())
        successes: list[bool] = list(self.model.ep_success_buffer or ())
        return Progress(
            steps,
            rate,
            sum(episode["r"] for episode in episodes) / len(episodes) if episodes else None,
            sum(successes) / len(successes) if successes else None,
        )
