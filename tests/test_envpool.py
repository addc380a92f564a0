"""EnvPool's environments: compared with Gymnasium's step by step, Stable-Baselines3's contract, and training."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from rich.console import Console
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor

from deltarl import RunResult, RunSpec, evaluate, load_config, resume, train
from deltarl.checkpoints.checkpoint import newest
from deltarl.envpool import EnvPoolVecEnv
from deltarl.envpool_tasks import OPTIONS, TASKS
from deltarl.envs import EnvSpec, build_training_envs
from deltarl.training.build import built
from deltarl.training.state import put

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


@contextmanager
def pool(task: str, n_envs: int = 2, seed: int = 0, threads: int = 1, **options: Any) -> Iterator[EnvPoolVecEnv]:
    envs = EnvPoolVecEnv(task, n_envs, seed, threads, options)
    yield envs
    envs.close()


def takes(task: str, option: str) -> bool:
    try:
        gym.make(task, **{option: CHANGED[option]}).close()
    except TypeError:
        return False
    return True


def actions_for(envs: VecEnv, steps: int, seed: int = 0, reach: float = 1.0) -> np.ndarray:
    space = envs.action_space
    assert isinstance(space, gym.spaces.Box)
    drawn = np.random.default_rng(seed).uniform(-reach, reach, (steps, envs.num_envs, *space.shape))
    return (drawn * space.high).astype(np.float32)


# Compared with Gymnasium's


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
def test_a_task_is_gymnasiums(task: str) -> None:
    # Long enough for an episode's end and the next episode if random actions end one; Reacher's limit is 50.
    hold_to_gymnasium(task, {}, steps=12 if task.startswith("Humanoid") else 60)


@pytest.mark.parametrize(
    ("task", "option"), [(task, option) for task in TASKS for option in OPTIONS if takes(task, option)]
)
def test_an_option_is_gymnasiums(task: str, option: str) -> None:
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


# Stable-Baselines3's contract


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


def test_one_environment_ends_and_the_others_go_on() -> None:
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


def test_what_was_returned_stays_as_it_is() -> None:
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


def test_what_is_known_of_the_environments() -> None:
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


# In runs

SETTINGS = (
    "env.vectorization=envpool",
    "env.n_envs=2",
    "torso.width=8",
    "torso.depth=1",
    "total_timesteps=256",
    "checkpoint.every=64",
    "eval.episodes=2",
    "eval.every=null",
    "device=cpu",
    "name=run",
)
AGENTS = {
    "ppo": ("agent.n_steps=32", "agent.batch_size=32"),
    "sac": ("agent=sac", "agent.learning_starts=64", "agent.buffer_size=1000"),
}


def spec_of(agent: str, out: Path, *more: str) -> RunSpec:
    return load_config("quickstart", *AGENTS[agent], *SETTINGS, f"out={out}", *more)


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="module", params=AGENTS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    spec = spec_of(request.param, tmp_path_factory.mktemp(request.param), "checkpoint.keep=9")
    return train(spec, quiet())[0]


def test_a_run_is_trained_with_it_and_scored_without(finished: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (finished.status, finished.steps, finished.continued) == ("finished", 256, ())
    provenance = json.loads((finished.folder / "provenance.json").read_text())
    assert provenance["extras"]["envpool"]
    monkeypatch.setitem(sys.modules, "envpool", None)  # as if it were not installed
    assert evaluate(finished.folder).return_mean == finished.final_return_mean


def test_a_run_repeats(finished: RunResult, tmp_path: Path) -> None:
    agent = "sac" if "sac" in str(finished.folder) else "ppo"
    [again] = train(spec_of(agent, tmp_path, "threads=1"), quiet())
    assert again.final_return_mean == finished.final_return_mean


def test_plain_stable_baselines3_continues_with_its_model_in_gymnasium(finished: RunResult) -> None:
    algorithm = SAC if "sac" in str(finished.folder) else PPO
    model = algorithm.load(finished.folder / "model.zip", env=make_vec_env("Hopper-v5", n_envs=2))
    model.learn(64)


@pytest.fixture
def interrupted(finished: RunResult, tmp_path: Path) -> Path:
    """A run that was killed some time after its checkpoint of step 128."""
    folder = tmp_path / "run" / "seed-0"
    shutil.copytree(finished.folder, folder)
    (folder / "result.json").unlink()
    for path in (folder / "checkpoints").iterdir():
        if int(path.name.removeprefix("best-")) > 128:
            shutil.rmtree(path)
    return folder


def test_an_interrupted_run_is_continued_not_exact(interrupted: Path) -> None:
    [result] = resume(interrupted, console=quiet())
    assert (result.steps, result.resumes) == (256, 1)
    assert result.continued == (
        "state: /model/env/venv/venv/venv/pool (abc.GymHopperGymnasiumEnvPool) cannot be stored",
    )
    line = json.loads((interrupted / "resumes.jsonl").read_text())
    assert (line["from_step"], line["continued"]) == (128, list(result.continued))


@pytest.mark.parametrize("finished", ["sac"], indirect=True)
def test_an_interrupted_run_continues_with_new_episodes(interrupted: Path) -> None:
    resume(interrupted, console=quiet())
    spec = load_config(str(interrupted / "config.yaml"))
    with built(spec, 0, interrupted) as (model, _):
        model.set_logger(Logger(None, []))
        found = newest(interrupted)
        assert found is not None
        put(model, {}, found)
        buffer: Any = model.replay_buffer  # type: ignore[attr-defined]
    last, first = 128 // 2 - 1, 128 // 2
    ended = buffer.dones[last].astype(bool)
    # Neither a transition nor a return of several steps crosses from an interrupted episode into the next one.
    assert (np.abs(buffer.next_observations[last] - buffer.observations[first]).max(axis=1) > 1e-3)[~ended].all()
    assert np.abs(buffer.observations[first][:, 5:]).max() <= 0.005 + 1e-9  # speeds of an initial state
    assert buffer.timeouts[last][~ended].all()
    assert (buffer.next_observations[first] != buffer.observations[first]).all()
    for row in range(buffer.pos - 1):
        if row != last:
            goes_on = ~buffer.dones[row].astype(bool)
            np.testing.assert_array_equal(buffer.next_observations[row][goes_on], buffer.observations[row + 1][goes_on])
