"""Environments: all shipped ones with every compatible agent, wrappers, success and invalid input."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from pydantic import ValidationError
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from deltarl import ConfigError, RunSpec, task_packages, train
from deltarl.agents import OffPolicySpec
from deltarl.checkpoints.state import capture, restore
from deltarl.comparison import load_comparison
from deltarl.envs import (
    FIRST_EVALUATION_SEED,
    FIRST_TRAINING_SEED,
    MOST_ENVS,
    MOST_SEEDS,
    EnvSpec,
    SuccessInfo,
    SuccessSpec,
    build_envs,
    build_training_envs,
)
from deltarl.library import load_config, names
from deltarl.training.build import built
from tests.shipped import marks_of, shipped

GOALS = ("fetch_", "hand_", "point_maze_", "ant_maze_")
DISCRETE = {"inverted_pendulum_discrete"}


def agents_for(env: str) -> list[str]:
    """Names of the agents that can train in an environment, the most suitable first."""
    on_policy = ["ppo", "a2c", "trpo", "recurrent_ppo"]
    if env in DISCRETE:
        return ["dqn", "qrdqn", *on_policy]
    if env.startswith(("hand_", "ant_maze_", "point_maze_")) and env != "point_maze_umaze":
        return ["tqc_her"]  # many tasks of one kind
    if env.startswith(GOALS):
        return ["tqc_her", "sac_her", "sac", "tqc", "td3", "ddpg", *on_policy]
    if env.startswith(("dmc_", "metaworld_", "adroit_hand_", "franka_")) and env != "adroit_hand_door":
        return ["ppo", "sac"]
    if env.endswith(("_masked", "_pixels")):
        return ["ppo", "sac"]
    return ["ppo", "sac", "td3", "tqc", "crossq", "ddpg", "a2c", "trpo", "recurrent_ppo"]


def pairs() -> list[Any]:
    """All pairs; the default tests have each environment with its most suitable agent, and each agent once."""
    rows, seen = [], set()
    for env in names("envs"):
        agents = agents_for(env)
        chosen = {agents[0], next((agent for agent in agents if agent not in seen), agents[0])}
        for agent in agents:
            fast = agent in chosen
            seen |= {agent} if fast else set()
            rows.append(pytest.param(env, agent, marks=marks_of(env) if fast else [*marks_of(env), pytest.mark.slow]))
    return rows


def small(agent: str, env: str) -> RunSpec:
    """The shipped agent with a small network, and as few steps as it needs before it learns."""
    overrides = [f"agent={agent}", f"env={env}", "env.n_envs=1", "torso.width=16", "torso.depth=1", "device=cpu"]
    spec = load_config("quickstart", *overrides)
    sizes = {"n_steps": 32, "batch_size": 16}
    if isinstance(spec.agent, OffPolicySpec):
        # Hindsight needs a whole episode.
        starts = gym.spec(spec.env.id).max_episode_steps if spec.agent.her else 64
        sizes = {"learning_starts": starts, "batch_size": 16, "buffer_size": 2000}
    fitting = [f"agent.{name}={size}" for name, size in sizes.items() if hasattr(spec.agent, name)]
    return load_config("quickstart", *overrides, *fitting)


@pytest.mark.parametrize(("env", "agent"), pairs())
def test_an_agent_learns_in_an_environment(env: str, agent: str) -> None:
    spec = small(agent, env)
    with built(spec, seed=0) as (model, _):
        steps = getattr(spec.agent, "learning_starts", 0) + 40
        model.learn(steps)
        assert model.num_timesteps >= steps
        assert model._n_updates > 0
        assert all(tensor.isfinite().all() for tensor in model.policy.state_dict().values())


@pytest.mark.parametrize("env", shipped("envs"))
def test_a_shipped_environment_says_what_it_is(env: str) -> None:
    spec = load_config("quickstart", f"agent={agents_for(env)[0]}", f"env={env}").env
    assert spec.random_score is not None
    assert spec.random_score.episodes == 100
    assert spec.random_score.std is not None
    assert (spec.success is not None) == env.startswith((*GOALS, "adroit_hand_", "metaworld_"))
    envs = build_envs(spec, seed=0, n_envs=2)
    first = envs.reset()
    envs.close()
    again = build_envs(spec, seed=0, n_envs=2)
    second = again.reset()
    again.close()
    for one, other in zip(_arrays(first), _arrays(second), strict=True):
        assert np.array_equal(one, other)
        assert np.isfinite(one).all()


def _arrays(observations: Any) -> list[np.ndarray]:
    return list(observations.values()) if isinstance(observations, dict) else [observations]


def test_the_files_of_mazes_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with closing(build_envs(EnvSpec(id="PointMaze_UMaze-v3"), seed=0, n_envs=2)) as envs:
        assert list(tmp_path.iterdir()) == []
        envs.reset()


@pytest.mark.slow
@pytest.mark.parametrize("env", shipped("envs"))
def test_a_state_continues_to_the_last_bit_in_another_simulation(env: str) -> None:
    spec = load_config("quickstart", f"agent={agents_for(env)[0]}", f"env={env}").env
    with closing(build_envs(spec, 1, 1)) as one, closing(build_envs(spec, 2, 1)) as other:
        for each in (one, other):
            each.reset()
        for _ in range(37):
            one.step(np.array([one.action_space.sample()]))
        snapshot = capture({"envs": one})
        assert snapshot.unsupported == {}
        snapshot.tree = json.loads(json.dumps(snapshot.tree, allow_nan=False))
        assert restore({"envs": other}, snapshot)[1] == []
        for _ in range(200):
            first, second = (each.step(np.array([each.action_space.sample()])) for each in (one, other))
            for a, b in zip((*_arrays(first[0]), *first[1:3]), (*_arrays(second[0]), *second[1:3]), strict=True):
                assert np.array_equal(a, b)


# Wrappers


def test_bins_make_continuous_actions_discrete() -> None:
    spec = EnvSpec(id="Reacher-v5", kind="manipulation", wrappers=[{"wrapper": "discretize_action", "bins": [3, 5]}])
    assert build_envs(spec, seed=0).action_space == spaces.Discrete(15)


def test_wrappers_are_applied_from_the_inside_out() -> None:
    wrappers = [
        {"wrapper": "filter_observation", "keys": ["observation", "desired_goal"]},
        {"wrapper": "flatten_observation"},
        {"wrapper": "time_aware_observation"},
    ]
    spec = EnvSpec(id="FetchReach-v4", kind="manipulation", wrappers=wrappers)
    assert build_envs(spec, seed=0).observation_space.shape == (10 + 3 + 1,)


# Success


class Scripted(gym.Env[np.ndarray, int]):
    """Reports the given successes step by step."""

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, script: list[bool]) -> None:
        self.script = script

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._left = list(self.script)
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        del action
        done = self._left.pop(0)
        return np.zeros(1, np.float32), 0.0, not self._left, False, {"solved": done}


@pytest.mark.parametrize(
    ("script", "rule", "expected"),
    [
        ([False, True, False], "any", [False, True, True]),
        ([False, True, False], "end", [False, True, False]),
        ([False, False, True], "end", [False, False, True]),
        ([False, False, False], "any", [False, False, False]),
    ],
)
def test_success_is_at_any_step_or_at_the_end(script: list[bool], rule: Any, expected: list[bool]) -> None:
    env = SuccessInfo(Scripted(script), SuccessSpec(key="solved", rule=rule))
    for _ in range(2):  # and a new episode starts without the success of the previous one
        env.reset(seed=0)
        assert [env.step(0)[4]["is_success"] for _ in script] == expected


# Vectorisation


def test_training_environments_are_gymnasiums_unless_another_is_named() -> None:
    spec = EnvSpec(id="Hopper-v5", kind="locomotion", n_envs=2)
    envs = build_training_envs(spec, seed=3, threads=2)
    assert isinstance(envs, DummyVecEnv)
    assert np.array_equal(envs.reset(), build_envs(spec, seed=spec.first_seed(3)).reset())


def test_what_is_missing_for_envpool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)  # as if it were not installed
    spec = load_config("quickstart", "env.vectorization=envpool", f"out={tmp_path}")
    with pytest.raises(
        ConfigError, match=r"^env\.vectorization: 'envpool' needs EnvPool .* pip install 'deltarl\[envpool\]'"
    ):
        train(spec)
    assert list(tmp_path.iterdir()) == []
    envs = build_envs(spec.env, seed=0)  # and evaluations work without it
    assert isinstance(envs, DummyVecEnv)


def test_a_refusal_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"^command line: env\.vectorization: 'envpool' has no FetchReach-v4; "):
        load_config("quickstart", "env=fetch_reach", "env.vectorization=envpool")


# Wrong input

POOL = {"vectorization": "envpool"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"id": "os:Evil-v0"}, "names a module to import"),
        ({"id": "Hoper-v5"}, "no environment 'Hoper-v5'; did you mean 'Hopper-v5'?"),
        ({"kind": "swimming"}, "'locomotion', 'manipulation' or 'navigation'"),
        ({"n_envs": 0}, "greater than or equal to 1"),
        ({"wrappers": [{"wrapper": "discretise_action", "bins": 3}]}, "discretise_action"),
        ({"wrappers": [{"wrapper": "discretize_action", "bins": 1}]}, "greater than or equal to 2"),
        ({"wrappers": [{"wrapper": "discretize_action"}]}, "Field required"),
        ({"success": {"rule": "sometimes"}}, "'end' or 'any'"),
        ({"vectorization": "subproc"}, "'dummy' or 'envpool'"),
        ({**POOL, "id": "FetchReach-v4"}, "'envpool' has no FetchReach-v4; take one of Ant-v5, HalfCheetah-v5, "),
        (
            {**POOL, "wrappers": [{"wrapper": "time_aware_observation"}]},
            "'envpool' does not support wrappers; remove time_aware_observation, or give dummy",
        ),
        ({**POOL, "success": {"key": "won"}}, "'envpool' does not report 'won'; set success=null, or give dummy"),
        (
            {**POOL, "kwargs": {"xml_file": "my.xml"}},
            "'envpool' does not support kwargs.xml_file, only contact_cost_weight",
        ),
    ],
)
def test_wrong_input_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EnvSpec(**{"id": "Hopper-v5", "kind": "locomotion", **data})
    assert message in str(caught.value)


def test_no_two_runs_share_a_seed_and_none_has_one_of_the_evaluation() -> None:
    spec = EnvSpec(id="Hopper-v5", kind="locomotion", n_envs=MOST_ENVS)
    firsts = [spec.first_seed(seed) for seed in (0, 1, 2, MOST_SEEDS - 1)]
    assert all(later - first >= MOST_ENVS for first, later in pairwise(firsts))
    assert firsts[0] == FIRST_TRAINING_SEED > 100 * FIRST_EVALUATION_SEED
    assert firsts[-1] + MOST_ENVS == 2**32


@pytest.mark.parametrize("seeding", ["separate", "consecutive"])
def test_an_algorithm_starts_where_the_environments_are_seeded(seeding: str) -> None:
    starts = []
    for seed in (0, 1):
        plain = ("env.normalize={observations: false, rewards: false}", "torso.width=8", "device=cpu")
        spec = load_config("quickstart", "env.n_envs=2", f"env.seeding={seeding}", *plain)
        with built(spec, seed) as (model, _), closing(build_training_envs(spec.env, seed)) as envs:
            assert model.env is not None
            starts.append(model.env.reset())
            np.testing.assert_array_equal(starts[-1], envs.reset())
        first = seed if seeding == "consecutive" else FIRST_TRAINING_SEED + MOST_ENVS * seed
        with closing(make_vec_env("Hopper-v5", 2, seed=first)) as envs:
            np.testing.assert_array_equal(starts[-1], envs.reset())
    assert np.array_equal(starts[0][1], starts[1][0]) == (seeding == "consecutive")


def test_consecutive_seeds_stay_below_those_of_the_evaluation() -> None:
    highest = f"seeds=[{FIRST_EVALUATION_SEED - 2}]"
    load_config("quickstart", "env.n_envs=2", "env.seeding=consecutive", highest)
    with pytest.raises(ConfigError, match=r"env\.seeding: .* seed 999,998 and 3 environments would train"):
        load_config("quickstart", "env.n_envs=3", "env.seeding=consecutive", highest)
    with pytest.raises(ConfigError, match=r"env\.seeding: "):
        load_comparison("quick", "env.n_envs=3", "env.seeding=consecutive", highest)
    spec = load_config("quickstart", "env.n_envs=3", "env.seeding=consecutive")
    with pytest.raises(ConfigError, match=r"env\.seeding: "):
        train(spec.model_copy(update={"seeds": (0, FIRST_EVALUATION_SEED - 1)}))


def test_a_package_of_environments_may_register_classes_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    family = task_packages.Family("Own", package="own_package", distributions=(), modules=(), prefix="Own/")
    monkeypatch.setitem(sys.modules, "own_package", ModuleType("own_package"))
    monkeypatch.setattr(task_packages, "FAMILIES", (*task_packages.FAMILIES, family))
    gym.register("Own/Pendulum-v0", "gymnasium.envs.mujoco.inverted_pendulum_v5:InvertedPendulumEnv")
    try:
        assert EnvSpec(id="Own/Pendulum-v0").id == "Own/Pendulum-v0"
    finally:
        del gym.registry["Own/Pendulum-v0"]
