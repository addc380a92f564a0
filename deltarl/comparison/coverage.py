"""How often the intervals of `statistics` cover the truth, by simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import stats

from deltarl.comparison import statistics
from deltarl.comparison.statistics import Array, Interval

SIMULATIONS = 1_000
RESAMPLES = 499
FAILING = 0.2  # share of seeds that fail in the second world
FAILED_SCORE, FAILED_SPREAD = -6.0, 2.0  # in standard deviations of those that do not


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Scores that are normal."""
    return rng.normal(size=shape)


def with_failures(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Scores of which one in five is far below: seeds that never learned to walk."""
    fails = rng.random(shape) < FAILING
    return np.where(fails, rng.normal(FAILED_SCORE, FAILED_SPREAD, shape), rng.normal(size=shape))


WORLDS: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": normal,
    "one seed in five fails": with_failures,
}
OF_ONE_TASK: Mapping[str, tuple[Callable[[Array], Interval], Callable[[Array], Any]]] = {
    "mean": (statistics.mean, np.mean),
    "median": (statistics.median, np.median),
    "iqm": (statistics.iqm, lambda scores: stats.trim_mean(scores, statistics.CUT)),
}


def of_one_task(name: str, seeds: int, world: str, rng: np.random.Generator) -> float | None:
    """Share of simulated samples whose interval covers the truth; None where there is no interval at so few seeds."""
    interval, statistic = OF_ONE_TASK[name]
    truth = float(statistic(WORLDS[world](rng, (400_000,))))
    found = [interval(sample) for sample in WORLDS[world](rng, (SIMULATIONS, seeds))]
    if found[0].low is None:
        return None
    return float(np.mean([not each.excludes(truth) for each in found]))


def of_difference(seeds: int, world: str, rng: np.random.Generator) -> float:
    """The same of Welch's interval for the difference between two arms whose scores are alike."""
    pairs = WORLDS[world](rng, (SIMULATIONS, 2, seeds))
    return float(np.mean([not statistics.difference(*pair).excludes(0.0) for pair in pairs]))


def of_aggregate(seeds: int, tasks: int, world: str, rng: np.random.Generator, widen: bool = True) -> float:
    """The same of the stratified bootstrap of the IQM over tasks whose scores are alike.

    Args:
        seeds: of each task.
        tasks: how many.
        world: one of `WORLDS`.
        rng: draws the samples.
        widen: take the percentiles as `statistics.aggregate` does; otherwise plainly at the level, as is usual.
    """
    draw = WORLDS[world]
    truth = float(stats.trim_mean(draw(rng, (400_000,)), statistics.CUT))
    level = statistics.widened(statistics.LEVEL, [seeds] * tasks) if widen else statistics.LEVEL
    covered = 0
    for _ in range(SIMULATIONS):
        sample = draw(rng, (tasks, seeds))
        picked = rng.integers(seeds, size=(RESAMPLES, tasks, seeds))
        resampled = np.take_along_axis(sample[None], picked, axis=-1).reshape(RESAMPLES, -1)
        low, high = np.quantile(stats.trim_mean(resampled, statistics.CUT, axis=-1), [(1 - level) / 2, (1 + level) / 2])
        covered += bool(low <= truth <= high)
    return covered / SIMULATIONS
