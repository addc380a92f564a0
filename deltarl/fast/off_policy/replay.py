"""Replay buffers in single precision, sampled with few copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from deltarl.fast.libraries import callables
from deltarl.fast.off_policy.shared_replay import SharedReplayBuffer

_PLAIN = {ReplayBuffer, SharedReplayBuffer}
_METHODS = callables(SharedReplayBuffer)
_OBSERVATIONS = ("observations", "next_observations")


def store_in_single_precision(buffer: Any) -> None:
    """Make an empty replay buffer store observations as float32, which is what the networks see anyway.

    Stable-Baselines3's holds them as the environment gives them, MuJoCo's in float64. Buffers of goals are left alone:
    they compute rewards from what they hold.
    """
    if type(buffer) not in {ReplayBuffer, NStepReplayBuffer}:
        return
    for name in _OBSERVATIONS:
        array = getattr(buffer, name, None)
        if array is not None and array.dtype == np.float64:
            setattr(buffer, name, np.zeros(array.shape, np.float32))


def sample(buffer: Any, size: int, normalizer: VecNormalize | None) -> ReplayBufferSamples:
    """The sample that `buffer.sample(size, normalizer)` would draw; a plain buffer's with one copy per field."""
    is_plain = type(buffer) in _PLAIN and _METHODS.isdisjoint(vars(buffer))
    if not is_plain or normalizer is not None or buffer.optimize_memory_usage:
        return buffer.sample(size, env=normalizer)  # type: ignore[no-any-return]
    rows = np.random.randint(0, buffer.buffer_size if buffer.full else buffer.pos, size=size)
    columns = np.random.randint(0, high=buffer.n_envs, size=(size,))
    places = rows * buffer.n_envs + columns
    index = torch.from_numpy(places)

    def pick(array: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(array).flatten(0, 1).index_select(0, index).to(buffer.device)

    observations, actions, dones, timeouts, rewards = map(
        pick, (buffer.observations, buffer.actions, buffer.dones, buffer.timeouts, buffer.rewards)
    )
    if type(buffer) is SharedReplayBuffer:
        next_observations = torch.from_numpy(buffer.following(places)).to(buffer.device)
    else:
        next_observations = pick(buffer.next_observations)
    ended = torch.addcmul(dones, dones, timeouts, value=-1).unsqueeze_(1)
    return ReplayBufferSamples(observations, actions, next_observations, ended, rewards.unsqueeze_(1))
