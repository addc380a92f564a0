"""A run as data: parts that do not fit each other are refused before anything is made of them."""

from __future__ import annotations

import pytest

from deltarl import ConfigError, load_config

RENORM = "torso.norm=batch_renorm"


@pytest.mark.parametrize(
    ("agent", "overrides", "message"),
    [
        ("sac", ["agent.train_freq=[1, episode]", "env.n_envs=2"], "agent.train_freq: episodes are counted in one"),
        ("dqn", ["env=inverted_pendulum_discrete", "agent.train_freq=[2, episode]", "env.n_envs=3"], "env.n_envs is 3"),
        ("tqc", ["agent.top_quantiles_to_drop_per_net=25"], "leave out all 25 quantiles"),
        (
            "tqc",
            ["agent.policy.n_quantiles=2"],
            "agent.top_quantiles_to_drop_per_net: the target would leave out all 2",
        ),
        ("crossq", ["agent.batch_size=1", "torso=mlp"], "agent.batch_size: batch_renorm needs batches of 2"),
        ("sac", ["agent.batch_size=1", RENORM], "agent.batch_size: batch_renorm needs batches of 2"),
        ("ppo", ["agent.n_steps=17", "agent.batch_size=16", "env.n_envs=1", RENORM], "agent.batch_size: batch_renorm"),
        ("trpo", ["agent.n_steps=17", "agent.batch_size=16", "env.n_envs=1", RENORM], "agent.batch_size: batch_renorm"),
        ("a2c", ["agent.n_steps=1", "env.n_envs=1", RENORM], "agent.n_steps: batch_renorm needs batches of 2"),
        (
            "a2c",
            ["agent.n_steps=1", "env.n_envs=1", "agent.normalize_advantage=true"],
            "agent.normalize_advantage: the",
        ),
        ("trpo", ["agent.n_steps=8", "env.n_envs=1", "agent.sub_sampling_factor=8"], "agent.normalize_advantage: the"),
        (
            "recurrent_ppo",
            ["agent.n_steps=17", "agent.batch_size=16", "env.n_envs=1"],
            "agent.normalize_advantage: the",
        ),
        ("sac", ["agent.optimize_memory_usage=true", "agent.n_steps=3"], "agent.n_steps: returns of several steps"),
    ],
)
def test_what_cannot_be_trained_is_refused(agent: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", f"agent={agent}", *overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("agent", "overrides"),
    [
        ("sac", ["agent.train_freq=[1, episode]", "env.n_envs=1"]),
        ("sac", ["agent.train_freq=[2, step]", "env.n_envs=2"]),
        ("sac", ["agent.batch_size=1"]),
        ("tqc", ["agent.top_quantiles_to_drop_per_net=24"]),
        ("crossq", ["agent.batch_size=2"]),
        # PPO leaves a batch of one as it is.
        ("ppo", ["agent.n_steps=17", "agent.batch_size=16", "env.n_envs=1"]),
        ("ppo", ["agent.n_steps=17", "agent.batch_size=16", "env.n_envs=2", RENORM]),
        ("ppo", ["agent.n_steps=2", "agent.batch_size=64", "env.n_envs=1", RENORM]),
        ("trpo", ["agent.n_steps=17", "agent.batch_size=16", "env.n_envs=1", "actor_torso.norm=batch_renorm"]),
        ("a2c", ["agent.n_steps=1", "env.n_envs=1"]),
    ],
)
def test_what_can_be_trained_is_taken(agent: str, overrides: list[str]) -> None:
    assert load_config("quickstart", f"agent={agent}", *overrides).agent.algorithm == agent
