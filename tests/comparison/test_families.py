"""Families of tests: the probability of false claims, and tests that could not have passed."""

from __future__ import annotations

import numpy as np
import pytest

from deltarl.comparison.families import Hypothesis, family, floor_of_chance, floor_of_welch
from deltarl.comparison.linear import combination

SIMULATIONS = 400


def test_any_false_claim_of_a_family_is_as_seldom_as_one_test_says() -> None:
    """Seven arms and a reference on two tasks, in two correlated metrics; no arm truly differs."""
    rng = np.random.default_rng(0)
    false = dict.fromkeys(("primary", "secondary", "four families"), 0)
    for _ in range(SIMULATIONS):
        final = rng.normal(size=(2, 8, 5))
        scores = {"final": final, "area": 0.7 * final + 0.7 * rng.normal(size=final.shape)}
        tests = {
            metric: [
                Hypothesis((metric, str(task), str(arm)), combination((1, -1), (held[task, arm], held[task, 0])).p())
                for task in range(2)
                for arm in range(1, 8)
            ]
            for metric, held in scores.items()
        }
        over = {
            metric: [
                Hypothesis((metric, str(arm)), combination((1, 1, -1, -1), (*held[:, arm], *held[:, 0])).p())
                for arm in range(1, 8)
            ]
            for metric, held in scores.items()
        }
        primary = family("primary", over["final"])
        secondary = family("secondary", [*over["area"], *tests["final"], *tests["area"]])
        false["primary"] += min(primary.adjusted.values()) < 0.05
        false["secondary"] += min(secondary.adjusted.values()) < 0.05
        each = [family("secondary", of) for of in (*tests.values(), *over.values())]
        false["four families"] += any(min(one.adjusted.values()) < 0.05 for one in each)
    noise = 3 * (0.05 * 0.95 * SIMULATIONS) ** 0.5
    assert false["primary"] < 0.05 * SIMULATIONS + noise
    assert false["secondary"] < 0.05 * SIMULATIONS + noise
    assert false["four families"] > false["primary"] + false["secondary"]


@pytest.mark.parametrize(
    ("tasks", "arms", "hopeless"),
    [([3], 1, 1), ([5], 1, 1), ([6], 1, 0), ([3, 3, 3], 1, 0), ([3, 3], 2, 2), ([5, 5, 5], 40, 0)],
)
def test_few_seeds_and_many_arms_leave_tests_that_cannot_pass(tasks: list[int], arms: int, hopeless: int) -> None:
    """For n pairs of runs, two of 2^n exchanges are the most extreme: 2/32 for five and 2/64 for six."""
    found = family("primary", [Hypothesis((str(arm),), 1.0, floor_of_chance(tasks)) for arm in range(arms)])
    assert len(found.hopeless) == hopeless


def test_one_seed_shows_nothing_and_two_may() -> None:
    assert family("primary", [Hypothesis(("a",), None, floor_of_welch(1, 5))]).hopeless == (("a",),)
    assert family("primary", [Hypothesis(("a",), None, floor_of_welch(2, 5))]).hopeless == ()


def test_the_first_step_asks_a_share_of_the_level() -> None:
    assert family("primary", [Hypothesis((str(n),), 0.5) for n in range(5)]).level == pytest.approx(0.99)
