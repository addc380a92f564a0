"""What an interval and an adjusted test allow to say of a difference."""

from __future__ import annotations

from typing import Literal

from deltarl.comparison.families import SIGNIFICANT
from deltarl.comparison.statistics import Interval

Verdict = Literal["higher", "lower", "no difference shown", "not tested"]


def verdict(interval: Interval, nothing: float, p: float | None) -> Verdict:
    """A difference is claimed only where its interval excludes none and its test, adjusted for their number, agrees.

    Args:
        interval: of the difference.
        nothing: its value where there is none.
        p: adjusted.
    """
    if p is None or p >= SIGNIFICANT or not interval.excludes(nothing):
        return "no difference shown"
    return "higher" if interval.estimate > nothing else "lower"
