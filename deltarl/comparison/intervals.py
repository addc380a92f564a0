"""Estimates with their intervals, and Student's t, on which most of them rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its modules load on first use, so that training does not wait for them
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
LEVEL = 0.95
ROUNDING = 1e-9  # a spread below this fraction of the scores counts as none


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval; the ends are None if there are too few scores for one."""

    estimate: float
    low: float | None
    high: float | None

    def excludes(self, value: float) -> bool:
        """Whether the value lies outside the interval; False without an interval."""
        return self.low is not None and self.high is not None and (value < self.low or value > self.high)


def t_quantile(share: float, freedom: float) -> float:
    """Quantile of Student's t distribution.

    The function behind `scipy.stats.t.ppf`, without the hundred microseconds in which that inspects its arguments:
    reports simulate thousands of intervals.
    """
    return float(scipy.special.stdtrit(freedom, share))


def t_interval(estimate: float, error: float, freedom: float, level: float) -> Interval:
    """Student's t interval; without ends if the error is undefined or no larger than rounding.

    Args:
        estimate: the estimate.
        error: its standard error; NaN if there are too few scores for one.
        freedom: degrees of freedom of the error.
        level: confidence level.
    """
    if not (freedom >= 1 and error > ROUNDING * abs(estimate)):
        return Interval(estimate, None, None)
    reach = t_quantile((1 + level) / 2, freedom) * error
    return Interval(estimate, estimate - reach, estimate + reach)
