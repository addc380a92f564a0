"""The power of Welch's test, compared with published tables and with the test itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from deltarl.comparison.linear import combination
from deltarl.comparison.power import detectable_effect, welch_power

SIMULATIONS = 20_000
NOISE = 4 * (0.25 / SIMULATIONS) ** 0.5


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 393), (0.5, 64), (0.8, 26)])
def test_effects_that_many_seeds_show_are_cohens(effect: float, seeds: int) -> None:
    """Cohen (1992), A power primer, table 2: seeds per arm for a power of 0.8 at 0.05."""
    assert detectable_effect((1, 1), (seeds, seeds)) == pytest.approx(effect, abs=0.01)


@pytest.mark.parametrize(("seeds", "deviations"), [((3, 3), (1, 1)), ((5, 5), (1, 1)), ((5, 12), (3, 1))])
@pytest.mark.parametrize("level", [0.95, 1 - 0.05 / 12])
def test_the_test_shows_what_can_be_detected_four_times_in_five(
    seeds: tuple[int, int], deviations: tuple[float, float], level: float
) -> None:
    effect = detectable_effect(deviations, seeds, level)
    assert effect is not None
    rng = np.random.default_rng(seeds)
    ours, theirs = (rng.normal(0, deviations[arm], (SIMULATIONS, seeds[arm])) for arm in range(2))
    found = stats.ttest_ind(ours + effect, theirs, axis=1, equal_var=False).pvalue < 1 - level
    assert found.mean() == pytest.approx(0.8, abs=NOISE + 0.01)


def test_without_an_effect_the_test_keeps_its_level() -> None:
    assert welch_power(0.0, (1, 1), (10, 10)) == pytest.approx(0.05, abs=0.003)


def test_of_a_single_seed_nothing_can_be_detected() -> None:
    assert detectable_effect((1, 1), (1, 5)) is None


@pytest.mark.parametrize(("effect", "bound"), [(0.0, 0.5), (0.3, 0.5), (0.0, 0.2)])
def test_the_power_of_two_one_sided_tests_is_that_of_the_tests(effect: float, bound: float) -> None:
    seeds, rng = 40, np.random.default_rng(1)
    found = 0
    for _ in range(1_000):
        p = combination((1, -1), (rng.normal(effect, 1, seeds), rng.normal(0, 1, seeds))).equivalence_p(bound)
        assert p is not None
        found += p < 0.05
    expected = welch_power(effect, (1, 1), (seeds, seeds), bound=bound)
    assert found / 1_000 == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 1_000))
