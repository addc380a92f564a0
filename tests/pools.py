"""EnvPool's environments for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from deltarl.envpool import EnvPoolVecEnv


@contextmanager
def pool(task: str, n_envs: int = 2, seed: int = 0, threads: int = 1, **options: Any) -> Iterator[EnvPoolVecEnv]:
    envs = EnvPoolVecEnv(task, n_envs, seed, threads, options)
    yield envs
    envs.close()


def actions_for(envs: VecEnv, steps: int, seed: int = 0, reach: float = 1.0) -> np.ndarray:
    space = envs.action_space
    assert isinstance(space, gym.spaces.Box)
    drawn = np.random.default_rng(seed).uniform(-reach, reach, (steps, envs.num_envs, *space.shape))
    return (drawn * space.high).astype(np.float32)
