"""The power of Welch's test of a weighted sum of means, from planned standard deviations.

The test's degrees of freedom depend on the sample variances, so its power has no closed form. Given the variances, it
follows from a normal distribution; the variances are drawn, with a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import scipy

from deltarl.comparison.intervals import LEVEL, Array

DRAWS = 4_000
POWER = 0.8


def welch_power(
    effect: float, deviations: Sequence[float], seeds: Sequence[int], level: float = LEVEL, *, bound: float = 0.0
) -> float:
    """The probability that Welch's two-sided test detects a true effect.

    Args:
        effect: true value of the sum of means.
        deviations: planned standard deviation of each term's scores, times its weight.
        seeds: seeds of each term, at least 2.
        level: confidence level; for one of k tests with Bonferroni or the first step of Holm's method, use
            1 - (1 - level) / k.
        bound: if above 0, compute the probability that two one-sided tests show that the effect lies within it.
    """
    return _power(effect, _spreads(tuple(deviations), tuple(seeds), level, bound > 0), bound)


def detectable_effect(
    deviations: Sequence[float], seeds: Sequence[int], level: float = LEVEL, power: float = POWER
) -> float | None:
    """The smallest true effect detected with probability `power`; None if a term has fewer than 2 seeds.

    The other arguments are those of `welch_power`.
    """
    if min(seeds) < 2:
        return None
    spreads = _spreads(tuple(deviations), tuple(seeds), level, False)
    outer = spreads[0]
    while _power(outer, spreads, 0.0) < power:
        outer *= 2
    return float(scipy.optimize.brentq(lambda effect: _power(effect, spreads, 0.0) - power, 0, outer))


@cache
def _spreads(
    deviations: tuple[float, ...], seeds: tuple[int, ...], level: float, one_sided: bool
) -> tuple[float, Array]:
    """The standard error, and the half-width of the test's interval for each draw of the variances."""
    variances = np.square(deviations) / np.array(seeds)
    freedoms = np.array(seeds) - 1
    drawn = variances * np.random.default_rng(0).chisquare(freedoms, (DRAWS, len(seeds))) / freedoms
    total = drawn.sum(1)
    freedom = total**2 / (drawn**2 / freedoms).sum(1)  # Welch and Satterthwaite
    critical = scipy.stats.t.ppf(level if one_sided else (1 + level) / 2, freedom)
    return math.sqrt(variances.sum()), critical * np.sqrt(total)


def _power(effect: float, spreads: tuple[float, Array], bound: float) -> float:
    error, reach = spreads
    if bound:
        inside = np.maximum(bound - reach, 0)
        chances = scipy.special.ndtr((inside - effect) / error) - scipy.special.ndtr((-inside - effect) / error)
    else:
        chances = scipy.special.ndtr((effect - reach) / error) + scipy.special.ndtr((-effect - reach) / error)
    return float(np.mean(chances))
