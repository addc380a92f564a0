"""What tests of runs and commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

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


class Payload:
    """Leaves the folder `opened` behind when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("opened",)
