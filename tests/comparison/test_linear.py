"""Weighted sums of means: Welch's test of two arms, and the level of contrasts over tasks."""

from __future__ import annotations

import numpy as np
import pytest

from deltarl.comparison import statistics
from deltarl.comparison.linear import combination

SIMULATIONS = 2_000
NOISE = 4 * (0.05 * 0.95 / SIMULATIONS) ** 0.5
# The four arms of an interaction on two tasks that differ in spread and in number of seeds.
WEIGHTS = np.array([1, -1, -1, 1, 1, -1, -1, 1]) / 2
SPREADS = np.array([1, 3, 1, 2, 10, 10, 30, 5])
SEEDS = (12, 12, 8, 12, 6, 12, 12, 12)


def samples(rng: np.random.Generator, effect: float) -> list[np.ndarray]:
    """Scores whose true contrast is `effect`."""
    found = [rng.normal(100, spread, seeds) for spread, seeds in zip(SPREADS, SEEDS, strict=True)]
    found[0] = found[0] + effect / WEIGHTS[0]
    return found


def test_of_two_arms_it_is_welchs_test() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(3, 1, 5), rng.normal(2, 4, 9)
    found = combination((1, -1), (ours, theirs))
    welch = statistics.difference(ours, theirs)
    assert (found.interval().low, found.interval().high) == (pytest.approx(welch.low), pytest.approx(welch.high))
    assert found.p() == pytest.approx(statistics.welch_p(ours, theirs))


def test_a_contrast_over_tasks_keeps_its_level_and_its_interval_covers() -> None:
    rng = np.random.default_rng(1)
    found = [combination(WEIGHTS, samples(rng, 2.0)) for _ in range(SIMULATIONS)]
    assert np.mean([not each.interval().excludes(2.0) for each in found]) == pytest.approx(0.95, abs=NOISE)
    nothing = [combination(WEIGHTS, samples(rng, 0.0)).p() for _ in range(SIMULATIONS)]
    assert np.mean(np.array(nothing, float) < 0.05) == pytest.approx(0.05, abs=NOISE)


def test_a_contrast_that_is_large_is_shown() -> None:
    rng = np.random.default_rng(2)
    error = np.sqrt(np.sum((WEIGHTS * SPREADS) ** 2 / np.array(SEEDS)))
    found = [combination(WEIGHTS, samples(rng, 4 * error)).p() for _ in range(200)]
    assert np.mean(np.array(found, float) < 0.05) > 0.9


def test_equivalence_is_claimed_falsely_no_more_often_than_the_level_and_found_where_it_is() -> None:
    rng = np.random.default_rng(3)
    at_the_bound = [combination(WEIGHTS, samples(rng, 20.0)).equivalence_p(20.0) for _ in range(SIMULATIONS)]
    assert 0.05 - NOISE < np.mean(np.array(at_the_bound, float) < 0.05) < 0.05 + NOISE
    none = [combination(WEIGHTS, samples(rng, 0.0)).equivalence_p(20.0) for _ in range(200)]
    assert np.mean(np.array(none, float) < 0.05) > 0.9


def test_equivalence_is_shown_where_the_90_percent_interval_lies_within_the_bounds() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        found = combination((1, -1), rng.normal(0, 1, (2, 20)))
        inside = found.interval(0.9)
        assert inside.low is not None
        assert inside.high is not None
        p = found.equivalence_p(0.6)
        assert p is not None
        assert (p < 0.05) == (inside.low > -0.6 and inside.high < 0.6)


@pytest.mark.parametrize("ours", [np.array([1.0]), np.array([2.0, 2.0])])
def test_without_spread_there_is_an_estimate_without_an_interval(ours: np.ndarray) -> None:
    found = combination((1, -1), (ours, np.array([1.0, 1.0])))
    assert (found.error, found.p(), found.equivalence_p(1.0)) == (None, None, None)
    assert found.interval().low is None
