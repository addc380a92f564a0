"""Estimates, intervals and tests for scores of a few seeds, computed with SciPy.

Scores of one arm on one task are an array `[seeds]`; over several tasks, a sequence of such arrays. Intervals have a
level of 95% unless another is given. `coverage` measures how often each contains the true value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its modules load on first use, so that training does not wait for them
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
LEVEL = 0.95
RESAMPLES = 9_999
CUT = 0.25  # fraction cut from each end for the interquartile mean
POWER = 0.8
ROUNDING = 1e-9  # a spread below this fraction of the scores counts as none
FAR_OUT = 30  # beyond this t, SciPy's noncentral t distribution is slow to search, and soon returns NaN


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval; the ends are None if there are too few scores for one."""

    estimate: float
    low: float | None
    high: float | None

    def excludes(self, value: float) -> bool:
        """Whether the value lies outside the interval; False without an interval."""
        return self.low is not None and self.high is not None and (value < self.low or value > self.high)


def mean(scores: Array, level: float = LEVEL) -> Interval:
    """The mean, with Student's t interval if there are at least 2 scores and not all are equal."""
    if not len(scores):
        return Interval(math.nan, None, None)
    return _t_interval(float(np.mean(scores)), _standard_error(scores), len(scores) - 1, level)


def median(scores: Array, level: float = LEVEL) -> Interval:
    """The median, with the exact interval between order statistics, which needs 6 scores at 95%."""
    found: Any = scipy.stats.quantile_test(scores, p=0.5).confidence_interval(level)
    if math.isnan(found.low) or math.isnan(found.high):
        return Interval(float(np.median(scores)), None, None)
    return Interval(float(np.median(scores)), float(found.low), float(found.high))


def iqm(scores: Array, level: float = LEVEL) -> Interval:
    """The interquartile mean, with Tukey and McLaughlin's interval for a trimmed mean.

    The int(n / 4) lowest and highest of n scores are cut; with 3 scores none are, and it equals the mean.
    """
    n = len(scores)
    cut = int(CUT * n)
    estimate = float(scipy.stats.trim_mean(scores, CUT))
    winsorized = np.sort(scores)
    winsorized[:cut] = winsorized[cut]
    winsorized[n - cut :] = winsorized[n - cut - 1]
    return _t_interval(estimate, _standard_error(winsorized) / (1 - 2 * cut / n), n - 2 * cut - 1, level)


def difference(scores: Array, others: Array, level: float = LEVEL) -> Interval:
    """Mean of `scores` minus mean of `others`, with Welch's interval, which allows different variances."""
    estimate = float(np.mean(scores) - np.mean(others))
    if not _have_spread(scores, others):
        return Interval(estimate, None, None)
    found = scipy.stats.ttest_ind(scores, others, equal_var=False).confidence_interval(level)
    return Interval(estimate, float(found.low), float(found.high))


def paired_difference(scores: Array, others: Array, level: float = LEVEL) -> Interval:
    """Mean difference over paired seeds, with Student's t interval of the differences."""
    return mean(np.asarray(scores) - np.asarray(others), level)


def effect_size(scores: Array, others: Array, level: float = LEVEL) -> Interval:
    """Hedges' g: the difference of means in pooled standard deviations, corrected for the bias of few seeds.

    The interval inverts the noncentral t distribution (Hedges and Olkin 1985), which assumes equal variances.
    """
    n, m = len(scores), len(others)
    freedom = n + m - 2
    if not _have_spread(scores, others):
        return Interval(math.nan, None, None)
    spread = _pooled_deviation(scores, others)
    root = math.sqrt(n * m / (n + m))
    t = float(np.mean(scores) - np.mean(others)) / spread * root
    log_ratio = scipy.special.gammaln(freedom / 2) - scipy.special.gammaln((freedom - 1) / 2)
    unbiased = math.exp(log_ratio) / math.sqrt(freedom / 2)
    tail = (1 - level) / 2

    def end(share: float) -> float:
        if abs(t) > FAR_OUT:
            return far_shift(t, freedom, 1 - share)

        def lacking(shift: float) -> float:
            return float(scipy.stats.nct.cdf(t, freedom, shift) - share)

        # Decreases with the shift.
        outer = step = 1.0 if share < 0.5 else -1.0
        while lacking(t + outer) * step > 0:
            outer += step
        return float(scipy.optimize.brentq(lacking, t + outer - step, t + outer))

    with np.errstate(all="ignore"):  # SciPy overflows on the way
        low, high = end(1 - tail), end(tail)
    return Interval(float(t / root * unbiased), low / root * unbiased, high / root * unbiased)


