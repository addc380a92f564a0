"""Evaluations: their environments, the limit on episodes, and stops during an evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecNormalize

from deltarl import TrainingStopped, load_config
from deltarl.cli.evaluate import describe
from deltarl.cli.train import summary
from deltarl.envs import FIRST_EVALUATION_SEED, EnvSpec, build_envs
from deltarl.training import session
from deltarl.training.evaluation import evaluate_policy
from deltarl.training.progress import Progress, Report
from deltarl.training.result import result_in
from deltarl.training.session import train_one
from deltarl.training.signals import StopRequest

# Not on the class, because an environment's class is part of its state.
SEEN = SimpleNamespace(open=0, most=0, steps=0, on_step=None)


class Counted(gym.Env[Any, Any]):
    """Rewards of 0.1 and an end after `length` steps; counts how many are open at once.

    Args:
        length: of an episode; 0 for one without an end.
        watched: whether `on_step` is called in evaluation episodes.
    """

    def __init__(self, length: int = 0, render_mode: str | None = None) -> None:
        del render_mode
        self.observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.length, self.time, self.is_evaluation = length, 0, False
        SEEN.open += 1
        SEEN.most = max(SEEN.most, SEEN.open)

    def close(self) -> None:
        SEEN.open -= 1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.is_evaluation = seed < 2 * FIRST_EVALUATION_SEED
        self.time = 0
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        del action
        self.time += 1
        if self.is_evaluation and SEEN.on_step is not None:
            SEEN.steps += 1
            SEEN.on_step()
        return np.zeros(2, np.float32), 0.1, self.time == self.length, False, {}


class Still:
    """A policy whose actions are zero."""

    def predict(self, observations: Any, **_: Any) -> tuple[Any, None]:
        return np.zeros((len(observations), 1), np.float32), None


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    SEEN.open = SEEN.most = SEEN.steps = 0
    SEEN.on_step = None
    gym.register("Counted-v0", Counted, disable_env_checker=True)
    yield
    del gym.registry["Counted-v0"]
    SEEN.on_step = None


def env(length: int) -> EnvSpec:
    return EnvSpec(id="Counted-v0", kind="navigation", kwargs={"length": length})


@pytest.mark.parametrize(("n_envs", "most"), [(1, 1), (2, 2), (9, 5)])
def test_as_many_environments_as_asked_for_whatever_the_number_of_episodes(n_envs: int, most: int) -> None:
    found = evaluate_policy(Still(), env(3), None, 5, n_envs=n_envs)  # type: ignore[arg-type]
    assert (found.returns, found.lengths, found.note) == ((pytest.approx(0.3),) * 5, (3,) * 5, None)
    assert (SEEN.most, SEEN.open) == (most, 0)


@pytest.mark.parametrize("n_envs", [1, 2])
def test_an_endless_episode_is_cut_off_with_a_note(n_envs: int) -> None:
    found = evaluate_policy(Still(), env(0), None, 3, n_envs=n_envs, max_episode_steps=7)  # type: ignore[arg-type]
    assert (found.returns, found.lengths, found.cut) == ((pytest.approx(0.7),) * 3, (7,) * 3, 3)
    assert "3 of 3 evaluation episodes had not ended after 7 steps" in describe(found)
    ends = evaluate_policy(Still(), env(7), None, 3, n_envs=n_envs, max_episode_steps=7)  # type: ignore[arg-type]
    assert (ends.lengths, ends.note) == ((7,) * 3, None)


class Mixed(gym.Env[Any, Any]):
    """Episodes whose length, rewards and success follow from the seed, and the rewards from the actions too."""

    def __init__(self, render_mode: str | None = None) -> None:
        del render_mode
        self.observation_space = gym.spaces.Box(-5, 5, (3,), np.float32)
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.time = self.length = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.time, self.length = 0, int(self.np_random.integers(2, 13))
        return self.np_random.uniform(-2, 2, 3).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        observation = self.np_random.uniform(-2, 2, 3).astype(np.float32)
        info = {"lifted": self.time % 4 == 0}
        return observation, float(action[0] + observation[0]), self.time == self.length, False, info


@pytest.mark.parametrize("algorithm", [PPO, RecurrentPPO])
@pytest.mark.parametrize("rule", ["any", "end"])
def test_scores_do_not_depend_on_how_many_episodes_are_played_side_by_side(algorithm: Any, rule: Any) -> None:
    gym.register("Mixed-v0", Mixed, disable_env_checker=True, max_episode_steps=50)
    try:
        wrappers = ({"wrapper": "time_aware_observation"}, {"wrapper": "DelayObservation", "delay": 1})
        success = {"key": "lifted", "rule": rule}
        env = EnvSpec.model_validate({"id": "Mixed-v0", "wrappers": wrappers, "success": success})
        normalizer = VecNormalize(build_envs(env, 0, n_envs=2))
        normalizer.obs_rms.mean, normalizer.obs_rms.var = (
            np.array([1.0, -1.0, 0.5, 6.0]),
            np.array([2.0, 0.5, 1.0, 9.0]),
        )
        before = deepcopy(normalizer.obs_rms.__dict__)
        name = "DeltaLstmPolicy" if algorithm is RecurrentPPO else "DeltaPolicy"
        torso = {"kind": "delta", "width": 16, "depth": 1}
        policy = algorithm(name, normalizer, seed=1, policy_kwargs={"torso": torso}, device="cpu").policy
        one, *others = (evaluate_policy(policy, env, normalizer, 10, n_envs=n_envs) for n_envs in (1, 3, 10))
    finally:
        del gym.registry["Mixed-v0"]
    assert len(set(one.lengths)) > 3
    succeeded = tuple(each % 4 == 0 or (rule == "any" and each > 4) for each in one.lengths)
    assert one.successes == succeeded
    assert len(set(succeeded)) == 2
    for each in others:
        assert (each.lengths, each.successes) == (one.lengths, one.successes)
        assert each.returns == pytest.approx(one.returns, rel=1e-4, abs=1e-5)  # their last bits may differ
    for key, value in normalizer.obs_rms.__dict__.items():
        np.testing.assert_array_equal(value, before[key])


def train(out: Path, stop: StopRequest, report: Report = lambda _: None) -> Any:
    small = ("agent.n_steps=16", "agent.batch_size=16", "agent.n_epochs=1", "torso.width=8", "torso.depth=1")
    evaluation = "eval={every: 24, episodes: 2, max_episode_steps: 30}"
    plain = ("env.id=Counted-v0", "env.n_envs=1", "gates.every=null", "checkpoint.every=16", "total_timesteps=32")
    spec = load_config("quickstart", *small, *plain, evaluation, "device=cpu", f"out={out}", "name=run")
    found = out / "run" / "seed-0"
    return spec, train_one(spec, 0, found if found.exists() else None, command=["x"], report=report, stop=stop)


@pytest.mark.parametrize(("patience", "stored", "steps"), [(0.0, 16, 2), (60.0, 32, 60)])
def test_a_stop_is_honoured_within_an_evaluation_that_takes_too_long(
    patience: float, stored: int, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PATIENCE", patience)
    stop = StopRequest()
    SEEN.on_step = lambda: stop.make("SIGTERM")
    with pytest.raises(TrainingStopped, match=f"SIGTERM: stopped at step .*, stored at step {stored}; resume with"):
        train(tmp_path, stop)
    assert SEEN.steps == steps
    SEEN.on_step = None
    shown: list[Progress] = []
    spec, result = train(tmp_path, StopRequest(), shown.append)
    assert [each.steps for each in shown if each.evaluating] == [24, 32][stored // 32 :]
    assert not shown[-1].evaluating
    assert (shown[-1].rate == 0) is (stored == 32)  # nothing was left to train
    assert (result.resumes, result.continued) == (1, ())
    assert result_in(result.folder).notes == result.notes
    assert "note     2 of 2 evaluation episodes had not ended after 30 steps" in summary(spec, [result])
