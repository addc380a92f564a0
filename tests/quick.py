"""The settings of the smallest runs by PPO that learn, evaluate and write all their files."""

from __future__ import annotations

QUICK = (
    "total_timesteps=64",
    "agent.n_steps=16",
    "agent.batch_size=32",
    "env.n_envs=2",
    "eval.episodes=2",
    "eval.every=null",
)
