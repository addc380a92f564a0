"""The power of Welch's test of a weighted sum of means, from standard deviations that were planned beforehand.

The test's degrees of freedom follow from the variances of the sample, so that its power has no closed form. Given these
variances it is that of a normal variable; they are drawn, always the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import scipy

from deltarl.comparison.statistics import LEVEL, POWER, Array

DRAWS = 4_000


def welch_power(
    effect: float, deviations: Sequence[float], seeds: Sequence[int], level: float = LEVEL, *, bound: float = 0.0
) -> float:
    """The chance that Welch's two-sided test shows a true effect.

    Args:
        effect: true value of the sum of means.
        deviations: planned standard deviation of each term's scores, times its weight.
        seeds: of each term, at least 2.
        level: of the test; one of k tests, after Bonferroni or for Holm's first step, has 1 - (1 - level) / k.
        bound: above 0, the chance that two one-sided tests show that the effect lies within it, in place of that.
    """
    return _power(effect, _spreads(tuple(deviations), tuple(seeds), level, bound > 0), bound)


def detectable_effect(
    deviations: Sequence[float], seeds: Sequence[int], level: float = LEVEL, power: float = POWER
) -> float | None:
    """The smallest true effect that the test shows with probability `power`; None with a term of fewer than 2 seeds.

    Args:
        deviations: as in `welch_power`.
        seeds: as in `welch_power`.
        level: as in `welch_power`.
        power: the probability.
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
    """The standard error, and how far the test reaches in each of the samples whose variances are drawn."""
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
