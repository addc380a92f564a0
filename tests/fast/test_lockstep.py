"""Lean steps and Stable-Baselines3's, side by side through a real training in single precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import Logger
from torch.nn.utils import parameters_to_vector

from deltarl.training.build import built
from tests.test_docs import load

ROLLOUTS = 8


@pytest.fixture(scope="module")
def doubt() -> ModuleType:
    return load(Path(__file__).resolve().parents[2] / "benchmarks" / "lean_doubt.py")


def after_an_update(model: Any, theirs: Any, before: Callable[[Any], None] = lambda _: None) -> torch.Tensor:
    """Parameters after one update from Stable-Baselines3's parameters, optimizer, rollout and random numbers."""
    model.set_parameters(deepcopy(theirs.get_parameters()))  # otherwise the optimizers would share their moments
    before(model.policy)
    model.rollout_buffer = deepcopy(theirs.rollout_buffer)
    model._current_progress_remaining = theirs._current_progress_remaining
    numbers, torch_numbers = np.random.get_state(), torch.get_rng_state()
    model.train()
    np.random.set_state(numbers)
    torch.set_rng_state(torch_numbers)
    return parameters_to_vector(model.policy.parameters()).detach()


@pytest.mark.slow
def test_updates_of_a_training_agree_as_well_as_stable_baselines3s_agree_with_themselves(doubt: ModuleType) -> None:
    """From the same state, a lean update ends as close to theirs as theirs does after a disturbance of the last bit."""
    with ExitStack() as opened:
        lean, theirs, disturbed = (
            opened.enter_context(built(doubt.spec_of(arm), 3))[0] for arm in ("lean", "sb3", "sb3_disturbed")
        )
        for model in (lean, theirs, disturbed):
            model.set_logger(Logger(None, []))
        assert lean.lean_update() is not None  # type: ignore[attr-defined]
        own_train, apart = theirs.train, []

        def train() -> None:
            start = parameters_to_vector(theirs.policy.parameters()).detach().clone()
            ours = after_an_update(lean, theirs)
            again = after_an_update(disturbed, theirs, lambda policy: doubt.disturb(policy, len(apart)))
            own_train()
            end = parameters_to_vector(theirs.policy.parameters()).detach()
            apart.append([float((each - end).norm()) for each in (ours, again, start)])

        theirs.train = train  # type: ignore[method-assign]
        theirs.learn(ROLLOUTS * 2_048)
    from_theirs, from_itself, moved = np.array(apart).T
    assert len(apart) == ROLLOUTS
    assert np.median(from_theirs / from_itself) < 3
    assert np.median(from_theirs / moved) < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["lean", "sb3", "sb3_disturbed"])
def test_a_run_of_the_experiment_ends_with_a_score(doubt: ModuleType, arm: str) -> None:
    assert np.isfinite(doubt.train(arm, 5, steps=2_048, episodes=1))


def test_nothing_is_reported_before_all_runs_have_finished(doubt: ModuleType) -> None:
    rows = [{"seed": seed, "arm": arm, "return": 1_000.0, "commit": "a"} for seed in doubt.SEEDS for arm in doubt.ARMS]
    with pytest.raises(SystemExit, match="1 of 180 runs have not finished"):
        doubt.verdict(rows[:-1])
    for row in rows[: 3 * 20 : 3]:
        row["return"] = 2_000.0
    said = doubt.verdict(rows)
    assert "lean: 20 of 60 above 1,250" in said
    assert "lean and sb3: Fisher's exact test, p 0.000 (decides)" in said
    assert "sb3_disturbed and sb3: Fisher's exact test, p 1.000 (describes)" in said


@pytest.mark.parametrize(
    ("commit", "message"),
    [(None, "one clean commit"), ("abc-dirty", "one clean commit"), ("def", "of commit abc, and this is def")],
)
def test_runs_of_several_commits_are_not_mixed(doubt: ModuleType, commit: str | None, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        doubt.check_commit([{"commit": "abc"}], commit)
