"""EnvPool's environments keep Stable-Baselines3's contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor

from deltarl.envs import EnvSpec, build_training_envs
from tests.pools import actions_for, pool

pytest.importorskip("envpool")


def test_an_episode_ends_at_the_tasks_own_limit() -> None:
    with pool("HalfCheetah-v5") as envs:
        envs.reset()
        actions = actions_for(envs, 1001)
        for action in actions[:999]:
            assert not envs.step(action)[2].any()
        after, _, dones, infos = envs.step(actions[999])
        assert dones.all()
        for info, first in zip(infos, np.asarray(after), strict=True):
            assert info["TimeLimit.truncated"] is True
            assert info["terminal_observation"].shape == first.shape
            assert np.abs(info["terminal_observation"] - first).max() > 0.5
            assert np.abs(first[:8]).max() <= 0.1  # an initial state: joints within the noise
        assert not envs.step(actions[1000])[2].any()


def test_without_a_limit_an_episode_does_not_end() -> None:
    with pool("Reacher-v5", max_episode_steps=-1) as envs:
        envs.reset()
        assert not any(envs.step(action)[2].any() for action in actions_for(envs, 120))


def test_one_episode_ends_and_the_others_continue() -> None:
    with pool("Hopper-v5", n_envs=3, threads=2) as envs, pool("Hopper-v5", n_envs=1, seed=2) as alone:
        envs.reset()
        alone.reset()
        ends = np.zeros(3, int)
        for action in actions_for(envs, 80):
            seen, rewards, dones, _ = envs.step(action)
            expected, expected_rewards, expected_dones, _ = alone.step(action[2:])
            np.testing.assert_array_equal(seen[2:], expected)
            assert (rewards[2], dones[2]) == (expected_rewards[0], expected_dones[0])
            ends += dones
        assert ends.all()
        assert len(set(ends)) > 1


def test_types_are_those_of_a_dummy_vec_env_but_for_single_precision() -> None:
    twins = make_vec_env("Hopper-v5", n_envs=2)
    with pool("Hopper-v5") as envs:
        first, expected_first = envs.reset(), twins.reset()
        step, expected = envs.step(actions_for(envs, 1)[0]), twins.step(actions_for(envs, 1)[0])
    for one, other in zip((first, *step[:3]), (expected_first, *expected[:3]), strict=True):
        assert isinstance(one, np.ndarray)
        assert isinstance(other, np.ndarray)
        single = np.dtype(np.float32) if other.dtype == np.float64 else other.dtype
        assert (one.dtype, one.shape) == (single, other.shape)


def test_returned_arrays_are_not_overwritten() -> None:
    with pool("Hopper-v5", n_envs=3) as envs:
        kept = [np.asarray(envs.reset())]
        copies = [kept[0].copy()]
        for action in actions_for(envs, 60):
            seen, rewards, _, infos = envs.step(action)
            kept += [np.asarray(seen), rewards, *(x["terminal_observation"] for x in infos if len(x) > 1)]
            copies += [each.copy() for each in kept[len(copies) :]]
    assert len(kept) > 1 + 2 * 60
    for one, other in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(one, other)


def walk(seed: int, threads: int = 1, n_envs: int = 2) -> np.ndarray:
    with pool("Hopper-v5", n_envs, seed, threads) as envs:
        return np.stack([np.asarray(envs.reset()), *(np.asarray(envs.step(a)[0]) for a in actions_for(envs, 40))])


def test_the_same_seed_gives_the_same_numbers_on_any_number_of_threads() -> None:
    np.testing.assert_array_equal(walk(seed=3), walk(seed=3))
    np.testing.assert_array_equal(walk(seed=3), walk(seed=3, threads=2))
    assert np.abs(walk(seed=3) - walk(seed=4)).max() > 1e-3


def test_each_environment_has_a_seed_of_its_own() -> None:
    with pool("Hopper-v5", n_envs=3, seed=7) as envs, pool("Hopper-v5", n_envs=2, seed=8) as others:
        first = np.asarray(envs.reset())
        np.testing.assert_array_equal(first[1:], others.reset())
        assert not np.array_equal(first[0], first[1])


def test_a_seed_counts_from_the_next_reset_on() -> None:
    with pool("Hopper-v5", seed=7) as envs:
        first = np.asarray(envs.reset())
        assert not np.array_equal(envs.reset(), first)  # without a seed, the random numbers continue
        envs.seed(7)
        envs.step(actions_for(envs, 1)[0])
        np.testing.assert_array_equal(envs.reset(), first)
        envs.seed(2**32)
        envs.reset()


def test_attributes_of_the_environments() -> None:
    with pool("Hopper-v5", max_episode_steps=20) as envs:
        assert envs.render_mode is None
        assert [spec.max_episode_steps for spec in envs.get_attr("spec")] == [20, 20]
        assert envs.get_attr("observation_space", indices=0) == [envs.observation_space]
        assert envs.env_is_wrapped(Monitor) == [False, False]
        assert not envs.has_attr("compute_reward")
        with pytest.raises(AttributeError, match="'frame_skip' cannot be set"):
            envs.set_attr("frame_skip", 3)
        with pytest.raises(AttributeError, match="they have no method 'compute_reward'"):
            envs.env_method("compute_reward", 1)
        envs.reset()
        envs.close()
        envs.close()
        assert envs.pool is None


def test_episodes_are_monitored() -> None:
    spec = EnvSpec(id="Hopper-v5", kind="locomotion", n_envs=3, vectorization="envpool")
    envs = build_training_envs(spec, seed=0)
    assert isinstance(envs, VecMonitor)
    envs.reset()
    returns, lengths, episodes = np.zeros(3), np.zeros(3), 0
    for action in actions_for(envs, 80):
        _, rewards, dones, infos = envs.step(action)
        returns, lengths = returns + rewards, lengths + 1
        for index, info in enumerate(infos):
            assert ("episode" in info) is bool(dones[index])
            if dones[index]:
                assert info["episode"]["r"] == pytest.approx(returns[index], rel=1e-5)
                assert info["episode"]["l"] == lengths[index]
                assert info["episode"]["t"] > 0
                episodes += 1
        returns[dones], lengths[dones] = 0, 0
    envs.close()
    assert episodes > 3


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_a_policy_sees_float32(algorithm: Any) -> None:
    seen: set[torch.dtype] = set()
    with pool("Hopper-v5") as envs:
        steps = {"n_steps": 8, "batch_size": 16} if algorithm is PPO else {"learning_starts": 4}
        model = algorithm("MlpPolicy", VecMonitor(envs), seed=0, policy_kwargs={"net_arch": [8]}, **steps)
        for module in model.policy.modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_pre_hook(lambda _, inputs: seen.add(inputs[0].dtype))
        model.learn(32)
    assert seen == {torch.float32}
