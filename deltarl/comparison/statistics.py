"""Estimates, intervals and tests for scores of a few seeds on one task, computed with SciPy.

Scores of one arm are an array `[seeds]`. Intervals have a level of 95% unless another is given. `coverage` measures how
often each contains the true value; `aggregates` has estimates over several tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import scipy

from deltarl.comparison.intervals import LEVEL, ROUNDING, Array, Interval, t_interval
from deltarl.comparison.linear import combination

RESAMPLES = 9_999
CUT = 0.25  # fraction cut from each end for the interquartile mean
FAR_OUT = 30  # beyond this t, SciPy's noncentral t distribution is slow to search, and soon returns NaN


def mean(scores: Array, level: float = LEVEL) -> Interval:
    """The mean, with Student's t interval if there are at least 2 scores and not all are equal."""
    if not len(scores):
        return Interval(math.nan, None, None)
    return t_interval(float(np.mean(scores)), _standard_error(scores), len(scores) - 1, level)


def median(scores: Array, level: float = LEVEL) -> Interval:
    """The median, with the exact interval between order statistics, which needs 6 scores at 95%."""
    estimate, ranks = float(np.median(scores)), _ranks_around_the_median(len(scores), level)
    if ranks is None:
        return Interval(estimate, None, None)
    low, high = np.sort(scores)[list(ranks)]
    return Interval(estimate, float(low), float(high))


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
    return t_interval(estimate, _standard_error(winsorized) / (1 - 2 * cut / n), n - 2 * cut - 1, level)


def difference(scores: Array, others: Array, level: float = LEVEL) -> Interval:
    """Mean of `scores` minus mean of `others`, with Welch's interval, which allows different variances."""
    return combination([1, -1], [scores, others]).interval(level)


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
    return combination([1, -1], [scores, others]).p()


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


def holm(values: Sequence[float | None]) -> list[float]:
    """Adjust p-values for their number (Holm 1979), so that the probability of any false claim stays below the level.

    An impossible test counts as one that found nothing.
    """
    found = np.array([1.0 if p is None else p for p in values])
    order = np.argsort(found)
    adjusted = np.empty(len(found))
    adjusted[order] = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    return [float(p) for p in np.minimum(adjusted, 1)]


@cache
def _ranks_around_the_median(n: int, level: float) -> tuple[int, int] | None:
    """Ranks, from 0, of the order statistics that enclose the median of n scores; None if there are too few."""
    found: Any = scipy.stats.quantile_test(np.arange(n), p=0.5).confidence_interval(level)
    return None if math.isnan(found.low) or math.isnan(found.high) else (int(found.low), int(found.high))


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
