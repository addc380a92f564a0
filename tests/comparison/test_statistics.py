"""Statistics against closed forms, published values and exhaustive counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from deltarl.comparison import statistics
from deltarl.comparison.intervals import Interval

FIVE = np.array([4.1, 5.6, 3.9, 6.2, 5.0])
OTHERS = np.array([2.0, 2.9, 1.1, 3.5, 2.4])


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_mean_has_students_interval() -> None:
    found = statistics.mean(FIVE)
    reach = 2.776 * np.std(FIVE, ddof=1) / math.sqrt(5)  # Student's t with 4 degrees of freedom, from any table
    assert found.estimate == pytest.approx(4.96)
    assert (found.low, found.high) == (pytest.approx(4.96 - reach, abs=1e-3), pytest.approx(4.96 + reach, abs=1e-3))


def test_the_median_has_an_interval_from_six_scores_on() -> None:
    """The smallest and largest of n scores enclose the median with probability 1 - 2^(1 - n): 0.969 for 6."""
    assert statistics.median(FIVE) == Interval(5.0, None, None)
    six = np.array([5.0, 1.0, 60.0, 2.0, 4.0, 3.0])
    assert statistics.median(six) == Interval(3.5, 1.0, 60.0)


@pytest.mark.parametrize(
    ("scores", "estimate"),
    [([1, 2, 3], 2.0), ([1, 2, 3, 100], 2.5), ([0, 1, 2, 3, 4, 5, 6, 700], 3.5), ([-9, 1, 2, 3, 99], 2.0)],
)
def test_the_iqm_is_the_mean_without_a_quarter_at_each_end(scores: list[float], estimate: float) -> None:
    assert statistics.iqm(np.array(scores, float)).estimate == estimate


def test_the_iqms_interval_is_tukeys_and_mclaughlins() -> None:
    scores = np.array([77, 87, 88, 114, 151, 210, 219, 246, 253, 262, 296, 299, 306, 376, 428, 515, 666, 1310, 2611.0])
    found = statistics.iqm(scores)
    trimmed = stats.mstats.trimmed_mean_ci(scores, limits=(4 / 19, 4 / 19))
    assert found.estimate == pytest.approx(np.mean(np.sort(scores)[4:15]))
    assert [found.low, found.high] == pytest.approx(list(trimmed), rel=1e-3)


def test_of_three_scores_the_iqm_is_the_mean() -> None:
    assert statistics.iqm(FIVE[:3]) == statistics.mean(FIVE[:3])


@pytest.mark.parametrize("statistic", [statistics.mean, statistics.iqm])
def test_one_score_has_no_interval(statistic: object) -> None:
    assert statistic(np.array([3.0])) == Interval(3.0, None, None)  # type: ignore[operator]


def test_the_difference_has_welchs_interval() -> None:
    found = statistics.difference(FIVE, OTHERS)
    variances = np.var(FIVE, ddof=1) / 5, np.var(OTHERS, ddof=1) / 5
    freedom = sum(variances) ** 2 / sum(each**2 / 4 for each in variances)  # Welch and Satterthwaite
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(sum(variances))
    assert found.estimate == pytest.approx(2.58)
    assert [found.low, found.high] == pytest.approx([2.58 - reach, 2.58 + reach])


@pytest.mark.parametrize("noise", [0.0, 1e-13])
def test_scores_without_spread_allow_no_interval_and_no_t_test(noise: float) -> None:
    """A task with equal scores for all seeds says nothing about how far other seeds would differ."""
    ones, twos = np.array([1000.0, 1000.0, 1000.0 + noise]), np.full(3, 2000.0)
    assert statistics.difference(twos, ones) == Interval(pytest.approx(1000.0), None, None)
    assert statistics.mean(ones) == Interval(pytest.approx(1000.0), None, None)
    assert statistics.welch_p(ones, twos) is None
    assert math.isnan(statistics.effect_size(ones, twos).estimate)
    assert statistics.permutation_p(ones, twos, generator()) == pytest.approx(0.1)


def test_pairs_remove_what_seeds_have_in_common() -> None:
    shifts = np.array([0.0, 10.0, 20.0, 30.0, 40.0])
    paired = statistics.paired_difference(FIVE + shifts, OTHERS + shifts)
    assert paired.estimate == pytest.approx(2.58)
    assert paired.excludes(0)
    assert not statistics.difference(FIVE + shifts, OTHERS + shifts).excludes(0)


def test_hedges_g_is_cohens_d_without_its_bias() -> None:
    """The correction for 8 degrees of freedom is 0.9027 (Hedges 1981, table 1)."""
    pooled = math.sqrt((np.var(FIVE, ddof=1) + np.var(OTHERS, ddof=1)) / 2)
    assert statistics.effect_size(FIVE, OTHERS).estimate == pytest.approx(2.58 / pooled * 0.9027, rel=1e-4)


def test_the_interval_of_g_excludes_none_where_the_t_test_does() -> None:
    for shift in (0.5, 1.0, 1.29, 1.31, 2.0):
        p = stats.ttest_ind(FIVE, FIVE - shift).pvalue
        assert statistics.effect_size(FIVE, FIVE - shift).excludes(0) == (p < 0.05)


@pytest.mark.parametrize("far", [0.0, 40.0, -40.0, 1e4, -1e8])
def test_the_interval_of_g_is_found_however_far_the_arms_are_apart(far: float) -> None:
    found = statistics.effect_size(FIVE + far, OTHERS)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.estimate < found.high


@pytest.mark.timeout(10)
@pytest.mark.parametrize("spread", [1e-3, 0.1])
def test_the_interval_of_g_for_nearly_constant_scores_reflects_only_their_spread(spread: float) -> None:
    """For large effects, only the chi-square distribution of the pooled variance matters."""
    found = statistics.effect_size(np.full(5, 1000.0), 9.0 + spread * FIVE)
    ends = np.sqrt(stats.chi2.ppf([0.025, 0.975], 8) / 8) * found.estimate
    assert [found.low, found.high] == pytest.approx(ends, rel=1e-4)


@pytest.mark.parametrize("freedom", [2, 8, 58])
@pytest.mark.parametrize("t", [3.0, -10.0, 30.0])
def test_far_shifts_equal_scipys_where_it_has_a_value(t: float, freedom: int) -> None:
    for share in (0.025, 0.975):
        shift = statistics.far_shift(t, freedom, share)
        assert stats.nct.cdf(t, freedom, shift) == pytest.approx(1 - share, abs=1e-7)


def test_a_missing_interval_excludes_nothing() -> None:
    assert not Interval(math.nan, math.nan, math.nan).excludes(0.0)
    assert not Interval(1.0, None, None).excludes(0.0)


def test_no_common_seed_makes_no_paired_difference() -> None:
    found = statistics.paired_difference(np.array([]), np.array([]))
    assert math.isnan(found.estimate)
    assert (found.low, found.high) == (None, None)


def test_few_seeds_bound_the_permutation_test() -> None:
    """If all scores of one arm are above the other's, only the two extremes of 252 assignments differ as much."""
    assert statistics.permutation_p(FIVE + 100, OTHERS, generator()) == pytest.approx(2 / 252)
    assert statistics.permutation_p(FIVE, FIVE, generator()) == 1.0
    assert statistics.permutation_p(FIVE[:1], OTHERS, generator()) is None


def test_holms_adjustment() -> None:
    """Factors of 4, 3, 2 and 1, never decreasing, in the order of the values; a missing test counts as p = 1."""
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.01, None]) == pytest.approx([0.02, 1.0])
