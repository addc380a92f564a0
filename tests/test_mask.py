"""Hidden entries of observations."""

from __future__ import annotations

import re
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from deltarl import ConfigError, load_config
from deltarl.envs import EnvSpec, build_envs

TASKS = (
    "Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "InvertedDoublePendulum", "InvertedPendulum",
    "Pusher", "Reacher", "Swimmer", "Walker2d",
)  # fmt: skip


def masked(env_id: str, *hide: int | str, **kwargs: Any) -> EnvSpec:
    return EnvSpec(id=env_id, kwargs=kwargs, wrappers=[{"wrapper": "mask", "hide": hide}])  # type: ignore[list-item]


@pytest.mark.parametrize("name", TASKS)
def test_no_entry_that_is_left_depends_on_the_velocities(name: str) -> None:
    """A state at rest, and the same state in motion, look the same; unmasked they do not."""
    seen = []
    for wrap in (False, True):
        env = gym.make(f"{name}-v5")
        if wrap:
            env = masked(f"{name}-v5", "velocities").wrappers[0].wrap(env)  # type: ignore[call-arg]
        env.reset(seed=0)
        task: Any = env.unwrapped
        found = []
        for speed in (0.0, 0.3):
            task.set_state(task.data.qpos.copy(), np.full_like(task.data.qvel, speed))
            task.data.qfrc_actuator[:] = task.data.cfrc_ext[:] = task.data.qfrc_constraint[:] = 0.0
            observation = task._get_obs()
            found.append(env.observation(observation) if wrap else observation)
        seen.append(np.array_equal(*found))
        assert found[0] in env.observation_space
    assert seen == [False, True]


def test_entries_are_removed_by_index_and_by_name() -> None:
    plain = gym.make("Hopper-v5")
    first, _ = plain.reset(seed=3)
    with closing(build_envs(masked("Hopper-v5", 0, "qvel", 2), 3, 1)) as envs:
        assert np.array_equal(envs.reset()[0], first[[1, 3, 4]])
        assert envs.observation_space.shape == (3,)


def test_names_follow_the_tasks_options() -> None:
    options = {"exclude_current_positions_from_observation": False, "include_cfrc_ext_in_observation": False}
    with closing(build_envs(masked("Ant-v5", "qpos", **options), 0, 1)) as envs:
        assert envs.observation_space.shape == (14,)


@pytest.mark.parametrize(
    ("wrappers", "env_id", "message"),
    [
        ("{wrapper: mask, hide: [11]}", "Hopper-v5", "cannot hide entry 11; the observation has 11, from 0"),
        ("{wrapper: mask, hide: [velocity]}", "Hopper-v5", "the observation has no 'velocity'; did you mean 'velocit"),
        ("{wrapper: mask, hide: [qpos, qvel]}", "Hopper-v5", "would hide all 11 entries"),
        ("{wrapper: mask, hide: [qvel]}", "AdroitHandDoor-v1", "does not know where 'qvel' is in this observation"),
        (
            "{wrapper: TimeAwareObservation}, {wrapper: mask, hide: [qvel]}",
            "Hopper-v5",
            "does not know where 'qvel' is",
        ),
        ("{wrapper: TimeAwareObservation}, {wrapper: mask, hide: [velocities]}", "Reacher-v5", "does not know where"),
        (
            "{wrapper: mask, hide: [0]}",
            "FetchReach-v4",
            "for Dict take filter_observation",
        ),
        ("{wrapper: history, length: 2}, {wrapper: mask, hide: [0]}", "Hopper-v5", "the observation is Box"),
    ],
)
def test_a_mask_that_fits_no_observation_is_refused(wrappers: str, env_id: str, message: str) -> None:
    spec = load_config("quickstart", f"env={{id: {env_id}}}", f"env.wrappers=[{wrappers}]").env
    with pytest.raises(ConfigError, match=rf"^env\.wrappers: mask.*{re.escape(message)}") as caught:
        build_envs(spec, 0, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("hide", "message"),
    [
        ("[]", r"wrappers\.0\.hide: tuple should have at least 1 item"),
        ("[-1]", r"wrappers\.0\.hide\.0: input should be greater than or equal to 0; got -1"),
        ("[true]", r"wrappers\.0\.hide: expected a number; got \[True\]"),
        ("velocities", r"wrappers\.0\.hide: expected a list"),
    ],
)
def test_a_wrong_list_is_refused_in_one_line(hide: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^command line: env\.{message}") as caught:
        load_config("quickstart", f"env.wrappers=[{{wrapper: mask, hide: {hide}}}]")
    assert "\n" not in str(caught.value)
