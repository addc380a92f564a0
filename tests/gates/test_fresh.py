"""The TD error on transitions that have not been trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from deltarl.checkpoints.state import capture, restore
from deltarl.gates import GateCallback, read_record
from deltarl.gates.batches import batch_of, newest
from deltarl.gates.callback import GateState
from deltarl.gates.fresh import added, td_statistics
from deltarl.gates.losses import values_and_targets
from tests.policies.matrix import SUBJECTS, make

DELTA = {"kind": "delta", "width": 12, "depth": 2, "heads": 2}


def sac(**options: Any) -> Any:
    return make(next(subject for subject in SUBJECTS if subject.name == "SAC"), torso=DELTA, options=options)


def test_statistics_are_those_of_all_transitions_together() -> None:
    rng = np.random.default_rng(0)
    values, targets = torch.as_tensor(rng.normal(size=(2, 30)) * [[1], [3]] + 5)
    sums = added({}, {"qf0": (values[:10], targets[:10])})
    sums = added(sums, {"qf0": (values[10:], targets[10:])})
    [found] = td_statistics(sums).values()
    error = float((values - targets).square().mean())
    assert found["td_error"] == pytest.approx(error**0.5)
    assert found["td_unexplained"] == pytest.approx(error / float(targets.var(correction=0)))


def test_a_critic_that_knows_the_mean_explains_nothing_and_equal_targets_have_no_share() -> None:
    targets = torch.linspace(-100.0, -90.0, 11)
    known = td_statistics(added({}, {"q": (targets.mean().expand(11), targets)}))["q"]
    assert known["td_unexplained"] == pytest.approx(1)
    assert td_statistics(added({}, {"q": (targets, targets)}))["q"]["td_unexplained"] == pytest.approx(0, abs=1e-9)
    equal = torch.full((5,), 0.1)
    assert np.isnan(td_statistics(added({}, {"q": (equal + 1, equal)}))["q"]["td_unexplained"])


class Watch(BaseCallback):
    """The critics' values of each transition right after it was collected."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        batch = batch_of(newest(self.model, 1))
        self.found.append(values_and_targets(self.model, batch)["qf1"])


def test_the_newest_transitions_before_a_measurement_are_taken_before_they_are_trained_on(tmp_path: Path) -> None:
    model = sac()
    watch, gates = Watch(), GateCallback(every=20, rows=8, path=tmp_path / "gates.npz")
    model.learn(60, callback=[watch, gates])
    record = read_record(tmp_path / "gates.npz")
    assert record["steps"].tolist() == [8, 20, 40, 60]
    for row, end in enumerate((8, 20, 40, 60)):
        errors = torch.cat([value - target for value, target in watch.found[end - 8 : end]])
        assert len(errors) == 8 * model.n_envs
        assert record["network/qf1/fresh_td_error"][row] == pytest.approx(
            float(errors.square().mean().sqrt()), rel=1e-5
        )
    assert np.isfinite(record["network/qf0/td_error"]).all()
    assert (record["network/qf0/td_error"] != record["network/qf0/fresh_td_error"]).all()


def test_of_a_rollout_of_many_steps_the_newest_are_taken() -> None:
    model = sac(train_freq=12)
    model.learn(24)
    rows = newest(model, 3)
    stored = model.replay_buffer.observations[21:24].reshape(3 * model.n_envs, -1)
    assert np.array_equal(rows["observations"].numpy(), stored)
    assert len(newest(model, 1000)["observations"]) == 24 * model.n_envs


def test_sums_survive_an_interruption_and_older_checkpoints_have_none() -> None:
    state = GateState()
    assert "fresh" not in vars(state)
    state.fresh = {"qf0": (3.0, 1.0, 2.0, 4.0)}
    again, named = restore({"gates": GateState()}, capture({"gates": state}))
    assert named == []
    assert again["gates"].fresh == state.fresh
