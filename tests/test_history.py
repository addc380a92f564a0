"""Histories of observations."""

from __future__ import annotations

import json
from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest

from deltarl import ConfigError
from deltarl.checkpoints.state import capture, restore
from deltarl.envs import EnvSpec, build_envs


def hopper(length: int, padding: str = "first", steps: int = 1000) -> EnvSpec:
    return EnvSpec(
        id="Hopper-v5",
        kwargs={"max_episode_steps": steps},
        wrappers=[{"wrapper": "history", "length": length, "padding": padding}],  # type: ignore[list-item]
    )


@pytest.mark.parametrize("padding", ["first", "zeros"])
@pytest.mark.parametrize("length", [1, 3, 16])  # of episodes of 5 steps
def test_a_history_holds_the_last_observations_of_its_episode(length: int, padding: str) -> None:
    plain = gym.make("Hopper-v5", max_episode_steps=5)
    with closing(build_envs(hopper(length, padding, steps=5), seed=3, n_envs=1)) as envs:
        assert envs.observation_space.shape == (length, 11)
        histories = envs.reset()
        first, _ = plain.reset(seed=3)
        past = [first]

        def expected() -> np.ndarray:
            start = past[0] if padding == "first" else np.zeros_like(first)
            return np.array([*[start] * length, *past][-length:])

        assert np.array_equal(histories[0], expected())
        for _ in range(13):
            action = envs.action_space.sample()
            histories, _, [done], [info] = envs.step(action[None])
            observation, _, terminated, truncated, _ = plain.step(action)
            past.append(observation)
            assert done == (terminated or truncated)
            if done:
                assert np.array_equal(info["terminal_observation"], expected())
                past = [plain.reset()[0]]
            assert np.array_equal(histories[0], expected())


def test_histories_are_separate_arrays() -> None:
    """A buffer that keeps them must not see later steps."""
    with closing(build_envs(hopper(3), seed=3, n_envs=2)) as envs:
        first = envs.reset()
        kept = first.copy()
        envs.step(np.ones((2, 3)))
        assert np.array_equal(first, kept)


def test_the_state_of_a_history_comes_back() -> None:
    with closing(build_envs(hopper(4), 1, 1)) as one, closing(build_envs(hopper(4), 2, 1)) as other:
        for each in (one, other):
            each.reset()
        for _ in range(2):  # the padding is still part of it
            one.step(np.array([one.action_space.sample()]))
        snapshot = capture({"envs": one})
        assert snapshot.unsupported == {}
        snapshot.tree = json.loads(json.dumps(snapshot.tree, allow_nan=False))
        assert restore({"envs": other}, snapshot)[1] == []
        for _ in range(6):
            results = [each.step(np.array([each.action_space.sample()])) for each in (one, other)]
            assert np.array_equal(results[0][0], results[1][0])


@pytest.mark.parametrize(
    ("env_id", "wrappers", "message"),
    [
        ("FetchReach-v4", (), r"the observation is Dict.*; put flatten_observation before it"),
        (
            "Hopper-v5",
            ({"wrapper": "history", "length": 2},),
            r"the observation is Box\(-inf, inf, \(2, 11\), float64\)$",
        ),
    ],
)
def test_observations_other_than_vectors_are_refused(
    env_id: str, wrappers: tuple[dict[str, object], ...], message: str
) -> None:
    spec = EnvSpec(id=env_id, wrappers=[*wrappers, {"wrapper": "history", "length": 2}])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"^env\.wrappers: history takes vectors; {message}"):
        build_envs(spec, 0, 1)
