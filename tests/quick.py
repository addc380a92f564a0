"""What tests of runs and commands share."""

from __future__ import annotations

from collections.abc import Callable

# The fixture that runs a command: exit status, stdout and stderr.
Deltarl = Callable[..., tuple[int, str, str]]
# Settings of the smallest runs by PPO that learn, evaluate and write all their files.
QUICK = (
    "total_timesteps=64",
    "agent.n_steps=16",
    "agent.batch_size=32",
    "env.n_envs=2",
    "eval.episodes=2",
    "eval.every=null",
)
