"""The batches on which gates are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3.common.logger import configure

from deltarl.gates import GateCallback, measure
from deltarl.gates.batches import batch_of, from_buffer, joined, size
from deltarl.gates.statistics import block_statistics
from tests.gates.measured import DELTA, of
from tests.policies.matrix import make


def test_the_probe_stays_and_the_batch_moves(tmp_path: Path) -> None:
    model = make(of("PPO"), torso=DELTA)
    model.set_logger(configure(str(tmp_path), []))
    callback = GateCallback(every=1, rows=8)
    model.learn(16, callback=callback)
    probe = callback.state.probe
    assert probe is not None
    first = probe["observations"].clone()
    model.learn(64, callback=callback, reset_num_timesteps=False)
    assert torch.equal(callback.state.probe["observations"], first)  # type: ignore[index]
    now = from_buffer(model, 8)
    assert now is not None
    assert not torch.equal(now["observations"], first)
    # The last entry equals a measurement of both now, except for the update since.
    record = measure(model.policy, batch_of(probe))["policy"].blocks[1]
    assert callback.state.record["gates_probe/policy/beta_mean"].shape[1] == 2
    assert block_statistics(record)["beta_mean"] == pytest.approx(
        callback.state.record["gates_probe/policy/beta_mean"][-1, 1], abs=0.05
    )


def test_nothing_is_measured_before_the_buffer_holds_enough(tmp_path: Path) -> None:
    model = make(of("SAC"), torso=DELTA)
    model.set_logger(configure(str(tmp_path), []))
    callback = GateCallback(every=10, rows=40)
    model.learn(45, callback=callback)
    assert callback.state.record["steps"].tolist() == [40]
    model.learn(30, callback=callback, reset_num_timesteps=False)
    assert callback.state.record["steps"].tolist() == [40, 50, 60, 70]


@pytest.mark.parametrize("algorithm", ["A2C", "PPO", "RecurrentPPO"])
def test_rows_are_gathered_over_rollouts_where_one_has_fewer(algorithm: str, tmp_path: Path) -> None:
    model = make(of(algorithm), torso=DELTA)
    model.set_logger(configure(str(tmp_path), []))
    rollout = model.n_steps * model.n_envs
    callback = GateCallback(every=1, rows=2 * rollout + 1)
    model.learn(7 * rollout, callback=callback)
    assert callback.state.record["steps"].tolist() == [3 * rollout, 6 * rollout]
    assert (callback.state.record["gates/policy/beta_counts"].sum(-1) == 2 * rollout + 1).all()
    # The transitions gathered for the next measurement come from the last rollout.
    assert size(callback.state.pending) == rollout
    last = from_buffer(model, rollout)
    assert last is not None
    assert torch.equal(callback.state.pending["observations"], last["observations"])  # type: ignore[index]


def test_rows_gathered_by_an_older_version_have_no_loss() -> None:
    new = {"observations": torch.zeros(2, 3), "training": {"returns": torch.zeros(2)}}
    assert joined({"observations": torch.zeros(1, 3)}, new).keys() == {"observations"}
    assert joined(new, new)["training"]["returns"].shape == (4,)


def test_joined_batches_are_one_behind_the_other() -> None:
    def fields(rows: int, value: float) -> dict[str, Any]:
        states = tuple((torch.full((2, rows, 3), value), torch.full((2, rows, 3), value)) for _ in range(2))
        observations = {"a": torch.full((rows, 4), value), "b": torch.full((rows, 1), value)}
        return {"observations": observations, "lstm_states": states, "episode_starts": torch.full((rows,), value)}

    both = joined(fields(2, 0.0), fields(3, 1.0))
    assert size(both) == 5
    assert both["episode_starts"].tolist() == [0, 0, 1, 1, 1]
    assert both["observations"]["a"].mean(1).tolist() == [0, 0, 1, 1, 1]
    assert both["lstm_states"][1][0].mean((0, 2)).tolist() == [0, 0, 1, 1, 1]
    assert joined(None, both) is both
    assert size(None) == 0


def test_a_replay_buffer_that_never_holds_as_many_rows_gives_all_it_has(tmp_path: Path) -> None:
    model = make(of("SAC"), torso=DELTA, options={"buffer_size": 20})
    model.set_logger(configure(str(tmp_path), []))
    callback = GateCallback(every=10, rows=40)
    model.learn(30, callback=callback)
    assert callback.state.record["steps"].tolist() == [20, 30]
    assert (callback.state.record["gates/actor/beta_counts"].sum(-1) == 20).all()
