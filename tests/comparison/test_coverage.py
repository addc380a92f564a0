"""How often intervals contain the true value with 3, 5 and 10 seeds, by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from deltarl.comparison import coverage

SIMULATIONS = 500
# Four standard errors of a fraction near 0.95 with this number of simulations.
NOISE = 4 * (0.95 * 0.05 / SIMULATIONS) ** 0.5


@pytest.fixture(autouse=True)
def _fewer_simulations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "SIMULATIONS", SIMULATIONS)


def generator(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_students_interval_of_normal_scores_covers_as_often_as_it_says(seeds: int) -> None:
    assert coverage.of_one_task("mean", seeds, "normal", generator(1, seeds)) == pytest.approx(0.95, abs=NOISE)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_welchs_interval_covers_as_it_says_unless_seeds_fail_in_one_of_the_arms(seeds: int) -> None:
    assert coverage.of_difference(seeds, "normal", generator(2, seeds)) > 0.95 - NOISE
    assert 0.83 < coverage.of_difference(seeds, "one seed in five fails", generator(2, seeds)) < 0.95


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_of_the_chance_over_three_tasks_covers_about_as_often_as_it_says(seeds: int) -> None:
    for world in coverage.WORLDS:
        assert coverage.of_improvement(seeds, 3, world, generator(8, seeds)) > 0.91


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_iqms_interval_covers_nearly_as_often_as_it_says(seeds: int) -> None:
    for world in coverage.WORLDS:
        found = coverage.of_one_task("iqm", seeds, world, generator(3, seeds))
        assert found is not None
        assert 0.90 < found <= 1


def test_the_median_has_its_interval_from_six_seeds_on() -> None:
    found = [coverage.of_one_task("median", seeds, "normal", generator(4)) for seeds in (3, 5, 10)]
    assert found[:2] == [None, None]
    assert found[2] == pytest.approx(0.979, abs=NOISE)  # 1 - 22 / 1024, for the second and the ninth of ten


@pytest.mark.parametrize(("seeds", "covered"), [(3, 0.75), (5, 0.90), (10, 0.94)])
def test_the_plain_percentile_interval_of_an_iqm_is_too_narrow(seeds: int, covered: float) -> None:
    """This is why reports do not use it."""
    found = coverage.of_aggregate("iqm", seeds, 1, "normal", generator(5, seeds), widen=False)
    assert found == pytest.approx(covered, abs=0.05)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_widened_interval_over_three_tasks_covers_nearly_as_often_as_it_says(seeds: int) -> None:
    for world in coverage.WORLDS:
        widened, usual = (
            coverage.of_aggregate("iqm", seeds, 3, world, generator(6, seeds), widen=widen) for widen in (True, False)
        )
        assert widened > usual
        assert widened > 0.85


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_mean_over_tasks_is_covered_as_often_as_it_says_and_the_median_less_often(seeds: int) -> None:
    mean, median = (coverage.of_aggregate(name, seeds, 3, "normal", generator(9, seeds)) for name in ("mean", "median"))
    assert mean > 0.95 - NOISE
    assert 0.7 < median < 0.97


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_of_hedges_g_covers_as_often_as_it_says(seeds: int) -> None:
    assert coverage.of_effect(seeds, "normal", generator(10, seeds)) == pytest.approx(0.95, abs=2 * NOISE)


def test_a_mean_of_scores_with_failed_seeds_is_covered_less_often() -> None:
    """This is why the report has to give both worlds."""
    found = coverage.of_one_task("mean", 5, "one seed in five fails", generator(7))
    assert found is not None
    assert found < 0.9
