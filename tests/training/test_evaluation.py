"""Evaluations: their environments, the limit on episodes, and stops during an evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from deltarl import TrainingStopped, load_config
from deltarl.cli.evaluate import describe
from deltarl.cli.train import summary
from deltarl.envs import FIRST_EVALUATION_SEED, EnvSpec
from deltarl.training import session
from deltarl.training.evaluation import evaluate_policy
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
def test_an_episode_without_an_end_is_cut_off_and_that_is_said(n_envs: int) -> None:
    found = evaluate_policy(Still(), env(0), None, 3, n_envs=n_envs, max_episode_steps=7)  # type: ignore[arg-type]
    assert (found.returns, found.lengths, found.cut) == ((pytest.approx(0.7),) * 3, (7,) * 3, 3)
    assert "3 of 3 evaluation episodes had not ended after 7 steps" in describe(found)
    ends = evaluate_policy(Still(), env(7), None, 3, n_envs=n_envs, max_episode_steps=7)  # type: ignore[arg-type]
    assert (ends.lengths, ends.note) == ((7,) * 3, None)


def train(out: Path, stop: StopRequest) -> Any:
    small = ("agent.n_steps=16", "agent.batch_size=16", "agent.n_epochs=1", "torso.width=8", "torso.depth=1")
    evaluation = "eval={every: 24, episodes: 2, max_episode_steps: 30}"
    plain = ("env.id=Counted-v0", "env.n_envs=1", "gates.every=null", "checkpoint.every=16", "total_timesteps=32")
    spec = load_config("quickstart", *small, *plain, evaluation, "device=cpu", f"out={out}", "name=run")
    found = out / "run" / "seed-0"
    return spec, train_one(spec, 0, found if found.exists() else None, command=["x"], report=lambda *_: None, stop=stop)


@pytest.mark.parametrize(("patience", "stored", "steps"), [(0.0, 16, 1), (60.0, 32, 60)])
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
    spec, result = train(tmp_path, StopRequest())
    assert (result.resumes, result.continued) == (1, ())
    assert result_in(result.folder).notes == result.notes
    assert "note     2 of 2 evaluation episodes had not ended after 30 steps" in summary(spec, [result])
