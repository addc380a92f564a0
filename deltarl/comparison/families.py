"""Families of tests, each adjusted with Holm's method, and tests that could not have passed whatever the results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deltarl.comparison import aggregates, statistics

SIGNIFICANT = 0.05
Name = Literal["primary", "secondary"]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Hypothesis:
    """One test of a family.

    Attributes:
        key: identifies what it tests.
        p: unadjusted p-value; None if the test is impossible.
        floor: the smallest possible p-value with these numbers of seeds.
    """

    key: Key
    p: float | None
    floor: float = 0.0


@dataclass(frozen=True)
class Family:
    """Tests that are adjusted together, so that the probability of any false claim among them stays below 0.05.

    Attributes:
        adjusted: p-values adjusted with Holm's method, by the test's key.
        hopeless: keys of tests that could not have passed even with the most extreme results.
    """

    name: Name
    adjusted: dict[Key, float]
    hopeless: tuple[Key, ...]

    @property
    def level(self) -> float:
        """The level of the interval that corresponds to the first step of Holm's method."""
        return 1 - SIGNIFICANT / max(1, len(self.adjusted))


def family(name: Name, tests: Iterable[Hypothesis]) -> Family:
    """Adjust tests together."""
    found = list(tests)
    keys = [test.key for test in found]
    adjusted = statistics.holm([test.p for test in found]) if found else []
    best = statistics.holm([test.floor for test in found]) if found else []
    return Family(
        name,
        dict(zip(keys, adjusted, strict=True)),
        tuple(key for key, p in zip(keys, best, strict=True) if p >= SIGNIFICANT),
    )


def floor_of_welch(*seeds: int) -> float:
    """The smallest p-value of Welch's test: 0 if every arm has two seeds, otherwise 1."""
    return 0.0 if min(seeds) > 1 else 1.0


def floor_of_chance(tasks: Sequence[int]) -> float:
    """The smallest p-value of the permutation test of the probability of scoring above, given the common seeds per
    task.

    Two of all exchanges of the arms within tasks and seeds are the most extreme. It is 1 if even then the interval
    reaches 0.5.
    """
    if sum(tasks) < 2:
        return 1.0
    above, below = ([np.arange(n) + shift for n in tasks] for shift in (1_000.0, 0.0))
    if not aggregates.probability_of_improvement(above, below).excludes(0.5):
        return 1.0
    return float(2 / min(2.0 ** sum(tasks), statistics.RESAMPLES + 1))
