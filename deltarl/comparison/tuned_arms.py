"""What tuning did to the arms of a comparison, and how much they depend on their settings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deltarl.comparison import statistics
from deltarl.comparison.intervals import Interval
from deltarl.comparison.records import Study
from deltarl.comparison.tuning_record import Tuned
from deltarl.search.report import cell


@dataclass(frozen=True)
class TunedArm:
    """An arm on a task before and after tuning.

    Attributes:
        found: how it was tuned.
        before: mean over the comparison's seeds of the primary metric without tuning; None if no run has finished.
        after: the same with tuning.
        change: their difference over the seeds of both, paired; None if no run without tuning has finished.
        quartiles: the three quartiles of the scores of the trials that were drawn and finished; None without any.
        losses: the score with the values that were chosen for each other arm, minus the chosen score; None if the
            trial failed. Both are on the tuning seeds.
    """

    task: str
    arm: str
    found: Tuned
    before: Interval | None
    after: Interval
    change: Interval | None
    quartiles: tuple[float, ...] | None
    losses: dict[str, float | None]

    @property
    def values(self) -> str:
        """The chosen values: `learning_rate 0.001, head_width 8`."""
        return ", ".join(
            f"{path.rpartition('.')[2]} {cell(_short(value))}" for path, value in self.found.values.items()
        )

    @property
    def source(self) -> str:
        """Where they come from."""
        return self.found.source or "drawn"


def tuned_arms(study: Study) -> list[TunedArm]:
    """One row per arm and task; empty if the comparison was not tuned."""
    return [
        _of(study, task, arm, study.tuning[task][arm])
        for task in study.tasks
        for arm in study.arms
        if arm in study.tuning.get(task, {})
    ]


def _of(study: Study, task: str, arm: str, found: Tuned) -> TunedArm:
    metric = study.spec.metric
    after = {run.seed: getattr(run, metric) for run in study.of(task, arm)}
    before = {run.seed: getattr(run, metric) for run in study.untuned if (run.task, run.arm) == (task, arm)}
    both = [(after[seed], before[seed]) for seed in after if seed in before]
    quartiles = tuple(map(float, np.percentile(found.drawn, [25, 50, 75]))) if found.drawn else None
    losses = {other: None if score is None else score - found.score for other, score in found.with_others.items()}
    return TunedArm(
        task,
        arm,
        found,
        statistics.mean(np.array(list(before.values()))) if before else None,
        statistics.mean(np.array(list(after.values()))),
        statistics.paired_difference(*np.array(both).T) if both else None,
        quartiles,
        losses,
    )


def _short(value: object) -> object:
    return float(f"{value:.3g}") if isinstance(value, float) else value
