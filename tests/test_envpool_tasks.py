"""EnvPool's tasks compared with Gymnasium's, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from deltarl.envpool import EnvPoolVecEnv
from deltarl.envpool_tasks import OPTIONS, TASKS
from tests.pools import actions_for, pool

pytest.importorskip("envpool")

# Values that differ from every task's own.
CHANGED = {
    "contact_cost_weight": 0.01,
    "ctrl_cost_weight": 0.7,
    "exclude_current_positions_from_observation": False,
    "forward_reward_weight": 3.0,
    "frame_skip": 3,
    "healthy_reward": 2.5,
    "max_episode_steps": 3,
    "reset_noise_scale": 0.0,
    "terminate_when_unhealthy": False,
}
CLOSELY = {"rtol": 1e-5, "atol": 1e-6}
# A humanoid falls, and contacts are sensitive to the last bits, in which EnvPool's MuJoCo and Python's differ; its last
# observations are contact forces of several hundred.
ROUGHLY = {"rtol": 1e-3, "atol": 1e-3}
FORCES, OF_FORCES = 78, {"rtol": 2e-3, "atol": 0.1}


def takes(task: str, option: str) -> bool:
    try:
        gym.make(task, **{option: CHANGED[option]}).close()
    except TypeError:
        return False
    return True


def same_start(task: str, envs: EnvPoolVecEnv, twins: DummyVecEnv, seen: np.ndarray) -> None:
    """Copy EnvPool's states to Gymnasium's environments, for tasks that always start with noise."""
    del envs
    for twin, row in zip(twins.envs, seen, strict=True):
        env: Any = twin.unwrapped
        qpos, qvel = np.zeros(env.model.nq), np.zeros(env.model.nv)
        if task == "Reacher-v5":  # cosines and sines of the joints, the target, the joints' speeds
            qpos[:] = [*np.arctan2(row[2:4], row[:2]), *row[4:6]]
            qvel[:2] = row[6:8]
        else:  # joints, their speeds, fingertip, object; the object's slides are relative to its resting place
            qpos[:7], qvel[:7] = row[:7], row[7:14]
            env.set_state(qpos, qvel)
            qpos[7:9] = (row[17:19] - env._get_obs()[17:19])[::-1]
        env.set_state(qpos, qvel)
        assert np.allclose(env._get_obs(), row)


def assert_near(task: str, observations: Any, expected: Any) -> None:
    humanoid = task.startswith("Humanoid")
    state = np.s_[..., : -FORCES if humanoid else None]
    np.testing.assert_allclose(observations[state], expected[state], **(ROUGHLY if humanoid else CLOSELY))
    np.testing.assert_allclose(observations[..., -FORCES:], expected[..., -FORCES:], **OF_FORCES)


def hold_to_gymnasium(task: str, options: Mapping[str, Any], steps: int) -> list[list[dict[str, Any]]]:
    """Assert that both give the same for the same actions, including ones out of bounds; return EnvPool's infos."""
    noisy = task in {"Pusher-v5", "Reacher-v5"}
    options = dict(options) if noisy else {"reset_noise_scale": 0.0, **options}
    twins = DummyVecEnv([lambda: gym.make(task, **options)] * 2)
    all_infos = []
    with pool(task, threads=2, **options) as envs:
        assert envs.observation_space == twins.observation_space
        assert envs.action_space == twins.action_space
        seen, expected = envs.reset(), twins.reset()
        if noisy:
            same_start(task, envs, twins, np.asarray(seen))
        else:
            np.testing.assert_array_equal(seen, np.asarray(expected, np.float32))
        for action in actions_for(envs, steps, reach=1.3):
            seen, rewards, dones, infos = envs.step(action)
            expected, expected_rewards, expected_dones, expected_infos = twins.step(action)
            np.testing.assert_array_equal(dones, expected_dones)
            np.testing.assert_allclose(rewards, expected_rewards, rtol=1e-5, atol=1e-4)
            for mine, theirs in zip(infos, expected_infos, strict=True):
                assert mine["TimeLimit.truncated"] is theirs["TimeLimit.truncated"]
                assert ("terminal_observation" in mine) is ("terminal_observation" in theirs)
                if "terminal_observation" in mine:
                    assert_near(task, mine["terminal_observation"], theirs["terminal_observation"])
            all_infos.append(infos)
            if noisy and dones.any():
                break  # the next episodes start in other states
            assert_near(task, seen, expected)
    return all_infos


@pytest.mark.parametrize("task", TASKS)
def test_a_task_behaves_as_in_gymnasium(task: str) -> None:
    # Long enough for an episode's end and the next episode if random actions end one; Reacher's limit is 50.
    hold_to_gymnasium(task, {}, steps=12 if task.startswith("Humanoid") else 60)


@pytest.mark.parametrize(
    ("task", "option"), [(task, option) for task in TASKS for option in OPTIONS if takes(task, option)]
)
def test_an_option_acts_as_in_gymnasium(task: str, option: str) -> None:
    hold_to_gymnasium(task, {option: CHANGED[option]}, steps=8)


def test_every_option_has_a_value_to_test() -> None:
    assert tuple(CHANGED) == OPTIONS


@pytest.mark.parametrize(("spare", "truncated"), [(1, False), (0, False), (-1, True)])
def test_a_fall_at_the_time_limit_is_no_truncation(spare: int, truncated: bool) -> None:
    free = hold_to_gymnasium("Hopper-v5", {}, steps=60)
    fall = next(step for step, infos in enumerate(free, start=1) if "terminal_observation" in infos[0])
    infos = hold_to_gymnasium("Hopper-v5", {"max_episode_steps": fall + spare}, steps=fall)
    end = infos[min(fall, fall + spare) - 1][0]
    assert "terminal_observation" in end
    assert end["TimeLimit.truncated"] is truncated
