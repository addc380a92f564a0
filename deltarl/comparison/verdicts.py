"""What an interval and an adjusted test support saying about a difference."""

from __future__ import annotations

from typing import Literal

from deltarl.comparison.families import SIGNIFICANT
from deltarl.comparison.intervals import Interval

Verdict = Literal["higher", "lower", "no difference shown", "not tested"]


def verdict(interval: Interval, nothing: float, p: float | None) -> Verdict:
    """Claim a difference only if its interval excludes the null value and its adjusted test agrees.

    Args:
        interval: interval of the difference.
        nothing: the null value.
        p: adjusted p-value.
    """
    if p is None or p >= SIGNIFICANT or not interval.excludes(nothing):
        return "no difference shown"
    return "higher" if interval.estimate > nothing else "lower"
