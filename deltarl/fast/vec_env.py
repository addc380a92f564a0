"""A DummyVecEnv with cheaper copies."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv as StockDummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from stable_baselines3.common.vec_env.util import dict_to_obs

_IMMUTABLE = (float, int, str, np.number, np.bool_, type(None))  # a bool is an int


class DummyVecEnv(StockDummyVecEnv):
    """Stable-Baselines3's `DummyVecEnv` with cheaper copies of infos.

    The original deep-copies all infos at each step (`copy.deepcopy`); this one deep-copies only mutable entries.
    """

    __stored_as__ = StockDummyVecEnv

    def step_wait(self) -> VecEnvStepReturn:
        for index, env in enumerate(self.envs):
            observation, reward, terminated, truncated, info = env.step(self.actions[index])
            self.buf_rews[index], self.buf_dones[index] = reward, terminated or truncated
            info["TimeLimit.truncated"] = truncated and not terminated
            if self.buf_dones[index]:
                info["terminal_observation"] = observation
                observation, self.reset_infos[index] = env.reset()
            self.buf_infos[index] = info
            self._save_obs(index, observation)
        known: dict[int, Any] = {}
        infos = [copied(info, known) for info in self.buf_infos]
        return self._obs_from_buf(), self.buf_rews.copy(), self.buf_dones.copy(), infos

    def _obs_from_buf(self) -> VecEnvObs:
        copies = OrderedDict((key, value.copy()) for key, value in self.buf_obs.items())
        return dict_to_obs(self.observation_space, copies)


def copied(info: dict[str, Any], known: dict[int, Any]) -> dict[str, Any]:
    """Copy an info so that nothing mutable is shared.

    Args:
        info: what an environment returned.
        known: the memo of `deepcopy`, for objects that several infos hold.
    """
    if type(info) is not dict:
        return deepcopy(info, known)
    return {key: value if isinstance(value, _IMMUTABLE) else deepcopy(value, known) for key, value in info.items()}
