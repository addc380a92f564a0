"""Estimates, intervals and tests for scores over several tasks.

Scores are a sequence of arrays `[seeds]`, one for each task. Intervals have a level of 95% unless another is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy

from deltarl.comparison.intervals import LEVEL, ROUNDING, Array, Interval, t_quantile
from deltarl.comparison.statistics import CUT, RESAMPLES


def pooled_mean(*tasks: Any, axis: int = -1) -> Any:
    """Mean over all runs of all tasks."""
    return np.mean(np.concatenate(tasks, axis=axis), axis=axis)


def pooled_median(*tasks: Any, axis: int = -1) -> Any:
    """Median over all runs of all tasks."""
    return np.median(np.concatenate(tasks, axis=axis), axis=axis)


def pooled_iqm(*tasks: Any, axis: int = -1) -> Any:
    """Interquartile mean over all runs of all tasks (Agarwal et al. 2021, arXiv 2108.13264)."""
    return scipy.stats.trim_mean(np.concatenate(tasks, axis=axis), CUT, axis=axis)


def aggregate(
    tasks: Sequence[Array],
    statistic: Callable[..., Any],
    rng: np.random.Generator,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Interval:
    """A statistic over tasks with a stratified bootstrap interval: seeds are resampled within each task.

    The percentiles are widened for the number of seeds (Hesterberg 2014, arXiv 1411.5279, section 3.2), because the
    plain percentile interval is too narrow with few seeds.

    Args:
        tasks: normalised scores of each task.
        statistic: takes the tasks' scores and `axis`.
        rng: draws the resamples.
        level: confidence level.
        resamples: number of resamples.
    """
    estimate = float(statistic(*tasks, axis=-1))
    if min(map(len, tasks)) < 2:
        return Interval(estimate, None, None)
    if all(np.ptp(task) == 0 for task in tasks):
        return Interval(estimate, None, None)
    found = scipy.stats.bootstrap(
        tuple(tasks),
        statistic,
        vectorized=True,
        n_resamples=resamples,
        method="percentile",
        confidence_level=widened(level, [len(task) for task in tasks]),
        rng=rng,
    ).confidence_interval
    return Interval(estimate, float(found.low), float(found.high))


def widened(level: float, seeds: Sequence[int]) -> float:
    """The level of the percentiles for which the interval of a mean of normal scores equals Student's t interval."""
    shrunk = math.sqrt(min(seeds) / (min(seeds) - 1))
    freedom = sum(n - 1 for n in seeds)
    return float(1 - 2 * scipy.stats.norm.cdf(-shrunk * t_quantile((1 + level) / 2, freedom)))


def probability_of_improvement(tasks: Sequence[Array], others: Sequence[Array], level: float = LEVEL) -> Interval:
    """The probability that a run of one arm scores above a run of the other, ties counting half, averaged over tasks.

    This is Mann and Whitney's U divided by the number of pairs (Agarwal et al. 2021, arXiv 2108.13264). The interval is
    Newcombe's score interval (2006, Statistics in Medicine 25, 559-573, method 5) with the variance of the mean over
    tasks, and t instead of z because seeds are few. Unlike a bootstrap interval, it does not shrink to a point if all
    runs of one arm score above all of the other.
    """
    estimate = float(_chance_above(tasks, others))
    sizes = [(len(ours), len(theirs)) for ours, theirs in zip(tasks, others, strict=True)]
    if min(map(min, sizes)) < 2:
        return Interval(estimate, None, None)
    reach = t_quantile((1 + level) / 2, sum(n + m - 2 for n, m in sizes))

    def beyond(chance: float) -> float:
        return abs(estimate - chance) - reach * math.sqrt(_variance_of_chance(chance, sizes))

    # At 0 and 1 the variance is 0, so each end lies between the estimate and 0 or 1.
    low = 0.0 if estimate == 0 else float(scipy.optimize.brentq(beyond, 0, estimate * (1 - ROUNDING)))
    high = 1.0 if estimate == 1 else float(scipy.optimize.brentq(beyond, estimate + (1 - estimate) * ROUNDING, 1))
    return Interval(estimate, low, high)


def improvement_p(tasks: Sequence[Array], others: Sequence[Array], rng: np.random.Generator) -> float | None:
    """Two-sided p-value of the permutation test of `probability_of_improvement` against 0.5.

    Under the null hypothesis that arms make no difference, they can be exchanged within each task and seed.

    Args:
        tasks: scores of one arm on each task.
        others: scores of the other arm, for the same seeds.
        rng: draws permutations if there are too many to try all.

    Returns:
        The p-value; None with fewer than 2 pairs of runs in total.
    """
    if sum(map(len, tasks)) < 2:
        return None
    ends = np.cumsum([len(task) for task in tasks])[:-1]

    def statistic(x: Any, y: Any, axis: int) -> Any:
        assert axis == -1
        return _chance_above(np.split(x, ends, axis=-1), np.split(y, ends, axis=-1)) - 0.5

    found = scipy.stats.permutation_test(
        (np.concatenate(list(tasks)), np.concatenate(list(others))),
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        alternative="two-sided",
        axis=-1,
        rng=rng,
    )
    return float(found.pvalue)


def _chance_above(tasks: Sequence[Any], others: Sequence[Any]) -> Any:
    """The probability, averaged over tasks, `[...]`, from scores `[..., seeds]` of each task."""
    chances = [
        np.mean(np.heaviside(x[..., :, None] - y[..., None, :], 0.5), axis=(-2, -1))
        for x, y in zip(tasks, others, strict=True)
    ]
    return np.mean(chances, axis=0)


def _variance_of_chance(chance: float, sizes: Sequence[tuple[int, int]]) -> float:
    """Variance of the mean over tasks; each has the same probability, and `sizes` gives the runs of both arms."""

    def of_one(n: int, m: int) -> float:
        extra = (n + m) / 2 - 1
        odds = 1 + extra * (1 - chance) / (2 - chance) + extra * chance / (1 + chance)
        return chance * (1 - chance) * odds / (n * m)

    return sum(of_one(n, m) for n, m in sizes) / len(sizes) ** 2


def performance_profile(
    tasks: Sequence[Array], thresholds: Array, rng: np.random.Generator, level: float = LEVEL
) -> tuple[Array, Array, Array]:
    """Fraction of runs above each threshold, averaged over tasks, and the ends of its pointwise interval."""

    def statistic(*samples: Any, axis: int = -1) -> Any:
        shares = [np.mean(sample[..., None, :] > thresholds[:, None], axis=axis) for sample in samples]
        return np.mean(shares, axis=0)

    estimate = statistic(*tasks)
    if min(map(len, tasks)) < 2:
        return estimate, np.full_like(estimate, np.nan), np.full_like(estimate, np.nan)
    draws = np.stack([statistic(*(rng.choice(task, len(task)) for task in tasks)) for _ in range(1_000)])
    tail = (1 - widened(level, [len(task) for task in tasks])) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return estimate, low, high
