"""The cheaper `DummyVecEnv` returns what Stable-Baselines3's does."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv as StockDummyVecEnv

from deltarl.checkpoints.state import capture, restore
from deltarl.envs import EnvSpec, build_envs
from deltarl.fast import DummyVecEnv


class Remembering(gym.Wrapper[Any, Any, Any, Any]):
    """Returns the same info object at each step, and changes its contents."""

    def __init__(self) -> None:
        super().__init__(gym.make("InvertedPendulum-v5"))
        self.table = np.zeros(1, [("reward", float)])
        self.info: dict[str, Any] = {"seen": [], "place": np.zeros(2), "row": self.table[0]}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, _ = super().step(action)
        self.info["seen"].append(reward)
        self.table["reward"] += 1
        self.info["place"][:] = observation[:2]
        return observation, reward, terminated, truncated, self.info


@pytest.mark.parametrize("task", ["InvertedPendulum-v5", "FetchReach-v4"])
def test_steps_are_those_of_stable_baselines3(task: str) -> None:
    mine, theirs = (
        build_envs(EnvSpec(id=task, kind="manipulation"), seed=0, n_envs=2),
        make_vec_env(task, 2, seed=0, vec_env_cls=StockDummyVecEnv),
    )
    assert type(mine) is DummyVecEnv
    assert isinstance(mine.action_space, gym.spaces.Box)
    random = np.random.default_rng(0)
    ended = 0
    assert_same(mine.reset(), theirs.reset())
    for _ in range(60):
        actions = random.uniform(-1, 1, (2, *mine.action_space.shape)).astype(np.float32)
        (*found, infos), (*expected, their_infos) = mine.step(actions), theirs.step(actions)
        assert_same(found, expected)
        ended += int(np.sum(found[2]))
        for one, other in zip(infos, their_infos, strict=True):
            assert_same({**one, "episode": None}, {**other, "episode": None})  # a clock time, which differs
    assert ended > 0
    for envs in (mine, theirs):
        envs.close()


def test_its_state_is_that_of_stable_baselines3() -> None:
    """Runs that began with Stable-Baselines3's therefore continue."""
    theirs, mine = StockDummyVecEnv([Remembering]), DummyVecEnv([Remembering])
    for envs in (theirs, mine):
        envs.seed(0)
        envs.reset()
    theirs.step(np.ones((1, 1)))
    _, missing = restore({"env": mine}, capture({"env": theirs}))
    assert not missing
    assert_same(mine.step(np.ones((1, 1)))[0], theirs.step(np.ones((1, 1)))[0])


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(other, dict):
        assert one.keys() == other.keys()
        for key, value in other.items():
            assert_same(one[key], value)
    elif isinstance(other, list | tuple):
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    else:
        np.testing.assert_array_equal(one, other)


def test_returned_arrays_are_not_overwritten() -> None:
    envs = DummyVecEnv([Remembering])
    envs.reset()
    first, *_, [info] = envs.step(np.zeros((1, 1)))
    kept = [np.array(first), info["place"].copy(), list(info["seen"])]
    assert info["row"]["reward"] == 1
    for _ in range(3):
        envs.step(np.ones((1, 1)))
    np.testing.assert_array_equal(first, kept[0])
    np.testing.assert_array_equal(info["place"], kept[1])
    assert info["seen"] == kept[2]
    assert info["row"]["reward"] == 1