def far_shift(t: float, freedom: int, share: float) -> float:
    """The noncentrality at which a noncentral t variable exceeds `t` with probability `share`, for any t.

    T <= t if the shift is at most t S - Z, where Z is standard normal and S the root of chi square over its degrees of
    freedom. So the shift is a quantile of t S + Z, whose distribution is computed as an integral over Z.
    """
    if t < 0:
        return -far_shift(-t, freedom, 1 - share)
    z = np.linspace(-9, 9, 721)
    weights = scipy.stats.norm.pdf(z) / scipy.stats.norm.pdf(z).sum()

    def excess(shift: float) -> float:
        below = scipy.stats.chi2.cdf(freedom * (np.maximum(shift - z, 0) / t) ** 2, freedom)
        return float(weights @ below - share)

    # S is outside of these ends with a smaller probability than that.
    ends = (scipy.stats.chi2.ppf(share / 2, freedom), scipy.stats.chi2.isf((1 - share) / 2, freedom))
    low, high = (t * math.sqrt(end / freedom) for end in ends)
    return float(scipy.optimize.brentq(excess, low - z[-1], high + z[-1]))


def welch_p(scores: Array, others: Array) -> float | None:
    """Two-sided p-value of Welch's test of equal means; None with fewer than 2 seeds per arm, or without spread."""
    if not _have_spread(scores, others):
        return None
    return float(scipy.stats.ttest_ind(scores, others, equal_var=False).pvalue)


def permutation_p(scores: Array, others: Array, rng: np.random.Generator) -> float | None:
    """Two-sided p-value of the permutation test on the difference of means; exact if all permutations can be tried.

    With 5 seeds per arm it is at least 2/252; None with fewer than 2.
    """
    if min(len(scores), len(others)) < 2:
        return None

    def statistic(x: Any, y: Any, axis: int) -> Any:
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    found = scipy.stats.permutation_test(
        (scores, others), statistic, vectorized=True, n_resamples=RESAMPLES, alternative="two-sided", rng=rng
    )
    return float(found.pvalue)


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


def holm(values: Sequence[float | None]) -> list[float]:
    """Adjust p-values for their number (Holm 1979), so that the probability of any false claim stays below the level.

    An impossible test counts as one that found nothing.
    """
    found = np.array([1.0 if p is None else p for p in values])
    order = np.argsort(found)
    adjusted = np.empty(len(found))
    adjusted[order] = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    return [float(p) for p in np.minimum(adjusted, 1)]


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
    return float(1 - 2 * scipy.stats.norm.cdf(-shrunk * scipy.stats.t.ppf((1 + level) / 2, freedom)))


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
    reach = float(scipy.stats.t.ppf((1 + level) / 2, sum(n + m - 2 for n, m in sizes)))

    def beyond(chance: float) -> float:
        return abs(estimate - chance) - reach * math.sqrt(_variance_of_chance(chance, sizes))

    # At 0 and 1 the variance is 0, so each end lies between the estimate and 0 or 1.
    low = 0.0 if estimate == 0 else float(scipy.optimize.brentq(beyond, 0, estimate * (1 - ROUNDING)))
    high = 1.0 if estimate == 1 else float(scipy.optimize.brentq(beyond, estimate + (1 - estimate) * ROUNDING, 1))
    return Interval(estimate, low, high)


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


def _t_interval(estimate: float, error: float, freedom: int, level: float) -> Interval:
    if freedom < 1 or error <= ROUNDING * abs(estimate):
        return Interval(estimate, None, None)
    reach = float(scipy.stats.t.ppf((1 + level) / 2, freedom)) * error
    return Interval(estimate, estimate - reach, estimate + reach)


def _standard_error(scores: Array) -> float:
    return float(np.std(scores, ddof=1)) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan


def _have_spread(scores: Array, others: Array) -> bool:
    """Whether there are enough scores to estimate a spread, and it is larger than rounding."""
    if min(len(scores), len(others)) < 2:
        return False
    return bool(_pooled_deviation(scores, others) > ROUNDING * max(np.abs(scores).max(), np.abs(others).max()))


def _pooled_deviation(scores: Array, others: Array) -> float:
    n, m = len(scores), len(others)
    squares = np.sum((scores - np.mean(scores)) ** 2) + np.sum((others - np.mean(others)) ** 2)
    return math.sqrt(float(squares) / (n + m - 2))
