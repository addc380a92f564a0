"""Weighted sums of means of independent samples: contrasts of arms, on one task or over several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from deltarl.comparison.intervals import LEVEL, ROUNDING, Array, Interval, t_quantile


@dataclass(frozen=True)
class Combination:
    """A weighted sum of means, with Welch's standard error and Satterthwaite's degrees of freedom.

    Attributes:
        error: standard error; None if a sample has fewer than 2 scores, or if no sample has any spread.
        freedom: degrees of freedom of the error.
    """

    estimate: float
    error: float | None
    freedom: float

    def interval(self, level: float = LEVEL) -> Interval:
        """The confidence interval; for two samples with weights 1 and -1, Welch's interval."""
        if self.error is None:
            return Interval(self.estimate, None, None)
        reach = t_quantile((1 + level) / 2, self.freedom) * self.error
        return Interval(self.estimate, self.estimate - reach, self.estimate + reach)

    def p(self) -> float | None:
        """Two-sided p-value of Welch's test against 0."""
        if self.error is None:
            return None
        return float(2 * scipy.stats.t.sf(abs(self.estimate) / self.error, self.freedom))

    def equivalence_p(self, bound: float) -> float | None:
        """p-value of two one-sided Welch tests (Schuirmann 1987) against true values of at least `bound` either way.

        It is below 0.05 if the 90% interval lies within the bounds.
        """
        if self.error is None:
            return None
        return float(scipy.stats.t.sf((bound - abs(self.estimate)) / self.error, self.freedom))


def combination(weights: Sequence[float] | Array, samples: Sequence[Array]) -> Combination:
    """The sum of each sample's mean times its weight.

    Args:
        weights: one per sample.
        samples: independent scores, each `[seeds]`; their numbers may differ.
    """
    estimate = float(sum(weight * np.mean(each) for weight, each in zip(weights, samples, strict=True)))
    if min(map(len, samples)) < 2:
        return Combination(estimate, None, math.nan)
    variances = np.array(
        [weight**2 * np.var(each, ddof=1) / len(each) for weight, each in zip(weights, samples, strict=True)]
    )
    largest = max(abs(weight) * np.abs(each).max() for weight, each in zip(weights, samples, strict=True))
    error = math.sqrt(variances.sum())
    if error <= ROUNDING * largest:
        return Combination(estimate, None, math.nan)
    freedoms = np.array([len(each) - 1 for each in samples])
    return Combination(estimate, error, float(variances.sum() ** 2 / (variances**2 / freedoms).sum()))
