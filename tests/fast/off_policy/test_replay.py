"""Replay buffers in single precision give Stable-Baselines3's samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from deltarl import fast
from deltarl.fast.off_policy.replay import sample, store_in_single_precision


def box(size: int, dtype: Any = np.float64) -> spaces.Box:
    return spaces.Box(-1, 1, (size,), dtype)


def filled(kind: type[ReplayBuffer], steps: int = 30, n_envs: int = 2, dtype: Any = np.float64) -> ReplayBuffer:
    buffer = kind(40, box(3, dtype), box(2, np.float32), "cpu", n_envs=n_envs)
    random = np.random.default_rng(0)
    for _ in range(steps):
        done = random.random(n_envs) < 0.2
        infos = [{"TimeLimit.truncated": bool(each and random.random() < 0.5)} for each in done]
        observations, following = random.normal(size=(2, n_envs, 3)).astype(dtype)
        buffer.add(observations, following, random.normal(size=(n_envs, 2)), random.normal(size=n_envs), done, infos)
    return buffer


@pytest.mark.parametrize("kind", [ReplayBuffer, NStepReplayBuffer])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("steps", [9, 30])  # from a buffer that is not full, and from one that is
def test_a_sample_is_the_buffers_own(kind: type[ReplayBuffer], dtype: Any, steps: int) -> None:
    buffer = filled(kind, steps, dtype=dtype)
    np.random.seed(0)
    expected = buffer.sample(16)
    np.random.seed(0)
    for own, theirs in zip(sample(buffer, 16, None), expected, strict=True):
        assert (own is None and theirs is None) or torch.equal(own, theirs)


def test_a_normalized_sample_is_the_buffers_own() -> None:
    normalizer = VecNormalize(make_vec_env("Reacher-v5"))
    buffer = ReplayBuffer(10, normalizer.observation_space, normalizer.action_space, "cpu")
    observation = normalizer.reset()
    buffer.add(observation, observation, np.zeros((1, 2)), np.ones(1), np.zeros(1), [{}])
    np.random.seed(0)
    expected = buffer.sample(4, env=normalizer)
    np.random.seed(0)
    for own, theirs in zip(sample(buffer, 4, normalizer), expected, strict=True):
        assert (own is None and theirs is None) or torch.equal(own, theirs)


def test_single_precision_halves_a_buffer_of_humanoid() -> None:
    """With returns of several steps, next observations are stored too.

    No transition is written here, so no memory is taken.
    """
    sizes = []
    for algorithm in (SAC, fast.SAC):
        model = algorithm("MlpPolicy", "Humanoid-v5", buffer_size=1_000_000, n_steps=3, device="cpu")
        arrays = [value for value in vars(model.replay_buffer).values() if isinstance(value, np.ndarray)]
        assert sum(len(array) == 1_000_000 for array in arrays) == 6
        sizes.append(sum(array.nbytes for array in arrays))
    assert sizes[1] / sizes[0] < 0.52


def test_what_the_networks_see_is_the_same() -> None:
    """They cast to single precision anyway."""
    double, single = filled(ReplayBuffer, 0), filled(ReplayBuffer, 0)
    store_in_single_precision(single)
    assert single.observations.dtype == single.next_observations.dtype == np.float32
    observations = np.random.default_rng(0).normal(size=(2, 2, 3))
    for buffer in (double, single):
        buffer.add(observations[0], observations[1], np.zeros((2, 2)), np.zeros(2), np.zeros(2), [{}, {}])
    np.random.seed(0)
    one = sample(double, 4, None)
    np.random.seed(0)
    other = sample(single, 4, None)
    assert torch.equal(one.observations.float(), other.observations)
    assert torch.equal(one.next_observations.float(), other.next_observations)


def test_buffers_that_compute_rewards_are_left_alone() -> None:
    env = make_vec_env("InvertedPendulum-v5")
    space = spaces.Dict({key: box(3) for key in ("observation", "achieved_goal", "desired_goal")})
    buffer = HerReplayBuffer(100, space, box(2), env, "cpu")
    store_in_single_precision(buffer)
    assert {array.dtype for array in buffer.observations.values()} == {np.dtype(np.float64)}
