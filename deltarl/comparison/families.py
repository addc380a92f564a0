"""Families of tests, each adjusted for its number after Holm, and what could not have passed whatever came out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deltarl.comparison import statistics

SIGNIFICANT = 0.05
Name = Literal["primary", "secondary"]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Hypothesis:
    """One test of a family.

    Attributes:
        key: what it is of.
        p: as the test gives it; None where it could not be made.
        floor: the smallest p that it could have given at these numbers of seeds.
    """

    key: Key
    p: float | None
    floor: float = 0.0


@dataclass(frozen=True)
class Family:
    """Tests that are adjusted together: the chance of any false claim among them stays below 0.05.

    Attributes:
        adjusted: p after Holm, by the test's key.
        hopeless: keys of tests that could not have passed, had everything come out at its most extreme.
    """

    name: Name
    adjusted: dict[Key, float]
    hopeless: tuple[Key, ...]

    @property
    def level(self) -> float:
        """Of the interval that belongs to Holm's first step."""
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
    """Any difference can be shown once every arm has two seeds, if it is large enough; below, none."""
    return 0.0 if min(seeds) > 1 else 1.0


def floor_of_chance(tasks: Sequence[int]) -> float:
    """The smallest p of the permutation test of the chance to score above, for so many common seeds of each task.

    Two of all exchanges of the arms within tasks and seeds are the most extreme ones. It is 1 where even then the
    interval reaches to a half.
    """
    if sum(tasks) < 2:
        return 1.0
    above, below = ([np.arange(n) + shift for n in tasks] for shift in (1_000.0, 0.0))
    if not statistics.probability_of_improvement(above, below).excludes(0.5):
        return 1.0
    return float(2 / min(2.0 ** sum(tasks), statistics.RESAMPLES + 1))
