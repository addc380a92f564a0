"""Statistics over tasks against closed forms, published values and exhaustive counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from deltarl.comparison import aggregates
from deltarl.comparison.intervals import Interval

FIVE = np.array([4.1, 5.6, 3.9, 6.2, 5.0])
OTHERS = np.array([2.0, 2.9, 1.1, 3.5, 2.4])


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_permutation_test_of_the_chance_exchanges_arms_within_tasks_and_seeds() -> None:
    """Six runs above all others on their tasks: 2 of 2^6 exchanges differ as much."""
    ours, theirs = [np.array([2.0, 3.0, 4.0]), np.array([7.0, 8.0, 9.0])], [np.zeros(3), np.full(3, 5.0)]
    assert aggregates.improvement_p(ours, theirs, generator()) == pytest.approx(2 / 64)
    assert aggregates.improvement_p(ours, ours, generator()) == 1.0
    assert aggregates.improvement_p([FIVE[:1]], [OTHERS[:1]], generator()) is None


def test_the_test_of_the_chance_does_not_follow_outliers() -> None:
    """Better on most tasks and far worse on one: the probability is above a half, whatever the means."""
    ours = [np.arange(6.0) + 10 for _ in range(5)] + [np.arange(6.0) - 1_000]
    theirs = [np.arange(6.0) for _ in range(6)]
    assert aggregates.improvement_p(ours, theirs, generator()) < 0.05  # type: ignore[operator]
    assert aggregates.probability_of_improvement(ours, theirs).estimate == pytest.approx(5 / 6)


def test_an_aggregate_pools_the_runs_of_all_tasks() -> None:
    tasks = [np.array([0.0, 0.1, 0.2, 0.3]), np.array([1.0, 1.1, 1.2, 9.0])]
    pooled = aggregates.aggregate(tasks, aggregates.pooled_iqm, generator(), resamples=999)
    assert pooled.estimate == pytest.approx(np.mean([0.2, 0.3, 1.0, 1.1]))
    assert pooled.low is not None
    assert pooled.high is not None
    assert 0 <= pooled.low < pooled.estimate < pooled.high
    again = aggregates.aggregate(tasks, aggregates.pooled_iqm, generator(), resamples=999)
    assert again == pooled


def test_seeds_are_resampled_within_tasks_only() -> None:
    """If seeds agree on each task, resampling changes nothing, however far the tasks are apart."""
    tasks = [np.zeros(5), np.ones(5)]
    assert aggregates.aggregate(tasks, aggregates.pooled_mean, generator()) == Interval(0.5, None, None)


def test_a_widened_interval_of_the_mean_is_students() -> None:
    """The purpose of widening: normal percentiles at the widened level equal Student's t interval."""
    level = aggregates.widened(0.95, [5])
    bootstrap_deviation = math.sqrt(4 / 5)  # of the mean, in standard errors
    assert stats.norm.ppf((1 + level) / 2) * bootstrap_deviation == pytest.approx(stats.t.ppf(0.975, 4))


def test_the_chance_to_score_above_counts_pairs() -> None:
    ours, theirs = [np.array([1.0, 2.0, 3.0])], [np.array([0.0, 2.0, 2.5])]
    found = aggregates.probability_of_improvement(ours, theirs)
    u = stats.mannwhitneyu(ours[0], theirs[0]).statistic
    assert found.estimate == pytest.approx(u / 9) == pytest.approx((1 + 1.5 + 3) / 9)


def test_the_chance_averages_over_tasks() -> None:
    high, low = np.array([5.0, 6.0]), np.array([1.0, 2.0])
    assert aggregates.probability_of_improvement([high, low], [low, high]).estimate == 0.5


def test_the_interval_of_the_chance_is_newcombes() -> None:
    """At its ends, the estimate is as many standard errors away as the quantile."""
    ours, theirs = [FIVE], [FIVE - 0.8]
    found = aggregates.probability_of_improvement(ours, theirs)
    t = stats.t.ppf(0.975, 8)
    for end in (found.low, found.high):
        assert end is not None
        variance = end * (1 - end) * (1 + 4 * (1 - end) / (2 - end) + 4 * end / (1 + end)) / 25
        assert abs(found.estimate - end) == pytest.approx(t * math.sqrt(variance), rel=1e-6)


def test_a_chance_of_one_is_not_certain() -> None:
    """Three runs above three others are one of twenty orders, which proves nothing."""
    found = aggregates.probability_of_improvement([FIVE[:3] + 10], [OTHERS[:3]])
    assert (found.estimate, found.high) == (1.0, 1.0)
    assert found.low is not None
    assert 0.1 < found.low < 0.6
    opposite = aggregates.probability_of_improvement([OTHERS[:3]], [FIVE[:3] + 10])
    assert (opposite.low, opposite.high) == (0.0, pytest.approx(1 - found.low))


def test_a_profile_is_the_share_above_each_threshold() -> None:
    tasks = [np.array([0.0, 1.0]), np.array([0.5, 2.0])]
    share, low, high = aggregates.performance_profile(tasks, np.array([-1.0, 0.25, 0.75, 3.0]), generator())
    assert list(share) == [1.0, 0.75, 0.5, 0.0]
    assert (low <= share).all()
    assert (share <= high).all()
