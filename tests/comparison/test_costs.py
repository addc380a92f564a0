"""The costs of arms, measured on real training steps."""

from __future__ import annotations

import pytest

from deltarl.comparison.costs import measure_costs
from deltarl.library import load_config

PPO = ("quickstart", "env.n_envs=2", "agent.n_steps=32", "agent.batch_size=16", "agent.n_epochs=3", "torso.width=16")
SAC = ("hopper_sac", "torso.width=16", "agent.batch_size=8", "agent.learning_starts=20", "device=cpu")


def test_flops_of_ppo_are_those_of_its_matrix_products() -> None:
    """A product's backward takes twice the FLOPs of its forward, except in the stems, whose inputs need no gradient."""
    spec = load_config(*PPO, "torso=plain", "torso.depth=1", "agent.target_kl=null")
    [cost] = measure_costs({"plain": spec}, 1).values()
    stems, rest = 2 * (2 * 11 * 16), 2 * (2 * 2 * 16 * 32) + 2 * (16 * 3 + 16)
    values = 2 * (11 * 16 + 2 * 16 * 32 + 16)  # of the last observations, once per rollout of 32 steps
    assert cost.updates_per_step == 3 / 64
    assert cost.flops_per_step == pytest.approx(stems + rest + values / 32)
    assert cost.flops_per_update == pytest.approx(64 * (2 * stems + 3 * rest))


def test_algorithms_with_replay_are_measured_in_gradient_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deltarl.comparison.costs.OFF_POLICY_STEPS", 20)
    arms = {"residual": load_config(*SAC, "torso=residual"), "mlp": load_config(*SAC, "torso=mlp")}
    costs = measure_costs(arms, 2)
    for cost in costs.values():
        assert cost.updates_per_step == 1
        assert len(cost.seconds_per_1000_steps) == 2
        assert min(cost.seconds_per_1000_steps) > 0
        assert cost.flops_per_update > cost.flops_per_step > 0
    assert costs["mlp"].flops_per_update > costs["residual"].flops_per_update
