"""Simulates how often the intervals of `statistics` and `aggregates` contain the true value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy

from deltarl.comparison import aggregates, statistics
from deltarl.comparison.intervals import LEVEL, Array, Interval
from deltarl.comparison.linear import combination

SIMULATIONS = 1_000
RESAMPLES = 499
POPULATION = (200_000,)  # sample size for the true value
LEVELS_APART = 3.0  # in standard deviations of the normal scores
FAILING = 0.2  # fraction of seeds that fail in the second world
FAILED_SCORE, FAILED_SPREAD = -6.0, 2.0  # in standard deviations of the others


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Normally distributed scores."""
    return rng.normal(size=shape)


def with_failures(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Scores of which one in five is far lower, like seeds that never learn to walk."""
    fails = rng.random(shape) < FAILING
    return np.where(fails, rng.normal(FAILED_SCORE, FAILED_SPREAD, shape), rng.normal(size=shape))


WORLDS: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": normal,
    "one seed in five fails": with_failures,
}
OF_ONE_TASK: Mapping[str, tuple[Callable[[Array], Interval], Callable[[Array], Any]]] = {
    "mean": (statistics.mean, np.mean),
    "median": (statistics.median, np.median),
    "iqm": (statistics.iqm, lambda scores: scipy.stats.trim_mean(scores, statistics.CUT)),
}

OVER_TASKS: Mapping[str, Callable[..., Any]] = {
    "iqm": aggregates.pooled_iqm,
    "median": aggregates.pooled_median,
    "mean": aggregates.pooled_mean,
}


def of_one_task(name: str, seeds: int, world: str, rng: np.random.Generator) -> float | None:
    """Fraction of simulated samples whose interval contains the true value; None if so few seeds give no interval."""
    interval, statistic = OF_ONE_TASK[name]
    truth = float(statistic(WORLDS[world](rng, POPULATION)))
    samples = WORLDS[world](rng, (SIMULATIONS, seeds))
    if interval(samples[0]).low is None:
        return None
    return float(np.mean([not interval(sample).excludes(truth) for sample in samples]))


def of_difference(seeds: int, world: str, rng: np.random.Generator) -> float:
    """The same for Welch's interval between an arm with normal scores and one with scores of the world."""
    truth = -float(np.mean(WORLDS[world](rng, POPULATION)))
    pairs = [(normal(rng, (seeds,)), WORLDS[world](rng, (seeds,))) for _ in range(SIMULATIONS)]
    return float(np.mean([not statistics.difference(*pair).excludes(truth) for pair in pairs]))


def of_effect(seeds: int, world: str, rng: np.random.Generator) -> float:
    """The same for the interval of Hedges' g, for an arm that is one standard deviation better.

    It uses fewer samples, because each needs two root searches.
    """
    every = WORLDS[world](rng, POPULATION)
    shift = float(np.std(every))
    pairs = WORLDS[world](rng, (SIMULATIONS // 4, 2, seeds))
    return float(np.mean([not statistics.effect_size(ours + shift, theirs).excludes(1.0) for ours, theirs in pairs]))


def of_improvement(seeds: int, tasks: int, world: str, rng: np.random.Generator) -> float:
    """The same for the probability of scoring above, for an arm that is one standard deviation better."""
    ours, theirs = WORLDS[world](rng, POPULATION) + 1, WORLDS[world](rng, POPULATION)
    truth = float(np.mean(ours > theirs))
    covered = 0
    for _ in range(SIMULATIONS):
        pair = WORLDS[world](rng, (2, tasks, seeds))
        covered += not aggregates.probability_of_improvement(list(pair[0] + 1), list(pair[1])).excludes(truth)
    return covered / SIMULATIONS


def of_contrast(seeds: int, tasks: int, world: str, rng: np.random.Generator) -> float:
    """The same for Welch's interval of a contrast over tasks, between arms like those of `of_difference`."""
    truth = -float(np.mean(WORLDS[world](rng, POPULATION)))
    weights = np.repeat([1.0, -1.0], tasks) / tasks
    covered = 0
    for _ in range(SIMULATIONS):
        samples = [*normal(rng, (tasks, seeds)), *WORLDS[world](rng, (tasks, seeds))]
        covered += not combination(weights, samples).interval().excludes(truth)
    return covered / SIMULATIONS


def of_aggregate(
    name: str, seeds: int, tasks: int, world: str, rng: np.random.Generator, *, widen: bool = True
) -> float:
    """The same for the stratified bootstrap over tasks, each `LEVELS_APART` above the previous one.

    Args:
        name: one of `OVER_TASKS`.
        seeds: seeds of each task.
        tasks: number of tasks.
        world: one of `WORLDS`.
        rng: draws the samples.
        widen: widen the percentiles as `aggregates.aggregate` does; otherwise use the plain percentiles, as is common.
    """
    draw, statistic = WORLDS[world], OVER_TASKS[name]
    levels = LEVELS_APART * np.arange(tasks)[:, None]
    truth = float(statistic((draw(rng, (tasks, *POPULATION)) + levels).ravel(), axis=-1))
    level = aggregates.widened(LEVEL, [seeds] * tasks) if widen else LEVEL
    covered = 0
    for _ in range(SIMULATIONS):
        sample = draw(rng, (tasks, seeds)) + levels
        picked = rng.integers(seeds, size=(RESAMPLES, tasks, seeds))
        resampled = np.take_along_axis(sample[None], picked, axis=-1).reshape(RESAMPLES, -1)
        low, high = np.quantile(statistic(resampled, axis=-1), [(1 - level) / 2, (1 + level) / 2])
        covered += bool(low <= truth <= high)
    return covered / SIMULATIONS
